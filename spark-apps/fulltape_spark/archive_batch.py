"""One batch of the tape: tasks write its rows as files, then the driver describes them, once all are durable.

Each task reads one range of one partition and writes a file of each kind found there. Names follow from offsets alone,
and what is late from the time that the batch before had reached, which is kept beside the checkpoint. So a batch that
is done again, after whatever end, writes the same files with the same content.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pyarrow as pa
from pyspark.sql import DataFrame

from fulltape.errors import FulltapeError
from fulltape.messages import UNDECODABLE
from fulltape.warehouse.staging import Batch, Kind, StagedFile, Staging, batch_name
from fulltape_spark.archive_rows import SECOND_US, Clock, Found, Origin, Rows, joined, rows_of

Offsets = Mapping[str, Mapping[str, int]]
"""Of each topic, by the number of its partition, as Spark writes them."""

COLUMNS = ("topic", "partition", "value", "timestamp")
"""What a task reads of a record."""

_ROWS_AT_ONCE = 50_000
"""So many records become columns together: enough to make that cheap, and few enough to be small."""

_RANGE = "range"


class Stored(msgspec.Struct, frozen=True):
    """A file that a task wrote."""

    kind: Kind
    file: StagedFile
    first_us: int
    last_us: int
    tape_us: int


class Range(msgspec.Struct, frozen=True):
    """What a task made of its range of a partition."""

    topic: str
    files: list[Stored]
    records: int
    unusable: int
    late: int
    newest_us: int


class BatchError(FulltapeError):
    """A batch can't be named: Spark's log of offsets is not as expected."""


@dataclass(frozen=True, slots=True)
class Job:
    """All that a task of one batch needs to know; it crosses to other machines."""

    staging: str
    """The root of the staging area."""
    origins: Mapping[str, Origin]
    """The topics."""
    names: Mapping[str, str]
    """The name of each topic's batch."""
    clock: Clock

    def write(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Write what a task reads, and tell what was written; runs on an executor."""
        parts: dict[tuple[str, int], _Part] = {}
        for batch in batches:
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                some = batch.slice(start, _ROWS_AT_ONCE)
                place = (some["topic"][0].as_py(), some["partition"][0].as_py())
                if len(some["partition"].unique()) > 1 or len(some["topic"].unique()) > 1:
                    raise BatchError("a task of Spark holds records of more than one partition")
                parts.setdefault(place, _Part()).take(
                    rows_of(self.origins[place[0]], some["value"].to_pylist(), _micros(some["timestamp"]), self.clock),
                    some.num_rows,
                )
        staging = Staging(self.staging)
        ranges = [
            Range(
                topic,
                [
                    self._store(staging, kind, self.names[topic], partition, joined(rows))
                    for kind, rows in part.rows.items()
                ],
                part.records,
                part.unusable,
                part.late,
                part.newest_us,
            )
            for (topic, partition), part in parts.items()
        ]
        yield pa.record_batch({_RANGE: [msgspec.json.encode(one) for one in ranges]}, pa.schema({_RANGE: pa.binary()}))

    def _store(self, staging: Staging, kind: Kind, name: str, partition: int, rows: Rows) -> Stored:
        file = staging.write_parquet(kind, name, partition, rows.table)
        return Stored(kind, file, rows.first_us, rows.last_us, rows.tape_us)


@dataclass(slots=True)
class _Part:
    """What was found so far in one range of a partition."""

    rows: dict[Kind, list[Rows]] = field(default_factory=dict)
    records: int = 0
    unusable: int = 0
    late: int = 0
    newest_us: int = 0

    def take(self, found: Found, records: int) -> None:
        for kind, rows in found.rows.items():
            self.rows.setdefault(kind, []).append(rows)
        self.records += records
        self.unusable += found.unusable
        self.late += found.late
        self.newest_us = max(self.newest_us, found.newest_us)


@dataclass(frozen=True, slots=True)
class Written:
    """How a batch went."""

    batches: tuple[Batch, ...]
    """What was described, one for each kind that there were rows of."""
    records: int
    unusable: int
    late: int
    newest_us: int
    """Greatest time of its trades; 0 without any."""


def write_batch(records: DataFrame, job: Job) -> Written:
    """Write the rows of a batch and describe them.

    Raises:
        PySparkException: a task failed, as where the staging area does not answer.
        FulltapeError: the descriptions can't be written.

    """
    done = records.select(*COLUMNS).mapInArrow(job.write, f"{_RANGE} BINARY").toArrow()[_RANGE]
    ranges = [msgspec.json.decode(one, type=Range) for one in done.to_pylist()]
    stored: dict[tuple[Kind, str], list[Stored]] = {}
    for one in ranges:
        for file in one.files:
            stored.setdefault((file.kind, job.names[one.topic]), []).append(file)
    batches = tuple(_described(kind, name, files) for (kind, name), files in sorted(stored.items()))
    staging = Staging(job.staging)
    for batch in batches:
        staging.publish(batch)
    return Written(
        batches,
        sum(one.records for one in ranges),
        sum(one.unusable for one in ranges),
        sum(one.late for one in ranges),
        max((one.newest_us for one in ranges), default=0),
    )


def _described(kind: Kind, name: str, stored: Sequence[Stored]) -> Batch:
    """Return the description of the files of one kind."""
    files = sorted((one.file for one in stored), key=lambda file: file.path)
    return Batch(
        kind=kind,
        name=name,
        rows=sum(file.rows for file in files),
        bytes=sum(file.bytes for file in files),
        files=tuple(files),
        first_us=min(one.first_us for one in stored),
        last_us=max(one.last_us for one in stored),
        tape_us=max(one.tape_us for one in stored),
    )


def _micros(times: pa.Array) -> list[int]:
    micros: list[int] = times.cast(pa.timestamp("us", times.type.tz)).cast(pa.int64()).to_pylist()
    return micros


class OffsetLog:
    """What Spark notes of each batch before it begins, in the checkpoint: where it ends.

    Args:
        checkpoint: the folder of Spark's checkpoint.
        begun: where the first batch starts.
        topic_ids: Kafka's id of each topic.

    """

    def __init__(self, checkpoint: Path, begun: Offsets, topic_ids: Mapping[str, str]) -> None:
        self._folder = checkpoint / "offsets"
        self._begun = begun
        self._topic_ids = topic_ids

    def names(self, batch: int) -> dict[str, str]:
        """Return the name of each topic's part of a batch.

        Raises:
            BatchError: the log of this batch or the one before can't be read.

        """
        starts = self._ends(batch - 1) if batch else self._begun
        names = {}
        for topic, ends in self._ends(batch).items():
            began, partitions = starts.get(topic, {}), sorted(ends, key=int)
            names[topic] = batch_name(
                self._topic_ids[topic],
                [began.get(partition, 0) for partition in partitions],
                [ends[partition] for partition in partitions],
            )
        return names

    def _ends(self, batch: int) -> Offsets:
        path = self._folder / str(batch)
        try:
            # A version, a line about the batch, and one for each source, of which there is one here.
            *_, line = path.read_bytes().splitlines()
            return msgspec.json.decode(line, type=dict[str, dict[str, int]])
        except (OSError, ValueError, *UNDECODABLE) as error:
            raise BatchError(f"{path}: can't be read ({error}), so that the batch has no name") from error


class _Reached(msgspec.Struct, frozen=True):
    """How far the trades of the batches had come."""

    batch: int
    before_us: int
    """The greatest time of all trades before the batch."""
    newest_us: int
    """The same with the batch."""


class Reached:
    """Keeps, beside the checkpoint, the greatest time of the trades so far: what is late follows from it.

    Args:
        path: the file.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = _Reached(-1, 0, 0)
        with contextlib.suppress(OSError, *UNDECODABLE):
            self._kept = msgspec.json.decode(path.read_bytes(), type=_Reached)

    def before(self, batch: int) -> int:
        """Return the greatest time of all trades before a batch; 0 before the first."""
        return self._kept.before_us if batch <= self._kept.batch else self._kept.newest_us

    def note(self, batch: int, newest_us: int) -> None:
        """Keep how far a batch came."""
        before_us = self.before(batch)
        self._kept = _Reached(batch, before_us, max(before_us, newest_us))
        part = self._path.with_suffix(".part")
        part.write_bytes(msgspec.json.encode(self._kept))
        part.replace(self._path)


def clock(reached_us: int, watermark_us: int) -> Clock:
    """Return what is late for a batch: what the windows, by whole seconds, no longer take."""
    newest_second_us = reached_us // SECOND_US * SECOND_US
    return Clock(late_us=newest_second_us - watermark_us, ahead_us=watermark_us)
