-- Who sold before the crash? The order flow of each minute that led up to each product's worst 5 minutes.
-- since: time = latest - 7d -- from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
-- minutes: integer = 15 -- how long before
WITH ranked AS (
    SELECT
        product,
        window_start,
        drawdown,
        ROW_NUMBER() OVER (PARTITION BY product ORDER BY drawdown DESC, window_start ASC) AS place
    FROM fulltape.windows
    WHERE
        window_start >= :since AND window_start < :until
        AND product LIKE :product
        AND window_seconds = 300
        AND drawdown > 0
),

before AS (
    SELECT
        crashes.product,
        crashes.drawdown,
        crashes.window_start AS crash_start,
        minutes.window_start AS minute_start,
        minutes.volume,
        minutes.buy_volume,
        minutes.close_price,
        minutes.trades,
        CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', crashes.window_start)) AS BIGINT)
        - CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', minutes.window_end)) AS BIGINT) AS seconds_before
    FROM ranked AS crashes
    INNER JOIN fulltape.windows AS minutes
        ON crashes.product = minutes.product AND crashes.window_start >= minutes.window_end
    WHERE
        crashes.place = 1
        AND minutes.window_seconds = 60
        AND minutes.window_start < :until
        AND minutes.window_start >= crashes.window_start - :minutes * INTERVAL '1 minute'
)

SELECT
    product,
    100 * drawdown AS crash_percent,
    crash_start,
    minute_start,
    seconds_before,
    buy_volume,
    volume - buy_volume AS sell_volume,
    CAST(2 * buy_volume - volume AS DOUBLE PRECISION) / NULLIF(CAST(volume AS DOUBLE PRECISION), 0) AS imbalance,
    close_price,
    trades
FROM before
WHERE MOD(seconds_before, 60) = 0
ORDER BY drawdown DESC, product ASC, minute_start ASC
