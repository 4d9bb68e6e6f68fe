"""What every service shows of itself: logs on stderr, and /healthz, /readyz and /metrics over HTTP."""

import logging
import sys
from collections.abc import Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

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
