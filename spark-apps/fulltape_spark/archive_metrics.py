"""What the archive tells Prometheus."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from fulltape_spark.archive_batch import Written


class ArchiveMetrics:
    """The metrics of one archive, in a registry of their own."""

    def __init__(self, feed: str) -> None:
        self.registry = CollectorRegistry()
        self._feed = feed

        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"fulltape_archive_{name}", help_text, ("feed", *labels), registry=self.registry)

        def gauge(name: str, help_text: str) -> Gauge:
            return Gauge(f"fulltape_archive_{name}", help_text, ("feed", "query"), registry=self.registry)

        self._rows = counter("rows", "Rows written to the staging area.", "kind")
        self._bytes = counter("bytes", "Bytes of the Parquet files written to the staging area.", "kind")
        self._unusable = counter("unusable_records", "Records skipped: not what belongs on their topic.").labels(feed)
        self._late = counter("late_trades", "Trades stored as late: behind the watermark, in no window.").labels(feed)
        self._batch = gauge("batch", "Number of the last completed batch.")
        self._seconds = gauge("batch_seconds", "What the last completed batch took.")
        self._tape = gauge("tape_seconds", "Newest time of writing to Kafka among the records stored.")
        self._backlog = gauge("backlog_records", "Records that Kafka held behind the end of the last batch.")

    def observe(self, query: str, batch: int, written: Written, seconds: float) -> None:
        """Take in how a batch went."""
        for one in written.batches:
            self._rows.labels(self._feed, one.kind).inc(one.rows)
            self._bytes.labels(self._feed, one.kind).inc(one.bytes)
        self._unusable.inc(written.unusable)
        self._late.inc(written.late)
        self._batch.labels(self._feed, query).set(batch)
        self._seconds.labels(self._feed, query).set(seconds)
        if written.batches:
            self._tape.labels(self._feed, query).set(max(one.tape_us for one in written.batches) / 1e6)

    def observe_backlog(self, query: str, records: int) -> None:
        """Take in how far a query is behind."""
        self._backlog.labels(self._feed, query).set(records)
