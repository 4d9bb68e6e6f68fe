"""One shard of the producer, from its feed to a clean end: takes over, connects, watches itself, drains."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, NamedTuple, TypeVar

from prometheus_client import CollectorRegistry

from fulltape.coinbase.history import first_id_since
from fulltape.coinbase.messages import Error
from fulltape.coinbase.rest import PAGE_LIMIT, RestClient, RestUnavailableError, TokenBucket, backoff_seconds
from fulltape.errors import ExchangeError, KafkaUnavailableError
from fulltape.producer.aside import AsideProducer
from fulltape.producer.backfill import Backfill
from fulltape.producer.claims import TapeEnd
from fulltape.producer.connections import ConnectionKeeper
from fulltape.producer.intake import Intake, Lane
from fulltape.producer.metrics import ProducerMetrics
from fulltape.producer.writer import Entry, Writer
from fulltape.telemetry import probes
from fulltape.topics import Topics

LOG = logging.getLogger(__name__)

Result = TypeVar("Result")

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
_STUCK_SECONDS = 120.0
_CHECK_SECONDS = 10.0
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


class _Seen(NamedTuple):
    """What was known of a lane a while ago."""

    next_id: int
    streamed: int
    lag_sum_us: int


class ProducerService:
    """Runs one shard. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, settings: ProducerSettings) -> None:
        self._settings = settings
        self._registry = CollectorRegistry()
        self._metrics = ProducerMetrics(self._registry)
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._failure: BaseException | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._unknown: set[str] = set()
        self._ahead: list[str] = []
        self._clock_told = False
        self._started = False
        self._checking: asyncio.Task[None] | None = None
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
            try:
                ends = await self._unless_stopped(asyncio.to_thread(writer.start))
                if ends is not None:
                    await self._refuse_unknown(ends)
                    capacity = max(PAGE_LIMIT, _HELD_CAPACITY // max(1, len(settings.products)))
                    await self._produce(
                        {
                            product: Lane(product, end.next_id or settings.first_ids.get(product), end.last, capacity)
                            for product, end in ends.items()
                        }
                    )
            finally:
                drained = await asyncio.to_thread(writer.stop, _DRAIN_SECONDS)
            if self._failure is not None:
                raise self._failure
            if not drained:
                raise KafkaUnavailableError(
                    f"{writer.backlog} records could not be written before the end; the next start fetches them again"
                )

    async def _unless_stopped(self, starting: Awaitable[Result]) -> Result | None:
        """Wait for ``starting``; None, and the writer told to stop, where `stop` comes first."""
        task = asyncio.ensure_future(starting)
        either: list[asyncio.Future[Any]] = [task, self._ended]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.to_thread(self._writer.stop, _DRAIN_SECONDS)
            await asyncio.wait([task])
            task.exception()  # how a start ends that was told not to is of no interest
            return None
        return task.result()

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
        if not self._started:
            return None
        if not self._writer.alive:
            return "the writer's thread has ended"
        stuck_seconds = time.monotonic() - self._writer.last_sign
        return f"the writer has been stuck for {stuck_seconds:.0f} s" if stuck_seconds > _STUCK_SECONDS else None

    def unready(self) -> str | None:
        """Say why the tape is not being kept up to date, or None."""
        if not self._started:
            return "taking over: looking for the end of the tape"
        problems = []
        if self._connections and not any(connection.subscribed for connection in self._connections):
            problems.append("no connection to the exchange is subscribed")
        if self._writer.waiting_seconds > _UNREADY_SECONDS:
            problems.append(f"{self._writer.backlog} records wait for Kafka")
        now = time.monotonic()
        problems += [
            f"{product} has had a hole for {now - backfill.open_since:.0f} s"
            for product, backfill in self._backfills.items()
            if backfill.open_since is not None and now - backfill.open_since > _HOLE_UNREADY_SECONDS
        ]
        if self._unknown:
            problems.append(f"the exchange does not know {', '.join(sorted(self._unknown))}")
        if self._ahead:
            problems.append(
                f"the tape is ahead of the exchange for {', '.join(self._ahead)}: is this another exchange?"
            )
        return "; ".join(problems) or None

    def _fail(self, problem: BaseException) -> None:
        self._failure = self._failure or problem
        self.stop()

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
        """Let reading go on once Kafka has caught up, and look after what can't be seen in one message."""
        check_due = 0.0
        earlier: dict[str, _Seen] = {}
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            if not self._room.is_set() and self._writer.backlog < _BACKLOG_LOW:
                LOG.info("Kafka has caught up; reading on")
                self._room.set()
                for connection in self._connections:
                    connection.resume()
            for backfill in self._backfills.values():
                while backfill.durations_seconds:
                    self._metrics.backfill.observe(backfill.durations_seconds.pop())
            if time.monotonic() >= check_due:
                check_due = time.monotonic() + _CHECK_SECONDS
                self._check_ahead(earlier)
                self._check_clock(earlier)
                earlier = {
                    product: _Seen(lane.gate.next_id or 0, lane.emitted - lane.backfilled, lane.lag_sum_us)
                    for product, lane in self._intake.lanes.items()
                }

    def _check_ahead(self, earlier: Mapping[str, _Seen]) -> None:
        """Notice an exchange that is behind the tape: heartbeats come every second, so by now one has told of all."""
        ahead = [
            product
            for product, seen in earlier.items()
            if (heard_id := self._intake.lanes[product].heard_id) is not None and heard_id < seen.next_id - 1
        ]
        if ahead and not self._ahead:
            LOG.error(
                "the tape is ahead of the exchange, whose new trades look like repeats: %s. Is it another exchange (a"
                " sandbox, say) than the one that the tape was read from? Then give the feed another topic prefix.",
                ", ".join(ahead),
            )
        self._ahead = ahead

    def _check_clock(self, earlier: Mapping[str, _Seen]) -> None:
        """Notice a clock that is behind the exchange's: its trades then come from the future."""
        lanes = self._intake.lanes
        count = sum(
            lanes[product].emitted - lanes[product].backfilled - seen.streamed for product, seen in earlier.items()
        )
        lag_us = sum(lanes[product].lag_sum_us - seen.lag_sum_us for product, seen in earlier.items())
        if count and lag_us / count < -_CLOCK_SKEW_US and not self._clock_told:
            self._clock_told = True
            LOG.error(
                "this machine's clock is about %.1f s behind the exchange's: every latency measured here is wrong by"
                " that; set it by NTP",
                -lag_us / count / 1e6,
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

    async def _refuse_unknown(self, ends: Mapping[str, TapeEnd]) -> None:
        """Stop at a product that the exchange does not know; go on without one that it no longer knows.

        Raises:
            ExchangeError: the exchange does not know a product that was never on the tape.

        """
        listed = await self._unless_stopped(self._listed())
        if not listed:
            return
        unknown = ends.keys() - set(listed)
        if never_seen := sorted(product for product in unknown if ends[product].next_id is None):
            hints = [f"{product} ({_hint(product, listed)})" for product in never_seen]
            raise ExchangeError(f"the exchange does not know {', '.join(hints)}; mend spec.products")
        self._leave_out(unknown)

    async def _listed(self) -> list[str]:
        """Return the exchange's products; none where it does not say."""
        try:
            return [product.id for product in await self._rest.products(within_seconds=10.0)]
        except (RestUnavailableError, ExchangeError) as problem:
            LOG.warning("can't check the products, going on: %s", problem)
            return []

    def _leave_out(self, unknown: Iterable[str]) -> None:
        for product in sorted(set(unknown) - self._unknown):
            LOG.error("the exchange no longer knows %s; its tape ends, the others go on", product)
            self._unknown.add(product)

    def _refused(self, refusal: Error) -> None:
        """Look up, when a subscription was refused, whether that is because of products that are gone."""
        if self._checking is None or self._checking.done():
            LOG.warning("the exchange refused to subscribe (%s); checking the products", refusal.reason)
            self._checking = asyncio.create_task(self._leave_out_unlisted())

    async def _leave_out_unlisted(self) -> None:
        listed = await self._listed()
        if listed:
            self._leave_out(set(self._settings.products) - set(listed))
            for connection in self._connections:
                connection.leave_out(self._unknown)


def _hint(product: str, listed: Sequence[str]) -> str:
    near = get_close_matches(product, listed, n=3)
    return f"did you mean {' or '.join(near)}?" if near else "it lists nothing like it"
