-- The volume-weighted average price of each hour, against the hour's close.
-- since: time = latest - 1d -- minutes that begin from this exchange time on
-- until: time = latest -- and before this one
-- product: text = BTC-USD -- products, as LIKE has them
WITH hours AS (
    SELECT
        product,
        DATE_TRUNC('hour', minute_at) AS hour_at,
        CAST(SUM(trades) AS BIGINT) AS trades,
        SUM(volume) AS volume,
        CAST(SUM(notional) AS DOUBLE PRECISION) AS notional,
        MAX(last_id) AS last_id
    FROM fulltape.trade_minutes
    WHERE minute_at >= :since AND minute_at < :until AND product LIKE :product
    GROUP BY product, DATE_TRUNC('hour', minute_at)
)

SELECT
    hours.product,
    hours.hour_at,
    hours.notional / CAST(hours.volume AS DOUBLE PRECISION) AS vwap,
    lasts.close_price,
    100 * (
        CAST(lasts.close_price AS DOUBLE PRECISION)
        * CAST(hours.volume AS DOUBLE PRECISION)
        / hours.notional
        - 1
    ) AS close_above_vwap_percent,
    hours.volume,
    hours.notional,
    hours.trades
FROM hours
INNER JOIN fulltape.trade_minutes AS lasts
    ON hours.product = lasts.product AND hours.last_id = lasts.last_id
WHERE lasts.minute_at >= :since AND lasts.minute_at < :until
ORDER BY hours.product ASC, hours.hour_at ASC
