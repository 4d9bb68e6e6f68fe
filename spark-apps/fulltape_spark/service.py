"""The process of a Spark application: Spark blocks, so that it has a thread of its own; the loop serves probes."""

import asyncio
import logging
import threading
from abc import ABC, abstractmethod

from prometheus_client import CollectorRegistry

from fulltape.telemetry import probes


class SparkService(ABC):
    """Runs one application. `run` returns after `stop`, or raises what ended it.

    Args:
        host: where probes and metrics are served.
        port: the port; 0 takes a free one.
        registry: the metrics.
        log: where its address is told.

    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry, log: logging.Logger) -> None:
        self._host = host
        self._port = port
        self._registry = registry
        self._log = log
        self._stop = threading.Event()
        self._problem: str | None = "Spark is being started"
        """Why it is not ready."""

    def stop(self) -> None:
        """Ask it to end."""
        self._stop.set()

    async def run(self) -> None:
        """Run until `stop`.

        Raises:
            FulltapeError: the surroundings are not as needed, or a query ended by itself.

        """
        async with probes(
            self._host,
            self._port,
            healthy=lambda: None,  # what ails a query ends the process
            ready=lambda: self._problem,
            registry=self._registry,
        ) as port:
            self._log.info("probes and metrics on http://%s:%d", self._host, port)
            await asyncio.to_thread(self._work)

    @abstractmethod
    def _work(self) -> None:
        """Run Spark until `stop`, in a thread."""
