-- The worst drawdowns within 5 minutes: the worst window of each product and hour, as neighbours overlap.
-- since: time = latest - 7d -- from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
-- window_seconds: integer = 300 -- length of the windows
-- top: integer = 10 -- how many
WITH ranked AS (
    SELECT
        product,
        window_start,
        window_end,
        drawdown,
        high_price,
        low_price,
        close_price,
        volume,
        order_flow_imbalance,
        recovery,
        ROW_NUMBER() OVER (
            PARTITION BY product, DATE_TRUNC('hour', window_start)
            ORDER BY drawdown DESC, window_start ASC
        ) AS place
    FROM fulltape.windows
    WHERE
        window_start >= :since AND window_start < :until
        AND product LIKE :product
        AND window_seconds = :window_seconds
        AND drawdown > 0
)

SELECT
    product,
    window_start,
    window_end,
    100 * drawdown AS drawdown_percent,
    high_price,
    low_price,
    close_price,
    volume,
    order_flow_imbalance,
    recovery
FROM ranked
WHERE place = 1
ORDER BY drawdown DESC, product ASC, window_start ASC
LIMIT :top
