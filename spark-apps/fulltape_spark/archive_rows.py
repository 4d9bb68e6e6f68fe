"""From the records of a feed's topics to rows of the warehouse's tables. Pure: bytes in, Arrow tables out.

Columns are made all at once, by Arrow's own casts; only where that fails, as of one record that no column can hold, are
the records halved until those that can't be stored stand alone. They are counted, and nothing else is held up by them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fulltape.messages import UNDECODABLE, Alert, Gap, Source, TakerSide, Ticker
from fulltape.warehouse.staging import Kind
from fulltape.warehouse.tables import TABLES, arrow_schema

Origin = Literal["trades", "ticker", "alerts", "windows"]
"""Where records come from: one of a feed's topics, or the query that computes windows."""


class _Trade(msgspec.Struct, tag="trade", tag_field="type", frozen=True, gc=False):
    """As much of a `Trade` as is stored; to decode all of it takes twice as long."""

    product: str
    trade_id: int
    price: str
    size: str
    taker_side: TakerSide
    time_us: int
    sequence: int | None
    received_us: int
    source: Source


class FinalWindow(msgspec.Struct, tag="final", tag_field="type", frozen=True, gc=False):
    """A window that no trade changes any more, under the names of its table's columns."""

    product: str
    window_seconds: int
    window_start: int
    """Microseconds, as the end."""
    window_end: int
    trades: int
    volume: str
    notional: str
    buy_volume: str
    open_price: str | None
    high_price: str | None
    low_price: str | None
    close_price: str | None
    first_id: int
    last_id: int
    measures: dict[str, float | None]
    """Each measure by its name in a feed."""


_Record = _Trade | Gap | Ticker | Alert | FinalWindow

_DECODERS: Mapping[Origin, Callable[[bytes], _Record]] = {
    "trades": msgspec.json.Decoder(_Trade | Gap).decode,
    "ticker": msgspec.json.Decoder(Ticker).decode,
    "alerts": msgspec.json.Decoder(Alert).decode,
    "windows": msgspec.json.Decoder(FinalWindow).decode,
}
_KINDS: Mapping[type, Kind] = {
    _Trade: "trades",
    Gap: "gaps",
    Ticker: "tickers",
    Alert: "alerts",
    FinalWindow: "windows",
}
_TIMES: Mapping[type, str] = {
    _Trade: "time_us",
    Gap: "detected_us",
    Ticker: "time_us",
    Alert: "changed_us",
    FinalWindow: "window_end",
}
"""By which time each is ordered."""
_POSITIVE = ("price", "size")

SECOND_US = 1_000_000
_MOST_US = 2**62


@dataclass(frozen=True, slots=True)
class Clock:
    """Which trades are late, and which claim a time that can't be."""

    late_us: int
    """Trades of seconds up to and with this one are behind the watermark."""
    ahead_us: int
    """A trade whose time is further than this ahead of its being written does not move the clock."""


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one kind."""

    table: pa.Table
    """In the schema of the kind's table."""
    first_us: int
    """Least time of the records; microseconds."""
    last_us: int
    tape_us: int
    """Greatest time at which one was written to Kafka; microseconds."""


@dataclass(slots=True)
class Found:
    """What some records came to."""

    rows: dict[Kind, Rows] = field(default_factory=dict)
    """Of each kind that there was any of."""
    unusable: int = 0
    """Records that are not what belongs on the topic, or that no column can hold."""
    late: int = 0
    """Trades behind the watermark."""
    newest_us: int = 0
    """Greatest time of the trades, but of those that claim to be from the future; 0 without any."""


def rows_of(origin: Origin, values: Sequence[bytes | None], tape_us: Sequence[int], clock: Clock) -> Found:
    """Return the rows of consecutive records of one partition.

    Args:
        origin: the topic.
        values: the records.
        tape_us: when each was written to Kafka; microseconds, as many as ``values``.
        clock: what is late.

    """
    decode = _DECODERS[origin]
    found = Found()
    records: dict[type, tuple[list[_Record], list[int]]] = {}
    for value, written_us in zip(values, tape_us, strict=True):
        try:
            record = decode(value or b"")
        except UNDECODABLE:
            found.unusable += 1
            continue
        of_kind = records.setdefault(type(record), ([], []))
        of_kind[0].append(record)
        of_kind[1].append(written_us)
    for kind, (of_type, written) in records.items():
        tables = _tables(kind, of_type, written, clock)
        stored = pa.concat_tables(tables) if tables else None
        found.unusable += len(of_type) - (stored.num_rows if stored is not None else 0)
        if stored is not None and stored.num_rows:
            _note(found, kind, stored, clock)
    return found


def joined(parts: Sequence[Rows]) -> Rows:
    """Return several rows of one kind, in order, as one."""
    return Rows(
        pa.concat_tables([part.table for part in parts]),
        min(part.first_us for part in parts),
        max(part.last_us for part in parts),
        max(part.tape_us for part in parts),
    )


def _note(found: Found, record: type, stored: pa.Table, clock: Clock) -> None:
    """Take up the rows of one kind, and what follows from them."""
    times = stored["time_us"]
    bounds = pc.min_max(times)
    kind = _KINDS[record]
    found.rows[kind] = Rows(
        stored.select(_schema(kind).names),
        bounds["min"].as_py(),
        bounds["max"].as_py(),
        pc.max(stored["tape_us"]).as_py(),
    )
    if kind == "trades":
        found.late += pc.sum(stored["late"]).as_py()
        plausible = pc.less_equal(times, pc.add(stored["tape_us"], clock.ahead_us))
        found.newest_us = max(found.newest_us, pc.max(times.filter(plausible)).as_py() or 0)


def _tables(record: type, records: list[_Record], tape_us: list[int], clock: Clock) -> list[pa.Table]:
    """Return the rows of those records that can be stored, with their times beside, in order."""
    try:
        return [_table(record, records, tape_us, clock)]
    except (pa.ArrowException, OverflowError, UnicodeEncodeError):
        if len(records) == 1:
            return []
    half = len(records) // 2
    return [
        *_tables(record, records[:half], tape_us[:half], clock),
        *_tables(record, records[half:], tape_us[half:], clock),
    ]


def _table(record: type, records: list[_Record], tape_us: list[int], clock: Clock) -> pa.Table:
    """Return one table of all records.

    Raises:
        pa.ArrowException, OverflowError, UnicodeEncodeError: one of them holds what its column can't.

    """
    kind = _KINDS[record]
    columns: dict[str, Any] = {}
    times = pa.array([getattr(one, _TIMES[record]) for one in records], pa.int64())
    written = pa.array(tape_us, pa.int64())
    fields = record.__struct_fields__  # type: ignore[attr-defined]  # msgspec's
    for column, made in zip(TABLES[kind].columns, _schema(kind), strict=True):
        name = column.field or column.name
        if name == "late":
            columns[name] = pc.less_equal(times, clock.late_us + SECOND_US - 1)
        elif name == "tape_at":
            columns[name] = written.cast(made.type)
        elif name in fields:
            columns[column.name] = _column([getattr(one, name) for one in records], made)
        else:  # a measure of a window
            columns[column.name] = _column([one.measures[name] for one in records], made)  # type: ignore[union-attr]
    table = pa.table(columns, _schema(kind)).append_column("time_us", times).append_column("tape_us", written)
    usable = pc.and_(pc.greater(times, 0), pc.less(times, _MOST_US))
    for name in _POSITIVE if kind == "trades" else ():
        usable = pc.and_(usable, pc.greater(table[name], 0))
    for name, most in _limits(kind).items():
        usable = pc.and_(usable, pc.fill_null(pc.less_equal(pc.binary_length(table[name]), most), fill_value=True))
    return table.filter(usable)


def _column(values: list[Any], column: pa.Field) -> pa.Array:
    """Make one column, exactly."""
    if pa.types.is_decimal(column.type):
        return pc.cast(pa.array(values, pa.string()), column.type)
    if pa.types.is_string(column.type) and any(isinstance(value, dict) for value in values[:1]):
        values = [msgspec.json.encode(value, order="deterministic").decode() for value in values]
    array = pa.array(values, pa.int64() if pa.types.is_timestamp(column.type) else column.type)
    if not column.nullable and array.null_count:
        raise pa.ArrowInvalid(f"{column.name} is null")
    return array.cast(column.type)


@cache
def _schema(kind: Kind) -> pa.Schema:
    return arrow_schema(TABLES[kind])


@cache
def _limits(kind: Kind) -> dict[str, int]:
    """Return how many bytes the texts of a kind may have, by column."""
    return {
        column.name: int(column.kind[len("VARCHAR(") : -1])
        for column in TABLES[kind].columns
        if column.kind.startswith("VARCHAR(")
    }
