-- Is the tape complete? Ids ascend by one: what is missing, and how much of that the exchange itself could not give.
-- since: time = latest - 1d -- minutes that begin from this exchange time on
-- until: time = latest -- and before this one
-- product: text = % -- products, as LIKE has them
WITH spans AS (
    SELECT
        product,
        CAST(SUM(trades) AS BIGINT) AS trades,
        MIN(first_id) AS first_id,
        MAX(last_id) AS last_id
    FROM fulltape.trade_minutes
    WHERE minute_at >= :since AND minute_at < :until AND product LIKE :product
    GROUP BY product
),

known AS (
    SELECT
        spans.product,
        SUM(
            CASE WHEN gaps.last_id < spans.last_id THEN gaps.last_id ELSE spans.last_id END
            - CASE WHEN gaps.first_id > spans.first_id THEN gaps.first_id ELSE spans.first_id END
            + 1
        ) AS ids
    FROM spans
    INNER JOIN fulltape.gaps AS gaps
        ON
            spans.product = gaps.product
            AND spans.last_id >= gaps.first_id
            AND spans.first_id <= gaps.last_id
    GROUP BY spans.product
)

SELECT
    spans.product,
    spans.first_id,
    spans.last_id,
    spans.trades,
    spans.last_id - spans.first_id + 1 - spans.trades AS missing,
    COALESCE(known.ids, 0) AS known_gaps,
    spans.last_id - spans.first_id + 1 - spans.trades - COALESCE(known.ids, 0) AS unexplained
FROM spans
LEFT JOIN known ON spans.product = known.product
ORDER BY unexplained DESC, missing DESC, spans.product ASC
