"""`python -m fulltape_spark.archive --feed FILE`: stores a feed's tape as Parquet files until it is told to stop.

It runs as long as its queries do: what ends one ends the process, with a non-zero code, and whoever runs it starts it
again.
"""

import asyncio
import logging
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import ClientConfiguration, kafka_settings, prepare_kafka
from fulltape.local.jars import cache_folder
from fulltape.telemetry import configure_logging, run_until_told
from fulltape.warehouse.staging import Staging, staging_root
from fulltape.workloads import STAGING_VARIABLE
from fulltape_spark.archive_metrics import ArchiveMetrics
from fulltape_spark.archive_records import NAME as RECORDS
from fulltape_spark.archive_records import RecordsRoute, start_records
from fulltape_spark.archive_rows import Origin
from fulltape_spark.archive_stream import ArchiveStream
from fulltape_spark.archive_windows import NAME as WINDOWS
from fulltape_spark.archive_windows import WindowsRoute, start_windows, state_shape
from fulltape_spark.checkpoint import CheckpointFolder, Tape
from fulltape_spark.kafka_options import java_client_options
from fulltape_spark.service import SparkService
from fulltape_spark.session import Spark
from fulltape_spark.stream import SETTINGS, death_reported

_WATERMARK_US = 600_000_000
"""Where the feed has no analytics, whose watermark it is else."""

_HEAP_MIB = 1024
_SLOTS_PER_CPU = 2
_POLL_SECONDS = 0.25

_SETTINGS: Mapping[str, str] = {
    **SETTINGS,
    "spark.sql.execution.arrow.maxRecordsPerBatch": "50000",
    # A batch without records would have the name of the one before.
    "spark.sql.streaming.noDataMicroBatches.enabled": "false",
    # Of the windows' state each batch writes all anew.
    "spark.sql.streaming.minBatchesToRetain": "10",
}

_log = logging.getLogger("fulltape.archive")


@dataclass(frozen=True, slots=True)
class ArchiveSettings:
    """All that the archive of one feed needs to know."""

    feed: CryptoFeed
    kafka: ClientConfiguration
    checkpoint: Path
    staging: str
    """The root of the staging area: a folder or an S3 prefix, of this feed alone."""
    host: str
    port: int

    @property
    def watermark_us(self) -> int:
        """How late a trade may come and still count in windows."""
        analytics = self.feed.spec.analytics
        return _WATERMARK_US if analytics is None else analytics.watermark.us

    @property
    def every_ms(self) -> int:
        """How often what is new is stored."""
        assert self.feed.spec.warehouse is not None  # checked with the settings
        return self.feed.spec.warehouse.every.us // 1000

    @property
    def topics(self) -> dict[str, Origin]:
        """The feed's topics whose records are stored."""
        names, spec = self.feed.topics, self.feed.spec
        topics: dict[str, Origin] = {names.trades: "trades"}
        if "ticker" in spec.channels:
            topics[names.ticker] = "ticker"
        if spec.analytics is not None:
            topics[names.alerts] = "alerts"
        return topics


class ArchiveService(SparkService):
    """Runs the queries."""

    def __init__(self, settings: ArchiveSettings) -> None:
        self._settings = settings
        self._metrics = ArchiveMetrics(settings.feed.metadata.name)
        super().__init__(settings.host, settings.port, self._metrics.registry, _log)

    def _work(self) -> None:
        settings = self._settings
        Staging(settings.staging).check()
        tapes = [Tape(settings.kafka, topic) for topic in settings.topics]
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # Spark's workers are to find what this process finds
        slots = _SLOTS_PER_CPU * (os.cpu_count() or 1)  # neither query waits for the other
        spark_settings = {**_SETTINGS, "spark.sql.shuffle.partitions": str(tapes[0].partitions)}
        started = time.monotonic()
        with Spark(slots, spark_settings, _HEAP_MIB) as spark, death_reported():
            _log.info("Spark runs after %.1f s", time.monotonic() - started)
            self._problem = "the queries are being started"
            streams = self._streams(spark, tapes)
            try:
                for stream in streams:
                    stream.start()
                while not self._stop.wait(_POLL_SECONDS):
                    for stream in streams:
                        stream.watch()
                        if (backlog := stream.backlog()) is not None:
                            self._metrics.observe_backlog(stream.name, backlog)
                    if self._problem is not None and all(stream.running for stream in streams):
                        self._problem = None
                        _log.info("ready after %.1f s", time.monotonic() - started)
                        spark.quicken_next_start()
            finally:
                for stream in streams:
                    stream.stop()

    def _streams(self, spark: Spark, tapes: list[Tape]) -> list[ArchiveStream]:
        settings, names = self._settings, self._settings.feed.topics
        kafka = java_client_options(kafka_settings(settings.feed, os.environ))
        records = RecordsRoute(
            kafka=kafka,
            topics=settings.topics,
            staging=settings.staging,
            watermark_us=settings.watermark_us,
            every_ms=settings.every_ms,
            client=f"{names.prefix}.archive-{RECORDS}",
        )
        streams = [
            ArchiveStream(
                RECORDS,
                tapes,
                CheckpointFolder(settings.checkpoint / RECORDS),
                settings.kafka,
                lambda stream: start_records(spark.session, records, stream, self._metrics.observe),
            )
        ]
        analytics = settings.feed.spec.analytics
        if analytics is not None:
            windows = WindowsRoute(
                kafka=kafka,
                topics={topic: origin for topic, origin in settings.topics.items() if origin != "alerts"},
                staging=settings.staging,
                analytics=analytics,
                every_ms=settings.every_ms,
                client=f"{names.prefix}.archive-{WINDOWS}",
            )
            streams.append(
                ArchiveStream(
                    WINDOWS,
                    [tape for tape in tapes if tape.topic in windows.topics],
                    CheckpointFolder(settings.checkpoint / WINDOWS),
                    settings.kafka,
                    lambda stream: start_windows(spark.session, windows, stream, self._metrics.observe),
                    shape=state_shape(analytics),
                )
            )
        return streams


def archive_settings(
    feed: CryptoFeed,
    checkpoint: Path | None,
    staging: str | None,
    environment: Mapping[str, str],
    *,
    host: str,
    port: int,
) -> ArchiveSettings:
    """Work out what the archive of ``feed`` does, and make the feed's topics where no operator does.

    Raises:
        ConfigurationError: the feed has no warehouse, there is no place for files, credentials can't be read.
        KafkaUnavailableError: no broker answers, or it refuses.

    """
    if feed.spec.warehouse is None:
        raise ConfigurationError(f"feed {feed.metadata.name} has no spec.warehouse, so that there is nothing to store")
    return ArchiveSettings(
        feed=feed,
        kafka=prepare_kafka(feed, environment),
        checkpoint=checkpoint or cache_folder() / "checkpoints" / f"{feed.topics.prefix}-archive",
        staging=staging or staging_root(feed, environment),
        host=host,
        port=port,
    )


@click.command()
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option(
    "--checkpoint",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps its state.  [default: in $XDG_CACHE_HOME/fulltape or ~/.cache/fulltape]",
)
@click.option(
    "--staging",
    help=f"Folder or s3://bucket/prefix for this feed's files.  [default: {STAGING_VARIABLE}, or the feed's own]",
)
@click.option("--host", default="127.0.0.1", envvar="FULLTAPE_HOST", show_default=True, help="Where to serve metrics.")
@click.option("--port", default=0, envvar="FULLTAPE_PORT", help="Port for metrics and probes; 0 takes a free one.")
def main(*, feed: Path, checkpoint: Path | None, staging: str | None, host: str, port: int) -> None:
    """Store the feed's tape as Parquet files until SIGTERM."""
    configure_logging()
    try:
        settings = archive_settings(load_feed(feed), checkpoint, staging, os.environ, host=host, port=port)
        asyncio.run(run_until_told(lambda: ArchiveService(settings)))
    except FulltapeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
