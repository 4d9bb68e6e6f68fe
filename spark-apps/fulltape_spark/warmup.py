"""Makes the JVM fast before the stream counts: runs the very same query on made-up trades, on topics of their own.

A JVM interprets what it runs for the first time, and compiles what it runs often; the first trades would take seconds.
"""

import contextlib
import logging
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import msgspec
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]  # its documented names
from pyspark.sql import SparkSession

from fulltape.kafka import ClientConfiguration
from fulltape.messages import Trade
from fulltape_spark.stream import Route, start

_TRADES_PER_ROUND = 2_000
_BATCHES = 4
"""So many batches: a boundary has code of its own, in the driver above all, and the stream's come minutes apart. The
first takes seconds, the fourth less than one."""
_BATCH_SECONDS = 1.0
_ENOUGH_SECONDS = 25.0
"""On a slow machine the warm-up ends after this, however far it has come."""
_TIMEOUT_SECONDS = 10.0

_log = logging.getLogger(__name__)


def warm_up(
    session: SparkSession,
    route: Route,
    configuration: ClientConfiguration,
    partitions: int,
    complete_from_us: int,
) -> None:
    """Run the query for some seconds; a failure is logged and costs only the warmth.

    ``complete_from_us`` must be that of the stream: the code that Spark generates holds it, and other code is not warm.
    """
    admin = AdminClient(dict(configuration))
    prefix = f"{route.name}.warmup-"
    scratch = replace(route, tape=f"{prefix}{uuid4().hex[:8]}.trades", panes=f"{prefix}{uuid4().hex[:8]}.panes")
    try:
        left = [topic for topic in admin.list_topics(timeout=_TIMEOUT_SECONDS).topics if topic.startswith(prefix)]
        _delete(admin, left)  # of a start that was killed
        topics = [
            NewTopic(scratch.tape, partitions, replication_factor=-1),
            NewTopic(scratch.panes, 1, replication_factor=-1),
        ]
        for created in admin.create_topics(topics, operation_timeout=_TIMEOUT_SECONDS).values():
            created.result()
    except KafkaException as error:
        _log.warning("no warm-up, so that the first trades will be slow: Kafka says %s", error.args[0].str())
        return
    try:
        _run(session, scratch, configuration, partitions, complete_from_us)
    finally:
        _delete(admin, [scratch.tape, scratch.panes])


def _run(
    session: SparkSession,
    route: Route,
    configuration: ClientConfiguration,
    partitions: int,
    complete_from_us: int,
) -> None:
    deadline = time.monotonic() + _ENOUGH_SECONDS
    with tempfile.TemporaryDirectory(prefix="fulltape-warmup-", ignore_cleanup_errors=True) as folder:
        query = start(
            session,
            route,
            Path(folder),
            offsets={str(partition): 0 for partition in range(partitions)},
            complete_from_us=complete_from_us,
            batch_seconds=_BATCH_SECONDS,
        )
        try:
            producer = Producer({**configuration, "linger.ms": 1})
            first_id = 1
            while time.monotonic() < deadline and query.isActive:
                for trade in _trades(first_id):
                    producer.produce(route.tape, msgspec.json.encode(trade), partition=trade.trade_id % partitions)
                producer.flush(_TIMEOUT_SECONDS)
                first_id += _TRADES_PER_ROUND
                progress = query.lastProgress
                if progress is not None and progress.batchId + 1 >= _BATCHES:
                    break
                time.sleep(0.1)
            if failure := query.exception():
                _log.warning("the warm-up failed: %s", str(failure).splitlines()[0])
        finally:
            query.stop()


def _trades(first_id: int) -> list[Trade]:
    """Return one round of trades of ten products, priced as real ones are."""
    now_us = time.time_ns() // 1000
    trades = []
    for trade_id in range(first_id, first_id + _TRADES_PER_ROUND):
        cents = 6_351_460 + trade_id % 17
        price, size = f"{cents / 100:.2f}", f"0.{trade_id % 99_991 + 1:08d}"
        before, earlier = f"{(cents - 1) / 100:.2f}", f"{(cents + 2) / 100:.2f}"
        trades.append(
            Trade(
                product=f"WARM-UP{trade_id % 10}",
                trade_id=trade_id,
                price=price,
                size=size,
                taker_side="buy" if trade_id % 2 else "sell",
                time_us=now_us,
                sequence=None,
                received_us=now_us,
                source="stream",
                previous_price=before,
                second_previous_price=earlier,
                run_ticks=trade_id % 25 - 12,
                run_start_us=now_us - 1000,
                run_start_price=earlier,
                pane_high=earlier,
                pane_low=before if trade_id % 3 else price,
            )
        )
    return trades


def _delete(admin: AdminClient, topics: list[str]) -> None:
    if topics:
        for deleted in admin.delete_topics(topics, operation_timeout=_TIMEOUT_SECONDS).values():
            with contextlib.suppress(KafkaException):
                deleted.result()
