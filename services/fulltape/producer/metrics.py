"""The producer's metrics, read from its parts when Prometheus asks, so that the hot path counts in plain integers."""

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from fulltape.producer.aside import AsideProducer
from fulltape.producer.connections import ConnectionKeeper
from fulltape.producer.intake import LAG_BUCKETS_SECONDS, Intake, Lane
from fulltape.producer.writer import Writer

_DELAY_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)
_BACKFILL_BUCKETS_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)


class ProducerMetrics(Collector):
    """Collects from the parts that it is given, once they are there; registers itself in ``registry``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.commit_delay = Histogram(
            "fulltape_commit_delay_seconds",
            "From the socket to visible on the tape, for the oldest trade of each transaction",
            buckets=_DELAY_BUCKETS_SECONDS,
            registry=registry,
        )
        self.backfill = Histogram(
            "fulltape_backfill_seconds",
            "How long a hole in a product's trades was open, until it was closed or written off",
            buckets=_BACKFILL_BUCKETS_SECONDS,
            registry=registry,
        )
        self._parts: tuple[Intake, Writer, AsideProducer, Sequence[ConnectionKeeper]] | None = None
        registry.register(self)

    def watch(
        self, intake: Intake, writer: Writer, aside: AsideProducer, connections: Sequence[ConnectionKeeper]
    ) -> None:
        """Collect from these from now on."""
        self._parts = intake, writer, aside, connections

    def collect(self) -> Iterable[Metric]:
        """Return every metric as it stands."""
        if self._parts is None:
            return
        intake, writer, aside, connections = self._parts
        yield from _of_lanes(list(intake.lanes.values()))
        yield CounterMetricFamily(
            "fulltape_rejected", "Messages from the exchange that could not be used", value=intake.rejected
        )
        yield CounterMetricFamily("fulltape_ignored", "Messages of types that are not read", value=intake.ignored)
        yield CounterMetricFamily(
            "fulltape_aside_dropped", "Tickers and rejected messages dropped while Kafka was away", value=aside.dropped
        )
        yield CounterMetricFamily(
            "fulltape_tape_records", "Trades and gap records that became durable and visible", value=writer.committed
        )
        yield CounterMetricFamily("fulltape_transactions", "Kafka transactions committed", value=writer.transactions)
        yield CounterMetricFamily(
            "fulltape_writer_recoveries", "Times that the Kafka producers had to be replaced", value=writer.recoveries
        )
        yield GaugeMetricFamily("fulltape_backlog", "Records that wait to become durable", value=writer.backlog)
        state = GaugeMetricFamily("fulltape_connected", "1 while subscribed", labels=["connection"])
        lost = CounterMetricFamily(
            "fulltape_reconnects", "Connections that ended, by cause", labels=["connection", "cause"]
        )
        for connection in connections:
            state.add_metric([str(connection.number)], float(connection.subscribed))
            for cause, times in connection.reconnects.items():
                lost.add_metric([str(connection.number), cause], times)
        yield state
        yield lost


def _of_lanes(lanes: Sequence[Lane]) -> Iterator[Metric]:
    trades = CounterMetricFamily("fulltape_trades", "Trades handed to the tape", labels=["product", "source"])
    missing = CounterMetricFamily("fulltape_missing", "Trade ids written off as lost", labels=["product"])
    gaps = CounterMetricFamily("fulltape_gaps", "Gap records written", labels=["product"])
    duplicates = CounterMetricFamily("fulltape_duplicates_dropped", "Copies of trades dropped", labels=["product"])
    held = GaugeMetricFamily("fulltape_held", "Trades that wait behind a hole", labels=["product"])
    overflowed = CounterMetricFamily(
        "fulltape_overflowed", "Trades not held behind a hole for want of room, to be fetched again", labels=["product"]
    )
    last = GaugeMetricFamily("fulltape_last_trade_timestamp_seconds", "Time of the last trade", labels=["product"])
    lag = HistogramMetricFamily(
        "fulltape_exchange_lag_seconds",
        "From the exchange's time of a streamed trade to its arrival here; below 0 where this clock is behind",
        labels=["product"],
    )
    for lane in lanes:
        name = [lane.product]
        trades.add_metric([lane.product, "stream"], lane.emitted - lane.backfilled)
        trades.add_metric([lane.product, "backfill"], lane.backfilled)
        missing.add_metric(name, lane.missing)
        gaps.add_metric(name, lane.gaps)
        duplicates.add_metric(name, lane.gate.duplicates)
        held.add_metric(name, lane.gate.held)
        overflowed.add_metric(name, lane.gate.overflowed)
        if lane.last_time_us:
            last.add_metric(name, lane.last_time_us / 1e6)
        total, buckets = 0, []
        for bound, count in zip([*map(str, LAG_BUCKETS_SECONDS), "+Inf"], lane.lag_buckets, strict=True):
            total += count
            buckets.append((bound, float(total)))
        lag.add_metric(name, buckets, lane.lag_sum_us / 1e6)
    return iter([trades, missing, gaps, duplicates, held, overflowed, last, lag])
