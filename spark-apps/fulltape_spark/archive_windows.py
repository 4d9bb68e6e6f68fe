"""The query that stores final windows: trades and tickers, summed up by the second, then windows product by product.

    <feed>.trades, <feed>.ticker --> [by product and second: sums] --> [by product: windows] --> Parquet

Both steps are stateful and in append mode: a second leaves the first when the watermark has passed it and nothing can
change it any more, and a window leaves the second when its last second has come.
"""

import hashlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.functions import expr
from pyspark.sql.streaming.stateful_processor import StatefulProcessor, StatefulProcessorHandle

from fulltape.feed.duration import Duration
from fulltape.feed.model import Analytics
from fulltape.measures.columns import AGGREGATES, PANE_SECONDS, RETURN_COLUMNS, TRADE_COLUMNS, USABLE
from fulltape.measures.flow import relative_spread
from fulltape.messages import Pane
from fulltape_spark.archive_batch import Job, write_batch
from fulltape_spark.archive_final import STATE_VERSION, FinalWindows, Second, encoded, final_end, quotes_horizon
from fulltape_spark.archive_records import Observer
from fulltape_spark.archive_rows import SECOND_US, Clock, Origin
from fulltape_spark.archive_stream import TRIGGER, ArchiveStream, read
from fulltape_spark.query import columns, pane_json, trade_schema
from fulltape_spark.stream import Query

NAME = "windows"

_PANE_US = PANE_SECONDS * SECOND_US
_STATE = "windows"


@dataclass(frozen=True, slots=True)
class WindowsRoute:
    """From where to where windows go."""

    kafka: Mapping[str, str]
    """The options that open a connection."""
    topics: Mapping[str, Origin]
    """What stands on which topic: trades, and tickers where they are recorded."""
    staging: str
    """The root of the staging area."""
    analytics: Analytics
    every_ms: int
    client: str
    """Begins the ids of its Kafka clients."""


def start_windows(session: SparkSession, route: WindowsRoute, stream: ArchiveStream, observe: Observer) -> Query:
    """Start the query.

    Raises:
        PySparkException, Py4JError: Spark can't start it, as where the checkpoint is damaged.

    """
    offsets, shape = stream.offsets, state_shape(route.analytics)
    (tape,) = (topic for topic, origin in route.topics.items() if origin == "trades")

    def write(windows: DataFrame, number: int) -> None:
        began = time.monotonic()
        name = windows_name(tape, offsets.names(number), shape)
        job = Job(route.staging, {NAME: "windows"}, {NAME: name}, Clock(0, 0))
        observe(NAME, number, write_batch(windows, job), time.monotonic() - began)

    records = read(
        session, route.kafka, stream, every_ms=route.every_ms, client=route.client, topics=list(route.topics)
    )
    return (
        windows_of(records, route.analytics)
        .writeStream.foreachBatch(stream.batch(write))
        .outputMode("append")
        .option("checkpointLocation", str(stream.checkpoint))
        .trigger(**TRIGGER)
        .start()
    )


def windows_name(tape: str, names: Mapping[str, str], shape: tuple[object, ...]) -> str:
    """Return the name of a batch of windows: in the order of the tape's batches, and told apart by all that made it.

    Tickers move the watermark too, so that windows become final in a batch that has no trades.

    Args:
        tape: the trades' topic.
        names: the names of the topics' batches.
        shape: what the windows are, by `state_shape`.

    """
    place = names[tape].rpartition("-")[0]
    digest = hashlib.blake2s(repr((sorted(names.items()), shape)).encode(), digest_size=4).hexdigest()
    return f"{place}-{digest}"


def state_shape(analytics: Analytics) -> tuple[object, ...]:
    """Return what the query's state depends on: with another, it can't be read."""
    return (
        STATE_VERSION,
        *sorted(AGGREGATES.items()),
        *sorted(window.us for window in analytics.windows),
        analytics.slide.us,
        analytics.watermark.us,
    )


def windows_of(records: DataFrame, analytics: Analytics) -> DataFrame:
    """Return the final windows of records, each once, as `archive_batch` takes rows."""
    windows = (
        seconds_of(records, analytics.watermark.us)
        .groupBy("product")
        .transformWithState(
            statefulProcessor=WindowsProcessor(
                tuple(window.text for window in analytics.windows), analytics.slide.text, analytics.watermark.text
            ),
            outputStructType="product STRING, value BINARY, tape_us BIGINT",
            outputMode="append",
            timeMode="EventTime",
        )
    )
    return windows.select(
        expr(f"'{NAME}'").alias("topic"),
        expr("spark_partition_id()").alias("partition"),
        "value",
        expr("timestamp_micros(tape_us)").alias("timestamp"),
    )


def seconds_of(records: DataFrame, watermark_us: int) -> DataFrame:
    """Return each ``product`` and second (``start``) once it is final: its pane and the last quote.

    Args:
        records: of the tape, and of the tickers' topic: ``value`` and ``timestamp``.
        watermark_us: as with `panes_of`.

    """
    record = f"from_json(CAST(value AS STRING), '{trade_schema()}, best_bid STRING, best_ask STRING')"
    quote = "type = 'ticker' AND product IS NOT NULL AND trade_id IS NOT NULL AND time_us > 0 AND bid > 0 AND ask > 0"
    seconds = (
        records.select(expr(record).alias("record"), expr("unix_micros(timestamp)").alias("tape_us"))
        .select("record.*", "tape_us")
        .select(
            "*",
            *columns(TRADE_COLUMNS),
            *columns({"bid": "try_cast(best_bid AS DOUBLE)", "ask": "try_cast(best_ask AS DOUBLE)"}),
        )
        .where(f"time_us <= tape_us + {watermark_us} AND ((type = 'trade' AND {USABLE}) OR ({quote}))")
        .select("*", *columns(_of_trades(RETURN_COLUMNS)))
        .withColumn("start", expr(f"timestamp_micros(time_us DIV {_PANE_US} * {_PANE_US})"))
        .withWatermark("start", f"{watermark_us} microseconds")
        .groupBy("product", "start")
        .agg(
            *columns({name: f"{sql} FILTER (WHERE type = 'trade')" for name, sql in AGGREGATES.items()}),
            expr("max(struct(trade_id, bid, ask)) FILTER (WHERE type = 'ticker')").alias("quote"),
        )
    )
    return seconds.select(
        "product",
        "start",
        expr(f"CASE WHEN trades > 0 THEN {pane_json()} END").alias("pane"),
        expr("quote.trade_id").alias("quote_id"),
        expr("quote.bid").alias("bid"),
        expr("quote.ask").alias("ask"),
    )


def _of_trades(definitions: Mapping[str, str]) -> dict[str, str]:
    """Leave columns of trades null for what is none: some would fail."""
    return {name: f"CASE WHEN type = 'trade' THEN {sql} END" for name, sql in definitions.items()}


class WindowsProcessor(StatefulProcessor):
    """Keeps `FinalWindows` of each product as Spark's state. The arguments are durations as a feed writes them."""

    def __init__(self, windows: tuple[str, ...], slide: str, watermark: str) -> None:
        self._texts = windows, slide, watermark

    def init(self, handle: StatefulProcessorHandle) -> None:
        """Take up the state."""
        windows, slide, watermark = self._texts
        self._analytics = Analytics(
            windows=tuple(Duration(text) for text in windows), slide=Duration(slide), watermark=Duration(watermark)
        )
        self._handle = handle
        self._state = handle.getValueState(_STATE, "content BINARY")
        self._horizon = quotes_horizon(self._analytics)
        self._decode = msgspec.json.Decoder(Pane).decode

    def handleInputRows(  # noqa: N802 - Spark's name
        self,
        key: Any,
        rows: Iterator[Row],
        timerValues: Any,  # noqa: N803
    ) -> Iterator[Row]:
        """Take the seconds that have become final, and yield the windows that have."""
        seconds = sorted((self._second(row) for row in rows), key=lambda one: one.second)
        yield from self._go_on(key[0], seconds, timerValues.getCurrentWatermarkInMs())

    def handleExpiredTimer(  # noqa: N802
        self,
        key: Any,
        timerValues: Any,  # noqa: N803
        expiredTimerInfo: Any,  # noqa: ARG002, N803
    ) -> Iterator[Row]:
        """Yield what has become final though nothing came."""
        yield from self._go_on(key[0], [], timerValues.getCurrentWatermarkInMs())

    def close(self) -> None:
        """End; nothing is held open."""

    def _second(self, row: Row) -> Second:
        # A time without zone would be the machine's; the JSON of the pane has it too, but a quote alone has not.
        return Second(
            int(row["start"].timestamp()),
            None if row["pane"] is None else self._decode(row["pane"]),
            None if row["quote_id"] is None else (row["quote_id"], relative_spread(row["bid"], row["ask"])),
        )

    def _go_on(self, product: str, seconds: list[Second], watermark_ms: int) -> Iterator[Row]:
        kept = self._state.get()
        windows = FinalWindows.of(product, self._analytics) if kept is None else FinalWindows.restored(kept[0])
        end = final_end(watermark_ms * 1000, self._analytics.slide)
        for window, tape_us in windows.take(seconds, end, self._horizon):
            yield Row(product=product, value=encoded(window), tape_us=tape_us)
        self._state.update((windows.content(),))
        if windows.outstanding:  # the next batch whose watermark is further
            self._handle.registerTimer(watermark_ms + 1)
