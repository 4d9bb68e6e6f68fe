"""A time becomes the offset of the first record of that time, also where Kafka says wrongly that there is none."""

import os
import time

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from fulltape.audit.reader import WholeTopic
from fulltape.bench.stage import wait_until
from fulltape.kafka import TopicSpec, ensure_topics
from fulltape.local.kafka import EmbeddedKafka
from fulltape.offsets import offsets_since

pytestmark = pytest.mark.integration

_SEGMENT_BYTES = 2**20  # Kafka's least
_CLEANED_SECONDS = 120.0  # the cleaner looks every 15 s


@pytest.fixture
def settings(kafka: EmbeddedKafka) -> dict[str, str]:
    return {"bootstrap.servers": kafka.bootstrap_servers}


def test_of_each_partition_it_is_the_first_record_of_that_time(settings: dict[str, str], topic_prefix: str) -> None:
    ensure_topics(settings, [TopicSpec(topic_prefix, 3, 1, {})])
    now_ms = time.time_ns() // 1_000_000
    producer = Producer(settings)
    for number in range(100):
        producer.produce(topic_prefix, b"", partition=number % 2, timestamp=now_ms + number)
    assert producer.flush(60) == 0
    partitions = range(3)
    assert offsets_since(settings, topic_prefix, partitions, 1) == {0: 0, 1: 0, 2: None}
    assert offsets_since(settings, topic_prefix, partitions, now_ms + 99) == {0: None, 1: 49, 2: None}
    assert offsets_since(settings, topic_prefix, partitions, now_ms + 100) == {0: None, 1: None, 2: None}
    assert offsets_since(settings, topic_prefix, [], 1) == {}


def test_it_is_found_where_compaction_has_left_the_segment_empty_that_was_written_then(
    settings: dict[str, str], topic_prefix: str
) -> None:
    segments = {"segment.bytes": str(_SEGMENT_BYTES), "min.cleanable.dirty.ratio": "0.01"}
    ensure_topics(settings, [TopicSpec(topic_prefix, 1, 1, segments)])
    began_ms = time.time_ns() // 1_000_000
    producer = Producer({**settings, "queue.buffering.max.messages": 100_000})
    for number in range(9_000):  # three times the same keys, each time more than a segment
        producer.produce(topic_prefix, os.urandom(1000), str(number % 3000), timestamp=began_ms + number)
    assert producer.flush(60) == 0
    # Not before: of what is half written compaction would leave other segments.
    compact = ConfigEntry("cleanup.policy", "compact", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ResourceType.TOPIC, topic_prefix, incremental_configs=[compact])
    admin = AdminClient(settings)
    admin.incremental_alter_configs([resource])[resource].result(30)
    consumer = Consumer({**settings, "group.id": topic_prefix})

    def broker_says(time_ms: int) -> int | None:
        (place,) = consumer.offsets_for_times([TopicPartition(topic_prefix, 0, time_ms)], timeout=10)
        return place.offset

    def written() -> list[tuple[int, int | None]]:
        with WholeTopic(settings, topic_prefix) as whole:
            return [(message.timestamp()[1], message.offset()) for message in whole.messages()]

    try:
        # What is left then are the keys once, and twice those of the newest segment, which is not compacted.
        wait_until(lambda: broker_says(began_ms) == -1, "Kafka says that there is none", seconds=_CLEANED_SECONDS)
        wait_until(lambda: (left := len(written())) and left == len(written()) < 4200, "all is compacted")
        records = written()
        assert len(records) >= 3000
        for after_ms in (0, 1, 3_000, 6_000, 7_777, 8_999, 9_000):
            wanted = next((offset for time_ms, offset in records if time_ms >= began_ms + after_ms), None)
            assert offsets_since(settings, topic_prefix, [0], began_ms + after_ms) == {0: wanted}
    finally:
        consumer.close()
