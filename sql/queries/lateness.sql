-- How late was data? From the exchange's clock to this machine's, and to the tape; shares of the trades in percent.
-- since: time = latest - 1h -- from this exchange time
-- until: time = latest -- to below this exchange time
-- product: text = % -- products, as LIKE has them
WITH timed AS (
    SELECT
        product,
        source,
        late,
        traded_at,
        tape_at,
        CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', tape_at)) AS BIGINT) * 1000
        + MOD(CAST(EXTRACT(MILLISECONDS FROM tape_at) AS BIGINT), 1000)
        - CAST(EXTRACT(EPOCH FROM DATE_TRUNC('second', traded_at)) AS BIGINT) * 1000
        - MOD(CAST(EXTRACT(MILLISECONDS FROM traded_at) AS BIGINT), 1000) AS lag_ms
    FROM fulltape.trades
    WHERE traded_at >= :since AND traded_at < :until AND product LIKE :product
)

SELECT
    product,
    source,
    COUNT(*) AS trades,
    AVG(CAST(lag_ms AS DOUBLE PRECISION)) AS mean_lag_ms,
    MAX(lag_ms) AS most_lag_ms,
    100.0 * SUM(CASE WHEN lag_ms < 100 THEN 1 ELSE 0 END) / COUNT(*) AS below_100_ms,
    100.0 * SUM(CASE WHEN lag_ms < 1000 THEN 1 ELSE 0 END) / COUNT(*) AS below_1_s,
    100.0 * SUM(CASE WHEN lag_ms < 10000 THEN 1 ELSE 0 END) / COUNT(*) AS below_10_s,
    SUM(CASE WHEN late THEN 1 ELSE 0 END) AS behind_the_watermark
FROM timed
GROUP BY product, source
ORDER BY most_lag_ms DESC, product ASC, source ASC
