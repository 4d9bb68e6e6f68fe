"""Runs the real operator against the cluster of KUBECONFIG, and measures what it does from outside.

What it makes is in namespaces of its own, which are deleted in the end. Without nodes no pod runs: what is measured is
the operator and the API server.
"""

import asyncio
import os
import random
import re
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient

from fulltape.bench.report import StolenCpu, latency, machine, versions
from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.feed.load import feed_of
from fulltape.local.kafka import free_port
from fulltape.readings import samples
from fulltape_operator.bench.sightings import Sightings
from fulltape_operator.cluster import CHILDREN, FEEDS, KAFKAS, Cluster, Resource, connect, connection
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import Key, Manifest
from fulltape_operator.platform import Platform

_NAMESPACES = Resource("", "v1", "namespaces", "Namespace")
_NAMESPACE = "fulltape-bench"
_START_SECONDS = 60.0
_CHILDREN_SECONDS = 900.0
_AT_ONCE = 8
_WRITES = re.compile(
    r'apiserver_request_total\{[^}]*resource="(?P<resource>[^"]+)"[^}]*verb="(?P<verb>APPLY|PATCH|POST|PUT|DELETE)"'
    r"[^}]*\} (?P<count>\S+)"
)


_KAFKA = {
    "apiVersion": "kafka.strimzi.io/v1",
    "kind": "Kafka",
    "metadata": {"name": "feeds", "namespace": _NAMESPACE},
    "spec": {"kafka": {"listeners": [{"name": "tls", "port": 9093, "type": "internal", "tls": True}]}},
}
"""The cluster that the feeds name; nobody runs it."""


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is measured."""

    alone: int
    """Feeds applied one after another."""
    feeds: int
    """Feeds applied at once."""
    drifts: int
    """Children deleted or edited, one after another."""
    idle_seconds: float


FULL = Extent(alone=50, feeds=200, drifts=100, idle_seconds=60)
QUICK = Extent(alone=5, feeds=20, drifts=10, idle_seconds=10)


def feed(name: str) -> dict[str, Any]:
    """Return a feed with all that needs no database: about 25 objects."""
    return {
        "apiVersion": "fulltape.dev/v1alpha1",
        "kind": "CryptoFeed",
        "metadata": {"name": name, "namespace": _NAMESPACE},
        "spec": {
            "products": ["BTC-USD", "ETH-USD", "SOL-USD"],
            "channels": ["matches", "ticker"],
            "kafka": {"strimziCluster": {"name": "feeds"}, "topics": {"partitions": 1, "replicas": 1}},
            "analytics": {"executors": 1},
            "alerts": [{"name": "Fall", "measure": "drawdown", "window": "5m", "above": 0.05}],
        },
    }


class OperatorBench:
    """Measures one operator; ``say`` is told what is going on."""

    def __init__(self, extent: Extent, say: Callable[[str], None]) -> None:
        self._extent = extent
        self._say = say

    async def run(self) -> dict[str, Any]:
        """Measure everything once; return the report."""
        stolen = StolenCpu()
        async with (
            connect() as cluster,
            connection(2 * len(CHILDREN)) as client,
            _namespace(cluster),
            Sightings(client) as sightings,
            _operator() as operator,
        ):
            measure = _Measure(
                cluster=cluster,
                client=client,
                sightings=sightings,
                operator=operator,
                extent=self._extent,
                say=self._say,
            )
            results = await measure.everything()
        return {
            "benchmark": "operator",
            "machine": machine(),
            "versions": versions("kopf", "kubernetes"),
            "stolen_cpu": stolen.fraction(),
            "extent": {"feeds": self._extent.feeds, "alone": self._extent.alone, "drifts": self._extent.drifts},
            "results": results,
        }


class _Measure:
    def __init__(
        self,
        *,
        cluster: Cluster,
        client: ApiClient,
        sightings: Sightings,
        operator: "_Process",
        extent: Extent,
        say: Callable[[str], None],
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._sightings = sightings
        self._operator = operator
        self._extent = extent
        self._say = say
        self._random = random.Random(1)  # noqa: S311 - which child is broken; the same in each run

    async def everything(self) -> dict[str, Any]:
        alone = await self._apply_alone()
        floor_ms = await self._floor()
        drift_alone = await self._drift(["alone-0"], self._extent.drifts // 2)
        all_children_seconds, rate = await self._apply_many()
        drift = await self._drift([f"many-{number}" for number in range(self._extent.feeds)], self._extent.drifts)
        idle = await self._idle()
        return {
            "apply_to_children": latency(alone),
            "floor_direct_writes_ms": floor_ms,
            "drift_repair_one_feed": latency(drift_alone),
            "drift_repair": latency(drift),
            "feeds": self._extent.feeds,
            "all_children_seconds": all_children_seconds,
            "children_per_second": rate,
            **idle,
            "errors": await self._operator.metric("fulltape_operator_reconcile_errors_total"),
        }

    async def _apply_alone(self) -> list[int]:
        found = []
        for number in range(self._extent.alone):
            self._say(f"one feed after another: {number + 1} of {self._extent.alone}")
            started = _now_us()
            keys = await self._apply(f"alone-{number}")
            await self._wait_for(keys)
            found.append(max(self._sightings.there[key].at_us for key in keys) - started)
        return found

    async def _floor(self) -> float:
        """Return how long the same objects take, written by nobody but this program, as many at a time."""
        children = [child.manifest for child in desired_state(feed_of(feed("floor")), Platform())]
        limit = asyncio.Semaphore(_AT_ONCE)

        async def write(manifest: Manifest) -> None:
            async with limit:
                await self._cluster.apply(manifest)

        started = _now_us()
        await asyncio.gather(*(write(manifest) for manifest in children))
        return round((_now_us() - started) / 1000, 1)

    async def _apply_many(self) -> tuple[float, float]:
        self._say(f"{self._extent.feeds} feeds at once")
        started = _now_us()
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> list[Key]:
            async with limit:
                return await self._apply(f"many-{number}")

        keys = [key for of_feed in await asyncio.gather(*map(one, range(self._extent.feeds))) for key in of_feed]
        await self._wait_for(keys)
        seconds = (max(self._sightings.there[key].at_us for key in keys) - started) / 1e6
        return round(seconds, 2), round(len(keys) / seconds, 1)

    async def _drift(self, names: list[str], count: int) -> list[int]:
        """Break children, deleting and editing by turns; return how long each took to be mended."""
        found = []
        for number in range(count):
            self._say(f"a broken child: {number + 1} of {count}")
            children = desired_state(feed_of(feed(self._random.choice(names))), Platform())
            kinds = ("Deployment", "StatefulSet", "Service", "ConfigMap", "KafkaTopic", "Role")
            child = self._random.choice([child for child in children if child.key.kind in kinds])
            path = CHILDREN[child.key.kind].path(child.key.namespace, child.key.name)
            before = self._sightings.there[child.key]
            if number % 2 or child.key.kind == "ConfigMap":
                await self._cluster.delete(child.key, before.uid)
            else:
                await self._cluster.patch(path, {"metadata": {"labels": {"app.kubernetes.io/part-of": "spoilt"}}})
            started = _now_us()

            def mended(key: Key = child.key, uid: str = before.uid, wanted: str | None = before.digest) -> bool:
                now = self._sightings.there.get(key)
                return now is not None and now.digest == wanted and (now.uid != uid or now.at_us >= started)  # noqa: B023

            await self._sightings.until(mended, f"{child.key} is mended", 60)
            found.append(self._sightings.there[child.key].at_us - started)
        return found

    async def _idle(self) -> dict[str, float]:
        """Return what the operator costs once nothing changes."""
        self._say("waiting until nothing changes")
        writes = await self._writes()
        while True:
            await asyncio.sleep(5)
            now = await self._writes()
            if now == writes:
                break
            writes = now
        self._say(f"nothing changes: measuring {self._extent.idle_seconds:g} s")
        cpu_seconds = self._operator.cpu_seconds()
        await asyncio.sleep(self._extent.idle_seconds)
        minutes = self._extent.idle_seconds / 60
        return {
            "rss_mib": self._operator.rss_mib(),
            "idle_cpu_fraction": round((self._operator.cpu_seconds() - cpu_seconds) / self._extent.idle_seconds, 4),
            "idle_writes_per_minute": round((await self._writes() - writes) / minutes, 1),
        }

    async def _writes(self) -> float:
        """Return how many writes to feeds and their children the API server has counted.

        Left out are the Lease, whose renewal is a write every two seconds, and Events, which other controllers post.
        """
        plurals = {resource.plural for resource in CHILDREN.values()} | {FEEDS.plural}
        _, url, headers, _, _ = await self._client.param_serialize(
            "GET", "/metrics", header_params={"Accept": "text/plain"}, auth_settings=["BearerToken"]
        )
        answer = await self._client.call_api("GET", url, headers)
        text = (await answer.read()).decode()
        return sum(float(match["count"]) for match in _WRITES.finditer(text) if match["resource"] in plurals)

    async def _apply(self, name: str) -> list[Key]:
        manifest = feed(name)
        await self._cluster.create(FEEDS.path(_NAMESPACE), manifest)
        return [child.key for child in desired_state(feed_of(manifest), Platform())]

    async def _wait_for(self, keys: list[Key]) -> None:
        await self._sightings.until(lambda: self._sightings.all_of(keys), "all children are there", _CHILDREN_SECONDS)


class _Process:
    """The operator as a child process."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process = process
        self._address = f"http://127.0.0.1:{port}"

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mib(self) -> float:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None  # of a process that runs
        return round(int(found[1]) / 1024, 1)

    async def metric(self, name: str) -> float:
        async with aiohttp.ClientSession() as session, session.get(f"{self._address}/metrics") as answer:
            return sum(sample.value for sample in samples(await answer.text(), {name}))

    async def ready(self) -> None:
        async with aiohttp.ClientSession() as session:
            deadline = time.monotonic() + _START_SECONDS
            while self._process.returncode is None and time.monotonic() < deadline:
                try:
                    async with session.get(f"{self._address}/readyz") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.1)
        raise FulltapeError("the operator did not start; its log is above")


@asynccontextmanager
async def _operator() -> AsyncIterator[_Process]:
    port = free_port()
    command = (sys.executable, "-m", "fulltape.cli", "operator", "--namespace", _NAMESPACE, "--port", str(port))
    environment = {**os.environ, "POD_NAMESPACE": _NAMESPACE}
    process = await asyncio.create_subprocess_exec(*command, env=environment)
    try:
        found = _Process(process, port)
        await found.ready()
        yield found
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _now_us() -> int:
    return time.perf_counter_ns() // 1000


@asynccontextmanager
async def _namespace(cluster: Cluster) -> AsyncIterator[None]:
    for resource in (FEEDS, KAFKAS):
        if await cluster.get(resource.path(None)) is None:
            raise ConfigurationError(f"the cluster has no kind {resource.kind}: install the CRD of it first")
    path = _NAMESPACES.path(None)
    await cluster.create(path, {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": _NAMESPACE}})
    try:
        await cluster.create(KAFKAS.path(_NAMESPACE), _KAFKA)
        yield
    finally:
        await cluster.remove(f"{path}/{_NAMESPACE}")
