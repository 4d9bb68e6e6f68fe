-- What moved most?
-- since: time = latest - 1h -- minutes that begin from this exchange time on
-- until: time = latest -- and before this one
-- product: text = % -- products, as LIKE has them
-- top: integer = 10 -- how many
WITH spans AS (
    SELECT
        product,
        CAST(SUM(trades) AS BIGINT) AS trades,
        SUM(volume) AS volume,
        MIN(first_id) AS first_id,
        MAX(last_id) AS last_id,
        MIN(low_price) AS low_price,
        MAX(high_price) AS high_price
    FROM fulltape.trade_minutes
    WHERE minute_at >= :since AND minute_at < :until AND product LIKE :product
    GROUP BY product
)

SELECT
    spans.product,
    firsts.open_price,
    spans.low_price,
    spans.high_price,
    lasts.close_price,
    100 * (CAST(lasts.close_price AS DOUBLE PRECISION) / CAST(firsts.open_price AS DOUBLE PRECISION) - 1)
        AS moved_percent,
    spans.volume,
    spans.trades
FROM spans
INNER JOIN fulltape.trade_minutes AS firsts
    ON spans.product = firsts.product AND spans.first_id = firsts.first_id
INNER JOIN fulltape.trade_minutes AS lasts
    ON spans.product = lasts.product AND spans.last_id = lasts.last_id
WHERE
    firsts.minute_at >= :since AND firsts.minute_at < :until
    AND lasts.minute_at >= :since AND lasts.minute_at < :until
ORDER BY
    ABS(CAST(lasts.close_price AS DOUBLE PRECISION) / CAST(firsts.open_price AS DOUBLE PRECISION) - 1) DESC,
    spans.product ASC
LIMIT :top
