-- The schema and its tables. `services/fulltape/warehouse/tables.py` is the other telling of the same.
--
-- DuckDB keeps the least and greatest value of every 122,880 rows. The loads append in the order of the tape, so that a
-- span of time is a few such groups. No PRIMARY KEY: its index would outgrow the data; the loads keep each key once.

CREATE SCHEMA IF NOT EXISTS fulltape;

CREATE TABLE fulltape.trades (
    product VARCHAR(32) NOT NULL,
    trade_id BIGINT NOT NULL,
    traded_at TIMESTAMP NOT NULL,
    price DECIMAL(19, 10) NOT NULL,
    size DECIMAL(19, 8) NOT NULL,
    taker_side VARCHAR(4) NOT NULL,
    sequence BIGINT,
    received_at TIMESTAMP NOT NULL,
    tape_at TIMESTAMP NOT NULL,
    source VARCHAR(16) NOT NULL,
    late BOOLEAN NOT NULL
);

CREATE TABLE fulltape.windows (
    product VARCHAR(32) NOT NULL,
    window_seconds INTEGER NOT NULL,
    window_start TIMESTAMP NOT NULL,
    window_end TIMESTAMP NOT NULL,
    trades BIGINT NOT NULL,
    volume DECIMAL(38, 8) NOT NULL,
    notional DECIMAL(38, 15) NOT NULL,
    buy_volume DECIMAL(38, 8) NOT NULL,
    open_price DECIMAL(19, 10),
    high_price DECIMAL(19, 10),
    low_price DECIMAL(19, 10),
    close_price DECIMAL(19, 10),
    first_id BIGINT,
    last_id BIGINT,
    vwap DOUBLE PRECISION,
    sma DOUBLE PRECISION,
    twap DOUBLE PRECISION,
    ema DOUBLE PRECISION,
    price_change_std_dev DOUBLE PRECISION,
    realized_volatility DOUBLE PRECISION,
    annualized_volatility DOUBLE PRECISION,
    bipower_variation DOUBLE PRECISION,
    jump_ratio DOUBLE PRECISION,
    parkinson DOUBLE PRECISION,
    garman_klass DOUBLE PRECISION,
    rogers_satchell DOUBLE PRECISION,
    ewma_volatility DOUBLE PRECISION,
    volatility_z_score DOUBLE PRECISION,
    drawdown DOUBLE PRECISION,
    run_up DOUBLE PRECISION,
    order_flow_imbalance DOUBLE PRECISION,
    order_flow_z_score DOUBLE PRECISION,
    trade_rate_z_score DOUBLE PRECISION,
    amihud_illiquidity DOUBLE PRECISION,
    vwap_deviation DOUBLE PRECISION,
    spread DOUBLE PRECISION,
    spread_z_score DOUBLE PRECISION,
    staleness DOUBLE PRECISION,
    recovery DOUBLE PRECISION,
    mini_crash DOUBLE PRECISION,
    largest_return DOUBLE PRECISION,
    first_digit_deviation DOUBLE PRECISION,
    round_size_share DOUBLE PRECISION
);

CREATE TABLE fulltape.gaps (
    product VARCHAR(32) NOT NULL,
    first_id BIGINT NOT NULL,
    last_id BIGINT NOT NULL,
    reason VARCHAR(4096) NOT NULL,
    detected_at TIMESTAMP NOT NULL,
    tape_at TIMESTAMP NOT NULL
);

CREATE TABLE fulltape.tickers (
    product VARCHAR(32) NOT NULL,
    trade_id BIGINT NOT NULL,
    quoted_at TIMESTAMP NOT NULL,
    price DECIMAL(19, 10) NOT NULL,
    size DECIMAL(19, 8) NOT NULL,
    taker_side VARCHAR(4) NOT NULL,
    best_bid DECIMAL(19, 10) NOT NULL,
    best_bid_size DECIMAL(19, 8) NOT NULL,
    best_ask DECIMAL(19, 10) NOT NULL,
    best_ask_size DECIMAL(19, 8) NOT NULL,
    sequence BIGINT NOT NULL,
    received_at TIMESTAMP NOT NULL,
    tape_at TIMESTAMP NOT NULL
);

CREATE TABLE fulltape.alerts (
    fingerprint VARCHAR(64) NOT NULL,
    changed_at TIMESTAMP NOT NULL,
    state VARCHAR(16) NOT NULL,
    name VARCHAR(256) NOT NULL,
    product VARCHAR(32),
    window_length VARCHAR(32),
    severity VARCHAR(16) NOT NULL,
    summary VARCHAR(4096) NOT NULL,
    measures VARCHAR(16384) NOT NULL,
    labels VARCHAR(16384) NOT NULL,
    annotations VARCHAR(16384) NOT NULL,
    since_at TIMESTAMP NOT NULL,
    starts_at TIMESTAMP,
    ends_at TIMESTAMP,
    trade_at TIMESTAMP,
    tape_at TIMESTAMP NOT NULL
);

CREATE TABLE fulltape.ledger (
    kind VARCHAR(16) NOT NULL,
    batch VARCHAR(64) NOT NULL,
    batch_rows BIGINT NOT NULL,
    loaded_at TIMESTAMP NOT NULL,
    load_id VARCHAR(64) NOT NULL
);
