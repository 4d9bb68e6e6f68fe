"""The operator's metrics: how long passes take, what fails, what waits, and how the feeds stand."""

from collections import Counter as Tally
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fulltape_operator.cluster import Cluster
from fulltape_operator.leader import Leader
from fulltape_operator.observed import FeedKey, Observed
from fulltape_operator.queue import WorkQueue

_BUCKETS_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class OperatorMetrics(Collector):
    """Collects from the operator's parts; registers itself in ``registry``."""

    def __init__(
        self,
        registry: CollectorRegistry,
        cluster: Cluster,
        observed: Observed,
        queue: WorkQueue[FeedKey],
        leader: Leader,
    ) -> None:
        self.passes = Histogram(
            "fulltape_operator_reconcile_seconds",
            "How long a pass over a feed took",
            buckets=_BUCKETS_SECONDS,
            registry=registry,
        )
        self.errors = Counter(
            "fulltape_operator_reconcile_errors", "Passes that failed and are repeated", ["reason"], registry=registry
        )
        self._cluster = cluster
        self._observed = observed
        self._queue = queue
        self._leader = leader
        registry.register(self)
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)

    def collect(self) -> Iterable[Metric]:
        """Return every metric as it stands."""
        yield GaugeMetricFamily(
            "fulltape_operator_queue_depth", "Feeds that are due for a look", value=self._queue.waiting()
        )
        yield GaugeMetricFamily(
            "fulltape_operator_longest_pass_seconds",
            "For how long the oldest pass that runs has run",
            value=self._queue.longest_seconds(),
        )
        yield GaugeMetricFamily("fulltape_operator_leads", "1 while this operator works", value=self._leader.leads())
        requests = CounterMetricFamily(
            "fulltape_operator_requests", "Requests to the API server, watches left out", labels=["kind"]
        )
        requests.add_metric(["read"], self._cluster.requests - self._cluster.writes)
        requests.add_metric(["write"], self._cluster.writes)
        yield requests
        feeds = GaugeMetricFamily(
            "fulltape_operator_feeds", "Feeds by condition and its status", labels=["condition", "status"]
        )
        tally = Tally(
            (condition["type"], condition["status"])
            for live in self._observed.feeds.values()
            for condition in live.get("status", {}).get("conditions", ())
        )
        for (condition, status), count in sorted(tally.items()):
            feeds.add_metric([condition, status], count)
        yield feeds
