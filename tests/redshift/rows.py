"""Rows of a warehouse as tests make them, and the two databases they are loaded into."""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from fulltape.warehouse.load import Database
from fulltape.warehouse.staging import Batch, Kind, Staging, batch_name
from fulltape.warehouse.tables import TABLES, arrow_schema

SQL = Path(__file__).parents[2] / "sql"
FEED = "markets.test"
DAY = datetime(2025, 10, 10, 21, 0)  # noqa: DTZ001 - the columns have no zone


@dataclass(frozen=True)
class Warehouse:
    """A database with empty tables and a staging area."""

    engine: str
    staging: Staging
    environment: Mapping[str, str]
    """What the loader's process has in its environment, besides the usual."""
    make: Callable[[], Database]
    """Makes the loader's view of it."""
    ask: Callable[[str], list[tuple[Any, ...]]]
    """Runs SQL as somebody else and returns the rows."""

    def trades(self) -> list[tuple[Any, ...]]:
        """Return all trades in the order of their keys."""
        columns = ", ".join(column.name for column in TABLES["trades"].columns)
        return self.ask(f"SELECT {columns} FROM fulltape.trades ORDER BY product, trade_id, tape_at")


def run_migrations(folder: str, run: Callable[[str], Any]) -> None:
    """Run the tables' own SQL."""
    run((SQL / folder / "0001_tables.sql").read_text())


def ask_duck(file: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a DuckDB file."""
    with duckdb.connect(file) as connection:
        return connection.execute(sql).fetchall()


def trade(trade_id: int, *, product: str = "BTC-USD", version: int = 0, price: str = "64000.01") -> dict[str, Any]:
    """Return a row of trades."""
    at = DAY + timedelta(milliseconds=trade_id)
    return {
        "product": product,
        "trade_id": trade_id,
        "traded_at": at,
        "price": Decimal(price),
        "size": Decimal("0.00000001") * trade_id,
        "taker_side": "buy" if trade_id % 2 else "sell",
        "sequence": None if trade_id % 7 == 0 else trade_id * 10,
        "received_at": at,
        "tape_at": at + timedelta(seconds=1 + version),
        "source": "stream",
        "late": False,
    }


def stage(
    staging: Staging,
    start: int,
    rows: list[dict[str, Any]],
    *,
    kind: Kind = "trades",
    files: int = 1,
    publish: bool = True,
) -> Batch:
    """Write a batch that begins at offset ``start`` and return it."""
    name = batch_name(FEED, [start], [start + len(rows)])
    schema = arrow_schema(TABLES[kind])
    written = [
        staging.write_parquet(kind, name, part, pa.Table.from_pylist(rows[part::files], schema=schema))
        for part in range(files)
    ]
    now_us = int(datetime.now(UTC).timestamp() * 1e6)
    batch = Batch(
        kind=kind,
        name=name,
        rows=len(rows),
        bytes=sum(file.bytes for file in written),
        files=tuple(written),
        first_us=now_us,
        last_us=now_us,
        tape_us=now_us,
    )
    if publish:
        staging.publish(batch)
    return batch


def plain_environment() -> dict[str, str]:
    """Return this process's environment without what tests set."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "FULLTAPE_"))}
