"""The monitor's process: one thread takes panes to windows and alerts, the event loop serves probes and Alertmanagers.

The thread waits for Kafka alone. Commits, which wait for the broker, are made by a second one.
"""

import asyncio
import gc
import logging
import sys
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaException, Message
from prometheus_client import CollectorRegistry

from fulltape.errors import KafkaUnavailableError
from fulltape.feed.model import CryptoFeed
from fulltape.messages import UNDECODABLE, Alert
from fulltape.monitor.alertmanager import AlertmanagerClient, Peer
from fulltape.monitor.engine import Engine, Update
from fulltape.monitor.ledger import Entry, Ledger, windows_producer
from fulltape.monitor.metrics import MonitorMetrics
from fulltape.monitor.reader import Place, Reader, ends_of, offsets_at, places_of, reading_consumer
from fulltape.monitor.rules import FeedHealth, Rules
from fulltape.telemetry import probes

LOG = logging.getLogger(__name__)

_IDLE_SECONDS = 0.05
_BREATH_SECONDS = 0.005
"""Slept after each batch, so that messages are not taken one by one, at several times the cost."""
_COMMIT_SECONDS = 1.0
_ALIVE_SECONDS = 5.0
"""The clock goes on alone only while commits succeed: without a broker, that no pane comes says nothing."""
_TICKERS_AGAIN_MS = 60_000
_UNREADY_SECONDS = 10.0
_STUCK_SECONDS = 120.0
_DRAIN_SECONDS = 8.0
_SWITCH_SECONDS = 0.0005
"""How long one thread may keep the interpreter to itself; the default, 5 ms, would show in the windows' latency."""
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What a monitor needs to know; `cli` makes it of the feed and the environment."""

    feed: CryptoFeed
    alertmanagers: Sequence[str]
    kafka: Mapping[str, Any]
    """librdkafka's client properties."""
    host: str = "127.0.0.1"
    port: int = 0
    """Where probes and metrics are served."""


class _Spread(msgspec.Struct, frozen=True, gc=False):
    spread: float | None = None


class _PastWindow(msgspec.Struct, tag="window", tag_field="type", frozen=True, gc=False):
    """What is read back of a `Window`: the spread at its end."""

    product: str
    end_us: int
    measures: _Spread


_decode_past = msgspec.json.Decoder(_PastWindow).decode


class MonitorService:
    """Runs one monitor. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, settings: MonitorSettings) -> None:
        self._settings = settings
        self._topics = settings.feed.topics
        self._name = f"{self._topics.prefix}.monitor"
        """The consumer group and the transactional id."""
        self._engine = Engine(settings.feed, _now_us)
        self._rules = Rules(settings.feed)
        self._alertmanagers = AlertmanagerClient(settings.alertmanagers)
        self._registry = CollectorRegistry()
        MonitorMetrics(self._registry, settings.feed.metadata.name, self._engine, self)
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run_thread, name="monitor", daemon=True)
        self._failure: BaseException | None = None
        self._committer = ThreadPoolExecutor(1, "ledger")
        self._committing: tuple[Future[None], Entry] | None = None
        self._commit_due = 0.0
        self._committed = time.monotonic()
        self._changes: list[Alert] = []
        self._undelivered: list[str] = []
        self._written_ms = 0
        self._clock_due = 0.0
        self._ready = False
        self._started_us = _now_us()
        self._ledger: Ledger | None = None
        self._last_sign = time.monotonic()
        self.firing: dict[str, Alert] = {}
        """The alerts that fire, by fingerprint."""
        self.backlog = 0
        """Messages that were not read yet, as of the last second."""
        self.port = 0
        """Where probes and metrics are served, once `run` has begun."""

    @property
    def peers(self) -> tuple[Peer, ...]:
        """The Alertmanagers."""
        return self._alertmanagers.peers

    @property
    def commits(self) -> int:
        """Commits made."""
        return self._ledger.commits if self._ledger is not None else 0

    @property
    def recoveries(self) -> int:
        """Times that the transactional producer was replaced."""
        return self._ledger.recoveries if self._ledger is not None else 0

    def stop(self) -> None:
        """End in good order."""
        self._stopping.set()

    async def run(self) -> None:
        """Watch until `stop`.

        Raises:
            FencedError: another monitor of this feed has taken over.
            ConfigurationError: the port can't be had, or a topic does not exist.
            KafkaUnavailableError: no broker at the start, or it refused, or the drain was not done in time.

        """
        sys.setswitchinterval(_SWITCH_SECONDS)
        settings = self._settings
        async with AsyncExitStack() as stack:
            self.port = await stack.enter_async_context(
                probes(
                    settings.host, settings.port, healthy=self.unhealthy, ready=self.unready, registry=self._registry
                )
            )
            await stack.enter_async_context(self._alertmanagers)
            self._thread.start()
            try:
                await self._ended
            finally:
                self._stopping.set()
                await asyncio.to_thread(self._thread.join, 2 * _DRAIN_SECONDS)
        if self._failure is not None:
            raise self._failure

    def unhealthy(self) -> str | None:
        """Say why this process should be restarted, or None."""
        if self._thread.ident is not None and not self._thread.is_alive():
            return "the monitor's thread has ended"
        stuck_seconds = time.monotonic() - self._last_sign
        return f"the monitor has been stuck for {stuck_seconds:.0f} s" if stuck_seconds > _STUCK_SECONDS else None

    def unready(self) -> str | None:
        """Say why windows and alerts are not up to date, or None."""
        if not self._ready:
            return "catching up with the panes"
        behind_seconds = time.monotonic() - self._committed
        return f"Kafka has taken no commit for {behind_seconds:.0f} s" if behind_seconds > _UNREADY_SECONDS else None

    def _run_thread(self) -> None:
        try:
            self._watch()
        except KafkaException as problem:
            self._failure = KafkaUnavailableError(f"Kafka did not answer at the start: {problem.args[0].str()}")
        except BaseException as problem:  # noqa: BLE001 - whatever it is, the service must hear of it
            self._failure = problem
        finally:
            self._committer.shutdown(wait=False, cancel_futures=True)
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if not self._ended.done():
            self._ended.set_result(None)

    def _watch(self) -> None:
        """Take over, take up the state in which the last monitor ended, and go on from there."""
        kafka, topics = self._settings.kafka, self._topics
        consumer = reading_consumer(kafka, self._name)
        self._windows = windows_producer(kafka, self._undelivered)
        self._ledger = ledger = Ledger(kafka, topics, consumer, self._windows, self._name)
        ticker = [topics.ticker] if "ticker" in self._settings.feed.spec.channels else []
        places = places_of(consumer, [topics.panes, *ticker])
        ledger.open()
        known = ledger.alerts()
        for alert in known:
            self._rules.restore(alert)
        self._note(known)
        reader = self._read_back(consumer, ledger, places)
        gc.collect()
        gc.freeze()  # the past is not looked through again for what can be thrown away
        self._tell(known)
        LOG.info(
            "the windows of %s are up to date to %s",
            topics.panes,
            time.strftime("%F %T", time.gmtime(self._engine.clock)),
        )
        try:
            while not self._stopping.is_set():
                self._step(reader)
            self._drain(reader)
        finally:
            ledger.stop()
            consumer.close()

    def _read_back(self, consumer: Consumer, ledger: Ledger, places: list[Place]) -> Reader:
        """Take in, and publish nothing, what the windows look back to; return the reader at what is new.

        Where nothing was ever committed, all that the windows look back to is new.
        """
        engine, kafka = self._engine, self._settings.kafka
        offsets, mark = ledger.committed(places)
        written_ms = mark.written_ms if mark is not None else int(time.time() * 1000)
        since_ms = written_ms - engine.horizon_seconds * 1000
        panes = [place for place in places if place[0] == self._topics.panes]
        # An hour of tickers is much to read; the spread of each past second stands in the windows too (see below).
        starts = offsets_at(kafka, consumer, panes, since_ms)
        self._last_sign = time.monotonic()  # where Kafka does not know it takes some reading
        tickers = [place for place in places if place not in starts]
        if mark is None:
            return Reader(consumer, starts | offsets_at(kafka, consumer, tickers, since_ms))
        # Of the last tickers windows may not tell yet: they are ahead of the panes, as far as those are behind.
        told_ms = max(since_ms, min(mark.written_ms, mark.clock * 1000) - _TICKERS_AGAIN_MS)
        starts |= offsets_at(kafka, consumer, tickers, told_ms)
        limits = {place: offset for place, offset in offsets.items() if place in starts}
        reader = Reader(consumer, {place: min(start, limits.get(place, start)) for place, start in starts.items()})
        # Brought in by their time once all are there: of panes that were written once more compaction may have left the
        # later writing alone, which stands behind panes that they precede by more than the watermark.
        while not reader.reached(limits) and not self._stopping.is_set():
            self._take(reader.read(_IDLE_SECONDS, limits))
        engine.run_clock(alone=False)
        engine.skip()
        reader.positions |= limits
        if tickers:
            self._read_back_spreads(since_ms)
        engine.set_clock(mark.clock)
        engine.skip()
        self._written_ms = max(self._written_ms, mark.written_ms)
        return reader

    def _read_back_spreads(self, since_ms: int) -> None:
        """Take the spread of each past second from the windows, of the first size, that ended with it."""
        kafka = self._settings.kafka
        consumer = reading_consumer(kafka, self._name)
        first_size = f"/{next(iter(self._engine.products.values())).sizes[0]}/".encode()
        try:
            places = places_of(consumer, [self._topics.windows])
            ends = ends_of(consumer, places)
            reader = Reader(consumer, offsets_at(kafka, consumer, places, since_ms))
            while not reader.reached(ends) and not self._stopping.is_set():
                self._last_sign = time.monotonic()
                for message in reader.read(_IDLE_SECONDS, ends):
                    if first_size in _bytes(message.key()):
                        try:
                            past = _decode_past(_bytes(message.value()))
                        except UNDECODABLE:
                            continue
                        if past.measures.spread is not None:
                            self._engine.restore_spread(past.product, past.end_us, past.measures.spread)
        finally:
            consumer.close()

    def _take(self, messages: Iterable[Message]) -> None:
        """Hand messages to the engine."""
        self._last_sign = time.monotonic()
        panes: list[tuple[bytes | None, int]] = []
        tickers: list[bytes | None] = []
        topic = self._topics.panes
        for message in messages:
            if message.topic() == topic:
                written_ms = message.timestamp()[1]
                panes.append((message.value(), written_ms * 1000))
                self._written_ms = max(self._written_ms, written_ms)
            else:
                tickers.append(message.value())
        if tickers:
            self._engine.take_tickers(tickers)
        if panes:
            self._engine.take_panes(panes)

    def _step(self, reader: Reader) -> None:
        """Take what came, publish what that changes, and commit where that is due."""
        engine = self._engine
        due_us = engine.due_us()
        wait_seconds = _IDLE_SECONDS if due_us is None else min(_IDLE_SECONDS, max(0.0, (due_us - _now_us()) / 1e6))
        messages = reader.read(wait_seconds)
        if messages:
            self._take(messages)
        caught_up = reader.caught_up
        now = time.monotonic()
        engine.run_clock(alone=caught_up and now - self._committed < _ALIVE_SECONDS)
        self._publish(engine.collect())
        if messages and caught_up:
            time.sleep(_BREATH_SECONDS)
        if now >= self._clock_due:
            self._clock_due = now + 1.0
            self._every_second(reader)
        self._finish_commit()
        if self._committing is None and (self._changes or now >= self._commit_due):
            self._begin_commit(reader)
        if caught_up and not self._ready and self.commits:
            self._ready = True
            LOG.info("caught up")

    def _every_second(self, reader: Reader) -> None:
        self._last_sign = time.monotonic()
        self.backlog = reader.backlog()
        self._windows.poll(0)
        if self._undelivered:
            raise KafkaUnavailableError(
                f"windows could not be written to {self._topics.windows}: {self._undelivered[0]}; the next start "
                "derives them again"
            )
        if not self._ready:  # of a past that is being read, the machine's clock says nothing
            return
        engine, now_us = self._engine, _now_us()
        latency_us = engine.stages["received_to_window"].p99_us(now_us // 1_000_000)
        health = FeedHealth(received_us=engine.received_us or self._started_us, latency_p99_us=latency_us)
        self._changes += self._rules.on_clock(now_us, health)

    def _publish(self, updates: Iterable[Update]) -> None:
        """Send windows, and let the rules look at those that are for them."""
        topic, produce = self._topics.windows, self._windows.produce
        for window, newest in updates:
            key = f"{window.product}/{window.window}/{window.end_us // 1_000_000}"
            value = _encode(window)
            while True:
                try:
                    produce(topic, value, key)
                    break
                except BufferError:  # Kafka is away or behind: read no more until there is room
                    self._windows.poll(0.1)
                    self._last_sign = time.monotonic()
                    if self._stopping.is_set():
                        return
            if newest:
                self._changes += self._rules.on_window(window, window.published_us)

    def _begin_commit(self, reader: Reader) -> None:
        """Bring everything read so far into windows and alerts, and commit that."""
        assert self._ledger is not None
        self._publish(self._engine.collect(everything=True))
        began = time.monotonic()
        entry = Entry(tuple(self._changes), dict(reader.positions), self._engine.clock, self._written_ms)
        self._changes.clear()
        self._committing = self._committer.submit(self._ledger.commit, entry), entry
        self._commit_due = began + _COMMIT_SECONDS

    def _finish_commit(self) -> None:
        """Tell of the alerts whose commit is done."""
        if self._committing is None or not self._committing[0].done():
            return
        (future, entry), self._committing = self._committing, None
        future.result()
        self._committed = time.monotonic()
        if entry.alerts:
            self._note(entry.alerts)
            self._tell(entry.alerts)

    def _note(self, alerts: Iterable[Alert]) -> None:
        for alert in alerts:
            if alert.state == "firing":
                self.firing[alert.fingerprint] = alert
            else:
                self.firing.pop(alert.fingerprint, None)

    def _tell(self, alerts: Sequence[Alert]) -> None:
        """Bring changes to the Alertmanagers."""
        self._loop.call_soon_threadsafe(self._alertmanagers.notify, alerts)

    def _drain(self, reader: Reader) -> None:
        """Commit what is done.

        Raises:
            KafkaUnavailableError: that was not possible in time; the next start does it.

        """
        deadline = time.monotonic() + _DRAIN_SECONDS
        for last in (False, True):
            if last:
                self._begin_commit(reader)
            while self._committing is not None:
                self._finish_commit()
                if time.monotonic() > deadline:
                    raise KafkaUnavailableError(
                        "the last windows could not be written before the end; the next start derives them again"
                    )
                time.sleep(0.005)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else b""


def _now_us() -> int:
    return time.time_ns() // 1000
