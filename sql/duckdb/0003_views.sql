-- Views for those who come with a tool of their own. `queries/` answers the same for any interval and any span.

-- Price bars of a minute. The query `ohlcv` makes them of any length.
CREATE VIEW fulltape.ohlcv AS
SELECT
    product,
    minute_at,
    open_price,
    high_price,
    low_price,
    close_price,
    volume,
    notional,
    trades
FROM fulltape.trade_minutes;

-- The volume-weighted average price of each minute, exactly summed.
CREATE VIEW fulltape.vwap AS
SELECT
    product,
    minute_at,
    CAST(notional AS DOUBLE PRECISION) / CAST(volume AS DOUBLE PRECISION) AS vwap,
    volume,
    notional,
    trades
FROM fulltape.trade_minutes;

-- Who took liquidity, by the minute: 1 is buyers alone, -1 sellers alone.
CREATE VIEW fulltape.order_flow AS
SELECT
    product,
    minute_at,
    buy_volume,
    volume - buy_volume AS sell_volume,
    CAST(2 * buy_volume - volume AS DOUBLE PRECISION) / CAST(volume AS DOUBLE PRECISION) AS imbalance,
    trades
FROM fulltape.trade_minutes;

-- For each window length and moment, the products from the most volatile on.
CREATE VIEW fulltape.volatility_ranks AS
SELECT
    window_seconds,
    window_end,
    product,
    realized_volatility,
    RANK() OVER (
        PARTITION BY window_seconds, window_end
        ORDER BY realized_volatility DESC
    ) AS volatility_rank
FROM fulltape.windows
WHERE realized_volatility IS NOT NULL;

-- Ids that are missing, by the day on which the id after them was traded: between a product's days as well as within.
-- The exchange's ids ascend by one, so that what is missing needs no list of what there was.
CREATE VIEW fulltape.completeness AS
SELECT
    product,
    day_at,
    trades,
    late_trades,
    backfilled_trades,
    first_id,
    last_id,
    last_id - COALESCE(
        LAG(last_id) OVER (PARTITION BY product ORDER BY day_at),
        first_id - 1
    ) - trades AS missing
FROM fulltape.trade_days;

-- One row for each firing: when, and until when; an end that is null is one that has not come.
CREATE VIEW fulltape.alert_history AS
SELECT
    name,
    product,
    window_length,
    severity,
    fingerprint,
    starts_at,
    MAX(ends_at) AS ends_at,
    MIN(CASE WHEN state = 'firing' THEN summary END) AS summary_then,
    MIN(CASE WHEN state = 'firing' THEN measures END) AS measures_then
FROM fulltape.alerts
WHERE starts_at IS NOT NULL
GROUP BY name, product, window_length, severity, fingerprint, starts_at;
