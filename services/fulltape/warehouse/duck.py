"""A DuckDB file as the warehouse: opened for a load and closed after it, so that other processes read in between."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from fulltape.errors import ConfigurationError
from fulltape.warehouse.connection import WarehouseUnavailableError, attach_duckdb
from fulltape.warehouse.ledger import Statement, staged
from fulltape.warehouse.load import RejectedError
from fulltape.warehouse.staging import Batch, Staging
from fulltape.warehouse.tables import Table

_BUSY_SECONDS = 20.0
"""How long to wait for a process that has the file open."""
_FULL = ("No space left on device", "Disk quota exceeded", "Could not write", "Out of Memory", "failed to pin block")


class DuckDatabase:
    """A `fulltape.warehouse.load.Database` in a file. One process at a time may have it open to write."""

    keeps_minutes = True

    def __init__(self, file: Path, staging: Staging) -> None:
        self._file = file
        self._staging = staging
        self._connection: duckdb.DuckDBPyConnection | None = None

    @property
    def name(self) -> str:
        """The file."""
        return f"DuckDB in {self._file}"

    def open(self) -> None:
        """Open the file, once no other process has it open."""
        if self._connection is not None:
            return
        if not self._file.exists():
            raise ConfigurationError(f"there is no {self.name}; run `fulltape warehouse migrate`")
        self._connection = attach_duckdb(self._file, read_only=False, patience_seconds=_BUSY_SECONDS)

    def rest(self) -> None:
        """Close the file."""
        self.close()

    def close(self) -> None:
        """Close the file; an open transaction is undone."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def begin(self) -> None:
        """Begin a transaction; that the file is open keeps all others out."""
        self.execute(Statement("BEGIN TRANSACTION"))

    def commit(self) -> None:
        """Commit; the write-ahead log is on the disk then."""
        self.execute(Statement("COMMIT"))

    def execute(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        assert self._connection is not None
        try:
            return self._connection.execute(statement.sql.replace("%s", "?"), statement.arguments).fetchall()
        except duckdb.Error as problem:
            raise self._trouble(problem) from problem

    def make_like(self, name: str, table: Table) -> None:
        """Make an empty temporary table with the table's columns.

        It is not made by a question that returns nothing: DuckDB 2.0.0 loses the rows of an INSERT of more than 122,880
        that follows, in one transaction, an INSERT of none into the same table.
        """
        columns = ", ".join(f"{column.name} {column.kind}" for column in table.columns)
        self.execute(Statement(f"CREATE OR REPLACE TEMP TABLE {name} ({columns})"))

    def stage(self, table: Table, batches: Sequence[Batch], load: str) -> None:  # noqa: ARG002
        """Read the files into the temporary table."""
        paths = [self._staging.uri_of(file.path) for batch in batches for file in batch.files]
        if not paths:
            return
        columns = ", ".join(column.name for column in table.columns)
        statement = f"INSERT INTO {staged(table)} SELECT {columns} FROM read_parquet(%s)"  # noqa: S608 - of constants
        try:
            self.execute(Statement(statement, (paths,)))
        except ConfigurationError as problem:  # the table is as it must be, so the files lack a column
            raise RejectedError(str(problem.__cause__)) from problem

    def reason(self, batch: Batch, problem: RejectedError) -> str:  # noqa: ARG002
        """Return what DuckDB said."""
        return str(problem)

    def _trouble(self, problem: duckdb.Error) -> Exception:
        """Return what an error means for a load."""
        text = str(problem)
        if any(sign in text for sign in _FULL):
            return WarehouseUnavailableError(f"{self.name}: no room; free some on its disk ({text})")
        if isinstance(problem, duckdb.CatalogException | duckdb.BinderException) and "read_parquet" not in text:
            return ConfigurationError(
                f"{self.name} is not as Fulltape made it: {text}; run `fulltape warehouse migrate`"
            )
        if isinstance(problem, duckdb.FatalException | duckdb.InternalException | duckdb.ConnectionException):
            return WarehouseUnavailableError(f"{self.name}: {text}")
        if isinstance(problem, duckdb.IOException) and str(self._file) in text:
            return WarehouseUnavailableError(f"{self.name}: {text}")
        return RejectedError(text)
