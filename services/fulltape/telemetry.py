"""What every service has: logs on stderr, /healthz, /readyz and /metrics over HTTP, and an end when it is told to."""

import asyncio
import logging
import signal
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from rich.console import Console
from rich.logging import RichHandler

from fulltape.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

Probe = Callable[[], str | None]
"""Returns what is wrong, or None where all is well."""


class Service(Protocol):
    """A program that runs until it is stopped."""

    def stop(self) -> None:
        """Ask it to end in good order."""

    async def run(self) -> None:
        """Run until `stop`, or raise what ended it."""


async def run_until_told(make: Callable[[], Service]) -> None:
    """Make a service, within the loop, and run it until SIGTERM or SIGINT."""
    service = make()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, service.stop)
    await service.run()


def configure_logging() -> None:
    """Log to stderr: with colours for a person at a terminal, plain lines with times for everything else."""
    handler: logging.Handler
    if sys.stderr.isatty():
        handler = RichHandler(console=Console(stderr=True), show_path=False)
        pattern = "%(message)s"
    else:
        handler = logging.StreamHandler()
        pattern = "%(asctime)s %(levelname)s %(name)s %(message)s"
    logging.basicConfig(level=logging.INFO, format=pattern, handlers=[handler], force=True)


@asynccontextmanager
async def probes(
    host: str, port: int, *, healthy: Probe, ready: Probe, registry: CollectorRegistry
) -> "AsyncIterator[int]":
    """Serve the three endpoints while the context lasts; yield the port (``port`` 0 takes a free one).

    Raises:
        ConfigurationError: the port can't be had.

    """

    def answer(probe: Probe) -> web.Response:
        problem = probe()
        return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)

    async def healthz(_: web.Request) -> web.Response:
        return answer(healthy)

    async def readyz(_: web.Request) -> web.Response:
        return answer(ready)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    application = web.Application()
    application.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as problem:
            raise ConfigurationError(
                f"can't serve metrics on {host}:{port}: {problem.strerror}; free the port or choose another"
            ) from None
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
