-- Trades by the minute: what most questions about longer spans are answered from.
-- The transaction that loads trades works out anew the minutes that they touch (`fulltape.warehouse.rollup`), so that
-- this is at all times what the trades add up to. An opening price is that of the least id.

CREATE TABLE fulltape.trade_minutes (
    product VARCHAR(32) NOT NULL,
    minute_at TIMESTAMP NOT NULL,
    trades BIGINT NOT NULL,
    late_trades BIGINT NOT NULL,
    backfilled_trades BIGINT NOT NULL,
    volume DECIMAL(38, 8) NOT NULL,
    buy_volume DECIMAL(38, 8) NOT NULL,
    notional DECIMAL(38, 15) NOT NULL,
    first_id BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    open_price DECIMAL(19, 10) NOT NULL,
    high_price DECIMAL(19, 10) NOT NULL,
    low_price DECIMAL(19, 10) NOT NULL,
    close_price DECIMAL(19, 10) NOT NULL
);

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
