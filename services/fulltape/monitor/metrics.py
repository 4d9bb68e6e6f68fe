"""The monitor's metrics, read from its parts when Prometheus asks, so that the hot path counts in plain integers."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fulltape.messages import Alert
from fulltape.monitor.alertmanager import Peer
from fulltape.monitor.engine import STAGE_BUCKETS_SECONDS, Engine

_STAGE_EVERY = 3
"""Of the fine buckets every third bounds one of Prometheus's."""


class Watched(Protocol):
    """What metrics are read from besides the engine."""

    @property
    def firing(self) -> Mapping[str, Alert]:
        """The alerts that fire."""

    @property
    def backlog(self) -> int:
        """Messages that were not read yet."""

    @property
    def commits(self) -> int:
        """Commits made."""

    @property
    def recoveries(self) -> int:
        """Times that the transactional producer was replaced."""

    @property
    def peers(self) -> Sequence[Peer]:
        """The Alertmanagers."""


class MonitorMetrics(Collector):
    """Collects from a feed's engine and service; registers itself in ``registry``."""

    def __init__(self, registry: CollectorRegistry, feed: str, engine: Engine, service: Watched) -> None:
        self._feed = feed
        self._engine = engine
        self._service = service
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Return every metric as it stands."""
        engine, service = self._engine, self._service
        yield from self._of_windows()
        yield CounterMetricFamily("fulltape_panes", "Versions of panes read", value=engine.panes)
        yield CounterMetricFamily(
            "fulltape_panes_decoded",
            "Of these, those that were not superseded within their batch",
            value=engine.decoded,
        )
        yield CounterMetricFamily("fulltape_tickers", "Tickers read", value=engine.tickers)
        yield CounterMetricFamily("fulltape_windows", "Versions of windows published", value=engine.windows)
        yield CounterMetricFamily(
            "fulltape_window_corrections", "Of these, those of windows that had passed", value=engine.corrections
        )
        yield CounterMetricFamily(
            "fulltape_garbage", "Messages that were no panes or tickers of this feed", value=engine.garbage
        )
        late = CounterMetricFamily("fulltape_late_panes", "Panes that came too late to count", labels=["product"])
        trades = CounterMetricFamily("fulltape_trades", "Trades in the panes read", labels=["product"])
        for product, windows in engine.products.items():
            late.add_metric([product], windows.late)
            trades.add_metric([product], engine.trades[product])
        yield late
        yield trades
        yield self._stages()
        yield GaugeMetricFamily(
            "fulltape_event_clock_timestamp_seconds", "The feed's second, by the exchange's time", value=engine.clock
        )
        yield GaugeMetricFamily(
            "fulltape_backlog", "Messages on the topics that were not read yet", value=service.backlog
        )
        yield CounterMetricFamily("fulltape_commits", "Commits of alerts and places", value=service.commits)
        yield CounterMetricFamily(
            "fulltape_commit_recoveries", "Times that the transactional producer was replaced", value=service.recoveries
        )
        yield from self._of_alerts()

    def _of_windows(self) -> Iterator[Metric]:
        measures = GaugeMetricFamily(
            "fulltape_measure",
            "A measure of the newest window; absent where the window does not determine it",
            labels=["feed", "product", "window", "measure"],
        )
        missing = GaugeMetricFamily(
            "fulltape_window_missing", "Trades that the newest window lacks", labels=["feed", "product", "window"]
        )
        for (product, size), window in sorted(self._engine.latest.items()):
            missing.add_metric([self._feed, product, size], window.missing)
            for name, value in window.measures.items():
                if value is not None:
                    measures.add_metric([self._feed, product, size, name], value)
        yield measures
        yield missing

    def _stages(self) -> Metric:
        metric = HistogramMetricFamily(
            "fulltape_stage_seconds",
            "How long the newest trade of a published window took from stage to stage; whole milliseconds on the way",
            labels=["stage"],
        )
        bounds = [*(f"{bound:.4g}" for bound in STAGE_BUCKETS_SECONDS[::_STAGE_EVERY]), "+Inf"]
        for stage, latency in self._engine.stages.items():
            totals = list(accumulate(latency.counts))
            counts = [*totals[: len(STAGE_BUCKETS_SECONDS) : _STAGE_EVERY], totals[-1]]
            metric.add_metric(
                [stage],
                [(bound, float(count)) for bound, count in zip(bounds, counts, strict=True)],
                latency.sum_seconds,
            )
        return metric

    def _of_alerts(self) -> Iterator[Metric]:
        firing = GaugeMetricFamily(
            "fulltape_alert_firing", "1 for each alert that fires", labels=["alertname", "product", "window"]
        )
        for alert in list(self._service.firing.values()):
            firing.add_metric([alert.name, alert.product or "", alert.window or ""], 1)
        yield firing
        waiting = GaugeMetricFamily("fulltape_alerts_waiting", "Changes not posted yet", labels=["alertmanager"])
        posts = CounterMetricFamily("fulltape_alert_posts", "Posts that were taken", labels=["alertmanager"])
        failures = CounterMetricFamily("fulltape_alert_post_failures", "Posts that failed", labels=["alertmanager"])
        refused = CounterMetricFamily("fulltape_alerts_refused", "Alerts called malformed", labels=["alertmanager"])
        for peer in self._service.peers:
            waiting.add_metric([peer.url], peer.waiting)
            posts.add_metric([peer.url], peer.posts)
            failures.add_metric([peer.url], peer.failures)
            refused.add_metric([peer.url], peer.refused)
        yield from (waiting, posts, failures, refused)
