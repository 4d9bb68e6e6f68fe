"""The SQL of a load: the same on Redshift and DuckDB, and made of the tables' definitions alone.

Neither database enforces keys, so the statements do: of rows with one key the newest version is kept, by whatever way
and however often they came. A load is a transaction that takes the ledger's lock first; what its ledger rows name is in
the tables, and what is not in the ledger is not.

MERGE is left alone. Redshift's has no condition under WHEN MATCHED, so it would rewrite every row that comes again, and
is a temporary table, an UPDATE and an INSERT inside.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fulltape.warehouse.shape import FOUND_COLUMNS
from fulltape.warehouse.staging import Batch
from fulltape.warehouse.tables import LEDGER, SCHEMA, Table

_TIMELESS = {"gaps"}
"""Tables in which a key may come with another time than before, so that the time can't narrow the search for it."""


@dataclass(frozen=True, slots=True)
class Statement:
    """An SQL statement; each ``%s`` is bound to one of ``arguments``."""

    sql: str
    arguments: tuple[Any, ...] = ()


def ledger_name(feed: str, batch: str) -> str:
    """Return how the ledger calls a batch of the feed whose topics begin with ``feed``: feeds may share a database.

    It sorts as the batches of one feed do, and fits the ledger's column whatever the feed's name.
    """
    return f"{batch}-{hashlib.blake2s(feed.encode(), digest_size=6).hexdigest()}"


def lock() -> Statement:
    """Return what makes loads wait for one another; it comes before the first look at any table."""
    return Statement(f"LOCK TABLE {LEDGER.qualified}")


def ledger_rows(kind: str, since: str) -> Statement:
    """Return the question for the ledger's names of a kind from ``since`` on."""
    return Statement(
        f"SELECT batch FROM {LEDGER.qualified} WHERE kind = %s AND batch >= %s",  # noqa: S608 - of constants
        (kind, since),
    )


def enter(feed: str, batches: Iterable[Batch], load: str, now: Any) -> list[Statement]:
    """Return what writes batches into the ledger: under the name of ``load``, at the UTC time ``now``."""
    return [
        Statement(
            f"INSERT INTO {LEDGER.qualified} (kind, batch, batch_rows, loaded_at, load_id) "  # noqa: S608
            "VALUES (%s, %s, %s, %s, %s)",
            (batch.kind, ledger_name(feed, batch.name), batch.rows, now, load),
        )
        for batch in batches
    ]


def staged(table: Table) -> str:
    """Return the name of the temporary table that a load's rows are put into."""
    return f"{table.name}_staging"


def newest(table: Table) -> str:
    """Return the name of the temporary table with one row of each key."""
    return f"{table.name}_newest"


def version(table: Table) -> str:
    """Return the column that tells of two rows with one key which is newer.

    A record's place in time on its topic; a window has none, but only ever gains trades.
    """
    return "tape_at" if any(column.name == "tape_at" for column in table.columns) else "trades"


def dedupe(table: Table) -> Statement:
    """Return what puts of the staged rows the newest of each key into the empty table `newest`."""
    columns = ", ".join(column.name for column in table.columns)
    return Statement(
        f"INSERT INTO {newest(table)} SELECT {columns} FROM ("  # noqa: S608
        f"SELECT {columns}, ROW_NUMBER() OVER (PARTITION BY {', '.join(table.key)} ORDER BY {version(table)} DESC) "
        f"AS place FROM {staged(table)}) AS ranked WHERE place = 1"
    )


def bounds(table: Table) -> Statement:
    """Return the question for the number, the least and the greatest time of the rows that are to be merged."""
    time = table.sort[0]
    return Statement(f"SELECT COUNT(*), MIN({time}), MAX({time}) FROM {newest(table)}")  # noqa: S608


def merge(table: Table, first: Any, last: Any) -> list[Statement]:
    """Return what brings the newest rows into the table: older versions go, and what is not there then is inserted.

    Args:
        table: the table.
        first: least time of the rows, by which blocks of the table are skipped.
        last: greatest time of the rows.

    """
    name, source = table.name, newest(table)
    columns = [column.name for column in table.columns]
    within, arguments = _same_row(table, first, last)
    return [
        Statement(
            f"DELETE FROM {table.qualified} USING {source} WHERE {within} "  # noqa: S608
            f"AND {name}.{version(table)} < {source}.{version(table)}",
            arguments,
        ),
        Statement(
            f"INSERT INTO {table.qualified} ({', '.join(columns)}) "  # noqa: S608
            f"SELECT {', '.join(f'{source}.{column}' for column in columns)} FROM {source} "
            f"LEFT JOIN {table.qualified} ON {within} WHERE {name}.{table.key[0]} IS NULL "
            f"ORDER BY {', '.join(f'{source}.{column}' for column in table.sort)}",
            arguments,
        ),
    ]


def held(table: Table, first: Any, last: Any) -> Statement:
    """Return the question how many of the newest rows, after `merge`, have a row of their key in the table."""
    within, arguments = _same_row(table, first, last)
    return Statement(
        f"SELECT COUNT(*) FROM {newest(table)} INNER JOIN {table.qualified} ON {within}",  # noqa: S608
        arguments,
    )


def _same_row(table: Table, first: Any, last: Any) -> tuple[str, tuple[Any, ...]]:
    """Return the condition that joins the table with the newest rows by their key, and its arguments."""
    name, source, time = table.name, newest(table), table.sort[0]
    same_key = " AND ".join(f"{name}.{column} = {source}.{column}" for column in table.key)
    if name in _TIMELESS:
        return same_key, ()
    return f"{same_key} AND {name}.{time} >= %s AND {name}.{time} <= %s", (first, last)


def prune(table: Table, products: Sequence[str], before: datetime) -> Statement:
    """Return what deletes the products' rows of a time before ``before``."""
    places = ", ".join(["%s"] * len(products))
    return Statement(
        f"DELETE FROM {table.qualified} WHERE {table.sort[0]} < %s AND product IN ({places})",  # noqa: S608 - of constants
        (before, *products),
    )


def columns_of(table: Table) -> Statement:
    """Return the question for a table's columns as they are in the database, in their order."""
    return Statement(
        f"SELECT {FOUND_COLUMNS} FROM information_schema.columns "  # noqa: S608 - of constants
        "WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position",
        (SCHEMA, table.name),
    )
