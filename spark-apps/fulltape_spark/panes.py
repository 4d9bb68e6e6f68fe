"""`python -m fulltape_spark.panes --feed FILE`: turns a feed's tape into panes until it is told to stop.

It runs as long as its query does: what ends the query ends the process, with a non-zero code, and whoever runs it
starts it again. Only a checkpoint that can't be continued is mended here, by beginning again from the tape.
"""

import asyncio
import logging
import os
import sys
import time
import typing
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import click
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.errors import PySparkException

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.feed.duration import Duration
from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import ClientConfiguration, kafka_settings, prepare_kafka, probe_broker
from fulltape.local.jars import cache_folder
from fulltape.measures.columns import AGGREGATES
from fulltape.telemetry import configure_logging, run_until_told
from fulltape_spark.checkpoint import Beginning, Checkpoint, CheckpointFolder, Tape
from fulltape_spark.checkpoint_s3 import SCHEME, CheckpointPrefix, CheckpointUnavailableError, s3_settings
from fulltape_spark.kafka_options import java_client_options
from fulltape_spark.panes_metrics import PanesMetrics
from fulltape_spark.service import SparkService
from fulltape_spark.session import Spark
from fulltape_spark.stream import (
    SETTINGS,
    Progress,
    Query,
    QueryFailedError,
    Route,
    Trigger,
    cause_of,
    death_reported,
    failure_of,
    may_be_lost_executor,
    progress_of,
    spares_checkpoint,
    start,
)
from fulltape_spark.warmup import warm_up

TRIGGER_VARIABLE = "FULLTAPE_TRIGGER"
"""Environment variable: ``real-time`` (the default) or ``micro-batch``, for want of a connector or for comparison."""

BATCH_VARIABLE = "FULLTAPE_BATCH"
"""Environment variable: the time between two checkpoints, such as ``1m``; the default is 5 minutes, and the first comes
after half a minute or sooner. Processing pauses at each for about half a second, and a restart reads again what came
since the last."""

WARM_UP_VARIABLE = "FULLTAPE_WARM_UP"
"""Environment variable: ``0`` leaves the warm-up out."""

_BATCH_SECONDS = 300.0
_FIRST_BATCH_SECONDS = 30.0
"""So soon, or a little later, what a start has read again is kept: a stream that lives no longer gets on too."""

_SHORTEST_BATCH_SECONDS = 5.0
_HEAP_MIB = 1024
_POLL_SECONDS = 0.25
_PROBE_SECONDS = 5.0
_MARGIN_US = 5_000_000
_RETRIES = 2
"""So often a query that may have lost an executor is continued before it completes a batch: it may be the checkpoint
that ends it."""
_EXECUTORS_SECONDS = 60.0
"""So long it waits for another executor: one that can't be had for longer will be no sooner for another driver."""
_CONFIRM_SECONDS = 5.0
"""How often it is looked whether the checkpoint was taken over: before a successor's first batch can end."""

_log = logging.getLogger("fulltape.panes")


@dataclass(frozen=True, slots=True)
class PanesSettings:
    """All that one stream of panes needs to know."""

    feed: CryptoFeed
    kafka: ClientConfiguration
    stream: int
    checkpoint: str
    """A folder, or an S3 prefix."""
    trigger: Trigger
    batch_seconds: float
    warm: bool
    host: str
    port: int


class PanesService(SparkService):
    """Runs one stream."""

    def __init__(self, settings: PanesSettings) -> None:
        self._settings = settings
        self._metrics = PanesMetrics(settings.feed.metadata.name, settings.stream)
        super().__init__(settings.host, settings.port, self._metrics.registry, _log)

    def _work(self) -> None:
        settings = self._settings
        analytics = settings.feed.spec.analytics
        assert analytics is not None  # checked with the settings
        topics = settings.feed.topics
        tape = Tape(settings.kafka, topics.trades)
        route = Route(
            kafka=java_client_options(kafka_settings(settings.feed, os.environ)),
            tape=topics.trades,
            panes=topics.panes,
            name=f"{topics.prefix}.panes-{settings.stream}",
            watermark_us=analytics.watermark.us,
            trigger=settings.trigger,
        )
        spark_settings = {**SETTINGS, "spark.sql.shuffle.partitions": str(tape.partitions)}
        on_s3 = settings.checkpoint.startswith(SCHEME)
        if on_s3:
            spark_settings |= s3_settings(os.environ)
        started = time.monotonic()
        with Spark(_slots(tape), spark_settings, _HEAP_MIB, with_s3=on_s3) as spark, death_reported():
            _log.info("Spark runs after %.1f s", time.monotonic() - started)
            place = settings.checkpoint
            checkpoint = CheckpointPrefix(place, spark.session) if on_s3 else CheckpointFolder(Path(place))
            stream = _Stream(settings, spark, route, tape, checkpoint)
            if settings.warm and not self._stop.is_set():
                self._problem = "warming up"
                warm_up(spark.session, route, settings.kafka, tape.partitions, stream.complete_from_us)
                _log.info("warm after %.1f s", time.monotonic() - started)
            self._problem = "the query is being started"
            try:
                stream.start()
                while not self._stop.wait(_POLL_SECONDS):
                    stream.watch()
                    if stream.awaits_executors:
                        self._problem = "an executor was lost, and the query waits for another"
                    if stream.progress is not None:
                        self._metrics.observe(stream.progress)
                    if self._problem is not None and stream.is_running():
                        self._problem = None
                        _log.info("ready after %.1f s", time.monotonic() - started)
                        spark.quicken_next_start()
            finally:
                stream.stop()


class _Stream:
    """The query of one stream, begun anew where its checkpoint can't be continued."""

    def __init__(self, settings: PanesSettings, spark: Spark, route: Route, tape: Tape, checkpoint: Checkpoint) -> None:
        self._settings = settings
        self._spark = spark
        self._route = route
        self._tape = tape
        self._checkpoint = checkpoint
        self._identity = tape.identity(settings.trigger, *sorted(AGGREGATES.items()))
        kept = checkpoint.read(self._identity)
        if isinstance(kept, str):
            self._give_up_checkpoint(kept)
            kept = None
        self._continues = kept is not None
        if kept is not None:
            _log.info("continuing from the checkpoint in %s", checkpoint.place)
        self._beginning = kept or self._begin()
        self.progress: Progress | None = None
        """Of the last batch that was completed since the start."""
        self._batches = 0
        """Completed since the start."""
        self._seconds = 0.0
        """How long the query's batches last."""
        self._query: Query | None = None
        self._confirmed = time.monotonic()
        self._retries = _RETRIES
        self._gives_up: float | None = None
        """When it no longer waits for executors, by the monotonic clock; None while it waits for none."""

    @property
    def complete_from_us(self) -> int:
        """Panes that begin earlier are left out."""
        return self._beginning.complete_from_us

    def start(self) -> None:
        """Start the query.

        Raises:
            QueryFailedError: Spark can't.

        """
        self._batches = 0
        self._start(batch_seconds(self._settings, 0, time.time()))

    @property
    def awaits_executors(self) -> bool:
        """Whether the query has ended for want of executors, and is continued once there are enough."""
        return self._gives_up is not None

    def watch(self) -> None:
        """See how the query is, and do what is due.

        Raises:
            QueryFailedError: it ended by itself, or executors do not come.
            CheckpointTakenError: another process has taken its checkpoint over.

        """
        if self._gives_up is not None:
            self._confirm_checkpoint()
            self._resume(self._gives_up)
            return
        assert self._query is not None  # it was started
        failure = failure_of(self._query)
        if failure is not None:
            self._mend(failure)
            return
        self._confirm_checkpoint()
        progress = progress_of(self._query, self.progress)
        if progress != self.progress:
            self.progress = progress
            self._batches += 1
            self._lengthen()

    def is_running(self) -> bool:
        """Tell whether a trade that comes now would be seen at once."""
        if self.awaits_executors:
            return False
        if self._settings.trigger == "real-time":
            return self._spark.running_tasks() >= _slots(self._tape)
        return self.progress is not None

    def stop(self) -> None:
        """End the query; what it did since its last checkpoint will be done again."""
        if self._query is not None:
            self._query.stop()

    def _lengthen(self) -> None:
        """Start the query anew where its next batch is to be of another length, which all batches of a query share."""
        seconds = batch_seconds(self._settings, self._batches, time.time())
        if seconds != self._seconds:
            self.stop()
            self._start(seconds)

    def _confirm_checkpoint(self) -> None:
        if time.monotonic() - self._confirmed > _CONFIRM_SECONDS:
            with suppress(CheckpointUnavailableError):  # nor can it be written, and no batch ends meanwhile
                self._checkpoint.confirm()
            self._confirmed = time.monotonic()

    def _mend(self, failure: str) -> None:
        """Do what the failure of the query asks for, or give up.

        With an executor goes what its tasks kept, which the checkpoint has, and Spark gets another one. Where it may be
        the checkpoint that ended the query, it begins anew from the tape.
        """
        if self.progress is not None:
            self._retries = _RETRIES
        if may_be_lost_executor(failure) and self._retries:
            self._retries -= 1
            self._gives_up = time.monotonic() + _EXECUTORS_SECONDS
            _log.warning("an executor may be lost (%s); going on from the checkpoint once there are enough", failure)
            return
        if not self._continues or self.progress is not None or spares_checkpoint(failure):
            raise QueryFailedError(f"the query ended: {failure}")
        # Else it is Kafka or the storage, and the checkpoint may be sound.
        probe_broker(self._settings.kafka, _PROBE_SECONDS)
        self._checkpoint.check()
        self._give_up_checkpoint(failure)
        self._continues = False
        self._beginning = self._begin()
        self.start()

    def _resume(self, gives_up: float) -> None:
        """Start the query once all its tasks can run: a query with too few executors ends at once."""
        if self._spark.free_slots() >= _slots(self._tape):
            self._gives_up = None
            self.progress = None
            self._continues = True
            self.start()
        elif time.monotonic() > gives_up:
            raise QueryFailedError(f"no executor came within {_EXECUTORS_SECONDS:g} s in place of one that was lost")

    def _give_up_checkpoint(self, reason: str) -> None:
        aside = self._checkpoint.set_aside()
        _log.warning("the checkpoint can't be continued (%s); set aside as %s", reason, aside)

    def _begin(self) -> Beginning:
        """Find where the tape holds all that windows can still need, and begin a checkpoint with that."""
        analytics = self._settings.feed.spec.analytics
        assert analytics is not None
        back_us = analytics.watermark.us + max(window.us for window in analytics.windows) + _MARGIN_US
        beginning = self._tape.begin(self._identity, time.time_ns() // 1000 - back_us)
        self._checkpoint.begin(beginning)
        _log.info("beginning %.0f s back in the tape, at offsets %s", back_us / 1e6, beginning.offsets)
        return beginning

    def _start(self, seconds: float) -> None:
        self._seconds = seconds
        try:
            self._query = start(
                self._spark.session,
                self._route,
                self._checkpoint.spark,
                offsets=self._beginning.offsets,
                complete_from_us=self._beginning.complete_from_us,
                batch_seconds=seconds,
            )
        except (PySparkException, Py4JJavaError) as error:
            self._mend(cause_of(error))


def _slots(tape: Tape) -> int:
    """Return how many tasks of a batch there are; all run all the time: as many as read partitions keep the sums."""
    return 2 * tape.partitions


def batch_seconds(settings: PanesSettings, batch: int, now: float) -> float:
    """Return how long a batch is to last that begins now, the ``batch``-th since the start, counted from 0.

    Two streams never pause together, also where they are started together: their usual boundaries lie at multiples of
    the length since the epoch and in the middle between, each stream's second batch leads there, and the short first
    ones end a third and two thirds of the way from one multiple of their own length to the next. A single stream has
    nobody to give way to, and batches that follow one another without a pause have no length.
    """
    length, first = settings.batch_seconds, min(_FIRST_BATCH_SECONDS, settings.batch_seconds)
    assert settings.feed.spec.analytics is not None  # checked with the settings
    replicas = settings.feed.spec.analytics.replicas
    if settings.trigger != "real-time" or batch > 1:
        return length
    if replicas == 1:
        return length if batch else first
    if batch:
        return _seconds_until(length, settings.stream / replicas, now)
    return _seconds_until(first, (settings.stream + 1) / (replicas + 1), now)


def _seconds_until(period: float, phase: float, now: float) -> float:
    """Return how long it is until the next time of a phase, from 0 to 1, of a period; a batch's shortest at least."""
    until = (phase * period - now) % period
    return until if until >= _SHORTEST_BATCH_SECONDS else until + period


def panes_settings(
    feed: CryptoFeed, stream: int, checkpoint: str | None, environment: Mapping[str, str], *, host: str, port: int
) -> PanesSettings:
    """Work out what one stream of ``feed`` does, and make its topics where no operator does.

    Raises:
        ConfigurationError: the feed has no such stream, a variable is not as it must be, credentials can't be read.
        KafkaUnavailableError: no broker answers, or it refuses.

    """
    if feed.spec.analytics is None:
        raise ConfigurationError(f"feed {feed.metadata.name} has no spec.analytics, so that there are no panes to make")
    replicas = feed.spec.analytics.replicas
    if not 0 <= stream < replicas:
        raise ConfigurationError(f"there is no stream {stream}: spec.analytics.replicas is {replicas}")
    if checkpoint is not None and "://" in checkpoint and not checkpoint.startswith(SCHEME):
        raise ConfigurationError(f"--checkpoint is {checkpoint!r}; give a folder or {SCHEME}bucket/prefix")
    trigger = environment.get(TRIGGER_VARIABLE) or "real-time"
    if trigger not in typing.get_args(Trigger):
        raise ConfigurationError(f"{TRIGGER_VARIABLE} is {trigger!r}; set it to real-time or micro-batch")
    usual_seconds = _usual_batch_seconds(environment)
    return PanesSettings(
        feed=feed,
        kafka=prepare_kafka(feed, environment),
        stream=stream,
        checkpoint=checkpoint or str(cache_folder() / "checkpoints" / f"{feed.topics.prefix}-panes-{stream}"),
        trigger=typing.cast("Trigger", trigger),
        batch_seconds=usual_seconds,
        warm=environment.get(WARM_UP_VARIABLE) != "0",
        host=host,
        port=port,
    )


def _usual_batch_seconds(environment: Mapping[str, str]) -> float:
    text = environment.get(BATCH_VARIABLE)
    if not text:
        return _BATCH_SECONDS
    try:
        seconds = Duration(text).seconds
    except ValueError as error:
        raise ConfigurationError(f"{BATCH_VARIABLE}: {error}") from None
    if seconds < _SHORTEST_BATCH_SECONDS:
        raise ConfigurationError(f"{BATCH_VARIABLE} is {text}; set it to {_SHORTEST_BATCH_SECONDS:g}s or more")
    return seconds


@click.command()
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option("--stream", type=int, default=0, envvar="FULLTAPE_STREAM", show_default=True, help="Which replica.")
@click.option(
    "--checkpoint",
    metavar="PLACE",
    help="Folder or s3a://bucket/prefix that keeps its state.  [default: in $XDG_CACHE_HOME/fulltape or "
    "~/.cache/fulltape]",
)
@click.option("--host", default="127.0.0.1", envvar="FULLTAPE_HOST", show_default=True, help="Where to serve metrics.")
@click.option("--port", default=0, envvar="FULLTAPE_PORT", help="Port for metrics and probes; 0 takes a free one.")
def main(*, feed: Path, stream: int, checkpoint: str | None, host: str, port: int) -> None:
    """Turn the feed's tape into panes until SIGTERM."""
    configure_logging()
    try:
        settings = panes_settings(load_feed(feed), stream, checkpoint, os.environ, host=host, port=port)
        asyncio.run(run_until_told(lambda: PanesService(settings)))
    except FulltapeError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
