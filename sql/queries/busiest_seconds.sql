-- The busiest seconds of the market.
-- since: time = latest - 1h -- from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
-- top: integer = 10 -- how many
WITH seconds AS (
    SELECT
        product,
        DATE_TRUNC('second', traded_at) AS second_at,
        COUNT(*) AS trades,
        SUM(CAST(price AS DOUBLE PRECISION) * CAST(size AS DOUBLE PRECISION)) AS notional
    FROM fulltape.trades
    WHERE traded_at >= :since AND traded_at < :until AND product LIKE :product
    GROUP BY product, DATE_TRUNC('second', traded_at)
)

SELECT
    second_at,
    SUM(trades) AS trades,
    COUNT(*) AS products,
    SUM(notional) AS notional
FROM seconds
GROUP BY second_at
ORDER BY SUM(trades) DESC, second_at ASC
LIMIT :top
