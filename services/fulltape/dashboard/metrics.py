"""The dashboard's metrics, read from its parts when Prometheus asks."""

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fulltape.dashboard.hub import Hub
from fulltape.dashboard.market import Market


class DashboardMetrics(Collector):
    """Collects from the market and the browsers."""

    def __init__(self, market: Market, hub: Hub) -> None:
        self._market = market
        self._hub = hub

    def collect(self) -> Iterable[Metric]:
        """Return every metric as it stands."""
        market, hub = self._market, self._hub
        yield GaugeMetricFamily("fulltape_browsers", "Browsers that look on", value=len(hub))
        yield CounterMetricFamily("fulltape_frames", "Frames sent to browsers", value=hub.frames_sent)
        read = CounterMetricFamily("fulltape_read", "Messages read since the history was read back", labels=["kind"])
        read.add_metric(["trade"], market.health.trades)
        read.add_metric(["window"], market.health.windows)
        yield read
        yield CounterMetricFamily("fulltape_undecodable", "Messages that could not be read", value=market.undecodable)
