"""The warehouse's tables, defined once: the archive, the loads and the check of a live database follow from this.

The migrations below ``sql/`` are the other telling of the same; a test holds them together. Names avoid the reserved
words of Redshift, DuckDB and PostgreSQL (``open``, ``window``, ``values``), so that nothing is ever quoted. Times are
microseconds, UTC, in columns without a zone.

A decimal of 19 digits is an integer of 64 bits to Redshift: prices below 922,337,203 with 10 places, sizes below
92,233,720,368 with 8.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from fulltape.measures.names import MEASURES

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA = "fulltape"
"""The database schema that holds every table and view."""

PRICE, SIZE = "DECIMAL(19,10)", "DECIMAL(19,8)"
VOLUME, NOTIONAL = "DECIMAL(38,8)", "DECIMAL(38,15)"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``kind`` is its SQL type, spelt so that all databases know it."""

    name: str
    kind: str
    description: str
    null: bool = False
    field: str = ""
    """The message's field that it holds; empty where that has the column's name, or where no message has it."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table; ``key`` tells rows apart (no database enforces it: the loads do), ``sort`` is their order on disk."""

    name: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    sort: tuple[str, ...]

    @property
    def qualified(self) -> str:
        """The name with its schema, as SQL has it."""
        return f"{SCHEMA}.{self.name}"


def snake_case(name: str) -> str:
    """Return a measure's name as a column's.

    >>> snake_case("priceChangeStdDev"), snake_case("volatilityZScore")
    ('price_change_std_dev', 'volatility_z_score')
    """
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


_PRODUCT = Column("product", "VARCHAR(32)", "Coinbase's product, such as BTC-USD")
_TAPE_AT = Column("tape_at", "TIMESTAMP", "when the record was written to the tape's topic")

_TRADES = Table(
    "trades",
    (
        _PRODUCT,
        Column("trade_id", "BIGINT", "the exchange's number of the trade: contiguous within a product"),
        Column("traded_at", "TIMESTAMP", "the exchange's time of the trade", field="time_us"),
        Column("price", PRICE, "exact, in the quote currency"),
        Column("size", SIZE, "exact, in the base currency"),
        Column("taker_side", "VARCHAR(4)", "buy lifted an offer, sell hit a bid"),
        Column("sequence", "BIGINT", "the exchange's order-book sequence; null for a backfilled trade", null=True),
        Column("received_at", "TIMESTAMP", "when this machine read the trade from the socket", field="received_us"),
        _TAPE_AT,
        Column("source", "VARCHAR(16)", "stream or backfill"),
        Column("late", "BOOLEAN", "it was behind the watermark when it was archived, so no final window has it"),
    ),
    key=("product", "trade_id"),
    sort=("traded_at", "product"),
)

_WINDOW_COLUMNS = (
    _PRODUCT,
    Column("window_seconds", "INTEGER", "the window's length"),
    Column("window_start", "TIMESTAMP", "inclusive; exchange time"),
    Column("window_end", "TIMESTAMP", "exclusive; exchange time"),
    Column("trades", "BIGINT", "number of trades"),
    Column("volume", VOLUME, "sum of the sizes, base currency"),
    Column("notional", NOTIONAL, "sum of price times size, quote currency"),
    Column("buy_volume", VOLUME, "sum of the sizes whose taker bought"),
    Column("open_price", PRICE, "price of the first trade; null without trades", null=True),
    Column("high_price", PRICE, "highest price; null without trades", null=True),
    Column("low_price", PRICE, "lowest price; null without trades", null=True),
    Column("close_price", PRICE, "price of the last trade; null without trades", null=True),
    Column("first_id", "BIGINT", "id of the first trade; null without trades", null=True),
    Column("last_id", "BIGINT", "id of the last trade; null without trades", null=True),
)

_WINDOWS = Table(
    "windows",
    (
        *_WINDOW_COLUMNS,
        *(
            Column(snake_case(name), "DOUBLE PRECISION", measure.description, null=True, field=name)
            for name, measure in MEASURES.items()
            if snake_case(name) not in {column.name for column in _WINDOW_COLUMNS}
        ),
    ),
    key=("product", "window_seconds", "window_start"),
    sort=("window_start", "product"),
)

_GAPS = Table(
    "gaps",
    (
        _PRODUCT,
        Column("first_id", "BIGINT", "first id that could not be had"),
        Column("last_id", "BIGINT", "last id that could not be had, inclusive"),
        Column("reason", "VARCHAR(4096)", "what was asked, and what the exchange answered"),
        Column("detected_at", "TIMESTAMP", "when the producer gave the ids up", field="detected_us"),
        _TAPE_AT,
    ),
    key=("product", "first_id"),
    sort=("detected_at", "product"),
)

_TICKERS = Table(
    "tickers",
    (
        _PRODUCT,
        Column("trade_id", "BIGINT", "the last trade"),
        Column("quoted_at", "TIMESTAMP", "the exchange's time", field="time_us"),
        Column("price", PRICE, "of the last trade"),
        Column("size", SIZE, "of the last trade"),
        Column("taker_side", "VARCHAR(4)", "of the last trade"),
        Column("best_bid", PRICE, "highest price bid"),
        Column("best_bid_size", SIZE, "size bid at that price"),
        Column("best_ask", PRICE, "lowest price asked"),
        Column("best_ask_size", SIZE, "size asked at that price"),
        Column("sequence", "BIGINT", "the exchange's order-book sequence"),
        Column("received_at", "TIMESTAMP", "when this machine read the ticker from the socket", field="received_us"),
        _TAPE_AT,
    ),
    key=("product", "sequence"),
    sort=("quoted_at", "product"),
)

_ALERTS = Table(
    "alerts",
    (
        Column("fingerprint", "VARCHAR(64)", "names the alert: rule, product and window"),
        Column("changed_at", "TIMESTAMP", "when the monitor made this change", field="changed_us"),
        Column("state", "VARCHAR(16)", "pending, inactive, firing or resolved"),
        Column("name", "VARCHAR(256)", "the rule's name"),
        Column("product", "VARCHAR(32)", "null for an alert on the whole feed", null=True),
        Column("window_length", "VARCHAR(32)", "as the feed writes it, such as 1m", null=True, field="window"),
        Column("severity", "VARCHAR(16)", "info, warning or critical"),
        Column("summary", "VARCHAR(4096)", "one sentence with the numbers"),
        Column("measures", "VARCHAR(16384)", "what the rule watches, as at this change: a JSON object", field="values"),
        Column("labels", "VARCHAR(16384)", "as Alertmanager gets them: a JSON object"),
        Column("annotations", "VARCHAR(16384)", "as Alertmanager gets them: a JSON object"),
        Column("since_at", "TIMESTAMP", "exchange time at which the condition began to hold", field="since_us"),
        Column("starts_at", "TIMESTAMP", "exchange time at which it fired", null=True, field="starts_us"),
        Column("ends_at", "TIMESTAMP", "exchange time at which it resolved", null=True, field="ends_us"),
        Column("trade_at", "TIMESTAMP", "exchange time of the trade behind the change", null=True, field="trade_us"),
        _TAPE_AT,
    ),
    key=("fingerprint", "changed_at", "state"),
    sort=("changed_at", "fingerprint"),
)

LEDGER = Table(
    "ledger",
    (
        Column("kind", "VARCHAR(16)", "the table that the batch belongs to"),
        Column("batch", "VARCHAR(64)", "the batch's name"),
        Column("batch_rows", "BIGINT", "how many rows its description promised"),
        Column("loaded_at", "TIMESTAMP", "when the load's transaction began"),
        Column("load_id", "VARCHAR(64)", "names the load, which may hold several batches"),
    ),
    key=("kind", "batch"),
    sort=("loaded_at", "kind"),
)
"""What was loaded: a batch with a row here is in its table, all of it."""

TABLES: Mapping[str, Table] = MappingProxyType(
    {table.name: table for table in (_TRADES, _WINDOWS, _GAPS, _TICKERS, _ALERTS, LEDGER)}
)
"""Every table by its name; all but the ledger are also kinds of batches."""


def precision(kind: str) -> tuple[int, int] | None:
    """Return the digits of a decimal type and how many stand after the point; None for other types.

    >>> precision("DECIMAL(19,10)"), precision("BIGINT")
    ((19, 10), None)
    """
    match = re.fullmatch(r"(?:DECIMAL|NUMERIC)\((\d+), ?(\d+)\)", kind, re.IGNORECASE)
    return (int(match[1]), int(match[2])) if match else None


@cache
def arrow_schema(table: Table) -> "pa.Schema":
    """Return what a Parquet file of the table's rows holds, in the types that COPY wants for its columns."""
    import pyarrow as pa  # noqa: PLC0415 - takes 100 ms, which those who only query need not pay

    simple = {
        "BIGINT": pa.int64(),
        "INTEGER": pa.int32(),
        "DOUBLE PRECISION": pa.float64(),
        "BOOLEAN": pa.bool_(),
        "TIMESTAMP": pa.timestamp("us"),
    }

    def arrow_type(kind: str) -> "pa.DataType":
        digits = precision(kind)
        if digits is not None:
            return pa.decimal128(*digits)
        return pa.string() if kind.startswith("VARCHAR") else simple[kind]

    return pa.schema([pa.field(column.name, arrow_type(column.kind), column.null) for column in table.columns])
