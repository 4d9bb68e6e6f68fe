"""Where a time stands in a topic: the offset of the first record that was written at it or later."""

import time
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fulltape.kafka import patiently

_TIMEOUT_SECONDS = 15.0
_POLL_SECONDS = 0.1
_END, _TIMED_OUT = KafkaError._PARTITION_EOF, KafkaError._TIMED_OUT  # noqa: SLF001 - they have no public names


def offsets_since(
    kafka: Mapping[str, Any], topic: str, partitions: Iterable[int], time_ms: int
) -> dict[int, int | None]:
    """Return the offset of the first record of each partition written at or after a time; None where none is.

    Times are those of the records. Where these are not in the order of the offsets, as those of several writers are not
    to the millisecond, some of that moment may be left out.

    Args:
        kafka: settings of the client.
        topic: its name.
        partitions: some of its partitions.
        time_ms: since the epoch.

    Raises:
        KafkaException: no broker answered, or one of the partitions could not be asked.

    """
    wanted = [TopicPartition(topic, partition, max(0, time_ms)) for partition in partitions]
    if not wanted:  # which librdkafka calls an invalid argument
        return {}
    consumer = Consumer(
        dict(kafka)
        | {
            "group.id": f"{topic}.offsets",  # required by the client; no group is ever joined
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "fetch.wait.max.ms": 10,
        }
    )

    def ask() -> list[TopicPartition]:
        found = consumer.offsets_for_times(wanted, timeout=_TIMEOUT_SECONDS)
        for place in found:
            if place.error is not None:  # its offset is still the time that was asked for
                raise KafkaException(place.error)
        return found

    try:
        # Kafka (4.3 at least) looks into the first segment that was still written to then, and where compaction has
        # left that one empty it says that there is no such record, whatever the segments behind it hold.
        return {
            place.partition: place.offset if place.offset >= 0 else _search(consumer, place, time_ms)
            for place in patiently(ask)
        }
    finally:
        consumer.close()


def _search(consumer: Consumer, partition: TopicPartition, time_ms: int) -> int | None:
    """Find the offset by halving: some twenty records are read."""
    first, end = patiently(partial(consumer.get_watermark_offsets, partition, timeout=_TIMEOUT_SECONDS, cached=False))
    found = None
    while first < end:
        middle = (first + end) // 2
        record = _first_from(consumer, TopicPartition(partition.topic, partition.partition, middle))
        if record is None:
            end = middle
        elif record.timestamp()[1] < time_ms:
            first = max(middle, record.offset() or 0) + 1
        else:
            found, end = record.offset(), middle
    return found


def _first_from(consumer: Consumer, place: TopicPartition) -> Message | None:
    """Return the first record at or behind an offset; None where only what is no record stands there."""
    consumer.assign([place])
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    problem = KafkaError(_TIMED_OUT, f"{place.topic}[{place.partition}] gave no record")
    while time.monotonic() < deadline:
        message = consumer.poll(_POLL_SECONDS)
        if message is None:
            continue
        error = message.error()
        if error is None:
            return message
        if error.code() == _END:
            return None
        problem = error
        if error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            break
    raise KafkaException(problem)
