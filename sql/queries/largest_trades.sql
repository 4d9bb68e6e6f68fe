-- The largest trades, by value.
-- since: time = latest - 1h -- from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
-- top: integer = 10 -- how many
WITH largest AS (
    SELECT
        product,
        trade_id,
        traded_at,
        price,
        size,
        taker_side,
        CAST(price AS DOUBLE PRECISION) * CAST(size AS DOUBLE PRECISION) AS about
    FROM fulltape.trades
    WHERE traded_at >= :since AND traded_at < :until AND product LIKE :product
    ORDER BY about DESC, product ASC, trade_id ASC
    LIMIT :top
)

SELECT
    product,
    trade_id,
    traded_at,
    taker_side,
    price,
    size,
    CAST(price * size AS DECIMAL(38, 15)) AS notional
FROM largest
ORDER BY about DESC, product ASC, trade_id ASC
