"""Brings a database's tables and views to what ``sql/`` says, by numbered migrations, and tells where it stands.

A migration that ran is history: its text is never edited, and a run refuses where it was. What else happened to the
tables is seen by comparing them with `tables`.
"""

import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from fulltape.errors import ConfigurationError
from fulltape.warehouse import shape
from fulltape.warehouse.connection import Connection, Dialect, StatementError, open_duckdb, split_statements
from fulltape.warehouse.shape import FOUND_COLUMNS
from fulltape.warehouse.tables import SCHEMA, TABLES

_HISTORY = f"{SCHEMA}.migrations"
_FILE = re.compile(r"(\d{4})_([a-z0-9_]+)\.sql")

State = Literal["applied", "pending", "edited", "unknown"]
"""Unknown: it ran, but there is no such file; a newer release made the database."""


class MigrationError(ConfigurationError):
    """The database's history is not what the files say."""


@dataclass(frozen=True, slots=True)
class Migration:
    """A file below ``sql/<dialect>``."""

    number: int
    name: str
    statements: tuple[str, ...]
    checksum: str
    """SHA-256 of the file's bytes, in hexadecimal."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A migration that ran."""

    number: int
    name: str
    checksum: str
    applied_at: datetime


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one migration stands."""

    number: int
    name: str
    state: State
    applied_at: datetime | None


def sql_folder() -> Path:
    """Return the folder of the SQL: beside this module in an installed package, else the repository's."""
    inside = Path(__file__).parent / "sql"
    return inside if inside.is_dir() else Path(__file__).parents[3] / "sql"


def read_migrations(dialect: Dialect, folder: Path | None = None) -> list[Migration]:
    """Return a dialect's migrations in order.

    Raises:
        MigrationError: two have one number, a number is left out, or a file's name is none of a migration.

    """
    migrations: list[Migration] = []
    for path in sorted((folder or sql_folder() / dialect).glob("*.sql")):
        match = _FILE.fullmatch(path.name)
        if match is None:
            raise MigrationError(f"{path}: name it as 0001_what_it_makes.sql")
        content = path.read_bytes()
        if int(match[1]) != len(migrations) + 1:
            raise MigrationError(f"{path}: migrations count from 0001 by one; {len(migrations) + 1:04d} comes next")
        statements = tuple(split_statements(content.decode(), dialect))
        migrations.append(Migration(int(match[1]), match[2], statements, hashlib.sha256(content).hexdigest()))
    if not migrations:
        raise MigrationError(f"{folder or sql_folder() / dialect}: holds no migrations; reinstall fulltape")
    return migrations


def standings(migrations: Sequence[Migration], applied: Sequence[Applied]) -> list[Standing]:
    """Compare the files with the history."""
    ran = {one.number: one for one in applied}
    found: list[Standing] = []
    for migration in migrations:
        past = ran.pop(migration.number, None)
        state: State = "pending"
        if past is not None:
            same = (past.checksum, past.name) == (migration.checksum, migration.name)
            state = "applied" if same else "edited"
        found.append(Standing(migration.number, migration.name, state, past.applied_at if past else None))
    return found + [Standing(past.number, past.name, "unknown", past.applied_at) for past in ran.values()]


def pending(migrations: Sequence[Migration], applied: Sequence[Applied]) -> list[Migration]:
    """Return what is to be run.

    Raises:
        MigrationError: a migration was edited after it ran, or one that ran is not among the files.

    """
    found = standings(migrations, applied)
    for one in found:
        if one.state == "edited":
            raise MigrationError(
                f"migration {one.number:04d}_{one.name} was edited after it ran, {one.applied_at:%Y-%m-%d %H:%M} UTC; "
                "restore its file and put the change into a new migration"
            )
        if one.state == "unknown":
            raise MigrationError(
                f"migration {one.number:04d}_{one.name} ran on this database, but this release does not have it; "
                "use the release that made it, or a newer one"
            )
    waiting = {one.number for one in found if one.state == "pending"}
    return [migration for migration in migrations if migration.number in waiting]


def applied_migrations(connection: Connection) -> list[Applied]:
    """Return what ran on a database, in order; nothing on one that never saw a migration."""
    there = connection.run(
        "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = :schema AND table_name = 'migrations'",
        {"schema": SCHEMA},
    )
    if not there.rows[0][0]:
        return []
    result = connection.run(f"SELECT migration, name, checksum, applied_at FROM {_HISTORY} ORDER BY migration")  # noqa: S608
    return [Applied(*row) for row in result.rows]


def migrate(
    connection: Connection,
    migrations: Sequence[Migration] | None = None,
    on_done: Callable[[Migration], None] = lambda _: None,
) -> list[Migration]:
    """Run what is pending, each migration in one transaction, and return it; two runs at once wait for each other.

    Raises:
        MigrationError: as `pending`; nothing was changed.
        StatementError: the database refused a migration; those before it stay, nothing of it does.

    """
    files = read_migrations(connection.dialect) if migrations is None else migrations
    todo = pending(files, applied_migrations(connection))
    if not todo:
        return []
    _make_history(connection)
    done = []
    for migration in todo:
        with connection.transaction():
            if connection.dialect == "redshift":
                connection.run(f"LOCK TABLE {_HISTORY}")  # a DuckDB file has one writer anyway
            if migration not in pending(files, applied_migrations(connection)):
                continue  # another run was faster
            _apply(connection, migration)
        done.append(migration)
        on_done(migration)
    return done


def make_duckdb(file: Path) -> None:
    """Make a DuckDB file with the warehouse's tables, or bring one up to date.

    Raises:
        MigrationError: as `pending`.
        ConfigurationError: its folder is not there, or it is no DuckDB file.
        WarehouseUnavailableError: another process has it open.

    """
    with closing(open_duckdb(file, read_only=False)) as connection:
        migrate(connection)


def _make_history(connection: Connection) -> None:
    def make() -> None:
        connection.run(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}")
        connection.run(
            f"CREATE TABLE IF NOT EXISTS {_HISTORY} (migration INTEGER NOT NULL, name VARCHAR(128) NOT NULL, "
            "checksum VARCHAR(64) NOT NULL, applied_at TIMESTAMP NOT NULL)"
        )

    try:
        make()
    except StatementError:  # IF NOT EXISTS does not hold two sessions apart that look at the same moment
        make()


def _apply(connection: Connection, migration: Migration) -> None:
    for statement in migration.statements:
        try:
            connection.run(statement)
        except StatementError as error:
            head = " ".join(statement.split())[:80]
            raise StatementError(f"migration {migration.number:04d}_{migration.name}, at {head!r}: {error}") from error
    connection.run(
        f"INSERT INTO {_HISTORY} VALUES (:number, :name, :checksum, :moment)",  # noqa: S608 - a constant
        {
            "number": migration.number,
            "name": migration.name,
            "checksum": migration.checksum,
            "moment": datetime.now(UTC).replace(tzinfo=None),
        },
    )


def alterations(connection: Connection) -> list[str]:
    """Tell, a line each, how the database's tables differ from `tables.TABLES`; nothing where they are the same."""
    result = connection.run(
        f"SELECT table_name, {FOUND_COLUMNS} FROM information_schema.columns "  # noqa: S608 - constants
        "WHERE table_schema = :schema ORDER BY ordinal_position",
        {"schema": SCHEMA},
    )
    return [
        line
        for table in TABLES.values()
        for line in shape.alterations(table, [row[1:] for row in result.rows if row[0] == table.name])
    ]
