-- What was loaded, and when last?
-- since: time = now - 1d -- loaded from this time
-- until: time = now -- to below this time
SELECT
    kind,
    COUNT(*) AS batches,
    COUNT(DISTINCT load_id) AS loads,
    SUM(batch_rows) AS rows_loaded,
    MIN(loaded_at) AS first_load,
    MAX(loaded_at) AS last_load
FROM fulltape.ledger
WHERE loaded_at >= :since AND loaded_at < :until
GROUP BY kind
ORDER BY kind ASC
