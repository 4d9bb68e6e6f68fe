"""The query that stores records as they are: trades, gaps, tickers and alerts, each as a row of its table."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pyspark.sql import DataFrame, SparkSession

from fulltape_spark.archive_batch import Job, Reached, Written, clock, write_batch
from fulltape_spark.archive_rows import Origin
from fulltape_spark.archive_stream import TRIGGER, ArchiveStream, read
from fulltape_spark.stream import Query

NAME = "records"


@dataclass(frozen=True, slots=True)
class RecordsRoute:
    """From where to where records go."""

    kafka: Mapping[str, str]
    """The options that open a connection."""
    topics: Mapping[str, Origin]
    """What stands on which topic."""
    staging: str
    """The root of the staging area."""
    watermark_us: int
    every_ms: int
    client: str
    """Begins the ids of its Kafka clients."""


Observer = Callable[[str, int, Written, float], None]
"""Is told the query, the number of a batch, how it went and how many seconds it took."""


def start_records(session: SparkSession, route: RecordsRoute, stream: ArchiveStream, observe: Observer) -> Query:
    """Start the query.

    Raises:
        PySparkException, Py4JError: Spark can't start it, as where the checkpoint is damaged.

    """
    reached = Reached(stream.beside / "reached.json")
    offsets = stream.offsets

    def write(records: DataFrame, number: int) -> None:
        began = time.monotonic()
        late = clock(reached.before(number), route.watermark_us)
        written = write_batch(records, Job(route.staging, route.topics, offsets.names(number), late))
        reached.note(number, written.newest_us)
        observe(NAME, number, written, time.monotonic() - began)

    return (
        read(session, route.kafka, stream, every_ms=route.every_ms, client=route.client, topics=list(route.topics))
        .writeStream.foreachBatch(stream.batch(write))
        .option("checkpointLocation", str(stream.checkpoint))
        .trigger(**TRIGGER)
        .start()
    )
