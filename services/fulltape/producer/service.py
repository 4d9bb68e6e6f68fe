"""One shard of the producer, from its feed to a clean end: takes over, connects, watches itself, drains."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from prometheus_client import CollectorRegistry

from fulltape.coinbase.messages import Error
from fulltape.coinbase.rest import PAGE_LIMIT, RestClient, RestUnavailableError, TokenBucket, backoff_seconds
from fulltape.errors import ExchangeError
from fulltape.producer.aside import AsideProducer
from fulltape.producer.backfill import Backfill
from fulltape.producer.connections import ConnectionKeeper
from fulltape.producer.intake import Intake, Lane
from fulltape.producer.metrics import ProducerMetrics
from fulltape.producer.start import first_id_since
from fulltape.producer.writer import Entry, Writer
from fulltape.telemetry import probes
from fulltape.topics import Topics

LOG = logging.getLogger(__name__)

_BACKLOG_HIGH = 20_000
_BACKLOG_LOW = 5_000
"""Records that may wait for Kafka before sockets and backfills are left alone, and when they go on."""
_HELD_CAPACITY = 100_000
"""Trades that may wait behind holes, over all products."""
_GRACE_SECONDS = 0.05
"""How long another connection's copy of a missing trade is waited for before REST is asked."""
_DRAIN_SECONDS = 8.0
_WATCH_SECONDS = 0.05
_UNREADY_SECONDS = 10.0
_HOLE_UNREADY_SECONDS = 30.0
_STUCK_SECONDS = 60.0
_AHEAD_SECONDS = 10.0
_CLOCK_SKEW_US = 1_000_000


@dataclass(frozen=True, slots=True)
class ProducerSettings:
    """What a shard needs to know; `cli` makes it of the feed and the environment."""

    websocket_url: str
    rest_url: str
    products: Sequence[str]
    """Those of this shard."""
    channels: Sequence[str]
    connections: int
    topics: Topics
    kafka: Mapping[str, Any]
    """librdkafka's client properties."""
    owner: str
    """The shard's name, such as ``0-of-1``."""
    since_seconds: float | None = None
    """A tape that holds no trade yet begins this long ago; at the latest trade if None."""
    first_ids: Mapping[str, int] = field(default_factory=dict)
    """Or with this id."""
    host: str = "127.0.0.1"
    port: int = 0
    """Where probes and metrics are served."""


class ProducerService:
    """Runs one shard. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, settings: ProducerSettings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._metrics = ProducerMetrics(self._registry)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._room = asyncio.Event()
        self._room.set()
        self._unknown: set[str] = set()
        self._beat = time.monotonic()
        self._ahead_since: float | None = None
        self._clock_told = False
        self._started = False
        self.port = 0
        """Where probes and metrics are served, once `run` has begun."""

    def stop(self) -> None:
        """End in good order."""
        if not self._ended.done():
            self._ended.set_result(None)

    async def run(self) -> None:
        """Produce until `stop`.

        Raises:
            FencedError: another process has taken the shard over.
            ExchangeError: the exchange does not know a product that was never on the tape.
            KafkaUnavailableError: no broker at the start, or the drain was not done in time.
            TapeLostRecordsError: the tape lost what it had acknowledged.

        """
        settings = self._settings
        loop = asyncio.get_running_loop()

        def failed(problem: Exception) -> None:
            loop.call_soon_threadsafe(self._fail, problem)

        self._writer = writer = Writer(
            settings.kafka,
            settings.topics,
            settings.owner,
            settings.products,
            failed=failed,
            commit_delay_us=lambda delay_us: self._metrics.commit_delay.observe(delay_us / 1e6),
        )
        async with AsyncExitStack() as stack:
            self.port = await stack.enter_async_context(
                probes(
                    settings.host, settings.port, healthy=self.unhealthy, ready=self.unready, registry=self._registry
                )
            )
            self._rest = await stack.enter_async_context(RestClient(settings.rest_url))
            ends = await asyncio.to_thread(writer.start)
            try:
                capacity = max(PAGE_LIMIT, _HELD_CAPACITY // max(1, len(settings.products)))
                lanes = {
                    product: Lane(product, end.next_id or settings.first_ids.get(product), end.last, capacity)
                    for product, end in ends.items()
                }
                await self._refuse_unknown(lanes)
                await self._produce(lanes)
            finally:
                if not await asyncio.to_thread(writer.stop, _DRAIN_SECONDS):
                    LOG.error("%d records were not written; the next start fetches them again", writer.backlog)

    async def _produce(self, lanes: dict[str, Lane]) -> None:
        settings = self._settings
        aside = AsideProducer(settings.kafka, settings.topics)
        self._intake = intake = Intake(lanes, to_tape=self._to_tape, aside=aside.send, opened=self._opened)
        grace_seconds = _GRACE_SECONDS if settings.connections > 1 else 0.0
        self._backfills = {
            product: Backfill(lane, intake, self._rest, room=self._room, grace_seconds=grace_seconds)
            for product, lane in lanes.items()
        }
        subscribes = TokenBucket(1.0, 2 * settings.connections)
        products = [product for product in settings.products if product not in self._unknown]
        # A shard that no product falls to has nothing to connect for; it stays idle.
        connections = settings.connections if products else 0
        self._connections = [
            ConnectionKeeper(
                number,
                settings.websocket_url,
                products,
                settings.channels,
                receive=intake.receive,
                subscribes=subscribes,
                refused=self._refused,
            )
            for number in range(connections)
        ]
        self._metrics.watch(intake, self._writer, aside, self._connections)
        for product, lane in lanes.items():
            LOG.info("%s: the tape %s", product, f"continues at {lane.gate.next_id}" if lane.gate.next_id else "begins")
        self._started = True
        tasks = [asyncio.create_task(self._watch())]
        tasks += [asyncio.create_task(connection.run()) for connection in self._connections]
        tasks += [asyncio.create_task(backfill.run()) for backfill in self._backfills.values()]
        if settings.since_seconds is not None:
            began = time.time() - settings.since_seconds
            new = [lane for lane in lanes.values() if lane.gate.next_id is None]
            tasks += [asyncio.create_task(self._start_since(lane, began)) for lane in new]
        for task in tasks:
            task.add_done_callback(self._task_ended)
        try:
            await self._ended
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.to_thread(aside.close, 1.0)

    def unhealthy(self) -> str | None:
        """Say why this process should be restarted, or None."""
        if time.monotonic() - self._beat > _STUCK_SECONDS and self._started:
            return f"the event loop has been stuck for over {_STUCK_SECONDS:g} s"
        if self._started and not self._writer.alive:
            return "the writer's thread has ended"
        return None

    def unready(self) -> str | None:
        """Say why the tape is not being kept up to date, or None."""
        if not self._started:
            return "taking over: looking for the end of the tape"
        problems = []
        if self._connections and not any(connection.subscribed for connection in self._connections):
            problems.append("no connection to the exchange is subscribed")
        if self._writer.backlog and time.monotonic() - self._writer.last_commit > _UNREADY_SECONDS:
            problems.append(f"{self._writer.backlog} records wait for Kafka")
        now = time.monotonic()
        problems += [
            f"{product} has had a hole for {now - backfill.open_since:.0f} s"
            for product, backfill in self._backfills.items()
            if backfill.open_since is not None and now - backfill.open_since > _HOLE_UNREADY_SECONDS
        ]
        if self._unknown:
            problems.append(f"the exchange does not know {', '.join(sorted(self._unknown))}")
        if self._ahead_since is not None and now - self._ahead_since > _AHEAD_SECONDS:
            problems.append(
                "the tape is ahead of the exchange: is this another exchange than the one it was read from?"
            )
        return "; ".join(problems) or None

    def _fail(self, problem: BaseException) -> None:
        if not self._ended.done():
            self._ended.set_exception(problem)

    def _task_ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (problem := task.exception()) is not None:
            self._fail(problem)

    def _to_tape(self, records: list[Entry]) -> None:
        self._writer.submit(records)
        if self._room.is_set() and self._writer.backlog > _BACKLOG_HIGH:
            LOG.warning("Kafka is behind: %d records wait; reading no more for now", self._writer.backlog)
            self._room.clear()
            for connection in self._connections:
                connection.pause()

    def _opened(self, lane: Lane) -> None:
        if lane.gate.next_id is not None:
            self._backfills[lane.product].wake()
        elif self._settings.since_seconds is None and lane.gate.first_held is not None:
            self._intake.start_at(lane, lane.gate.first_held)

    async def _watch(self) -> None:
        """Let reading go on once Kafka has caught up; keep the signs of life."""
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            self._beat = time.monotonic()
            if not self._room.is_set() and self._writer.backlog < _BACKLOG_LOW:
                LOG.info("Kafka has caught up; reading on")
                self._room.set()
                for connection in self._connections:
                    connection.resume()
            for backfill in self._backfills.values():
                while backfill.durations_seconds:
                    self._metrics.backfill.observe(backfill.durations_seconds.pop())
            self._watch_ahead()
            self._watch_clock()

    def _watch_clock(self) -> None:
        lowest_us = min((lane.lowest_lag_us for lane in self._intake.lanes.values()), default=0)
        if lowest_us < -_CLOCK_SKEW_US and not self._clock_told:
            self._clock_told = True
            LOG.error(
                "this machine's clock is at least %.1f s behind the exchange's: every latency measured here is wrong by"
                " that; set it by NTP",
                -lowest_us / 1e6,
            )

    def _watch_ahead(self) -> None:
        ahead = {lane.product: lane.ahead for lane in self._intake.lanes.values() if lane.ahead}
        if not ahead:
            self._ahead_since = None
        elif self._ahead_since is None:
            self._ahead_since = self._beat
        elif self._beat - self._ahead_since > _AHEAD_SECONDS and self._beat - self._ahead_since < _AHEAD_SECONDS + 0.1:
            LOG.error(
                "the tape is ahead of the exchange, whose new trades look like repeats: %s. Is it another exchange (a"
                " sandbox, say) than the one that the tape was read from? Then give the feed another topic prefix.",
                ", ".join(f"{product} by {ids} ids" for product, ids in ahead.items()),
            )

    async def _start_since(self, lane: Lane, began: float) -> None:
        """Begin a tape with the first trade at or after ``began``, in seconds since the epoch."""
        attempt = 0
        while True:
            try:
                first_id = await first_id_since(self._rest, lane.product, int(began * 1e6))
            except (RestUnavailableError, ExchangeError) as problem:
                LOG.warning("%s: can't find where to begin: %s", lane.product, problem)
                attempt += 1
                await asyncio.sleep(backoff_seconds(attempt, first=1.0, most=30.0))
                continue
            if first_id is not None:
                self._intake.start_at(lane, first_id)
            elif lane.gate.first_held is not None:
                self._intake.start_at(lane, lane.gate.first_held)
            else:  # no trade in that time: the next one is the first
                await asyncio.sleep(1.0)
                continue
            if lane.gate.hole() is not None:
                self._opened(lane)
            return

    async def _refuse_unknown(self, lanes: Mapping[str, Lane]) -> None:
        """Stop at a product that the exchange does not know; go on without one that it no longer knows."""
        try:
            listed = [product.id for product in await self._rest.products(within_seconds=10.0)]
        except (RestUnavailableError, ExchangeError) as problem:
            LOG.warning("can't check the products, going on: %s", problem)
            return
        unknown = {product for product in lanes if product not in set(listed)}
        never_seen = sorted(product for product in unknown if lanes[product].gate.next_id is None)
        if never_seen:
            hints = [f"{product} ({_hint(product, listed)})" for product in never_seen]
            raise ExchangeError(f"the exchange does not know {', '.join(hints)}; mend spec.products")
        for product in sorted(unknown):
            LOG.error("the exchange no longer knows %s; its tape ends, the others go on", product)
        self._unknown = unknown

    def _refused(self, refusal: Error) -> None:
        """Leave out of the next subscription what the exchange names as the reason of its refusal."""
        for connection in self._connections:
            for product in connection.leave_out_named_in(refusal.reason):
                self._unknown.add(product)


def _hint(product: str, listed: Sequence[str]) -> str:
    near = get_close_matches(product, listed, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "it lists nothing like it"
