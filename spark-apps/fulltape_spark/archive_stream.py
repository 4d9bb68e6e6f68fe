"""A query of the archive that goes on where its checkpoint ends, or anew from the oldest record where it can't.

To begin anew costs time and no trade: what comes twice is one row in the warehouse. So it is done only where the
checkpoint is at fault: not where Kafka, or what the batches are written to, does not answer.
"""

import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException
from pyspark.sql import DataFrame, SparkSession

from fulltape.kafka import ClientConfiguration, probe_broker
from fulltape_spark.archive_batch import OffsetLog, Offsets
from fulltape_spark.checkpoint import Beginning, CheckpointFolder, Tape
from fulltape_spark.stream import Query, QueryFailedError, cause_of, failure_of, spares_checkpoint

RECORDS_PER_BATCH = 400_000
"""No more records in a batch, so that one fits in memory however long the archive was away; and so many at once are
not kept waiting."""

_POLL_MS = 500
_PROBE_SECONDS = 5.0
_OWN_ERROR = re.compile(r"^fulltape[\w.]*Error: (.+)$", re.MULTILINE)

_log = logging.getLogger("fulltape.archive")


class ArchiveStream:
    """One query over some of the feed's topics.

    Args:
        name: names it in messages and in Kafka.
        tapes: its topics.
        folder: its checkpoint.
        kafka: how a broker is probed.
        run: builds and starts the query.
        shape: what its state depends on besides the topics: with another, it begins anew.

    """

    def __init__(
        self,
        name: str,
        tapes: Sequence[Tape],
        folder: CheckpointFolder,
        kafka: ClientConfiguration,
        run: "Callable[[ArchiveStream], Query]",
        *,
        shape: Sequence[object] = (),
    ) -> None:
        self.name = name
        self._tapes = tapes
        self._folder = folder
        self._kafka = kafka
        self._run = run
        self._identity = "/".join(tape.identity(*shape) for tape in tapes)
        kept = folder.read(self._identity)
        if isinstance(kept, str):
            self._give_up_checkpoint(kept)
            kept = None
        self._continues = kept is not None
        if kept is not None:
            _log.info("%s: continuing from the checkpoint in %s", name, folder.folder)
        self._beginning = kept or self._begin()
        self._query: Query | None = None
        self._batch_problem: str | None = None
        self._completed = False

    @property
    def checkpoint(self) -> Path:
        """Spark's own part of the checkpoint."""
        return self._folder.spark

    @property
    def beside(self) -> Path:
        """The folder in which more can be kept that lives and dies with the checkpoint."""
        return self._folder.spark.parent

    @property
    def begun(self) -> Offsets:
        """Where in each topic it began."""
        return nested(self._beginning.offsets)

    @property
    def offsets(self) -> OffsetLog:
        """The offsets of its batches."""
        return OffsetLog(self.checkpoint, self.begun, {tape.topic: tape.topic_id for tape in self._tapes})

    def start(self) -> None:
        """Start the query.

        Raises:
            QueryFailedError: Spark can't.

        """
        try:
            self._query = self._run(self)
        except (PySparkException, Py4JJavaError) as error:
            self._mend(cause_of(error))

    def batch(self, write: Callable[[DataFrame, int], None]) -> Callable[[DataFrame, int], None]:
        """Return ``write`` so that its failure is told from one of the checkpoint."""

        def observed(rows: DataFrame, number: int) -> None:
            try:
                write(rows, number)
            except Exception as error:
                self._batch_problem = own_words(error)
                raise
            self._completed = True

        return observed

    def watch(self) -> None:
        """See how the query is, and begin anew where that helps.

        Raises:
            QueryFailedError: it ended by itself.

        """
        assert self._query is not None  # it was started
        failure = failure_of(self._query)
        if failure is not None:
            self._mend(failure)

    @property
    def running(self) -> bool:
        """Whether it has looked for records."""
        return self._query is not None and (self._completed or str(self._query.status["message"]).startswith("Waiting"))

    def backlog(self) -> int | None:
        """Return how many records it has yet to read; None before the first batch."""
        newest = None if self._query is None else self._query._jsq.lastProgress()  # noqa: SLF001 - see `progress_of`
        return None if newest is None else backlog_of(msgspec.json.decode(newest.json()))

    def stop(self) -> None:
        """End the query; a batch that was not completed will be done again."""
        if self._query is not None:
            self._query.stop()

    def _mend(self, failure: str) -> None:
        if self._batch_problem is not None:
            raise QueryFailedError(f"{self.name}: {self._batch_problem}")
        if not self._continues or self._completed or spares_checkpoint(failure):
            raise QueryFailedError(f"{self.name}: the query ended: {failure}")
        probe_broker(self._kafka, _PROBE_SECONDS)  # else it is Kafka, and the checkpoint may be sound
        self._give_up_checkpoint(failure)
        self._continues = False
        self._beginning = self._begin()
        self.start()

    def _give_up_checkpoint(self, reason: str) -> None:
        aside = self._folder.set_aside()
        _log.warning("%s: the checkpoint can't be continued (%s); set aside as %s", self.name, reason, aside)

    def _begin(self) -> Beginning:
        began = time.monotonic()
        offsets = {tape.topic: tape.first_offsets() for tape in self._tapes}
        beginning = Beginning(self._identity, flat(offsets), 0)
        self._folder.begin(beginning)
        _log.info(
            "%s: beginning at the oldest records, found in %.1f s: %s", self.name, time.monotonic() - began, offsets
        )
        return beginning


def read(
    session: SparkSession,
    kafka: Mapping[str, str],
    stream: ArchiveStream,
    *,
    every_ms: int,
    client: str,
    topics: Sequence[str],
) -> DataFrame:
    """Return the records of topics as they come, in batches of what came in ``every_ms`` or of as many as one may hold.

    With the trigger `TRIGGER` a backlog is read without pauses, whatever the time between batches is else.
    """
    begun = {topic: offsets for topic, offsets in stream.begun.items() if topic in topics}
    return (
        session.readStream.format("kafka")
        .options(**kafka)
        .option("subscribe", ",".join(topics))
        .option("startingOffsets", msgspec.json.encode(begun).decode())
        .option("maxOffsetsPerTrigger", str(RECORDS_PER_BATCH))
        .option("minOffsetsPerTrigger", str(RECORDS_PER_BATCH))
        .option("maxTriggerDelay", f"{every_ms}ms")
        .option("groupIdPrefix", client)
        .option("kafka.isolation.level", "read_committed")
        .option("kafka.max.poll.records", "10000")
        .option("kafka.max.partition.fetch.bytes", str(8 * 1024 * 1024))
        .load()
    )


TRIGGER: Mapping[str, str] = {"processingTime": f"{_POLL_MS} milliseconds"}
"""How often it is looked whether a batch is due."""


def flat(offsets: Offsets) -> dict[str, int]:
    """Write the offsets of topics as a checkpoint's beginning has them.

    >>> flat({"x.trades": {"0": 17}})
    {'x.trades/0': 17}
    """
    return {f"{topic}/{number}": at for topic, of_topic in offsets.items() for number, at in of_topic.items()}


def nested(offsets: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Undo `flat`."""
    topics: dict[str, dict[str, int]] = {}
    for place, at in offsets.items():
        topic, _, number = place.rpartition("/")
        topics.setdefault(topic, {})[number] = at
    return topics


def backlog_of(progress: Mapping[str, object]) -> int:
    """Return how many records Kafka held, by a progress of Spark's, behind the end of that batch."""
    behind = 0
    for source in progress["sources"]:  # type: ignore[attr-defined]
        ends, latest = source.get("endOffset") or {}, source.get("latestOffset") or {}
        behind += sum(
            at - ends.get(topic, {}).get(number, at) for topic, of in latest.items() for number, at in of.items()
        )
    return behind


def own_words(error: Exception) -> str:
    """Return what a batch's failure says: the text of an error of ours, wherever it was raised, else its cause."""
    own = _OWN_ERROR.findall(str(error))
    return str(own[-1]) if own else cause_of(error)
