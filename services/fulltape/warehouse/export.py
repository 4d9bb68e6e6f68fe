"""Rows of the warehouse into a file: one product's trades or windows of a stretch of time, as Parquet or CSV.

They are asked for page by page along the exchange's time, all within one transaction: the file shows the warehouse at
one moment, and memory is that of two pages however many rows there are. The file has its name once it is whole.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import BinaryIO, Literal, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.warehouse.connection import Connection
from fulltape.warehouse.tables import TABLES, Table, arrow_schema

TableName = Literal["trades", "windows"]

PAGE_ROWS = 65_536
"""Rows in one answer at most, and so in a row group of Parquet about."""

_ORDERS: Mapping[TableName, tuple[str, str]] = MappingProxyType(
    {"trades": ("traded_at", "trade_id"), "windows": ("window_start", "window_seconds")}
)
"""By which time, and at one time by which number, the rows of a product are sorted: no two have both alike."""

_BEFORE_ALL = -1
"""A number below all that rows have."""
_FIRST_LENGTH = timedelta(minutes=1)
_LEAST_LENGTH = timedelta(seconds=1)

Write = Callable[[pa.Table], None]


class Page(NamedTuple):
    """Rows, in order."""

    rows: pa.Table
    last: tuple[datetime, int] | None
    """Time and number of the last; None without any."""


Ask = Callable[[datetime, int, datetime], Page]
"""Returns the first rows, a page at most, from a time, and there after a number, to below another time."""


class ExportError(FulltapeError):
    """The file can't be written."""


class Selection(msgspec.Struct, frozen=True):
    """Which rows are wanted."""

    table: TableName
    product: str
    since: datetime
    """Inclusive; UTC without a zone, as ``until``."""
    until: datetime
    """Exclusive."""


class Exported(msgspec.Struct, frozen=True):
    """What a file holds."""

    file: str
    table: TableName
    product: str
    first_at: datetime
    """Time of the first row."""
    last_at: datetime
    rows: int
    bytes: int


def export(
    connection: Connection, wanted: Selection, to: Path, observe: Callable[[float, int], None] = lambda *_: None
) -> Exported:
    """Write the rows, sorted by time and number, to ``to``, in place of a file of that name.

    Args:
        connection: the warehouse; nothing is written there.
        wanted: the rows.
        to: the file; its name ends in ``.parquet`` (zstd, decimals as the table's) or ``.csv`` (a line of headings).
        observe: is told, after each page, the share of the time that is done and the number of rows.

    Raises:
        ConfigurationError: the file can't be of that name or there, or there are no such rows; says which there are.
        ExportError: the file can't be written, as where the disk is full.
        StatementError, WarehouseUnavailableError: the warehouse refuses or went away.

    """
    form = _FORMS.get(to.suffix)
    if form is None:
        raise ConfigurationError(f"{to}: what form is that to have? End its name in {' or '.join(_FORMS)}")
    if not to.parent.is_dir():
        raise ConfigurationError(f"{to.parent}: there is no such folder; make it, or choose another")
    if to.is_dir():
        raise ConfigurationError(f"{to}: is a folder; name a file in it")
    if wanted.since >= wanted.until:
        raise ConfigurationError(f"from {wanted.since} to {wanted.until} is no time at all; let --since be earlier")
    table, rows = TABLES[wanted.table], 0
    with connection.transaction():
        first, last = _bounds(connection, wanted)
        with _whole(to) as stream:
            with form(table, stream) as write:
                end = last + timedelta(microseconds=1)
                for page, reached in pages(_asker(connection, wanted), first, end, PAGE_ROWS):
                    write(page)
                    rows += page.num_rows
                    observe((reached - first) / (end - first), rows)
            size = stream.tell()
    return Exported(str(to), wanted.table, wanted.product, first, last, rows, size)


def pages(ask: Ask, since: datetime, until: datetime, most: int) -> Iterator[tuple[pa.Table, datetime]]:
    """Yield all rows from ``since`` to below ``until``, page by page, and up to what time each page comes.

    The stretches that are asked for lengthen and shorten so that each holds about a page: the database then neither
    sorts much more than it returns, nor is asked often for little.

    Args:
        ask: returns ``most`` rows at most.
        since: inclusive.
        until: exclusive.
        most: rows in a page.

    """
    start, after, length = since, _BEFORE_ALL, _FIRST_LENGTH
    while start < until:
        end = until if until - start <= length else start + length
        rows, last = ask(start, after, end)
        if last is None or rows.num_rows < most:
            start, after = end, _BEFORE_ALL
            length = 2 * length if rows.num_rows < most // 2 else length
        else:  # there may be more before the end
            moment, after = last
            start, length = moment, max(moment - start, _LEAST_LENGTH)
        yield rows, start


def _bounds(connection: Connection, wanted: Selection) -> tuple[datetime, datetime]:
    """Return the time of the first row and of the last.

    Raises:
        ConfigurationError: there is none; says what there is.

    """
    table, (time, _) = TABLES[wanted.table], _ORDERS[wanted.table]
    ((first, last),) = connection.run(
        f"SELECT MIN({time}), MAX({time}) FROM {table.qualified} "  # noqa: S608 - of constants, as all below
        f"WHERE product = :product AND {time} >= :since AND {time} < :until",
        {"product": wanted.product, "since": wanted.since, "until": wanted.until},
    ).rows
    if first is not None:
        return first, last
    found = connection.run(
        f"SELECT product, MIN({time}), MAX({time}) FROM {table.qualified} GROUP BY product ORDER BY product"  # noqa: S608
    ).rows
    spans = {product: (least, most) for product, least, most in found}
    if wanted.product in spans:
        least, most = spans[wanted.product]
        raise ConfigurationError(
            f"{wanted.product} has no {wanted.table} from {wanted.since} to {wanted.until}; "
            f"it has some from {least} to {most}"
        )
    there = f"there are {wanted.table} of {', '.join(spans)}" if spans else f"there are no {wanted.table} at all yet"
    raise ConfigurationError(f"the warehouse has no {wanted.table} of {wanted.product!r}; {there}")


def _asker(connection: Connection, wanted: Selection) -> Ask:
    table, (time, number) = TABLES[wanted.table], _ORDERS[wanted.table]
    question = (
        f"SELECT {', '.join(column.name for column in table.columns)} FROM {table.qualified} "  # noqa: S608
        f"WHERE product = :product AND {time} >= :start_at AND {time} < :end_at "
        f"AND ({time} > :start_at OR {number} > :after_number) ORDER BY {time}, {number} LIMIT {PAGE_ROWS}"
    )

    schema = arrow_schema(table)

    def ask(start: datetime, after: int, end: datetime) -> Page:
        told = {"product": wanted.product, "start_at": start, "after_number": after, "end_at": end}
        rows = connection.arrow(question, told, schema)
        return Page(rows, (rows[time][-1].as_py(), rows[number][-1].as_py()) if rows.num_rows else None)

    return ask


@contextmanager
def _whole(to: Path) -> Iterator[BinaryIO]:
    """Yield a stream to what gets the name ``to`` once the context is left without an error."""
    draft = to.with_name(f"{to.name}.{os.getpid()}.part")
    try:
        with draft.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(to)
    except OSError as problem:
        raise ExportError(
            f"{to}: can't be written: {problem.strerror or problem}; free some room, or choose another folder"
        ) from problem
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _parquet(table: Table, stream: BinaryIO) -> Iterator[Write]:
    waiting = arrow_schema(table).empty_table()

    def write(rows: pa.Table) -> None:
        nonlocal waiting
        waiting = pa.concat_tables([waiting, rows])
        if waiting.num_rows >= PAGE_ROWS:
            writer.write_table(waiting)
            waiting = waiting.slice(waiting.num_rows)

    with pyarrow.parquet.ParquetWriter(stream, waiting.schema, compression="zstd", coerce_timestamps="us") as writer:
        yield write
        writer.write_table(waiting)


@contextmanager
def _csv(table: Table, stream: BinaryIO) -> Iterator[Write]:
    options = pyarrow.csv.WriteOptions(quoting_style="none", quoting_header="none")  # refuses what would need it
    with pyarrow.csv.CSVWriter(
        stream, _written(arrow_schema(table).empty_table()).schema, write_options=options
    ) as writer:
        yield lambda rows: writer.write_table(_written(rows))


def _written(rows: pa.Table) -> pa.Table:
    """Return rows as CSV has them: decimals as texts with all their places, times to the microsecond."""
    for place, field in enumerate(rows.schema):
        if pa.types.is_decimal(field.type):
            rows = rows.set_column(place, field.name, _plain(rows[field.name].combine_chunks(), field.type.scale))
        elif pa.types.is_timestamp(field.type):
            rows = rows.set_column(
                place, field.name, pc.replace_substring(rows[field.name].cast(pa.string()), " ", "T")
            )
    return rows


def _plain(decimals: pa.Array, places: int) -> pa.Array:
    """Return decimals as texts without exponents, which Arrow's own cast gives the smallest."""
    texts = decimals.cast(pa.string())
    small = pc.match_substring(texts, "E")
    if not pc.any(small).as_py():
        return texts
    plain = [f"{value:.{places}f}" for value in decimals.filter(small).to_pylist()]
    return pc.replace_with_mask(texts, small, pa.array(plain, pa.string()))


_FORMS: Mapping[str, Callable[[Table, BinaryIO], AbstractContextManager[Write]]] = MappingProxyType(
    {".parquet": _parquet, ".csv": _csv}
)
