"""The loader's metrics, read from its tally when Prometheus asks."""

import time
from collections.abc import Iterable

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fulltape.warehouse.load import Tally


class LoadMetrics(Collector):
    """Collects from a loader's tally; registers itself in ``registry``."""

    def __init__(self, registry: CollectorRegistry, tally: Tally) -> None:
        self._tally = tally
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        """Return every metric as it stands."""
        tally = self._tally
        for name, text, values in (
            ("fulltape_warehouse_batches", "Batches loaded", tally.batches),
            ("fulltape_warehouse_rows", "Rows loaded", tally.rows),
            ("fulltape_warehouse_rejected_batches", "Batches set aside, as they can't be loaded", tally.quarantined),
        ):
            counter = CounterMetricFamily(name, text, labels=["kind"])
            for kind, value in values.items():
                counter.add_metric([kind], value)
            yield counter
        for name, text, values in (
            ("fulltape_warehouse_pending_batches", "Batches that wait to be loaded", tally.pending),
            ("fulltape_warehouse_quarantined_batches", "Batches in quarantine", tally.aside),
        ):
            gauge = GaugeMetricFamily(name, text, labels=["kind"])
            for kind, value in values.items():
                gauge.add_metric([kind], value)
            yield gauge
        behind = GaugeMetricFamily(
            "fulltape_warehouse_newest_age_seconds", "Age, on the tape, of the newest record loaded", labels=["kind"]
        )
        for kind, tape_us in list(tally.tape_us.items()):
            behind.add_metric([kind], time.time() - tape_us / 1e6)
        yield behind
        yield CounterMetricFamily("fulltape_warehouse_loads", "Transactions committed", value=tally.loads)
        yield CounterMetricFamily("fulltape_warehouse_load_seconds", "Spent in these", value=tally.load_seconds)
        yield CounterMetricFamily(
            "fulltape_warehouse_failed_passes",
            "Times that the database or the staging area failed",
            value=tally.failures,
        )
