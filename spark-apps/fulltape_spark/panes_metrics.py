"""What a stream of panes tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from fulltape_spark.stream import Progress


class PanesMetrics:
    """The metrics of one stream, in a registry of their own."""

    def __init__(self, feed: str, stream: int) -> None:
        self.registry = CollectorRegistry()
        names, self._labels = ("feed", "stream"), (feed, str(stream))
        self._observed = -1

        def counter(name: str, help_text: str) -> Counter:
            return Counter(f"fulltape_panes_{name}", help_text, names, registry=self.registry).labels(*self._labels)

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(f"fulltape_panes_{name}", help_text, names, registry=self.registry).labels(*self._labels)

        self._rate = gauge("records_per_second", "Records read from the tape, a mean of the last completed batch.")
        self._records = counter("records", "Records read from the tape, counted at the end of each batch.")
        self._unusable = counter("unusable_records", "Records skipped: neither a gap nor a trade as trades are.")
        self._late = counter("late_trades", "Trades behind the watermark, which count in no pane.")
        self._batch = gauge("batch", "Number of the last completed batch.")
        self._batch_seconds = gauge("batch_seconds", "Length of the last completed batch.")
        self._watermark = gauge("watermark_seconds", "Exchange time before which trades are late.")

    def observe(self, progress: Progress) -> None:
        """Take in how a batch went; the same batch again changes nothing."""
        if progress.batch == self._observed:
            return
        self._observed = progress.batch
        self._records.inc(progress.records)
        self._unusable.inc(progress.unusable)
        self._late.inc(progress.late)
        self._rate.set(progress.records / progress.seconds if progress.seconds else 0.0)
        self._batch.set(progress.batch)
        self._batch_seconds.set(progress.seconds)
        self._watermark.set(progress.watermark_seconds)
