"""The dashboard from its feed to a clean end: one rhythm of looking at Kafka and telling the browsers."""

import asyncio
import logging
import socket
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry

from fulltape.dashboard.history import History
from fulltape.dashboard.hub import Hub, spacing_seconds
from fulltape.dashboard.market import Market
from fulltape.dashboard.metrics import DashboardMetrics
from fulltape.dashboard.page import add_headers, guard, page_files, static_handler
from fulltape.dashboard.source import Source
from fulltape.errors import ConfigurationError
from fulltape.telemetry import probes
from fulltape.topics import Topics

LOG = logging.getLogger(__name__)

_WAIT_SECONDS = 0.2
_REPORT_SECONDS = 1.0
_STUCK_SECONDS = 60.0
_DRAIN_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class DashboardSettings:
    """What the dashboard needs to know; `cli` makes it of the feed and the environment."""

    feed: str
    """Its name."""
    products: Sequence[str]
    windows: Sequence[str]
    """Lengths, as the feed writes them; the overview shows the first."""
    longest_window: str
    topics: Topics
    kafka: Mapping[str, Any]
    """librdkafka's client properties."""
    allowed_hosts: Sequence[str] = ()
    """Names that browsers may know the server by, besides this machine's own."""
    host: str = "127.0.0.1"
    probe_port: int = 0
    heartbeat_seconds: float = 30.0
    warehouse: Path | None = None
    """The DuckDB file, or the folder of Redshift's credentials; without it the page has no history."""


def listen(host: str, port: int) -> socket.socket:
    """Take the page's port.

    Raises:
        ConfigurationError: it can't be had.

    """
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as problem:
        raise ConfigurationError(
            f"can't serve the page on {host}:{port}: {problem.strerror}; free the port or choose another with --port"
        ) from None


class DashboardService:
    """Runs the dashboard. `run` returns after `stop`, or raises what ended it.

    Args:
        settings: what to show.
        page: the socket of the page, from `listen`.

    """

    def __init__(self, settings: DashboardSettings, page: socket.socket) -> None:
        self._settings = settings
        self._page = page
        self.market = Market(settings.products, settings.windows, settings.longest_window, _now_us())
        self.hub = Hub(settings.feed, self.market, settings.heartbeat_seconds)
        self._source = Source(settings.kafka, settings.topics, settings.products)
        self._registry = CollectorRegistry()
        self._registry.register(DashboardMetrics(self.market, self.hub))
        self._history = None if settings.warehouse is None else History(settings.warehouse)
        self._stopping = asyncio.Event()
        self._looked = time.monotonic()
        self.probe_port = 0
        """Where probes and metrics are served, once `run` has begun."""

    def stop(self) -> None:
        """End in good order."""
        self._stopping.set()

    async def run(self) -> None:
        """Serve until `stop`.

        Raises:
            ConfigurationError: the probes' port can't be had, or a topic is missing.
            KafkaUnavailableError: no broker answers at the start, or it refuses.

        """
        settings = self._settings
        async with AsyncExitStack() as stack:
            self.probe_port = await stack.enter_async_context(
                probes(
                    settings.host,
                    settings.probe_port,
                    healthy=self.unhealthy,
                    ready=self.unready,
                    registry=self._registry,
                )
            )
            executor = stack.enter_context(ThreadPoolExecutor(1, "kafka"))
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(executor, self._source.open)
            stack.push_async_callback(loop.run_in_executor, executor, self._source.close)
            if self._history is not None:
                stack.callback(self._history.close)
            runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=_DRAIN_SECONDS)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            await web.SockSite(runner, self._page).start()
            host, port = self._page.getsockname()[:2]
            LOG.info("the page is at http://%s:%d", host, port)
            stack.push_async_callback(self.hub.close)
            await self._follow(executor)

    def unhealthy(self) -> str | None:
        """Say why this process should be restarted, or None."""
        stuck_seconds = time.monotonic() - self._looked
        return f"no look at Kafka for {stuck_seconds:.0f} s" if stuck_seconds > _STUCK_SECONDS else None

    def unready(self) -> str | None:
        """Say why browsers are not shown the present, or None."""
        if self.market.loading:
            return "reading back the last minutes"
        return None if self._source.connected else "Kafka is away"

    def _application(self) -> web.Application:
        application = web.Application(middlewares=[guard(self._settings.allowed_hosts)])
        application.on_response_prepare.append(add_headers)
        static = static_handler(page_files())
        history = [web.get("/history/queries", _no_queries)] if self._history is None else self._history.routes()
        application.add_routes([web.get("/live", self.hub.serve), *history, web.get("/{path:.*}", static)])
        return application

    async def _follow(self, executor: ThreadPoolExecutor) -> None:
        """Look, take in, tell, pause: the pause lets what comes meanwhile be conflated into the next look."""
        loop = asyncio.get_running_loop()
        report_due = 0.0
        while not self._stopping.is_set():
            batch = await loop.run_in_executor(executor, self._source.look, _WAIT_SECONDS)
            self._looked = time.monotonic()
            now_us = _now_us()
            self.market.apply(batch, now_us)
            report = None
            if self._looked >= report_due:
                report_due = self._looked + _REPORT_SECONDS
                report = self.market.report(now_us, kafka=self._source.connected, browsers=len(self.hub))
            if report is not None or not batch.empty:
                self.hub.publish(now_us, report)
            if not batch.loading:
                pause = self._looked + spacing_seconds(len(self.hub)) - time.monotonic()
                await asyncio.sleep(max(0.0, pause))


async def _no_queries(_: web.Request) -> web.Response:
    """Tell a page whose feed has no warehouse that there is nothing to ask."""
    return web.json_response([])


def _now_us() -> int:
    return time.time_ns() // 1000
