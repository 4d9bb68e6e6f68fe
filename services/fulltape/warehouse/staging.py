"""Where rows wait to be loaded: Parquet files and a description of each batch, in a folder or below an S3 prefix.

This module alone knows the layout:

- ``files/<kind>/<batch>-p<partition>.parquet``: rows, compressed with zstd;
- ``batches/<kind>/<batch>.json``: a `Batch`, written when all its files are durable: what is described is whole;
- ``quarantine/<kind>/<batch>.json``: a `Quarantined` batch, with why it could not be loaded;
- ``manifests/``: lists of files for loads that are under way.
- ``backfill/<product>.json``: which of a product's past trades were fetched.

Names are functions of the topic and of Kafka's offsets alone, or of a product and its trades' ids, so that whoever
writes a batch again writes the same files anew; and they sort as the tape does.
"""

import hashlib
import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import msgspec
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.feed.model import CryptoFeed
from fulltape.s3 import s3_endpoint, s3_region
from fulltape.workloads import STAGING_VARIABLE

Kind = Literal["trades", "gaps", "windows", "tickers", "alerts"]
"""What a batch holds; also the name of its table."""

KINDS: tuple[Kind, ...] = get_args(Kind)

_TIMEOUT_SECONDS = 10.0
_TAG = 16
_DENIED = ("ACCESS_DENIED", "INVALID_ACCESS_KEY_ID", "SIGNATURE_DOES_NOT_MATCH", "HTTP response code: 403")


class StagingUnavailableError(FulltapeError):
    """The staging area did not answer, or has no room; trying again may help."""


class StagedFile(msgspec.Struct, frozen=True):
    """A Parquet file of a batch."""

    path: str
    """Relative to the staging area's root."""
    rows: int
    bytes: int


class Batch(msgspec.Struct, frozen=True):
    """Rows of one kind that are loaded together or not at all."""

    kind: Kind
    name: str
    rows: int
    bytes: int
    files: tuple[StagedFile, ...]
    first_us: int
    """Least exchange time of the rows; microseconds."""
    last_us: int
    """Greatest exchange time of the rows; microseconds."""
    tape_us: int
    """Greatest time at which a record behind the rows was written to Kafka; microseconds."""


class Quarantined(msgspec.Struct, frozen=True):
    """A batch that could not be loaded, and was set aside."""

    kind: Kind
    name: str
    reason: str
    """Why, in the database's words."""
    description: str = ""
    """The batch's description as it was; `Staging.release` puts it back."""


def batch_name(topic: str, starts: Sequence[int], ends: Sequence[int]) -> str:
    """Return the name of the batch of records from offsets ``starts`` to below ``ends`` of a topic's partitions.

    Sums of offsets put names in order; a digest tells batches with the same sums apart, and those of a topic that was
    made anew from those of the one before. No two batches share a name: the ledger would take one for the other.

    Args:
        topic: Kafka's id of the topic.
        starts: an offset for each partition, in their order.
        ends: as many.

    """
    digest = hashlib.blake2s(repr((topic, *starts, *ends)).encode(), digest_size=4).hexdigest()
    return f"{sum(starts):020d}-{sum(ends):020d}-{digest}"


def backfill_name(product: str, first_id: int, rows: int) -> str:
    """Return the name of the batch of ``rows`` past trades of a product from ``first_id`` on, or of as many gaps' ids.

    It sorts after those of the tape, and as ids do; a long product's is a hash, so that the ledger can hold all.
    """
    tag = product if len(product) <= _TAG else hashlib.blake2s(product.encode(), digest_size=_TAG // 2).hexdigest()
    return f"backfill-{tag}-{first_id:019d}-{rows:05d}"


def file_path(kind: Kind, batch: str, partition: int) -> str:
    """Return where the rows of ``partition`` stand, relative to the root."""
    return f"files/{kind}/{batch}-p{partition:05d}.parquet"


def batches_folder(kind: Kind) -> str:
    """Return where the descriptions of a kind's batches stand, relative to the root."""
    return f"batches/{kind}"


def batch_path(kind: Kind, batch: str) -> str:
    """Return where the description of a batch stands, relative to the root."""
    return f"{batches_folder(kind)}/{batch}.json"


def quarantine_path(kind: Kind, batch: str) -> str:
    """Return where it stands why a batch was set aside, relative to the root."""
    return f"quarantine/{kind}/{batch}.json"


def backfill_path(product: str) -> str:
    """Return where it stands which past trades of a product were fetched, relative to the root."""
    return f"backfill/{product}.json"


def manifest_path(load: str) -> str:
    """Return where the list of files for one load stands, relative to the root."""
    return f"manifests/{load}.manifest"


def staging_root(feed: CryptoFeed, environment: Mapping[str, str]) -> str:
    """Return where the rows of a feed wait: an S3 prefix or a folder of its own.

    Raises:
        ConfigurationError: neither the environment nor the feed says so.

    """
    if root := environment.get(STAGING_VARIABLE):
        return root
    staging = feed.spec.warehouse.staging if feed.spec.warehouse is not None else None
    if staging is None:
        raise ConfigurationError(
            f"feed {feed.metadata.name} has no spec.warehouse.staging; add it, or name a folder in {STAGING_VARIABLE}"
        )
    return f"{staging.uri.rstrip('/')}/{feed.topics.prefix}"


class Staging:
    """A staging area. Every write is atomic, and durable when it returns.

    Its methods raise `ConfigurationError` where the bucket or the right to it is missing, and `StagingUnavailableError`
    where the storage does not answer or is full.
    """

    def __init__(self, uri: str, environment: Mapping[str, str] | None = None) -> None:
        """Describe the area; nothing is read or written yet.

        Args:
            uri: its root: ``s3://bucket/prefix`` or a folder.
            environment: where the address of the S3 server is looked up; credentials are found as by every client of
                S3: in the process's own environment, in files, or from the machine.

        """
        self.uri = uri.rstrip("/")
        self.on_s3 = uri.startswith("s3://")
        self._files: Any
        if self.on_s3:
            parts = urlsplit(self.uri)
            self._root = parts.netloc + parts.path
            environment = os.environ if environment is None else environment
            self._files = pyarrow.fs.S3FileSystem(
                endpoint_override=s3_endpoint(environment),
                region=s3_region(environment),
                background_writes=False,
                connect_timeout=_TIMEOUT_SECONDS,
                request_timeout=_TIMEOUT_SECONDS,
            )
        else:
            self.uri = self._root = str(Path(self.uri).absolute())
            self._files = pyarrow.fs.LocalFileSystem()

    def check(self) -> None:
        """Make sure that the area can be used.

        Raises:
            ConfigurationError: there is no such bucket, or it may not be read.
            StagingUnavailableError: the storage does not answer.

        """
        if not self.on_s3:
            return
        bucket = self._root.partition("/")[0]
        try:
            found = self._files.get_file_info(bucket).type
        except OSError as problem:
            raise self._error("read", bucket, problem) from problem
        if found == pyarrow.fs.FileType.NotFound:
            raise ConfigurationError(
                f"{self.uri}: there is no bucket {bucket}; make it, or name another in spec.warehouse.staging.uri"
            )

    def uri_of(self, path: str) -> str:
        """Return the address of a path relative to the root: a URI on S3, else an absolute path."""
        return f"{self.uri}/{path}"

    def write_parquet(self, kind: Kind, batch: str, partition: int, table: Any) -> StagedFile:
        """Write the rows of one partition, an Arrow table of the kind's schema."""
        path = file_path(kind, batch, partition)
        sink = pa.BufferOutputStream()
        pyarrow.parquet.write_table(table, sink, compression="zstd", coerce_timestamps="us")
        content = sink.getvalue()
        self.write(path, content)
        return StagedFile(path, table.num_rows, content.size)

    def publish(self, batch: Batch) -> None:
        """Write the description of a batch, whose files have all been written."""
        self.write(batch_path(batch.kind, batch.name), msgspec.json.encode(batch))

    def write(self, path: str, content: Any) -> None:
        """Write a whole file of bytes, in place of one of that name."""
        full = f"{self._root}/{path}"
        try:
            if self.on_s3:
                with self._files.open_output_stream(full) as stream:
                    stream.write(content)
            else:
                _write_durably(Path(full), content)
        except OSError as problem:
            raise self._error("write", path, problem) from problem

    def listed(self, kind: Kind) -> dict[str, float]:
        """Return the batches of a kind in the order of the tape: name, and when it was written (Unix seconds)."""
        return self._names(batches_folder(kind))

    def _names(self, folder: str) -> dict[str, float]:
        """Return the names of the descriptions in a folder, sorted, and when each was written (Unix seconds)."""
        selector = pyarrow.fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True)
        try:
            infos = self._files.get_file_info(selector)
        except OSError as problem:
            raise self._error("list", folder, problem) from problem
        found = {
            info.base_name.removesuffix(".json"): info.mtime.timestamp()
            for info in infos
            if info.is_file and info.extension == "json" and not info.base_name.startswith(".")
        }
        return dict(sorted(found.items()))

    def read(self, kind: Kind, name: str) -> Batch:
        """Return a batch by its name.

        Raises:
            msgspec.DecodeError: the description is not one, or is another batch's.
            FileNotFoundError: there is no such batch.

        """
        path = batch_path(kind, name)
        batch = msgspec.json.decode(self._content(path), type=Batch)
        if (batch.kind, batch.name) != (kind, name):
            raise msgspec.ValidationError(f"{path} describes the batch {batch.kind}/{batch.name}")
        return batch

    def _content(self, path: str) -> bytes:
        try:
            with self._files.open_input_stream(f"{self._root}/{path}") as stream:
                content = stream.read()
        except FileNotFoundError:
            raise
        except OSError as problem:
            raise self._error("read", path, problem) from problem
        assert isinstance(content, bytes)
        return content

    def content(self, path: str) -> bytes | None:
        """Return a whole file; None where there is none."""
        try:
            return self._content(path)
        except FileNotFoundError:
            return None

    def remove(self, path: str) -> None:
        """Delete a file, where there is one."""
        try:
            self._files.delete_file(f"{self._root}/{path}")
        except FileNotFoundError:
            pass
        except OSError as problem:
            raise self._error("delete", path, problem) from problem

    def remove_batch(self, batch: Batch) -> None:
        """Delete a batch that needs no more loading: its files, and then its description."""
        for file in batch.files:
            self.remove(file.path)
        self.remove(batch_path(batch.kind, batch.name))

    def quarantine(self, kind: Kind, name: str, reason: str) -> None:
        """Set a batch aside: it is no longer listed; its files stay.

        Written again, as by a replay of the tape, it is listed again.
        """
        try:
            description = self._content(batch_path(kind, name)).decode(errors="replace")
        except FileNotFoundError:  # another loader was quicker
            return
        self.write(quarantine_path(kind, name), msgspec.json.encode(Quarantined(kind, name, reason, description)))
        self.remove(batch_path(kind, name))

    def release(self, quarantined: Quarantined) -> None:
        """List a batch again that was set aside."""
        path = batch_path(quarantined.kind, quarantined.name)
        self.write(path, quarantined.description.encode())
        self.remove(quarantine_path(quarantined.kind, quarantined.name))

    def quarantined(self, kind: Kind) -> list[Quarantined]:
        """Return the batches that were set aside, in the order of the tape."""
        return [
            msgspec.json.decode(self._content(quarantine_path(kind, name)), type=Quarantined)
            for name in self._names(f"quarantine/{kind}")
        ]

    def count_quarantined(self, kind: Kind) -> int:
        """Return how many batches are set aside."""
        return len(self._names(f"quarantine/{kind}"))

    def _error(self, what: str, path: str, problem: OSError) -> FulltapeError:
        text = str(problem)
        where = f"can't {what} {path} in {self.uri}"
        if "NO_SUCH_BUCKET" in text:
            return ConfigurationError(
                f"{where}: there is no such bucket; make it, or name another in spec.warehouse.staging.uri"
            )
        if isinstance(problem, PermissionError) or any(sign in text for sign in _DENIED):
            return ConfigurationError(
                f"{where}: not permitted; give this program credentials that may list, read, write and delete there "
                f"({text})"
            )
        return StagingUnavailableError(f"{where}: {text}")


def _write_durably(path: Path, content: Any) -> None:
    """Write a local file so that it is there whole, or not at all, even after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    try:
        with draft.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
