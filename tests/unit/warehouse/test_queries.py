"""The named questions on data small enough to be worked out here; nothing that is asked can write or be injected."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from fulltape.warehouse.connection import DuckDB, StatementError, WarehouseUnavailableError, open_duckdb
from fulltape.warehouse.migrations import migrate
from fulltape.warehouse.queries import (
    Parameter,
    QueryError,
    ask,
    check_read_only,
    named_queries,
    value_of,
)
from fulltape.warehouse.rollup import insert_minutes
from fulltape.warehouse.tables import TABLES

START = datetime(2025, 10, 10, 21, 0, 0)  # noqa: DTZ001 - the warehouse's times have no zone
QUERIES = named_queries()

# product, id, seconds after START, price, size, taker
TRADES = [
    ("BTC-USD", 1, 0.0, "100000.01", "0.00000001", "buy"),
    ("BTC-USD", 2, 30.5, "99000.00", "2", "sell"),
    ("BTC-USD", 3, 61.0, "98000.00", "1", "sell"),
    ("BTC-USD", 6, 3700.0, "99500.00", "1", "buy"),
    ("BONK-USD", 7, 10.0, "0.0000123456", "12345678901.5", "buy"),
    ("SHIB-USD", 9, 20.0, "0.00000001", "100", "sell"),
    ("SHIB-USD", 10, 21.0, "0.00000003", "100", "sell"),
]


def insert(database: DuckDB, table: str, **values: Any) -> None:
    names = ", ".join(values)
    database.run(f"INSERT INTO fulltape.{table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})", values)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("warehouse") / "fulltape.duckdb"
    database = open_duckdb(file, read_only=False)
    migrate(database)
    for product, trade_id, seconds, price, size, side in TRADES:
        insert(
            database, "trades", product=product, trade_id=trade_id, traded_at=at(seconds), price=Decimal(price),
            size=Decimal(size), taker_side=side, sequence=None, received_at=at(seconds + 0.04),
            tape_at=at(seconds + (0.05 if trade_id != 6 else 20)), source="stream" if trade_id != 3 else "backfill",
            late=trade_id == 6,
        )  # fmt: skip
    database.run(insert_minutes())
    insert(database, "gaps", product="BTC-USD", first_id=4, last_id=4, reason="404", detected_at=at(70), tape_at=at(70))
    for minute in range(12):
        for seconds in (60, 300):
            insert(
                database, "windows", product="BTC-USD", window_seconds=seconds, window_start=at(60 * minute),
                window_end=at(60 * minute + seconds), trades=2, volume=Decimal(4), notional=Decimal(400),
                buy_volume=Decimal(minute % 4), open_price=Decimal(100 + minute), high_price=Decimal(120),
                low_price=Decimal(90 - minute), close_price=Decimal(101 + minute), first_id=10 * minute,
                last_id=10 * minute + 9, drawdown=0.01 * minute, realized_volatility=0.1,
                annualized_volatility=0.5 + 0.1 * minute,
            )  # fmt: skip
    for state, ends in (("firing", None), ("resolved", at(400))):
        insert(
            database, "alerts", fingerprint="f", changed_at=at(121 if ends is None else 400), state=state,
            name="Crash", product="BTC-USD", window_length="5m", severity="critical", summary="fell", measures="{}",
            labels="{}", annotations="{}", since_at=at(110), starts_at=at(120), ends_at=ends, trade_at=None,
            tape_at=at(121),
        )  # fmt: skip
    for number, (bid, ask_price) in enumerate([("99", "101"), ("99.5", "100.5")]):
        insert(
            database, "tickers", product="BTC-USD", trade_id=number, quoted_at=at(number), price=Decimal(100),
            size=Decimal(1), taker_side="buy", best_bid=Decimal(bid), best_bid_size=Decimal(1),
            best_ask=Decimal(ask_price), best_ask_size=Decimal(1), sequence=number, received_at=at(number),
            tape_at=at(number),
        )  # fmt: skip
    for batch in ("a", "b"):
        insert(database, "ledger", kind="trades", batch=batch, batch_rows=5, loaded_at=at(90), load_id="l")
    database.close()
    return file


@pytest.fixture
def database(path: Path) -> Iterator[DuckDB]:
    connection = open_duckdb(path, read_only=True)
    yield connection
    connection.close()


def asked(database: DuckDB, name: str, **given: str) -> list[dict[str, Any]]:
    result = ask(database, QUERIES[name], {"since": START.isoformat(), **given})
    return [dict(zip(result.columns, row, strict=True)) for row in result.rows]


def picked(rows: list[dict[str, Any]], *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in names) for row in rows]


@pytest.mark.parametrize("name", QUERIES)
def test_every_question_can_be_asked_without_telling_it_anything(database: DuckDB, name: str) -> None:
    assert len(set(ask(database, QUERIES[name]).columns)) > 1


@pytest.mark.parametrize("name", QUERIES)
def test_every_question_can_be_asked_of_an_empty_warehouse(tmp_path: Path, name: str) -> None:
    connection = open_duckdb(tmp_path / "empty.duckdb", read_only=False)
    migrate(connection)
    assert ask(connection, QUERIES[name]).rows == []
    connection.close()


@pytest.mark.parametrize(
    "view", ["ohlcv", "vwap", "order_flow", "volatility_ranks", "completeness", "alert_history", "trade_days"]
)
def test_every_view_can_be_read(database: DuckDB, view: str) -> None:
    assert database.run(f"SELECT * FROM fulltape.{view}").rows


def test_decimals_come_back_to_the_last_digit(database: DuckDB) -> None:
    rows = database.run("SELECT product, trade_id, price, size FROM fulltape.trades").rows
    expected = {(product, number): (Decimal(price), Decimal(size)) for product, number, _, price, size, _ in TRADES}
    assert {(product, number): (price, size) for product, number, price, size in rows} == expected


def test_what_moved_most(database: DuckDB) -> None:
    rows = picked(asked(database, "movers"), "product", "open_price", "close_price", "moved_percent", "trades")
    assert [row[0] for row in rows] == ["SHIB-USD", "BTC-USD", "BONK-USD"]
    assert rows[0][3] == pytest.approx(200)
    assert rows[1][1:3] == (Decimal("100000.01"), Decimal(99500))
    assert rows[1][3] == pytest.approx((99500 / 100000.01 - 1) * 100)
    assert asked(database, "movers", top="1")[0]["product"] == "SHIB-USD"


@pytest.mark.parametrize("length", [1, 7, 60, 3600])
def test_bars_of_any_length(database: DuckDB, length: int) -> None:
    rows = asked(database, "ohlcv", product="BTC-USD", interval_seconds=str(length))
    bars: dict[datetime, list[tuple[Decimal, Decimal]]] = {}
    epoch = datetime(1970, 1, 1)  # noqa: DTZ001
    for _, _, seconds, price, size, _ in TRADES[:4]:
        whole = int((at(seconds) - epoch).total_seconds())
        bars.setdefault(epoch + timedelta(seconds=whole - whole % length), []).append((Decimal(price), Decimal(size)))
    assert picked(rows, "bar_at", "open_price", "high_price", "low_price", "close_price", "volume", "trades") == [
        (
            start, trades[0][0], max(price for price, _ in trades), min(price for price, _ in trades), trades[-1][0],
            sum(size for _, size in trades), len(trades),
        )
        for start, trades in bars.items()
    ]  # fmt: skip


def test_a_minute_counts_where_it_begins(database: DuckDB) -> None:
    assert picked(asked(database, "ohlcv", since=at(1).isoformat(), until=at(60.5).isoformat()), "bar_at") == [
        (at(60),)
    ]
    assert picked(asked(database, "movers", since=at(1).isoformat()), "product", "trades") == [("BTC-USD", 2)]
    assert asked(database, "tape_complete", until=START.isoformat()) == []


@pytest.mark.parametrize("question", ["movers", "vwap_by_hour", "taker_imbalance", "backfilled", "tape_complete"])
def test_questions_about_long_spans_read_minutes_alone(question: str) -> None:
    assert "fulltape.trades\n" not in QUERIES[question].sql
    assert "fulltape.trade_minutes" in QUERIES[question].sql


def test_vwap_of_each_hour_against_its_close(database: DuckDB) -> None:
    rows = picked(asked(database, "vwap_by_hour"), "hour_at", "vwap", "close_price", "close_above_vwap_percent")
    vwap = (100000.01 * 1e-8 + 99000 * 2 + 98000) / 3.00000001
    assert rows[0] == (START, pytest.approx(vwap), Decimal(98000), pytest.approx((98000 / vwap - 1) * 100))
    assert rows[1] == (at(3600), pytest.approx(99500), Decimal(99500), pytest.approx(0))


def test_what_is_missing_and_what_of_that_is_known(database: DuckDB) -> None:
    rows = picked(asked(database, "tape_complete"), "product", "trades", "missing", "known_gaps", "unexplained")
    assert rows == [("BTC-USD", 4, 2, 1, 1), ("BONK-USD", 1, 0, 0, 0), ("SHIB-USD", 2, 0, 0, 0)]
    assert picked(asked(database, "gaps"), "first_id", "ids", "reason") == [(4, 1, "404")]


def test_how_late_data_was(database: DuckDB) -> None:
    rows = asked(database, "lateness", product="BTC-USD")
    assert picked(rows, "source", "trades", "most_lag_ms", "below_100_ms", "behind_the_watermark") == [
        ("stream", 3, 20000, pytest.approx(200 / 3), 1),
        ("backfill", 1, 50, 100, 0),
    ]
    assert picked(asked(database, "backfilled"), "hour_at", "trades", "backfilled") == [(START, 6, 1), (at(3600), 1, 0)]


def test_taker_imbalance_largest_trades_and_busiest_seconds(database: DuckDB) -> None:
    rows = asked(database, "taker_imbalance", product="BTC-USD")
    assert picked(rows, "buy_volume", "sell_volume", "imbalance") == [
        (Decimal("0.00000001"), Decimal(3), pytest.approx((1e-8 - 3) / 3.00000001)),
        (Decimal(1), Decimal(0), 1.0),
    ]
    largest = picked(asked(database, "largest_trades", top="2"), "trade_id", "notional")
    assert largest == [(2, Decimal(198000)), (7, Decimal("0.0000123456") * Decimal("12345678901.5"))]
    assert picked(asked(database, "busiest_seconds", top="1"), "second_at", "trades") == [(START, 1)]


def test_the_worst_drawdown_of_each_hour(database: DuckDB) -> None:
    rows = picked(asked(database, "worst_drawdowns"), "window_start", "drawdown_percent")
    assert rows == [(at(660), pytest.approx(11))]
    flow = asked(database, "flow_before_crash", minutes="3")
    assert picked(flow, "minute_start", "seconds_before", "imbalance") == [
        (at(60 * minute), 60 * (10 - minute), pytest.approx((2 * (minute % 4) - 4) / 4)) for minute in (8, 9, 10)
    ]


def test_what_followed_an_alert(database: DuckDB) -> None:
    rows = asked(database, "alerts_followed", minutes="3")
    assert picked(rows, "name", "starts_at", "ends_at", "price_then", "price_after", "low_price", "high_price") == [
        ("Crash", at(120), at(400), Decimal(102), Decimal(105), Decimal(86), Decimal(120))
    ]
    assert rows[0]["moved_percent"] == pytest.approx((105 / 102 - 1) * 100)


def test_volatility_spread_and_loads(database: DuckDB) -> None:
    assert picked(asked(database, "volatility_ranking"), "mean_percent_a_year", "windows") == [
        (pytest.approx(100 * (0.5 + 0.55)), 12)
    ]
    assert picked(asked(database, "spread"), "mean_basis_points", "most_basis_points", "tickers") == [
        (pytest.approx(150), pytest.approx(200), 2)
    ]
    assert picked(asked(database, "loads"), "kind", "batches", "loads", "rows_loaded") == [("trades", 2, 1, 10)]


@pytest.mark.parametrize(
    "text",
    ["' OR 1=1 --", "'; DROP TABLE fulltape.trades; --", ":since", "$product", "\\'; DELETE FROM fulltape.trades"],
)
def test_what_a_parameter_holds_is_never_sql(database: DuckDB, text: str) -> None:
    assert asked(database, "movers", product=text) == []
    assert database.run("SELECT COUNT(*) FROM fulltape.trades").rows == [(len(TRADES),)]


@pytest.mark.parametrize(
    ("kind", "text"),
    [("integer", "1; DROP"), ("integer", "0"), ("integer", "-1"), ("integer", "1e3"), ("integer", "٣"),
     ("time", "yesterday"), ("time", "latest - 1 fortnight"), ("time", "now - 999999999d"), ("time", "")],
)  # fmt: skip
def test_parameters_that_are_not_of_their_kind_are_refused(kind: Any, text: str) -> None:
    with pytest.raises(QueryError, match="p: "):
        value_of(Parameter("p", kind, "", ""), text, START, START)


def test_times_may_be_relative_or_in_any_zone() -> None:
    parameter = Parameter("since", "time", "latest", "")
    latest = START + timedelta(hours=5)
    assert value_of(parameter, "latest - 1h", START, latest) == START + timedelta(hours=4)
    assert value_of(parameter, "now", START, latest) == START
    assert value_of(parameter, "2025-10-10T23:00:00+02:00", START, latest) == START


def test_an_unknown_parameter_is_named(database: DuckDB) -> None:
    with pytest.raises(QueryError, match="movers has no parameter 'limit'; it has since, until, product, top"):
        ask(database, QUERIES["movers"], {"limit": "1"})


WRITES = [
    "INSERT INTO fulltape.trades SELECT * FROM fulltape.trades",
    "UPDATE fulltape.trades SET price = 1",
    "DELETE FROM fulltape.trades",
    "TRUNCATE fulltape.trades",
    "MERGE INTO fulltape.gaps USING fulltape.gaps AS g ON true WHEN MATCHED THEN DELETE",
    "DROP TABLE fulltape.trades",
    "DROP SCHEMA fulltape CASCADE",
    "CREATE TABLE fulltape.x (y INTEGER)",
    "CREATE TABLE fulltape.x AS SELECT 1 AS y",
    "CREATE VIEW fulltape.x AS SELECT 1 AS y",
    "ALTER TABLE fulltape.trades ADD COLUMN y INTEGER",
    "SELECT 1 AS y INTO fulltape.x",
    "GRANT ALL ON fulltape.trades TO PUBLIC",
    "VACUUM fulltape.trades",
    "ANALYZE fulltape.trades",
    "CALL fulltape.forget()",
    "COPY fulltape.trades TO '/tmp/trades.csv'",
    "UNLOAD ('SELECT 1') TO 's3://bucket/x' IAM_ROLE DEFAULT",
    "SET search_path TO public",
    "BEGIN",
    "COMMIT",
    "ATTACH '/tmp/other.duckdb' AS other",
    "PRAGMA enable_profiling",
    "EXPORT DATABASE '/tmp/out'",
    "INSTALL httpfs",
    "LOAD httpfs",
    "CHECKPOINT",
    "LOCK fulltape.trades",
    "SELECT 1; DELETE FROM fulltape.trades",
    "WITH gone AS (DELETE FROM fulltape.trades RETURNING *) SELECT * FROM gone",
    "EXPLAIN ANALYZE DELETE FROM fulltape.trades",
    "SELECT pg_terminate_backend(1)",
    "SELECT set_config('a', 'b', false)",
    "SELECT * FROM fulltape.trades FOR UPDATE",
    "this is no SQL",
    "",
]


@pytest.mark.parametrize("dialect", ["redshift", "duckdb"])
@pytest.mark.parametrize("statement", WRITES)
def test_sql_that_would_do_more_than_read_is_refused(statement: str, dialect: Any) -> None:
    with pytest.raises(QueryError):
        check_read_only(statement, dialect)


@pytest.mark.parametrize("dialect", ["redshift", "duckdb"])
@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM fulltape.trades;",
        "WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION ALL SELECT 2",
        "SELECT ';', 'DROP TABLE x' -- ; DELETE",
    ],
)
def test_sql_that_reads_passes(statement: str, dialect: Any) -> None:
    check_read_only(statement, dialect)


@pytest.mark.parametrize(
    "statement",
    ["DELETE FROM fulltape.trades", "CREATE TABLE fulltape.x (y INTEGER)", "COPY fulltape.trades TO '/tmp/x.csv'",
     "SELECT * FROM read_csv('/etc/passwd')", "SET enable_external_access = true", "ATTACH '/tmp/y.duckdb'"],
)  # fmt: skip
def test_the_connection_writes_nothing_even_if_asked_directly(database: DuckDB, statement: str) -> None:
    with pytest.raises(StatementError):
        database.run(statement)


def test_a_file_that_is_being_written_is_waited_for_then_named(tmp_path: Path) -> None:
    import subprocess  # noqa: PLC0415 - another process is what it is about
    import sys  # noqa: PLC0415

    file = tmp_path / "w.duckdb"
    code = f"import duckdb, sys; c = duckdb.connect({str(file)!r}); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == b"open\n"
        with pytest.raises(WarehouseUnavailableError, match="another process has it open"):
            open_duckdb(file, read_only=True, patience_seconds=0.1)
        writer.communicate()
    open_duckdb(file, read_only=True).close()


def test_every_named_question_only_reads() -> None:
    assert len(QUERIES) >= 12
    for query in QUERIES.values():
        check_read_only(query.sql, "redshift")
        check_read_only(query.sql, "duckdb")
    assert set(TABLES) == {"trades", "windows", "gaps", "tickers", "alerts", "ledger"}
