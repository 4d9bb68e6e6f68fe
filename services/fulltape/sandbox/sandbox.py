"""A sandbox exchange in this process: starts the servers, drives the exchange, and stops all of it.

async with Sandbox(SandboxConfig(rate=1000)) as sandbox:
    ... connect to sandbox.websocket_url and sandbox.rest_url
"""

import asyncio
import contextlib
import time
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from websockets.asyncio.server import Server

from fulltape.errors import ConfigurationError
from fulltape.sandbox.config import SandboxConfig
from fulltape.sandbox.exchange import Exchange, Source
from fulltape.sandbox.faults import Fault
from fulltape.sandbox.market import Market
from fulltape.sandbox.products import choose_products
from fulltape.sandbox.replay import Recording, Replay, read_recording
from fulltape.sandbox.rest import FlashCrashOrder, Order, SpikeOrder, application
from fulltape.sandbox.websocket import Feed, stop

_UNPACED_RATE = 100_000.0  # trades a second by the market's own clock when the clients set the pace
_TICK_SECONDS = 0.002  # trades leave in bunches of this length: finer costs more wake-ups than it is worth
_FULL_BYTES = 2**20  # in an unpaced run, clients with more than this waiting are left to catch up
_PATIENCE_SECONDS = 10.0  # but for no longer than this
_NO_SCENARIOS = "a replay takes no scenarios and no rate; use --speed, or the synthetic market"


class Sandbox:
    """An exchange to test against; an asynchronous context manager.

    Args:
        config: how it behaves.
        recording: what to replay, when already read; otherwise ``config.replay`` is read, which takes a while.

    Raises:
        ConfigurationError: an unknown product, a rate or speed out of range, a recording that can't be read, a scenario
            for a replay.

    """

    def __init__(self, config: SandboxConfig | None = None, *, recording: Recording | None = None) -> None:
        self.config = config = config or SandboxConfig()
        if config.replay and recording is None:
            recording = read_recording(config.replay)
        self._market: Market | None = None
        source: Source
        if recording:
            source = Replay(recording, speed=config.speed, clock=config.clock)
        else:
            source = self._market = Market(
                choose_products(config.products),
                rate=config.rate or _UNPACED_RATE,
                seed=config.seed,
                constant_rate=config.constant_rate,
            )
        paced = (config.speed if recording else config.rate) is not None
        self.exchange = Exchange(
            source,
            paced=paced,
            restamp=not paced and not (recording and config.clock == "recorded"),
            count=config.count,
            history_trades=config.history_trades,
            slow_client_bytes=config.slow_client_bytes,
            seed=config.seed,
        )
        if config.scenario and self._market is None:
            raise ConfigurationError(_NO_SCENARIOS)
        self._feed = Feed(self.exchange, config)
        self._server: Server | None = None
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._begun_seconds = 0.0
        self.websocket_url = ""
        self.rest_url = ""

    async def __aenter__(self) -> Self:
        """Listen and begin.

        Raises:
            ConfigurationError: a port can't be had, or a fault names a product that there isn't.

        """
        config = self.config
        try:
            await self._listen()
            for fault in config.faults:
                self.inject(fault)
        except OSError as problem:
            await self._stop()
            raise ConfigurationError(
                f"can't listen on {config.host}, ports {config.port} and {config.rest_port}: {problem.strerror}; "
                f"stop what is there, or choose others with --port and --rest-port (0 takes a free one)"
            ) from None
        except ConfigurationError:
            await self._stop()
            raise
        if not config.wait_for_subscriber:
            self._begin()
        self._tasks = [asyncio.create_task(self._drive()), asyncio.create_task(self._beat())]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def run(self) -> None:
        """Serve until cancelled; raise what breaks the sandbox."""
        await asyncio.gather(*self._tasks)
        await asyncio.Event().wait()

    def inject(self, fault: Fault) -> None:
        """Put a fault in force, as `POST /admin/faults` does.

        Raises:
            ConfigurationError: it names a product that there isn't.

        """
        self.exchange.inject(fault, _now_us())

    def direct(self, order: Order) -> None:
        """Carry out a scenario, or change the rate, of the synthetic market.

        Raises:
            ConfigurationError: the sandbox replays a recording, or a number is out of range.

        """
        if self._market is None:
            raise ConfigurationError(_NO_SCENARIOS)
        if isinstance(order, FlashCrashOrder):
            self._market.flash_crash(
                order.products,
                depth=order.depth,
                fall_seconds=order.fall_seconds,
                recovery_seconds=order.recovery_seconds,
            )
        elif isinstance(order, SpikeOrder):
            self._market.spike(order.rate, order.seconds)
        else:
            self._market.set_rate(order.rate)

    def state(self) -> dict[str, Any]:
        """Return what the sandbox is and does, ready for JSON."""
        exchange = self.exchange
        return {
            "websocket": self.websocket_url,
            "rest": self.rest_url,
            "begun": exchange.begun,
            "ended": exchange.ended,
            "trades": exchange.trades_sent,
            "seconds": round(time.monotonic() - self._begun_seconds, 3) if exchange.begun else 0.0,
            "behind_seconds": exchange.behind_us / 1e6,
            "clients": len(exchange.clients),
            "slow_clients_dropped": exchange.slow_clients_dropped,
            "products": {
                product_id: int(newest.trade_id[0]) if len(newest := exchange.newest(product_id)) else 0
                for product_id in exchange.index
            },
            "faults": [*exchange.rules, *(fault for fault, _ in exchange.rest_faults)],
            "struck": dict(exchange.struck),
        }

    async def _listen(self) -> None:
        config = self.config
        self._server = await self._feed.serve()
        self._runner = web.AppRunner(
            application(self.exchange, self, limits=config.limits), access_log=None, shutdown_timeout=1
        )
        await self._runner.setup()
        await web.TCPSite(self._runner, config.host, config.rest_port).start()
        host = f"[{config.host}]" if ":" in config.host else config.host
        self.websocket_url = f"ws://{host}:{next(iter(self._server.sockets)).getsockname()[1]}"
        self.rest_url = f"http://{host}:{self._runner.addresses[0][1]}"

    async def _stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        if self._server:
            await stop(self._server)
        if self._runner:
            await self._runner.cleanup()

    def _begin(self) -> None:
        self._begun_seconds = time.monotonic()
        self.exchange.begin(_now_us())
        if self._market and self.config.scenario == "flash_crash":
            self.direct(FlashCrashOrder())
        elif self._market and self.config.scenario == "spike":
            self.direct(SpikeOrder(rate=10 * self._market.rate))

    async def _drive(self) -> None:
        """Send trades when they are due, until there are no more."""
        if not self.exchange.begun:
            await self._feed.match_subscribed.wait()
            self._begin()
        while not self.exchange.ended:
            if not self.exchange.paced:
                await self._let_clients_catch_up()
            wait_us = self.exchange.emit(_now_us()) - _now_us()
            await asyncio.sleep(max(_TICK_SECONDS, wait_us / 1e6) if self.exchange.paced else 0)

    async def _let_clients_catch_up(self) -> None:
        """Wait until somebody receives matches and nobody has much waiting; break off who doesn't read."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not self.exchange.has_match_subscriber():
            self._feed.match_subscribed.clear()
            await self._feed.match_subscribed.wait()
            deadline = time.monotonic() + _PATIENCE_SECONDS
        while self.exchange.most_waiting_bytes(_now_us()) > _FULL_BYTES:
            if time.monotonic() > deadline:
                self.exchange.drop_slow_clients(_FULL_BYTES)
            await asyncio.sleep(_TICK_SECONDS)

    async def _beat(self) -> None:
        """Send heartbeats at every full second."""
        while True:
            await asyncio.sleep(1 - time.time() % 1)
            self.exchange.heartbeat(_now_us())


def _now_us() -> int:
    return time.time_ns() // 1000
