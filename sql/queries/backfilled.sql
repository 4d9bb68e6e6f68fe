-- How much did the live connection miss, so that it was fetched over REST, hour by hour?
-- since: time = latest - 1d -- minutes that begin from this exchange time on
-- until: time = latest -- and before this one
-- product: text = % -- products, as LIKE has them
WITH hours AS (
    SELECT
        DATE_TRUNC('hour', minute_at) AS hour_at,
        CAST(SUM(trades) AS BIGINT) AS trades,
        CAST(SUM(backfilled_trades) AS BIGINT) AS backfilled
    FROM fulltape.trade_minutes
    WHERE minute_at >= :since AND minute_at < :until AND product LIKE :product
    GROUP BY DATE_TRUNC('hour', minute_at)
)

SELECT
    hour_at,
    trades,
    backfilled,
    100.0 * backfilled / trades AS backfilled_percent
FROM hours
ORDER BY hour_at ASC
