"""Trades by the minute are at all times what the trades add up to, however these were loaded."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlglot
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from fulltape.warehouse.connection import Dialect, WarehouseUnavailableError
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.ledger import Statement
from fulltape.warehouse.load import Loader, Retention
from fulltape.warehouse.migrations import make_duckdb, read_migrations
from fulltape.warehouse.rollup import MINUTES
from fulltape.warehouse.staging import Staging
from tests.redshift.rows import DAY, FEED, ask_duck, stage, trade

COLUMNS = [column.name for column in MINUTES.columns]
PRODUCTS = ("BTC-USD", "SHIB-USD")
_STATEMENTS_OF_A_LOAD = 16

_TRADES = st.lists(
    st.tuples(st.sampled_from(PRODUCTS), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=20, unique=True
)


class FailingDatabase(DuckDatabase):
    """A database that is lost at the n-th statement."""

    def __init__(self, file: Path, staging: Staging, statements: int) -> None:
        super().__init__(file, staging)
        self._left = statements

    def execute(self, statement: Statement) -> list[tuple[Any, ...]]:
        self._left -= 1
        if not self._left:
            raise WarehouseUnavailableError("lost")
        return super().execute(statement)


def row(product: str, number: int, version: int) -> dict[str, Any]:
    """Return a trade that is a function of its key and version; its time, 25 s after the one before, of the key."""
    corrected = trade(number, product=product, version=version, price=f"{100 + version}.{number:02d}")
    return corrected | {
        "traded_at": DAY + timedelta(seconds=25 * number),
        "source": "backfill" if number % 4 == 0 else "stream",
        "late": version > 1,
    }


def minutes(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """Return what trades come to by the minute, worked out in Python."""
    of: dict[tuple[str, datetime], list[dict[str, Any]]] = {}
    for one in sorted(rows, key=lambda one: (one["product"], one["trade_id"])):
        of.setdefault((one["product"], one["traded_at"].replace(second=0)), []).append(one)
    return [
        (
            *key, len(trades), sum(one["late"] for one in trades),
            sum(one["source"] == "backfill" for one in trades), sum(one["size"] for one in trades),
            sum((one["size"] for one in trades if one["taker_side"] == "buy"), Decimal(0)),
            sum(one["price"] * one["size"] for one in trades), trades[0]["trade_id"], trades[-1]["trade_id"],
            trades[0]["price"], max(one["price"] for one in trades), min(one["price"] for one in trades),
            trades[-1]["price"],
        )
        for key, trades in of.items()
    ]  # fmt: skip


@contextmanager
def warehouse() -> Iterator[tuple[Path, Staging]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "warehouse.duckdb"
        make_duckdb(file)
        yield file, Staging(str(Path(folder) / "staging"))


def stored(file: Path) -> list[tuple[Any, ...]]:
    return ask_duck(file, f"SELECT {', '.join(COLUMNS)} FROM fulltape.trade_minutes ORDER BY product, minute_at")


@settings(max_examples=10, deadline=None)
@given(
    versions=_TRADES,
    size=st.integers(1, 8),
    again=st.lists(st.integers(0, 5), max_size=3),
    lost=st.lists(st.integers(1, _STATEMENTS_OF_A_LOAD), max_size=3),
    chance=st.randoms(use_true_random=False),
)
def test_any_order_repetition_correction_and_interruption_leaves_the_minutes_of_the_trades(
    versions: list[tuple[str, int, int]], size: int, again: list[int], lost: list[int], chance: Any
) -> None:
    with warehouse() as (file, staging):
        parts = [versions[start : start + size] for start in range(0, len(versions), size)]
        parts += [parts[number % len(parts)] for number in again]
        chance.shuffle(parts)
        newest: dict[tuple[str, int], int] = {}
        start = 0
        for part in parts:
            stage(staging, start, [row(*one) for one in part])
            start += len(part)
            if lost:
                with suppress(WarehouseUnavailableError):
                    Loader(FEED, staging, FailingDatabase(file, staging, lost.pop())).run()
                loaded = ask_duck(file, "SELECT product, trade_id, price, late FROM fulltape.trades")
                trades = [row(product, number, int(price) - 100) for product, number, price, _ in loaded]
                assert stored(file) == minutes(trades)
            for product, number, version in part:
                newest[product, number] = max(version, newest.get((product, number), 0))
            if chance.random() < 0.7:
                Loader(FEED, staging, DuckDatabase(file, staging)).run()
                assert stored(file) == minutes([row(*key, version) for key, version in newest.items()])
        Loader(FEED, staging, DuckDatabase(file, staging)).run()
        assert stored(file) == minutes([row(*key, version) for key, version in newest.items()])


def test_a_load_works_out_no_minutes_but_those_it_touches() -> None:
    with warehouse() as (file, staging):
        stage(staging, 0, [row("BTC-USD", number, 0) for number in range(1, 9)])
        Loader(FEED, staging, DuckDatabase(file, staging)).run()
        ask_duck(file, "UPDATE fulltape.trade_minutes SET trades = -1")
        stage(staging, 8, [row("BTC-USD", 9, 0)])
        Loader(FEED, staging, DuckDatabase(file, staging)).run()
        assert [trades for _, _, trades, *_ in stored(file)] == [-1, -1, -1, 2]


def test_minutes_go_with_the_trades_that_are_too_old() -> None:
    with warehouse() as (file, staging):
        stage(staging, 0, [row(product, number, 0) for product in PRODUCTS for number in range(1, 4)])
        retention = Retention(products=("BTC-USD",), seconds=86_400.0)
        Loader(FEED, staging, DuckDatabase(file, staging), retention=retention).run()
        assert stored(file) == minutes([row("SHIB-USD", number, 0) for number in range(1, 4)])


@pytest.mark.parametrize("dialect", ["redshift", "duckdb"])
def test_both_databases_have_the_minutes_under_the_same_names(dialect: Dialect) -> None:
    made: exp.Expression = next(
        parsed
        for migration in read_migrations(dialect)
        for parsed in (sqlglot.parse_one(statement, dialect=dialect) for statement in migration.statements)
        if isinstance(parsed, exp.Create) and parsed.find(exp.Table).name == "trade_minutes"
    )
    if dialect == "duckdb":
        assert [
            (column.name, column.kind.sql(dialect).replace(" ", "")) for column in made.find_all(exp.ColumnDef)
        ] == [
            (column.name, exp.DataType.build(column.kind, dialect).sql(dialect).replace(" ", ""))
            for column in MINUTES.columns
        ]
    else:
        assert made.find(exp.Select).named_selects == COLUMNS
