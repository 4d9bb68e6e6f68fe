"""A connection to the warehouse, Redshift or a DuckDB file, with what migrations and questions need of it.

Parameters stand as ``:name`` in SQL and are bound by the database; they never become part of a statement.
"""

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import sqlglot
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.warehouse.credentials import redshift_address
from fulltape.workloads import WAREHOUSE_VARIABLE

if TYPE_CHECKING:
    import pyarrow as pa

Dialect = Literal["redshift", "duckdb"]

_CATALOG = "warehouse"
"""What a DuckDB file is attached as. Left to DuckDB, a file ``fulltape.duckdb`` would have the name of its schema."""

_RETRY_SECONDS = 0.05
_READER_SETTINGS = ("enable_external_access = false", "lock_configuration = true")


class WarehouseUnavailableError(FulltapeError):
    """The warehouse did not answer, or is in use; trying again may help."""


class StatementError(FulltapeError):
    """The warehouse refused a statement; the text is its reason."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a statement returned; both are empty where it returns nothing."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


class Connection(Protocol):
    """One session. Outside of `transaction`, each statement is a transaction of its own."""

    @property
    def dialect(self) -> Dialect:
        """Which SQL it understands."""

    def run(self, sql: str, parameters: Mapping[str, object] | None = None) -> Result:
        """Run one statement with the parameters that it names.

        Raises:
            StatementError: the database refuses it.
            WarehouseUnavailableError: the connection is lost.

        """

    def arrow(self, sql: str, parameters: Mapping[str, object], schema: "pa.Schema") -> "pa.Table":
        """Run one question and return its rows in columns, which are those of ``schema`` in its order; see `run`."""

    def transaction(self) -> AbstractContextManager[None]:
        """Return a context within which statements take effect together, or, where it is left by an error, not."""

    def close(self) -> None:
        """End the session."""


class DuckDB:
    """A DuckDB file. One process may write it, or many may read it, so whoever is done closes it soon."""

    dialect: Dialect = "duckdb"

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def interrupt(self) -> None:
        """End the statement that another thread runs just now: it is refused."""
        self._connection.interrupt()

    def run(self, sql: str, parameters: Mapping[str, object] | None = None) -> Result:
        """See `Connection.run`."""
        with self._asked(sql, parameters or {}) as (text, given):
            done = self._connection.execute(text, given)
            columns = tuple(column[0] for column in done.description or ())
            return Result(columns, done.fetchall() if columns else [])

    def arrow(self, sql: str, parameters: Mapping[str, object], schema: "pa.Schema") -> "pa.Table":
        """See `Connection.arrow`."""
        with self._asked(sql, parameters) as (text, given):
            return self._connection.sql(text, params=given).to_arrow_table().cast(schema)

    @contextmanager
    def _asked(self, sql: str, parameters: Mapping[str, object]) -> Iterator[tuple[str, dict[str, object]]]:
        """Yield a statement, and the parameters that it names, as DuckDB has them; what it refuses is told."""
        import duckdb  # noqa: PLC0415

        text, names = placeholders(sql, "duckdb")
        try:
            yield text, {name: parameters[name] for name in names}
        except duckdb.Error as error:
            raise StatementError(f"DuckDB refuses: {error}") from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Connection.transaction`."""
        self.run("BEGIN TRANSACTION")
        try:
            yield
        except BaseException:
            self.run("ROLLBACK")
            raise
        self.run("COMMIT")

    def close(self) -> None:
        """See `Connection.close`."""
        self._connection.close()


class Redshift:
    """A Redshift database, or what speaks as one."""

    dialect: Dialect = "redshift"

    def __init__(self, connection: Any, *, read_only: bool) -> None:
        self._connection = connection
        self._read_only = read_only
        self._inside = False

    def run(self, sql: str, parameters: Mapping[str, object] | None = None) -> Result:
        """See `Connection.run`."""
        if self._read_only and not self._inside:
            with self.transaction():
                return self._run(sql, parameters)
        return self._run(sql, parameters)

    def arrow(self, sql: str, parameters: Mapping[str, object], schema: "pa.Schema") -> "pa.Table":
        """See `Connection.arrow`."""
        import pyarrow as pa  # noqa: PLC0415

        columns = list(zip(*self.run(sql, parameters).rows, strict=True)) or [()] * len(schema)
        arrays = [pa.array(values, field.type) for values, field in zip(columns, schema, strict=True)]
        return pa.Table.from_arrays(arrays, schema=schema)

    def _run(self, sql: str, parameters: Mapping[str, object] | None = None) -> Result:
        import redshift_connector.error  # noqa: PLC0415

        text, names = placeholders(sql, "redshift")
        cursor = self._connection.cursor()
        cursor.paramstyle = "numeric"
        try:
            cursor.execute(text, [(parameters or {})[name] for name in names])
            if cursor.description is None:
                return Result((), [])
            columns = tuple(_text(column[0]) for column in cursor.description)
            return Result(columns, [tuple(row) for row in cursor.fetchall()])
        except redshift_connector.error.InterfaceError as error:
            raise WarehouseUnavailableError(f"the connection to Redshift is lost: {_reason(error)}") from error
        except (redshift_connector.error.Error, OSError) as error:
            raise StatementError(f"Redshift refuses: {_reason(error)}") from error
        finally:
            cursor.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """See `Connection.transaction`."""
        self._run("BEGIN READ ONLY" if self._read_only else "BEGIN")
        self._inside = True
        try:
            yield
        except BaseException:
            self._inside = False
            self._run("ROLLBACK")
            raise
        self._inside = False
        self._run("COMMIT")

    def close(self) -> None:
        """See `Connection.close`."""
        self._connection.close()


def placeholders(sql: str, dialect: Dialect) -> tuple[str, list[str]]:
    """Return the statement with ``:name`` written as the driver has it, and the names in the order of first use.

    What stands in strings, comments and quoted names is left alone.

    >>> placeholders("SELECT ':a', :b, :a, :b", "duckdb")
    ("SELECT ':a', $b, $a, $b", ['b', 'a'])
    >>> placeholders("SELECT ':a', :b, :a, :b", "redshift")
    ("SELECT ':a', :1, :2, :1", ['b', 'a'])
    """
    names: list[str] = []
    parts: list[str] = []
    done = 0
    tokens = tokenize(sql, dialect)
    for colon, name in itertools.pairwise(tokens):
        adjacent = colon.token_type == TokenType.COLON and name.start == colon.end + 1
        if not adjacent or not name.text.isidentifier() or sql[name.start] in "'\"":
            continue
        if name.text not in names:
            names.append(name.text)
        written = f"${name.text}" if dialect == "duckdb" else f":{names.index(name.text) + 1}"
        parts += [sql[done : colon.start], written]
        done = name.end + 1
    return "".join([*parts, sql[done:]]), names


def tokenize(sql: str, dialect: Dialect) -> list[Token]:
    """Return the statement's tokens, which know where they stand.

    Raises:
        StatementError: a string or a comment has no end.

    """
    try:
        return sqlglot.tokenize(sql, dialect)
    except SqlglotError as error:
        raise StatementError(f"this is no SQL: {error}") from error


def split_statements(sql: str, dialect: Dialect) -> list[str]:
    """Return a file's statements, as they are written, without the semicolons between them."""
    parts: list[str] = []
    start: int | None = None
    last = 0
    for token in tokenize(sql, dialect):
        if token.token_type == TokenType.SEMICOLON:
            if start is not None:
                parts.append(sql[start : last + 1])
            start = None
        else:
            start = token.start if start is None else start
            last = token.end
    if start is not None:
        parts.append(sql[start : last + 1])
    return parts


def open_warehouse(path: Path, *, read_only: bool, patience_seconds: float = 10.0) -> DuckDB | Redshift:
    """Open the warehouse: a folder holds Redshift's credentials, anything else is a DuckDB file.

    Args:
        path: the folder or file.
        read_only: whether statements that write are refused.
        patience_seconds: how long to wait for another process to be done with the DuckDB file.

    Raises:
        ConfigurationError: it is not there, or not as it should be; says the mend.
        WarehouseUnavailableError: it does not answer, or another process keeps it.

    """
    if path.is_dir():
        return open_redshift(path, read_only=read_only)
    return open_duckdb(path, read_only=read_only, patience_seconds=patience_seconds)


def open_duckdb(path: Path, *, read_only: bool, patience_seconds: float = 10.0, settings: Sequence[str] = ()) -> DuckDB:
    """Open a DuckDB file; one that writes makes it where it is absent.

    One that reads can reach nothing but the file: no other files, no network, and no settings after the given ones.

    Args:
        path: the file.
        read_only: whether statements that write are refused.
        patience_seconds: how long to wait for another process to be done with the file.
        settings: DuckDB's, such as ``threads = 1``.

    Raises:
        ConfigurationError: there is no such file, or it is no DuckDB file.
        WarehouseUnavailableError: another process kept it for longer than ``patience_seconds``.

    """
    if read_only and not path.is_file():
        raise ConfigurationError(
            f"{path}: there is no such file; give the warehouse with --warehouse or in {WAREHOUSE_VARIABLE}"
        )
    if not path.parent.is_dir():
        raise ConfigurationError(f"{path.parent}: there is no such folder; make it, or choose another file")
    connection = attach_duckdb(path, read_only=read_only, patience_seconds=patience_seconds)
    for setting in (*settings, *(_READER_SETTINGS if read_only else ())):
        connection.execute(f"SET {setting}")
    return DuckDB(connection)


def attach_duckdb(path: Path, *, read_only: bool, patience_seconds: float) -> Any:
    """Return DuckDB's own connection to a file, once no other process has it open.

    Raises:
        ConfigurationError: it is no DuckDB file, or may not be opened.
        WarehouseUnavailableError: another process kept it for longer than ``patience_seconds``, or its disk fails.

    """
    import duckdb  # noqa: PLC0415 - 50 ms that Redshift's users need not pay

    # A file opened as the database itself would have its own name as that, which may be the schema's too.
    literal = "'" + str(path.resolve()).replace("'", "''") + "'"  # ATTACH takes no parameters
    deadline = time.monotonic() + patience_seconds
    while True:
        connection = duckdb.connect()
        try:
            connection.execute(f"ATTACH {literal} AS {_CATALOG}{' (READ_ONLY)' if read_only else ''}")
            connection.execute(f"USE {_CATALOG}")
            connection.execute("SET TimeZone = 'UTC'")
        except duckdb.Error as error:
            connection.close()
            if not isinstance(error, duckdb.IOException) or "lock" not in str(error).lower():
                raise _unopened(path, error) from error
            if time.monotonic() >= deadline:
                raise WarehouseUnavailableError(
                    f"{path}: another process has it open, for more than {patience_seconds:g} s; "
                    f"stop that process, or try again: {error}"
                ) from error
        else:
            return connection
        time.sleep(_RETRY_SECONDS)


def _unopened(path: Path, error: Exception) -> FulltapeError:
    text = str(error)
    if any(sign in text for sign in ("No space left", "Disk quota", "Input/output error")):
        return WarehouseUnavailableError(f"{path}: its disk is full or fails: {text}")
    return ConfigurationError(
        f"{path}: DuckDB can't open it: {text}; mend the file, or name another in {WAREHOUSE_VARIABLE}"
    )


def open_redshift(folder: Path, *, read_only: bool) -> Redshift:
    """Connect to Redshift with the credentials of ``folder``; see `redshift_address`.

    Raises:
        ConfigurationError: a file is missing, or Redshift refuses the credentials.
        WarehouseUnavailableError: nothing answers there.

    """
    import redshift_connector.error  # noqa: PLC0415 - takes a second, which DuckDB's users need not pay

    address = redshift_address(folder)
    where = f"{address.host}:{address.port}"
    try:
        connection = address.connect()
    except redshift_connector.error.ProgrammingError as error:
        raise ConfigurationError(
            f"Redshift at {where} refuses user {address.user} for database {address.database} (credentials: {folder}): "
            f"{_reason(error)}; check that these are its current credentials"
        ) from error
    except (redshift_connector.error.Error, OSError) as error:
        raise WarehouseUnavailableError(
            f"no Redshift answers at {where} (from {folder}): {_reason(error)}; check the address, that it is "
            "reachable from here, and that it is not paused"
        ) from error
    return Redshift(connection, read_only=read_only)


def _reason(error: BaseException) -> str:
    """Return what the server says: redshift-connector's errors hold its fields, of which M is the message."""
    fields = error.args[0] if error.args else None
    return str(fields.get("M", fields)) if isinstance(fields, dict) else str(error)


def _text(name: str | bytes) -> str:
    return name.decode() if isinstance(name, bytes) else name
