-- What did it cost to cross the spread, hour by hour? In basis points of the middle price.
-- since: time = latest - 1d -- from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
WITH quotes AS (
    SELECT
        product,
        DATE_TRUNC('hour', quoted_at) AS hour_at,
        20000 * CAST(best_ask - best_bid AS DOUBLE PRECISION) / CAST(best_ask + best_bid AS DOUBLE PRECISION) AS spread
    FROM fulltape.tickers
    WHERE
        quoted_at >= :since AND quoted_at < :until
        AND product LIKE :product
        AND best_bid > 0 AND best_ask > 0
)

SELECT
    product,
    hour_at,
    AVG(spread) AS mean_basis_points,
    MIN(spread) AS least_basis_points,
    MAX(spread) AS most_basis_points,
    COUNT(*) AS tickers
FROM quotes
GROUP BY product, hour_at
ORDER BY product ASC, hour_at ASC
