-- Trades by the minute: what most questions about longer spans are answered from.
-- Sums, counts, least and greatest alone, so that Redshift refreshes it by what is new, by itself, when it has time.
-- Late corrections are in it as soon as it is refreshed. Sorted and spread as the trades are asked for: by time.
-- The opening price is that of the least id: the least of the ids with their prices, all written equally long.

CREATE MATERIALIZED VIEW fulltape.trade_minute_sums
BACKUP YES
DISTSTYLE KEY
DISTKEY (minute_at)
SORTKEY (minute_at, product)
AUTO REFRESH YES
AS
SELECT
    product,
    DATE_TRUNC('minute', traded_at) AS minute_at,
    COUNT(*) AS trades,
    SUM(CASE WHEN late THEN 1 ELSE 0 END) AS late_trades,
    SUM(CASE WHEN source = 'backfill' THEN 1 ELSE 0 END) AS backfilled_trades,
    SUM(size) AS volume,
    SUM(CASE WHEN taker_side = 'buy' THEN size ELSE 0 END) AS buy_volume,
    SUM(CAST(price * size AS DECIMAL(38, 15))) AS notional,
    MIN(trade_id) AS first_id,
    MAX(trade_id) AS last_id,
    MIN(LPAD(CAST(trade_id AS VARCHAR(19)), 19, '0') || CAST(price AS VARCHAR(32))) AS first_trade,
    MAX(LPAD(CAST(trade_id AS VARCHAR(19)), 19, '0') || CAST(price AS VARCHAR(32))) AS last_trade,
    MAX(price) AS high_price,
    MIN(price) AS low_price
FROM fulltape.trades
GROUP BY product, DATE_TRUNC('minute', traded_at);

CREATE VIEW fulltape.trade_minutes AS
SELECT
    product,
    minute_at,
    trades,
    late_trades,
    backfilled_trades,
    volume,
    buy_volume,
    notional,
    first_id,
    last_id,
    CAST(SUBSTRING(first_trade, 20, 32) AS DECIMAL(19, 10)) AS open_price,
    high_price,
    low_price,
    CAST(SUBSTRING(last_trade, 20, 32) AS DECIMAL(19, 10)) AS close_price
FROM fulltape.trade_minute_sums;

-- Trades by the day: what completeness is told from.
CREATE VIEW fulltape.trade_days AS
SELECT
    product,
    DATE_TRUNC('day', minute_at) AS day_at,
    CAST(SUM(trades) AS BIGINT) AS trades,
    CAST(SUM(late_trades) AS BIGINT) AS late_trades,
    CAST(SUM(backfilled_trades) AS BIGINT) AS backfilled_trades,
    MIN(first_id) AS first_id,
    MAX(last_id) AS last_id
FROM fulltape.trade_minutes
GROUP BY product, DATE_TRUNC('day', minute_at);
