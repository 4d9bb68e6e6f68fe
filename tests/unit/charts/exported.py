"""What the programs really tell Prometheus: their own metrics, made to say something of everything that has labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from kubernetes.aio.client import ApiClient
from prometheus_client import CollectorRegistry

from fulltape.coinbase.rest import TokenBucket
from fulltape.dashboard.hub import Hub
from fulltape.dashboard.market import Market
from fulltape.dashboard.metrics import DashboardMetrics
from fulltape.feed.model import CryptoFeed
from fulltape.messages import Alert
from fulltape.monitor.alertmanager import Peer
from fulltape.monitor.engine import Engine
from fulltape.monitor.metrics import MonitorMetrics
from fulltape.producer.aside import AsideProducer
from fulltape.producer.connections import ConnectionKeeper
from fulltape.producer.intake import Intake, Lane
from fulltape.producer.metrics import ProducerMetrics
from fulltape.producer.writer import Writer
from fulltape.warehouse.load import Tally
from fulltape.warehouse.metrics import LoadMetrics
from fulltape.warehouse.staging import KINDS
from fulltape_operator.cluster import Cluster
from fulltape_operator.leader import Leader
from fulltape_operator.metrics import OperatorMetrics
from fulltape_operator.observed import FeedKey, Observed
from fulltape_operator.queue import WorkQueue
from fulltape_spark.archive_batch import Written
from fulltape_spark.archive_metrics import ArchiveMetrics
from fulltape_spark.panes_metrics import PanesMetrics
from fulltape_spark.stream import Progress
from tests.unit.monitor.market import NOON, SECOND_US, make_feed, pane_time_us
from tests.unit.monitor.market import Market as Trades

_NOWHERE = "127.0.0.1:1"
_PRODUCT = "BTC-USD"


def of_programs() -> dict[str, dict[str, set[str]]]:
    """Return for each component of a feed its metrics, and the labels of each."""
    feed = make_feed([_PRODUCT])
    return {
        "producer": _said(_producer(feed)),
        "monitor": _said(_monitor(feed)),
        "dashboard": _said(_dashboard()),
        "warehouse": _said(_warehouse()),
        "panes": _said(_panes()),
        "archive": _said(_archive()),
    }


async def of_the_operator() -> dict[str, set[str]]:
    """Return the operator's metrics, and the labels of each."""
    registry = CollectorRegistry()
    async with ApiClient() as client:
        cluster, observed = Cluster(client), Observed()
        live: dict[str, Any] = {
            "metadata": {"name": "majors", "namespace": "markets", "resourceVersion": "1"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        }
        observed.see_feed(FeedKey("markets", "majors"), live)
        metrics = OperatorMetrics(registry, cluster, observed, WorkQueue(), Leader(cluster, "fulltape", "one", "me"))
        metrics.errors.labels("Conflict").inc()
        return _said(registry)


def _said(registry: CollectorRegistry) -> dict[str, set[str]]:
    return {sample.name: set(sample.labels) for metric in registry.collect() for sample in metric.samples}


def _producer(feed: CryptoFeed) -> CollectorRegistry:
    registry = CollectorRegistry()
    lane = Lane(_PRODUCT, 1, None, 10)
    lane.last_time_us = NOON * SECOND_US
    ignore = lambda *_: None  # noqa: E731 - nothing comes
    intake = Intake({_PRODUCT: lane}, to_tape=ignore, aside=ignore, opened=ignore)
    writer = Writer({}, feed.topics, "0-of-1", [_PRODUCT], failed=ignore, commit_delay_us=ignore)
    aside = AsideProducer({"bootstrap.servers": _NOWHERE, "log_level": 0}, feed.topics)
    connection = ConnectionKeeper(
        0, "ws://127.0.0.1:1", [_PRODUCT], ["matches"], receive=intake, subscribes=TokenBucket(1, 1), refused=ignore
    )
    connection.reconnects["silence"] += 1
    ProducerMetrics(registry).watch(intake, writer, aside, [connection])
    return registry


@dataclass(frozen=True)
class _Watched:
    """A monitor's service with an alert that fires, and an Alertmanager."""

    firing: Mapping[str, Alert]
    peers: Sequence[Peer]
    backlog: int = 0
    commits: int = 0
    recoveries: int = 0


def _monitor(feed: CryptoFeed) -> CollectorRegistry:
    registry = CollectorRegistry()
    engine = Engine(feed, lambda: NOON * SECOND_US)
    pane = Trades(_PRODUCT).pane(NOON, 5)
    engine.take_panes([(msgspec.json.encode(pane), pane_time_us(pane))])
    engine.run_clock(alone=False)
    assert list(engine.collect())
    alert = Alert(
        name="FlashCrash", fingerprint="one", state="firing", product=_PRODUCT, window="1m", severity="critical",
        summary="", values={}, labels={}, annotations={}, since_us=0, starts_us=0, ends_us=None, trade_us=None,
        changed_us=0,
    )  # fmt: skip
    MonitorMetrics(
        registry, feed.metadata.name, engine, _Watched({"one": alert}, [Peer("http://alertmanager:9093", 60.0)])
    )
    return registry


def _dashboard() -> CollectorRegistry:
    registry = CollectorRegistry()
    market = Market([_PRODUCT], ["1m"], "1m", 0)
    registry.register(DashboardMetrics(market, Hub("majors", market, 10.0)))
    return registry


def _warehouse() -> CollectorRegistry:
    registry = CollectorRegistry()
    LoadMetrics(registry, Tally(tape_us=dict.fromkeys(KINDS, 0)))
    return registry


def _panes() -> CollectorRegistry:
    metrics = PanesMetrics("majors", 0)
    metrics.observe(Progress(batch=0, records=1, unusable=0, late=0, watermark_seconds=0.0, seconds=1.0))
    return metrics.registry


def _archive() -> CollectorRegistry:
    metrics = ArchiveMetrics("majors")
    metrics.observe("trades", 0, Written(batches=(), records=0, unusable=0, late=0, newest_us=0), 1.0)
    metrics.observe_backlog("trades", 0)
    return metrics.registry
