"""One streaming query from the tape to the panes: how it is started, and what of it can be seen."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import msgspec
from py4j.protocol import Py4JError  # type: ignore[import-untyped]
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery

from fulltape.errors import FulltapeError
from fulltape_spark.checkpoint import starting_offsets
from fulltape_spark.checkpoint_s3 import SCHEME
from fulltape_spark.query import TAPE, panes_of

Query = StreamingQuery
"""A running query, as `start` returns it."""

Trigger = Literal["real-time", "micro-batch"]

_FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"

SETTINGS: Mapping[str, str] = {
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.session.timeZone": "UTC",
    # All tasks of a batch must run for any of them to do something. By default one would wait, up to six seconds, for a
    # slot where its state already is, though another executor is idle and reads that state in less than one.
    "spark.locality.wait": "0s",
    # Which tasks run is noted at once; by default what comes within 100 ms is noted with the next heartbeat, up to ten
    # seconds later, and the stream would seem not to run until then.
    "spark.ui.liveUpdate.period": "0",
    # A buffer between the tasks that read and those that sum is sent when it is full or so old; the default is 50.
    "spark.shuffle.streaming.networkBufferMaxWaitTimeMs": "5",
    "spark.sql.streaming.stateStore.providerClass": (
        "org.apache.spark.sql.execution.streaming.state.RocksDBStateStoreProvider"
    ),
    "spark.sql.streaming.stateStore.rocksdb.changelogCheckpointing.enabled": "true",
    "spark.sql.streaming.stateStore.rocksdb.trackTotalNumberOfRows": "false",
    # Files of state have names that no other attempt's have, and the log says which belong to a batch: otherwise what a
    # batch that failed had written could be read as that of the next one of its number, which has other trades.
    "spark.sql.streaming.stateStore.checkpointFormatVersion": "2",
    "spark.sql.streaming.statefulOperator.incrementalCleanupFactor": "2",
    "spark.sql.streaming.realTimeMode.minBatchDuration": "1000",
    # The defaults start some fifty processes (chmod, readlink) at each boundary of batches, most of what that takes.
    _FILE_MANAGER: "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager",
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    # A plan of fifty aggregates is not wanted as text, which takes long to make.
    "spark.sql.maxMetadataStringLength": "20",
    "spark.sql.debug.maxToStringFields": "1",
}
"""What the streams need of Spark beside its defaults. State is kept in RocksDB and its changes alone are written."""


_FILE_MANAGER_ON_S3 = "org.apache.spark.internal.io.cloud.AbortableStreamBasedCheckpointFileManager"
"""Writes a file where it is to be, and there is nothing until it is whole. The other one renames, which S3 can't."""


_ANOTHER_DRIVER = ("CONCURRENT_STREAM_LOG_UPDATE", "are concurrently using", "RemoteFileChangedException")
_EXECUTOR_LOST = (
    "ExecutorLostFailure",
    "Connection to streaming shuffle writer",
    "CONCURRENT_SCHEDULER_INSUFFICIENT_SLOT",
)
_KAFKA_REFUSES = ("AuthenticationException", "AuthorizationException", "InvalidConfigurationException")


class QueryFailedError(FulltapeError):
    """The streaming query ended by itself; the text is the innermost cause."""


@contextmanager
def death_reported() -> Iterator[None]:
    """Turn what py4j raises when the JVM is gone into one line."""
    try:
        yield
    except (Py4JError, ConnectionError) as error:
        raise QueryFailedError(f"the JVM of the Spark driver ended or failed: {cause_of(error)}") from error


@dataclass(frozen=True, slots=True)
class Progress:
    """How a batch went."""

    batch: int
    records: int
    """Records read from the tape."""
    unusable: int
    """Of those, neither a gap nor a trade as trades are."""
    late: int
    """Trades behind the watermark, which count in no pane."""
    watermark_seconds: float
    """Exchange time since the epoch before which trades were late."""
    seconds: float
    """From its planning to the end of its commit."""


@dataclass(frozen=True, slots=True)
class Route:
    """From where to where a stream goes, by which Kafka and how."""

    kafka: Mapping[str, str]
    """The options that open a connection."""
    tape: str
    panes: str
    name: str
    """Begins the ids of its Kafka clients."""
    watermark_us: int
    trigger: Trigger


def start(
    session: SparkSession,
    route: Route,
    checkpoint: Path | str,
    *,
    offsets: Mapping[str, int],
    complete_from_us: int,
    batch_seconds: float,
) -> StreamingQuery:
    """Start the query; ``offsets`` count only where the checkpoint, a folder or an address on S3, is empty.

    Raises:
        PySparkException, Py4JError: Spark can't start it, as where the checkpoint is damaged.

    """
    if str(checkpoint).startswith(SCHEME):
        session.conf.set(_FILE_MANAGER, _FILE_MANAGER_ON_S3)
    tape = (
        session.readStream.format("kafka")
        .options(**route.kafka)
        .option("subscribe", route.tape)
        .option("startingOffsets", starting_offsets(route.tape, offsets))
        .option("groupIdPrefix", route.name)
        .option("kafka.isolation.level", "read_committed")
        .option("kafka.fetch.max.wait.ms", "10")
        .load()
    )
    writer = (
        panes_of(tape, route.watermark_us, complete_from_us)
        .writeStream.format("kafka")
        .options(**route.kafka)
        .option("topic", route.panes)
        .option("kafka.client.id", route.name)
        .option("kafka.linger.ms", "4")
        .option("checkpointLocation", str(checkpoint))
        .outputMode("update")
    )
    if route.trigger == "real-time":
        writer = writer.trigger(realTime=f"{round(batch_seconds * 1000)} milliseconds")  # type: ignore[call-overload]
    else:
        writer = writer.trigger(processingTime="0 seconds")
    return writer.start()


def failure_of(query: StreamingQuery) -> str | None:
    """Return in one line why a query ended by itself; None while it runs."""
    if query.isActive:
        return None
    failure = query.exception()
    return "it stopped without an error" if failure is None else cause_of(failure)


def cause_of(error: Exception) -> str:
    """Return the innermost cause of what Spark raised, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return (causes[-1:] or lines[:1] or [type(error).__name__])[0][:500]


def spares_checkpoint(failure: str) -> bool:
    """Tell whether what ended a query is no fault of its checkpoint.

    Another query of the same checkpoint wrote the same batch into its log first, or Kafka did not let its clients in,
    or not do what they wanted.
    """
    return any(sign in failure for sign in (*_ANOTHER_DRIVER, *_KAFKA_REFUSES))


def may_be_lost_executor(failure: str) -> bool:
    """Tell whether a query may have ended because one of its executors did.

    A task whose peer ended says no more than that, whatever ended the peer: it may also be a damaged checkpoint.
    """
    return any(sign in failure for sign in _EXECUTOR_LOST)


def progress_of(query: StreamingQuery, known: Progress | None) -> Progress | None:
    """Return how the last batch went; what is known already is not fetched again."""
    newest = query._jsq.lastProgress()  # noqa: SLF001 - pyspark's own property copies it field by field, in 100 calls
    if newest is None or (known is not None and newest.batchId() == known.batch):
        return known
    fields = msgspec.json.decode(newest.json())
    operators = fields.get("stateOperators") or [{}]
    counts = (fields.get("observedMetrics") or {}).get(TAPE) or {}
    watermark = (fields.get("eventTime") or {}).get("watermark")
    return Progress(
        batch=fields["batchId"],
        records=fields["numInputRows"],
        unusable=counts.get("unusable", 0),
        late=operators[0].get("numRowsDroppedByWatermark", 0),
        watermark_seconds=datetime.fromisoformat(watermark).timestamp() if watermark else 0.0,
        seconds=fields["durationMs"].get("triggerExecution", 0) / 1000,
    )
