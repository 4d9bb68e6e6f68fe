"""What a feed runs: one description of each program, from which a laptop makes processes and a cluster makes pods.

Every program serves `HEALTHY`, `READY` and `METRICS` on its port named `PROBES`, ends in order on SIGTERM and may be
started again at any moment.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

from fulltape.feed.model import Analytics, CryptoFeed

Component = Literal["producer", "panes", "monitor", "dashboard", "archive", "warehouse"]

PROBES = "probes"
"""Name of the port with probes and metrics, which every workload has."""
PAGE = "page"
"""Name of the dashboard's port for browsers."""

HEALTHY = "/healthz"
"""200 unless only a restart helps."""
READY = "/readyz"
"""200 while it does its work; else 503 and why not."""
METRICS = "/metrics"
"""Prometheus' text format."""

WEBSOCKET_VARIABLE = "FULLTAPE_WEBSOCKET_URL"
REST_VARIABLE = "FULLTAPE_REST_URL"
"""Environment variables with an exchange in place of the feed's, for producers."""
ALERTMANAGERS_VARIABLE = "FULLTAPE_ALERTMANAGERS"
"""Environment variable with the addresses of Alertmanagers, with commas between, for the monitor."""
WAREHOUSE_VARIABLE = "FULLTAPE_WAREHOUSE"
"""Environment variable with the path of the warehouse: a DuckDB file, or a folder of Redshift's credentials."""
STAGING_VARIABLE = "FULLTAPE_STAGING"
"""Environment variable with a staging area of one feed alone, in place of the one in the feed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One program that a feed runs, once."""

    name: str
    """Unique within the feed, such as ``producer-0``."""
    component: Component
    """What kind of program it is."""
    module: str
    """The Python module to run."""
    arguments: tuple[str, ...]
    """Its arguments; `command` fills in ``{feed}``, ``{host}``, ``{state}`` and the ports by their names."""
    reads: frozenset[str]
    """The fields of the feed's spec that it reads; a change of another leaves it as it runs."""
    ports: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({PROBES: 9100}))
    """Where it listens, by name: the numbers where it has an address of its own, as a pod has."""
    keeps_state: bool = False
    """Whether it wants a folder, ``{state}``, that is still there when it is started again."""
    memory_mib: int
    """What it needs at a few thousand trades a second."""
    stop_seconds: int
    """How long it may take to end once it was told to."""

    def command(self, *, feed: str, host: str, ports: Mapping[str, int], state: str = "") -> list[str]:
        """Return what follows the Python interpreter on its command line.

        Args:
            feed: path of the feed's file.
            host: address to listen on.
            ports: a number for every name in `ports`.
            state: path of the folder that it keeps, where `keeps_state`.

        """
        places = {"feed": feed, "host": host, "state": state, **ports}
        return ["-m", self.module, *(argument.format_map(places) for argument in self.arguments)]


def workloads(feed: CryptoFeed) -> tuple[Workload, ...]:
    """Return what ``feed`` runs, in the order of the data's way; nothing where it is suspended."""
    if feed.spec.suspend:
        return ()
    found = [_producer(shard) for shard in range(feed.spec.producer.replicas)]
    if (analytics := feed.spec.analytics) is not None:
        found += [*(_panes(stream) for stream in range(analytics.replicas)), _monitor(feed, analytics), _DASHBOARD]
    if feed.spec.warehouse is not None:
        found += [_ARCHIVE, _WAREHOUSE]
    return tuple(found)


_HOUR_BYTES = 2**20
"""Of a product, what the monitor keeps of the hour that windows are compared with."""
_SECOND_BYTES = 5 * 2**10
"""Of a product, what it keeps of each second that a window may need again, with the sums over it: 3 to 4 KiB measured.
A start holds all panes as they were read besides, up to as much again."""

_LISTENS = ("--feed", "{feed}", "--host", "{host}")


def _producer(shard: int) -> Workload:
    return Workload(
        name=f"producer-{shard}",
        component="producer",
        module="fulltape.cli",
        arguments=("producer", *_LISTENS, "--port", "{probes}", "--shard", str(shard)),
        reads=frozenset({"exchange", "endpoints", "products", "channels", "producer", "kafka"}),
        memory_mib=160,
        stop_seconds=12,
    )


def _panes(stream: int) -> Workload:
    return Workload(
        name=f"panes-{stream}",
        component="panes",
        module="fulltape_spark.panes",
        arguments=(*_LISTENS, "--port", "{probes}", "--stream", str(stream), "--checkpoint", "{state}"),
        reads=frozenset({"kafka", "analytics"}),
        keeps_state=True,
        memory_mib=2048,
        stop_seconds=20,
    )


def _monitor(feed: CryptoFeed, analytics: Analytics) -> Workload:
    longest_us = max(window.us for window in analytics.windows)
    kept_seconds = (analytics.watermark.us + longest_us + analytics.slide.us) // 1_000_000
    product_bytes = _HOUR_BYTES + kept_seconds * _SECOND_BYTES
    return Workload(
        name="monitor",
        component="monitor",
        module="fulltape.cli",
        arguments=("monitor", *_LISTENS, "--port", "{probes}"),
        reads=frozenset({"products", "channels", "kafka", "analytics", "alerts", "alertmanagers"}),
        memory_mib=256 + len(feed.spec.products) * product_bytes // 2**20,
        stop_seconds=10,
    )


_DASHBOARD = Workload(
    name="dashboard",
    component="dashboard",
    module="fulltape.cli",
    arguments=("dashboard", *_LISTENS, "--port", "{page}", "--probe-port", "{probes}"),
    reads=frozenset({"products", "channels", "kafka", "analytics", "warehouse"}),
    ports=MappingProxyType({PROBES: 9100, PAGE: 8080}),
    memory_mib=256,
    stop_seconds=5,
)

_ARCHIVE = Workload(
    name="archive",
    component="archive",
    module="fulltape_spark.archive",
    arguments=(*_LISTENS, "--port", "{probes}", "--checkpoint", "{state}"),
    reads=frozenset({"channels", "kafka", "analytics", "warehouse"}),
    keeps_state=True,
    memory_mib=2560,
    stop_seconds=20,
)

_WAREHOUSE = Workload(
    name="warehouse",
    component="warehouse",
    module="fulltape.cli",
    arguments=("warehouse", "load", *_LISTENS, "--port", "{probes}"),
    reads=frozenset({"products", "kafka", "warehouse"}),
    memory_mib=512,
    stop_seconds=30,
)
