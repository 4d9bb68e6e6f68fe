-- Who was in a hurry, hour by hour? 1 is buyers alone, -1 sellers alone.
-- since: time = latest - 1d -- minutes that begin from this exchange time on
-- until: time = latest -- and before this one
-- product: text = % -- products, as LIKE has them
WITH hours AS (
    SELECT
        product,
        DATE_TRUNC('hour', minute_at) AS hour_at,
        CAST(SUM(trades) AS BIGINT) AS trades,
        SUM(volume) AS volume,
        SUM(buy_volume) AS buy_volume
    FROM fulltape.trade_minutes
    WHERE minute_at >= :since AND minute_at < :until AND product LIKE :product
    GROUP BY product, DATE_TRUNC('hour', minute_at)
)

SELECT
    product,
    hour_at,
    buy_volume,
    volume - buy_volume AS sell_volume,
    CAST(2 * buy_volume - volume AS DOUBLE PRECISION) / CAST(volume AS DOUBLE PRECISION) AS imbalance,
    trades
FROM hours
ORDER BY product ASC, hour_at ASC
