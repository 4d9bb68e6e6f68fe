"""The operator's process: its parts, started in order, and how it tells whether it works."""

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from kubernetes.aio.client import ApiClient
from prometheus_client import CollectorRegistry

from fulltape.errors import FulltapeError
from fulltape.telemetry import probes
from fulltape_operator.cluster import ApiError, Cluster, connection
from fulltape_operator.echoes import Echoes
from fulltape_operator.events import Events
from fulltape_operator.leader import Leader
from fulltape_operator.metrics import OperatorMetrics
from fulltape_operator.observed import FeedKey, Observed
from fulltape_operator.platform import Platform
from fulltape_operator.queue import WorkQueue
from fulltape_operator.readings import EVERY_SECONDS, Readings
from fulltape_operator.reconcile import Reconciler
from fulltape_operator.watches import Watches

_WORKERS = 8
_CONNECTIONS = 16
_STUCK_SECONDS = 180.0
_RETRY_SECONDS = 2.0

_log = logging.getLogger("fulltape.operator")


class OperatorError(FulltapeError):
    """A part of the operator failed; the process ends, and whatever runs it starts it anew."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """All that an operator needs to know."""

    platform: Platform
    namespaces: Sequence[str]
    """The namespaces that it serves; none for all of the cluster."""
    lease_namespace: str
    identity: str
    host: str
    port: int


async def run_operator(settings: OperatorSettings) -> None:
    """Run an operator until the process is told to end.

    Raises:
        ConfigurationError: there is no cluster to talk to, or the port can't be had.
        OperatorError: a part of it failed.

    """
    async with connection(_CONNECTIONS) as client:
        await _Operator(settings, client).run()


class _Operator:
    def __init__(self, settings: OperatorSettings, client: ApiClient) -> None:
        self._settings = settings
        self._leader = Leader(Cluster(client), settings.lease_namespace, "fulltape-operator", settings.identity)
        # A pass that is under way when the Lease is lost goes no further than its next write.
        cluster = Cluster(client, self._leader.leads)
        self._observed = Observed()
        self._queue: WorkQueue[FeedKey] = WorkQueue()
        self._readings = Readings(self._observed)
        echoes = Echoes(settings.namespaces)
        self._watches = Watches(cluster, self._observed, echoes, self._queue, settings.namespaces)
        events = Events(cluster)
        self._reconciler = Reconciler(
            cluster, self._observed, echoes, platform=settings.platform, events=events, readings=self._readings
        )
        self._registry = CollectorRegistry()
        self._metrics = OperatorMetrics(self._registry, cluster, self._observed, self._queue, self._leader)

    async def run(self) -> None:
        settings = self._settings
        async with probes(
            settings.host, settings.port, healthy=self._healthy, ready=self._watches.ready, registry=self._registry
        ) as port:
            _log.info("probes and metrics on http://%s:%d", settings.host, port)
            parts = {
                "the watches": self._watches.run(),
                "the lists": self._watches.list_now_and_then(),
                "the look at the watches": self._watches.listen(),
                "the Lease": self._leader.run(),
                "the readings": self._read_now_and_then(),
                **{f"worker {number}": self._work() for number in range(_WORKERS)},
            }
            await _until_one_ends([asyncio.create_task(part, name=name) for name, part in parts.items()])

    def _healthy(self) -> str | None:
        stuck = self._queue.longest_seconds()
        return f"a pass has taken {stuck:.0f} s" if stuck > _STUCK_SECONDS else None

    async def _read_now_and_then(self) -> None:
        while True:
            await asyncio.sleep(EVERY_SECONDS)
            if self._leader.leads():
                for key in await self._readings.read():
                    self._queue.add(key)

    async def _work(self) -> None:
        await self._watches.listed.wait()
        while True:
            await self._leader.wait()
            key = await self._queue.get()
            if not self._leader.leads():
                self._queue.done(key)
                self._queue.add(key, _RETRY_SECONDS)
                continue
            await self._look(key)

    async def _look(self, key: FeedKey) -> None:
        """Make a pass over a feed; what fails is repeated, and keeps no other feed waiting."""
        started = time.perf_counter()
        failed, wait = True, 0.0
        again: float | None = None
        try:
            again = await self._reconciler.look(key)
            failed = False
        except ApiError as problem:
            wait = problem.retry_after_seconds
            self._metrics.errors.labels(problem.reason).inc()
            _log.warning("%s: a pass failed and is repeated: %s", key, problem)
        except Exception:  # noqa: BLE001 - one feed's failure, whatever it is, must not end the others' passes
            self._metrics.errors.labels("Unexpected").inc()
            _log.exception("%s: a pass failed and is repeated", key)
        finally:
            self._metrics.passes.observe(time.perf_counter() - started)
            self._queue.done(key, failed=failed, at_least_seconds=wait)
        if again is not None:
            self._queue.add(key, again)


async def _until_one_ends(tasks: Collection[asyncio.Task[None]]) -> None:
    """Run until the first of some tasks ends, and end the others.

    Raises:
        OperatorError: it failed.

    """
    try:
        ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        if (problem := task.exception()) is not None:
            raise OperatorError(
                f"the operator ends, as {task.get_name()} failed: {type(problem).__name__}: {problem}"
            ) from problem
