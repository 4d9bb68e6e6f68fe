-- The schema and its tables. `services/fulltape/warehouse/tables.py` is the other telling of the same.
--
-- Each table is sorted by its time, then by what tells rows of one moment apart: questions are about spans of time, and
-- a span is then a few blocks. The first sort column stays RAW: compressed, it would cost more blocks than it saves.
-- No PRIMARY KEY: Redshift would believe it without enforcing it; the loads keep each key once.
-- Decimals of 19 digits are 64-bit integers: prices below 922,337,203 with ten places, sizes below 92,233,720,368 with
-- eight.

CREATE SCHEMA IF NOT EXISTS fulltape;

-- Distributed by trade_id: ids are as even as can be (products are not: half of a market is Bitcoin), and a load
-- finds old and new versions of a trade on one slice, so that no row of this table ever moves.
CREATE TABLE fulltape.trades (
    product VARCHAR(32) NOT NULL ENCODE BYTEDICT,
    trade_id BIGINT NOT NULL ENCODE AZ64,
    traded_at TIMESTAMP NOT NULL ENCODE RAW,
    price DECIMAL(19, 10) NOT NULL ENCODE AZ64,
    size DECIMAL(19, 8) NOT NULL ENCODE AZ64,
    taker_side VARCHAR(4) NOT NULL ENCODE BYTEDICT,
    sequence BIGINT ENCODE AZ64,
    received_at TIMESTAMP NOT NULL ENCODE AZ64,
    tape_at TIMESTAMP NOT NULL ENCODE AZ64,
    source VARCHAR(16) NOT NULL ENCODE BYTEDICT,
    late BOOLEAN NOT NULL ENCODE ZSTD
)
DISTSTYLE KEY
DISTKEY (trade_id)
COMPOUND SORTKEY (traded_at, product);

-- Distributed by window_start: a window's versions meet on one slice, and each moment's ranking of products is local.
CREATE TABLE fulltape.windows (
    product VARCHAR(32) NOT NULL ENCODE BYTEDICT,
    window_seconds INTEGER NOT NULL ENCODE AZ64,
    window_start TIMESTAMP NOT NULL ENCODE RAW,
    window_end TIMESTAMP NOT NULL ENCODE AZ64,
    trades BIGINT NOT NULL ENCODE AZ64,
    volume DECIMAL(38, 8) NOT NULL ENCODE AZ64,
    notional DECIMAL(38, 15) NOT NULL ENCODE AZ64,
    buy_volume DECIMAL(38, 8) NOT NULL ENCODE AZ64,
    open_price DECIMAL(19, 10) ENCODE AZ64,
    high_price DECIMAL(19, 10) ENCODE AZ64,
    low_price DECIMAL(19, 10) ENCODE AZ64,
    close_price DECIMAL(19, 10) ENCODE AZ64,
    first_id BIGINT ENCODE AZ64,
    last_id BIGINT ENCODE AZ64,
    vwap DOUBLE PRECISION ENCODE ZSTD,
    sma DOUBLE PRECISION ENCODE ZSTD,
    twap DOUBLE PRECISION ENCODE ZSTD,
    ema DOUBLE PRECISION ENCODE ZSTD,
    price_change_std_dev DOUBLE PRECISION ENCODE ZSTD,
    realized_volatility DOUBLE PRECISION ENCODE ZSTD,
    annualized_volatility DOUBLE PRECISION ENCODE ZSTD,
    bipower_variation DOUBLE PRECISION ENCODE ZSTD,
    jump_ratio DOUBLE PRECISION ENCODE ZSTD,
    parkinson DOUBLE PRECISION ENCODE ZSTD,
    garman_klass DOUBLE PRECISION ENCODE ZSTD,
    rogers_satchell DOUBLE PRECISION ENCODE ZSTD,
    ewma_volatility DOUBLE PRECISION ENCODE ZSTD,
    volatility_z_score DOUBLE PRECISION ENCODE ZSTD,
    drawdown DOUBLE PRECISION ENCODE ZSTD,
    run_up DOUBLE PRECISION ENCODE ZSTD,
    order_flow_imbalance DOUBLE PRECISION ENCODE ZSTD,
    order_flow_z_score DOUBLE PRECISION ENCODE ZSTD,
    trade_rate_z_score DOUBLE PRECISION ENCODE ZSTD,
    amihud_illiquidity DOUBLE PRECISION ENCODE ZSTD,
    vwap_deviation DOUBLE PRECISION ENCODE ZSTD,
    spread DOUBLE PRECISION ENCODE ZSTD,
    spread_z_score DOUBLE PRECISION ENCODE ZSTD,
    staleness DOUBLE PRECISION ENCODE ZSTD,
    recovery DOUBLE PRECISION ENCODE ZSTD,
    mini_crash DOUBLE PRECISION ENCODE ZSTD,
    largest_return DOUBLE PRECISION ENCODE ZSTD,
    first_digit_deviation DOUBLE PRECISION ENCODE ZSTD,
    round_size_share DOUBLE PRECISION ENCODE ZSTD
)
DISTSTYLE KEY
DISTKEY (window_start)
COMPOUND SORTKEY (window_start, product);

-- A few rows, joined with everything: every node has them all.
CREATE TABLE fulltape.gaps (
    product VARCHAR(32) NOT NULL ENCODE BYTEDICT,
    first_id BIGINT NOT NULL ENCODE AZ64,
    last_id BIGINT NOT NULL ENCODE AZ64,
    reason VARCHAR(4096) NOT NULL ENCODE ZSTD,
    detected_at TIMESTAMP NOT NULL ENCODE RAW,
    tape_at TIMESTAMP NOT NULL ENCODE AZ64
)
DISTSTYLE ALL
COMPOUND SORTKEY (detected_at, product);

-- Distributed as trades are, so that a quote meets its trade on one slice.
CREATE TABLE fulltape.tickers (
    product VARCHAR(32) NOT NULL ENCODE BYTEDICT,
    trade_id BIGINT NOT NULL ENCODE AZ64,
    quoted_at TIMESTAMP NOT NULL ENCODE RAW,
    price DECIMAL(19, 10) NOT NULL ENCODE AZ64,
    size DECIMAL(19, 8) NOT NULL ENCODE AZ64,
    taker_side VARCHAR(4) NOT NULL ENCODE BYTEDICT,
    best_bid DECIMAL(19, 10) NOT NULL ENCODE AZ64,
    best_bid_size DECIMAL(19, 8) NOT NULL ENCODE AZ64,
    best_ask DECIMAL(19, 10) NOT NULL ENCODE AZ64,
    best_ask_size DECIMAL(19, 8) NOT NULL ENCODE AZ64,
    sequence BIGINT NOT NULL ENCODE AZ64,
    received_at TIMESTAMP NOT NULL ENCODE AZ64,
    tape_at TIMESTAMP NOT NULL ENCODE AZ64
)
DISTSTYLE KEY
DISTKEY (trade_id)
COMPOUND SORTKEY (quoted_at, product);

-- Thousands of rows a year, joined with everything: every node has them all.
CREATE TABLE fulltape.alerts (
    fingerprint VARCHAR(64) NOT NULL ENCODE ZSTD,
    changed_at TIMESTAMP NOT NULL ENCODE RAW,
    state VARCHAR(16) NOT NULL ENCODE BYTEDICT,
    name VARCHAR(256) NOT NULL ENCODE ZSTD,
    product VARCHAR(32) ENCODE BYTEDICT,
    window_length VARCHAR(32) ENCODE ZSTD,
    severity VARCHAR(16) NOT NULL ENCODE BYTEDICT,
    summary VARCHAR(4096) NOT NULL ENCODE ZSTD,
    measures VARCHAR(16384) NOT NULL ENCODE ZSTD,
    labels VARCHAR(16384) NOT NULL ENCODE ZSTD,
    annotations VARCHAR(16384) NOT NULL ENCODE ZSTD,
    since_at TIMESTAMP NOT NULL ENCODE AZ64,
    starts_at TIMESTAMP ENCODE AZ64,
    ends_at TIMESTAMP ENCODE AZ64,
    trade_at TIMESTAMP ENCODE AZ64,
    tape_at TIMESTAMP NOT NULL ENCODE AZ64
)
DISTSTYLE ALL
COMPOUND SORTKEY (changed_at, fingerprint);

-- Read by every load before anything else, and small: every node has it.
CREATE TABLE fulltape.ledger (
    kind VARCHAR(16) NOT NULL ENCODE BYTEDICT,
    batch VARCHAR(64) NOT NULL ENCODE ZSTD,
    batch_rows BIGINT NOT NULL ENCODE AZ64,
    loaded_at TIMESTAMP NOT NULL ENCODE RAW,
    load_id VARCHAR(64) NOT NULL ENCODE ZSTD
)
DISTSTYLE ALL
COMPOUND SORTKEY (loaded_at, kind);
