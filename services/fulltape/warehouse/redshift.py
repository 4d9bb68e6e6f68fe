"""Redshift as the warehouse: rows come by COPY from S3, in the session and so in the transaction of their load."""

import json
import struct
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from redshift_connector.error import Error, InterfaceError, OperationalError

from fulltape.errors import ConfigurationError
from fulltape.warehouse.connection import WarehouseUnavailableError
from fulltape.warehouse.credentials import Address
from fulltape.warehouse.ledger import Statement, lock, staged
from fulltape.warehouse.load import RejectedError
from fulltape.warehouse.staging import Batch, Staging, manifest_path
from fulltape.warehouse.tables import Table

_BROKEN = (OSError, EOFError, struct.error, InterfaceError, OperationalError)
"""What the driver raises when the connection is lost, wherever it was in its protocol."""

_TRANSIENT_CLASSES = ("08", "40", "53", "55", "57", "58")
"""SQLSTATEs of lost connections, conflicts, full disks, locks, shutdowns and the system's own trouble."""
_TRANSIENT_SIGNS = ("Serializable isolation violation", "Disk Full", "SlowDown", "Status 500", "Status 503")
_ROLE_SIGNS = ("not authorized to assume", "AccessDenied", "Access Denied", "NoSuchBucket", "CREDENTIALS argument")
_WHERE = "the Secret of spec.warehouse.redshift.secretRef"
_ALTERED = ("42P01", "3F000", "42703", "42804")
"""SQLSTATEs of missing tables, schemas and columns, and of columns of another type."""


class RedshiftDatabase:
    """A `fulltape.warehouse.load.Database` behind the driver's connections."""

    keeps_minutes = False
    """A materialized view does."""

    def __init__(self, address: Address, staging: Staging, role: str) -> None:
        """Describe the database; nothing is connected yet.

        Args:
            address: where it is.
            staging: on S3.
            role: the ARN of the role with which Redshift reads the files.

        """
        self._address = address
        self._staging = staging
        self._role = role
        self._connection: Any = None

    @property
    def name(self) -> str:
        """Where it is."""
        return f"Redshift at {self._address.host}:{self._address.port}/{self._address.database}"

    def open(self) -> None:
        """Connect, where it is not."""
        if self._connection is not None:
            return
        try:
            self._connection = self._address.connect()
        except (Error, *_BROKEN) as problem:
            raise trouble(self.name, problem) from problem

    def rest(self) -> None:
        """Keep the connection for the next load."""

    def close(self) -> None:
        """Disconnect; the server undoes an open transaction."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Error, *_BROKEN):
                connection.close()

    def begin(self) -> None:
        """Begin a transaction and wait for the ledger's lock, before anything fixes what the transaction sees."""
        self.execute(Statement("BEGIN"))
        self.execute(lock())

    def commit(self) -> None:
        """Commit.

        Where the connection is lost meanwhile, nobody knows whether it was done; the next look into the ledger tells.
        """
        self.execute(Statement("COMMIT"))

    def execute(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows."""
        try:
            cursor = self._connection.cursor()
            cursor.execute(statement.sql, statement.arguments or None)
            return [tuple(row) for row in cursor.fetchall()] if cursor.description else []
        except (Error, *_BROKEN) as problem:
            raise trouble(self.name, problem) from problem

    def make_like(self, name: str, table: Table) -> None:
        """Make an empty temporary table that is distributed and sorted as the table is."""
        self.execute(Statement(f"DROP TABLE IF EXISTS {name}"))
        self.execute(Statement(f"CREATE TEMP TABLE {name} (LIKE {table.qualified})"))

    def stage(self, table: Table, batches: Sequence[Batch], load: str) -> None:
        """COPY the files into the temporary table."""
        entries = [
            {
                "url": self._staging.uri_of(file.path),
                "mandatory": True,
                "meta": {"content_length": file.bytes},
            }
            for batch in batches
            for file in batch.files
        ]
        if not entries:
            return
        path = manifest_path(load)
        self._staging.write(path, json.dumps({"entries": entries}).encode())
        try:
            # COPY takes no bound parameters.
            self.execute(
                Statement(
                    f"COPY {staged(table)} FROM {_literal(self._staging.uri_of(path))} IAM_ROLE {_literal(self._role)} "
                    "FORMAT AS PARQUET MANIFEST"
                )
            )
        finally:
            self._staging.remove(path)

    def reason(self, batch: Batch, problem: RejectedError) -> str:
        """Return what Redshift's error view says of the batch's files; else what it answered."""
        question = Statement(
            "SELECT file_name, column_name, error_message FROM sys_load_error_detail WHERE file_name LIKE %s "
            "ORDER BY start_time DESC LIMIT 1",
            (f"%/{batch.kind}/{batch.name}-%",),
        )
        try:
            self.open()
            rows = self.execute(question)
        except (RejectedError, ConfigurationError):  # the view may be kept from this user
            self.close()
            rows = []
        if not rows:
            return str(problem)
        file, column, message = (str(value or "").strip() for value in rows[0])
        return f"{file}: {f'column {column}: ' if column else ''}{message}"


def trouble(name: str, problem: Exception) -> Exception:
    """Return what an error of the driver means for a load: to be tried again, to be mended, or the rows' own fault."""
    fields = problem.args[0] if problem.args and isinstance(problem.args[0], dict) else None
    if fields is None:
        return WarehouseUnavailableError(f"{name} can't be reached, or the connection is lost: {problem}")
    code, text = str(fields.get("C", "")), str(fields.get("M", problem))
    for applies, what, mend in (
        (code.startswith("28"), "refused the user or the password", f"check {_WHERE}"),
        (code == "3D000", "has no such database", f"make it, or name another in {_WHERE}"),
        (code == "42501", "did not permit it", f"grant the user of {_WHERE} what loads need; see docs/warehouse.md"),
        (code in _ALTERED, "is not as Fulltape made it", "run `fulltape warehouse migrate`"),
        (
            any(sign in text for sign in _ROLE_SIGNS),
            "may not read the staged files",
            "check spec.warehouse.staging: iamRole is to be attached to the database, and to read the bucket of uri",
        ),
    ):
        if applies:
            return ConfigurationError(f"{name} {what}: {text}; {mend}")
    if code[:2] in _TRANSIENT_CLASSES or any(sign in text for sign in _TRANSIENT_SIGNS):
        return WarehouseUnavailableError(f"{name}: {text}")
    return RejectedError(text)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
