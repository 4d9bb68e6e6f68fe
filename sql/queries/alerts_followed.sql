-- Which alerts fired, and what did the price do next?
-- since: time = latest - 7d -- fired from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
-- minutes: integer = 15 -- how long after the alert to look
WITH fired AS (
    SELECT
        fingerprint,
        name,
        product,
        severity,
        starts_at,
        MAX(ends_at) AS ends_at
    FROM fulltape.alerts
    WHERE starts_at >= :since AND starts_at < :until AND COALESCE(product, '') LIKE :product
    GROUP BY fingerprint, name, product, severity, starts_at
),

after AS (
    SELECT
        fired.fingerprint,
        fired.starts_at,
        minutes.first_id,
        minutes.last_id,
        minutes.open_price,
        minutes.close_price,
        minutes.low_price,
        minutes.high_price,
        MIN(minutes.first_id) OVER (PARTITION BY fired.fingerprint, fired.starts_at) AS least_id,
        MAX(minutes.last_id) OVER (PARTITION BY fired.fingerprint, fired.starts_at) AS most_id
    FROM fired
    INNER JOIN fulltape.windows AS minutes
        ON fired.product = minutes.product AND fired.starts_at <= minutes.window_start
    WHERE
        minutes.window_seconds = 60
        AND minutes.window_start >= :since
        AND minutes.window_end <= fired.starts_at + :minutes * INTERVAL '1 minute'
        AND minutes.trades > 0
),

outcomes AS (
    SELECT
        fingerprint,
        starts_at,
        MAX(CASE WHEN first_id = least_id THEN open_price END) AS price_then,
        MAX(CASE WHEN last_id = most_id THEN close_price END) AS price_after,
        MIN(low_price) AS low_price,
        MAX(high_price) AS high_price
    FROM after
    GROUP BY fingerprint, starts_at
)

SELECT
    fired.name,
    fired.product,
    fired.severity,
    fired.starts_at,
    fired.ends_at,
    outcomes.price_then,
    outcomes.price_after,
    100 * CAST(outcomes.price_after AS DOUBLE PRECISION) / CAST(outcomes.price_then AS DOUBLE PRECISION) - 100
        AS moved_percent,
    outcomes.low_price,
    outcomes.high_price
FROM fired
LEFT JOIN outcomes
    ON fired.fingerprint = outcomes.fingerprint AND fired.starts_at = outcomes.starts_at
ORDER BY fired.starts_at DESC, fired.name ASC, fired.product ASC
