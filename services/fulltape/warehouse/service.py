"""The loader's process: a thread loads what waits, again and again; the event loop serves probes."""

import asyncio
import logging
import threading
import time
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.telemetry import probes
from fulltape.warehouse.load import Database, Loader, Retention
from fulltape.warehouse.metrics import LoadMetrics
from fulltape.warehouse.staging import Staging

LOG = logging.getLogger(__name__)

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 30.0
_STUCK_SECONDS = 900.0
"""A pass shows a sign of life with every load; no load of ten batches takes as long."""


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What a loader needs to know; `cli` makes it of the feed and the environment."""

    feed: str
    """What the names of the feed's topics begin with."""
    staging: Staging
    database: Database
    look_seconds: float
    """From the beginning of one look for staged batches to that of the next."""
    staged_seconds: float
    """How long files stay once they are loaded."""
    retention: Retention | None = None
    """Which rows go when they are old."""
    host: str = "127.0.0.1"
    port: int = 0
    """Where probes and metrics are served."""


class LoadService:
    """Runs one loader. `run` returns after `stop`, or raises what ended it."""

    def __init__(self, settings: LoadSettings) -> None:
        self._settings = settings
        self._stopping = threading.Event()
        self._loader = Loader(
            settings.feed,
            settings.staging,
            settings.database,
            staged_seconds=settings.staged_seconds,
            retention=settings.retention,
            stopping=self._stopping.is_set,
        )
        self._registry = CollectorRegistry()
        LoadMetrics(self._registry, self._loader.tally)
        self._problem: str | None = "has not loaded yet"
        self._last_sign = time.monotonic()
        self._signs = 0
        self.port = 0
        """Where probes and metrics are served, once `run` has begun."""

    def stop(self) -> None:
        """End when the load that is under way is done."""
        self._stopping.set()

    async def run(self) -> None:
        """Load until `stop`.

        Raises:
            ConfigurationError: at the start, what a person has to mend; or the port can't be had.

        """
        settings = self._settings
        async with probes(
            settings.host, settings.port, healthy=self.unhealthy, ready=self.unready, registry=self._registry
        ) as self.port:
            LOG.info("loading into %s; metrics on %s:%d", settings.database.name, settings.host, self.port)
            try:
                await asyncio.to_thread(self._run_passes)
            finally:
                self._loader.close()
        LOG.info("stopped")

    def unhealthy(self) -> str | None:
        """Say what only a restart may mend."""
        if self._loader.tally.loads != self._signs:
            self._signs = self._loader.tally.loads
            self._last_sign = time.monotonic()
        silent = time.monotonic() - self._last_sign
        return f"no sign of life for {silent:.0f} s" if silent > _STUCK_SECONDS else None

    def unready(self) -> str | None:
        """Say why nothing is loaded at the moment."""
        return self._problem

    def _run_passes(self) -> None:
        checked, wait_seconds = False, _FIRST_WAIT_SECONDS
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                if not checked:
                    self._loader.check()
                    checked = True
                self._loader.run()
            except FulltapeError as problem:
                if not checked and isinstance(problem, ConfigurationError):
                    raise
                self._note(problem)
                self._stopping.wait(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _LONGEST_WAIT_SECONDS)
                continue
            finally:
                self._last_sign = time.monotonic()
            self._problem, wait_seconds = None, _FIRST_WAIT_SECONDS
            self._stopping.wait(max(0.0, began + self._settings.look_seconds - time.monotonic()))

    def _note(self, problem: FulltapeError) -> None:
        self._loader.tally.failures += 1
        self._problem = str(problem)
        LOG.warning("%s; will try again", problem)
