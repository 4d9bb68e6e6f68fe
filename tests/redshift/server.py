"""The stand-in: takes the connections of a Redshift driver, and is Redshift to it, with PostgreSQL behind.

Of every connection one thread passes whole exchanges, from what a client sends up to its Sync, to a PostgreSQL session
of the connection's own, with statements translated by `dialect`. A COPY from S3 it executes itself, within that
session and so within its transaction.
"""

import contextlib
import io
import json
import re
import socket
import socketserver
import struct
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet
import redshift_connector

from tests.redshift.dialect import Copy, as_copy, statements, to_postgres
from tests.redshift.postgres import Postgres

ROLE = "arn:aws:iam::123456789012:role/RedshiftReads"
"""The one role that the stand-in may assume."""

_REDSHIFT_PARAMETERS = {
    "client_protocol_version", "driver_version", "os_version", "driver_discovery_version", "plugin_name", "idp_type",
    "provider_name",
}  # fmt: skip
_SSL_REQUEST = 80877103
_CANCEL_REQUEST = 80877102
_CHUNK = 1 << 18
_OBJECTS = """
    CREATE TABLE IF NOT EXISTS public.sys_load_error_detail (
        user_id INTEGER, query_id BIGINT, transaction_id BIGINT, session_id INTEGER, database_name VARCHAR(64),
        table_id INTEGER, start_time TIMESTAMP, file_name VARCHAR(256), line_number BIGINT, column_name VARCHAR(127),
        column_type VARCHAR(10), column_length VARCHAR(10), position INTEGER, error_code INTEGER,
        error_message VARCHAR(512));
    GRANT SELECT, INSERT ON public.sys_load_error_detail TO PUBLIC;
    CREATE OR REPLACE FUNCTION public.getdate() RETURNS TIMESTAMP AS 'SELECT localtimestamp' LANGUAGE SQL;
"""


class _CopyError(Exception):
    """What Redshift answers to a COPY that it can't do."""

    def __init__(self, message: str, *, file: str = "", column: str = "", code: str = "XX000") -> None:
        super().__init__(message)
        self.file = file
        self.column = column
        self.code = code


@dataclass(frozen=True, slots=True)
class _Column:
    name: str
    type: str
    """As PostgreSQL writes it."""


class StandIn(socketserver.ThreadingTCPServer):
    """The server; a context manager. It lives as long as its PostgreSQL may, and through that one's restarts."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 64

    def __init__(self, postgres: Postgres, s3: Mapping[str, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Session)
        self.postgres = postgres
        self.port: int = self.server_address[1]
        self.files: Any = pyarrow.fs.S3FileSystem(
            endpoint_override=s3["AWS_ENDPOINT_URL"],
            access_key=s3["AWS_ACCESS_KEY_ID"],
            secret_key=s3["AWS_SECRET_ACCESS_KEY"],
            region=s3["AWS_REGION"],
        )
        self.copies = 0
        """COPYs that succeeded."""
        self.statements: list[str] = []
        """What clients sent, in order."""
        self.sessions: set[socket.socket] = set()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, name="redshift", daemon=True, args=(0.05,)).start()
        self.execute(_OBJECTS)
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def connect(self, **changes: Any) -> Any:
        """Return a connection of the real driver."""
        given = {
            "host": "127.0.0.1",
            "port": self.port,
            "database": self.postgres.database,
            "user": self.postgres.user,
            "password": self.postgres.password,
            "ssl": False,
        }
        return redshift_connector.connect(**{**given, **changes})

    def execute(self, script: str, arguments: tuple[Any, ...] | None = None) -> list[Any]:
        """Run statements, one by one, in a connection of its own; return the last one's rows."""
        connection = self.connect()
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            rows: list[Any] = []
            for statement in statements(script):
                cursor.execute(statement, arguments)
                rows = [tuple(row) for row in cursor.fetchall()] if cursor.description else []
            return rows
        finally:
            connection.close()

    def drop_connections(self) -> None:
        """Cut every connection, as a network does."""
        for session in list(self.sessions):
            with contextlib.suppress(OSError):
                session.shutdown(socket.SHUT_RDWR)


class _Session(socketserver.BaseRequestHandler):
    """One connection."""

    server: StandIn

    def handle(self) -> None:
        self.server.sessions.add(self.request)
        try:
            with contextlib.suppress(OSError, EOFError):
                self._serve()
        finally:
            self.server.sessions.discard(self.request)

    def _serve(self) -> None:
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._client = self.request.makefile("rb")
        parameters = self._start_up()
        if parameters is None:
            return
        with socket.create_connection(("127.0.0.1", self.server.postgres.port)) as backend:
            backend.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._backend = backend
            self._answers = backend.makefile("rb")
            body = struct.pack("!i", 196608) + b"".join(
                key + b"\0" + value + b"\0"
                for key, value in parameters.items()
                if key.decode() not in _REDSHIFT_PARAMETERS
            )
            backend.sendall(struct.pack("!i", len(body) + 5) + body + b"\0")
            self._copies: dict[bytes, Copy | str] = {}
            self._status = b"I"
            self._pid = 0
            if self._authenticate():
                self._exchange()

    def _start_up(self) -> dict[bytes, bytes] | None:
        while True:
            (length,) = struct.unpack("!i", _read(self._client, 4))
            body = _read(self._client, length - 4)
            (code,) = struct.unpack("!i", body[:4])
            if code == _SSL_REQUEST:
                self.request.sendall(b"N")
                continue
            if code == _CANCEL_REQUEST:
                return None
            words = body[4:].rstrip(b"\0").split(b"\0")
            # A value may be empty, the last one even stripped above.
            return dict(zip(words[::2], [*words[1::2], b""], strict=False))

    def _authenticate(self) -> bool:
        """Pass questions and answers until the session is ready."""
        while True:
            kind, body = _message(self._answers)
            if kind == b"E":
                body = body.replace(b"C28P01\0", b"C28000\0")
            elif kind == b"S" and body.startswith(b"server_version\0"):
                body = b"server_version\x008.0.2\0"
            elif kind == b"K":
                (self._pid,) = struct.unpack("!i", body[:4])
            self.request.sendall(_packed(kind, body))
            if kind == b"Z":
                return True
            if kind == b"E":
                return False
            if kind == b"R" and struct.unpack("!i", body[:4])[0] in {3, 5, 10, 11}:
                answer, body = _message(self._client)
                self._backend.sendall(_packed(answer, body))

    def _exchange(self) -> None:
        """Serve one exchange after the other."""
        pending: list[tuple[bytes, bytes]] = []
        while True:
            kind, body = _message(self._client)
            if kind == b"X":
                return
            pending.append((kind, body))
            if kind in {b"S", b"Q"}:
                self._serve_exchange(pending)
                pending = []

    def _serve_exchange(self, messages: list[tuple[bytes, bytes]]) -> None:
        copy: Copy | str | None = None
        forwarded = bytearray()
        for kind, original in messages:
            body = original
            if kind == b"P":
                name, sql, rest = body.split(b"\0", 2)
                text = sql.decode()
                self.server.statements.append(text)
                copy = as_copy(text)
                self._copies.pop(name, None)
                if copy is not None:
                    self._copies[name] = copy
                body = name + b"\0" + to_postgres(text).encode() + b"\0" + rest
            elif kind == b"Q":
                body = to_postgres(body[:-1].decode()).encode() + b"\0"
            elif kind == b"B":
                copy = self._copies.get(body.split(b"\0", 2)[1])
            forwarded += _packed(kind, body)
        if copy is None:
            self._backend.sendall(forwarded)
            self._relay()
        elif any(kind == b"E" for kind, _ in messages):
            self._copy(copy)
        else:  # prepared, to be executed by the next exchange
            self.request.sendall(_packed(b"1") + _packed(b"t", b"\0\0") + _packed(b"n") + _packed(b"Z", self._status))

    def _relay(self) -> None:
        """Pass the backend's answers up to the end of the exchange."""
        while True:
            kind, body = _message(self._answers)
            if kind == b"Z":
                self._status = body
            self.request.sendall(_packed(kind, body))
            if kind == b"Z":
                return

    def _copy(self, copy: Copy | str) -> None:
        """Execute a COPY in the backend's session, and answer."""
        try:
            rows = self._execute_copy(copy)
        except _CopyError as problem:
            if problem.file:
                self._note(problem)
            # An error in the session itself, so that its transaction is what a failed COPY leaves.
            text = str(problem).replace("'", "''").replace("%", "%%")
            sql = f"DO $do$ BEGIN RAISE EXCEPTION USING MESSAGE = '{text}', ERRCODE = '{problem.code}'; END $do$"
            answers = self._ask(sql)
        else:
            answers = [(b"2", b""), (b"C", f"COPY {rows}\0".encode()), (b"Z", self._status)]
        self.request.sendall(b"".join(_packed(kind, body) for kind, body in answers))

    def _execute_copy(self, copy: Copy | str) -> int:
        if isinstance(copy, str):
            raise _CopyError(copy, code="42601")
        columns = self._columns(copy)
        tables = [self._table(path, columns) for path in self._paths(copy)]
        rows = self._insert(copy, tables)
        self.server.copies += 1
        return rows

    def _ask(self, sql: str) -> list[tuple[bytes, bytes]]:
        """Run a simple query in the backend's session and return its answers."""
        self._backend.sendall(_packed(b"Q", sql.encode() + b"\0"))
        answers = []
        while not answers or answers[-1][0] not in {b"Z", b"G"}:
            answers.append(_message(self._answers))
        if answers[-1][0] == b"Z":
            self._status = answers[-1][1]
        return answers

    def _columns(self, copy: Copy) -> list[_Column]:
        literal = copy.table.replace("'", "''")
        answers = self._ask(
            "SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute "
            f"WHERE attrelid = '{literal}'::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        )
        _raise_errors(answers)
        found = [_Column(*_fields(body)) for kind, body in answers if kind == b"D"]
        if not copy.columns:
            return found
        by_name = {column.name: column for column in found}
        missing = [name for name in copy.columns if name not in by_name]
        if missing:
            raise _CopyError(f'column "{missing[0]}" of relation "{copy.table}" does not exist', code="42703")
        return [by_name[name] for name in copy.columns]

    def _paths(self, copy: Copy) -> list[tuple[str, int]]:
        """Return the files of a manifest, as bucket/key with their sizes."""
        if copy.role != ROLE:
            raise _CopyError(
                f"User arn:aws:redshift:us-east-1:123456789012:dbuser:dev/{self.server.postgres.user} is not "
                f"authorized to assume IAM Role {copy.role}"
            )
        try:
            manifest = json.loads(self._read(copy.uri))
            entries = manifest["entries"]
            return [(entry["url"], int(entry["meta"]["content_length"])) for entry in entries]
        except (KeyError, TypeError, ValueError) as problem:
            raise _CopyError(
                f"COPY from this file format requires a manifest with the content_length of every file ({problem!r})"
            ) from None

    def _read(self, uri: str) -> bytes:
        path = uri.removeprefix("s3://")
        try:
            with self.server.files.open_input_stream(path) as stream:
                content = stream.read()
        except FileNotFoundError:
            raise _CopyError(
                "S3ServiceException:The specified key does not exist.,Status 404,Error NoSuchKey,Rid 0,CanRetry 1"
            ) from None
        except OSError as problem:
            if "NO_SUCH_BUCKET" in str(problem):
                raise _CopyError(
                    "S3ServiceException:The specified bucket does not exist,Status 404,Error NoSuchBucket,Rid 0"
                ) from None
            raise _CopyError(f"S3ServiceException:{problem},Status 503,Error ServiceUnavailable") from None
        assert isinstance(content, bytes)
        return content

    def _table(self, path: tuple[str, int], columns: list[_Column]) -> Any:
        uri, size = path
        content = self._read(uri)
        if len(content) != size:
            raise _CopyError(
                f"Spectrum Scan Error: the size of {uri} is {len(content)}, the manifest says {size}", file=uri
            )
        try:
            table = pyarrow.parquet.read_table(io.BytesIO(content))
        except (OSError, pa.ArrowException) as problem:
            raise _CopyError(
                f"Spectrum Scan Error: File '{uri}' is not a valid Parquet file: {problem}", file=uri
            ) from None
        if table.num_columns != len(columns):
            raise _CopyError(
                f"Spectrum Scan Error: Unmatched number of columns between table and file. Table columns: "
                f"{len(columns)}, Data columns: {table.num_columns}, File name: {uri}",
                file=uri,
            )
        for column, field in zip(columns, table.schema, strict=True):
            if not _fits(field.type, column.type):
                raise _CopyError(
                    f"Spectrum Scan Error: File '{uri}' has an incompatible Parquet schema for column "
                    f"'{uri}.{column.name}'. Column type: {column.type.upper()}, Parquet schema: {field.type}",
                    file=uri,
                    column=column.name,
                )
            limit = re.fullmatch(r"character varying\(([0-9]+)\)", column.type)
            if limit is not None:
                longest = pa.compute.max(pa.compute.binary_length(table.column(field.name))).as_py() or 0
                if longest > int(limit[1]):
                    raise _CopyError(
                        f"Spectrum Scan Error: The length of the data column {column.name} is longer than the length "
                        f"defined in the table. Table: {limit[1]}, Data: {longest}, File name: {uri}",
                        file=uri,
                        column=column.name,
                    )
        return table

    def _insert(self, copy: Copy, tables: list[Any]) -> int:
        columns = f" ({', '.join(copy.columns)})" if copy.columns else ""
        answers = self._ask(f"COPY {copy.table}{columns} FROM STDIN (FORMAT csv)")
        _raise_errors(answers)
        for chunk in _csv(tables):
            self._backend.sendall(_packed(b"d", chunk))
        self._backend.sendall(_packed(b"c"))
        answers = []
        while not answers or answers[-1][0] != b"Z":
            answers.append(_message(self._answers))
        self._status = answers[-1][1]
        _raise_errors(answers)
        return sum(table.num_rows for table in tables)

    def _note(self, problem: _CopyError) -> None:
        """Write what Redshift would to its error view; it stays, whatever becomes of the transaction."""
        self.server.execute(
            "INSERT INTO public.sys_load_error_detail (session_id, start_time, file_name, line_number, column_name, "
            "error_code, error_message) VALUES (%s, localtimestamp, %s, 0, %s, 15001, %s)",
            (self._pid, problem.file[:256], problem.column[:127], str(problem)[:512]),
        )


def _fits(arrow: Any, column: str) -> bool:
    """Return whether Redshift reads a Parquet column of this type into a column of that."""
    types = pa.types
    if column.startswith("character varying") or column == "text":
        return bool(types.is_string(arrow) or types.is_large_string(arrow))
    if column.startswith("numeric"):
        return bool(types.is_decimal(arrow)) and column == f"numeric({arrow.precision},{arrow.scale})"
    if column.startswith("timestamp without"):
        return bool(types.is_timestamp(arrow)) and arrow.unit == "us"
    return {
        "bigint": types.is_int64,
        "integer": types.is_int32,
        "smallint": types.is_int16,
        "boolean": types.is_boolean,
        "double precision": types.is_float64,
        "date": types.is_date32,
    }.get(column, lambda _: False)(arrow)


def _csv(tables: list[Any]) -> Iterator[bytes]:
    options = pyarrow.csv.WriteOptions(include_header=False)
    for table in tables:
        # Times in UTC are written with their zone otherwise, which a TIMESTAMP refuses to have.
        plain = pa.schema(
            [
                field.with_type(pa.timestamp("us")) if pa.types.is_timestamp(field.type) else field
                for field in table.schema
            ]
        )
        sink = io.BytesIO()
        pyarrow.csv.write_csv(table.cast(plain), sink, options)
        content = sink.getvalue()
        for start in range(0, len(content), _CHUNK):
            yield content[start : start + _CHUNK]


def _raise_errors(answers: list[tuple[bytes, bytes]]) -> None:
    for kind, body in answers:
        if kind == b"E":
            fields = {part[:1]: part[1:].decode() for part in body.split(b"\0") if part}
            raise _CopyError(fields[b"M"], code=fields[b"C"])


def _fields(body: bytes) -> list[str]:
    (count,) = struct.unpack("!h", body[:2])
    fields, place = [], 2
    for _ in range(count):
        (length,) = struct.unpack("!i", body[place : place + 4])
        fields.append(body[place + 4 : place + 4 + length].decode())
        place += 4 + length
    return fields


def _message(stream: Any) -> tuple[bytes, bytes]:
    kind = _read(stream, 1)
    (length,) = struct.unpack("!i", _read(stream, 4))
    return kind, _read(stream, length - 4)


def _read(stream: Any, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise EOFError
    assert isinstance(content, bytes)
    return content


def _packed(kind: bytes, body: bytes = b"") -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body
