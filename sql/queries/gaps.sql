-- Which trades could not be had, and why?
-- since: time = latest - 30d -- given up from this time
-- until: time = now -- to below this time
-- product: text = % -- products, as LIKE has them
SELECT
    product,
    first_id,
    last_id,
    last_id - first_id + 1 AS ids,
    detected_at,
    reason
FROM fulltape.gaps
WHERE detected_at >= :since AND detected_at < :until AND product LIKE :product
ORDER BY detected_at DESC, product ASC, first_id ASC
