"""A topic is read to what is its end when reading begins, whatever is written meanwhile; a marker is no record."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from confluent_kafka import KafkaException, Producer

from fulltape.audit.reader import WholeTopic
from fulltape.errors import ConfigurationError
from fulltape.kafka import TopicSpec, ensure_topics
from fulltape.local.kafka import EmbeddedKafka
from fulltape.offsets import offsets_since

pytestmark = pytest.mark.integration

_PARTITIONS = 2


@pytest.fixture
def settings(kafka: EmbeddedKafka) -> dict[str, str]:
    return {"bootstrap.servers": kafka.bootstrap_servers}


@pytest.fixture
def topic(settings: dict[str, str], topic_prefix: str) -> str:
    """Give a topic whose two partitions hold the records 0 to 99 in turn, each transaction's marker behind its own."""
    ensure_topics(settings, [TopicSpec(topic_prefix, _PARTITIONS, 1, {})])
    producer = Producer({**settings, "transactional.id": topic_prefix})
    producer.init_transactions()
    for first in range(0, 100, 10):
        producer.begin_transaction()
        for number in range(first, first + 10):
            producer.produce(topic_prefix, str(number), partition=number % _PARTITIONS)
        producer.commit_transaction()
    return topic_prefix


@contextmanager
def _written_to_all_the_time(settings: dict[str, str], topic: str) -> Iterator[None]:
    """Write without a pause, so that a client that reads never finds nothing."""
    producer, ended, busy = Producer({**settings, "linger.ms": 0}), threading.Event(), threading.Event()

    def write() -> None:
        while not ended.is_set():
            for partition in range(_PARTITIONS):
                producer.produce(topic, "later", partition=partition)
            producer.flush()
            busy.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert busy.wait(30)
        yield
    finally:
        ended.set()
        writer.join()


def test_a_topic_that_is_still_is_read_to_its_end(settings: dict[str, str], topic: str) -> None:
    with WholeTopic(settings, topic) as whole:
        values = [message.value() for message in whole.messages()]
    assert sorted(int(value or b"") for value in values) == list(range(100))


def test_a_time_is_no_offset_where_a_partition_could_not_be_asked(settings: dict[str, str], topic: str) -> None:
    assert offsets_since(settings, topic, range(_PARTITIONS), 1) == {0: 0, 1: 0}
    assert offsets_since(settings, topic, range(_PARTITIONS), 2**42) == {0: None, 1: None}
    with pytest.raises(KafkaException, match="Unknown partition"):  # of one of them
        offsets_since(settings, topic, range(_PARTITIONS + 1), 1)


def test_a_topic_that_is_written_to_all_the_time_is_read_to_what_was_its_end(
    settings: dict[str, str], topic: str
) -> None:
    with _written_to_all_the_time(settings, topic), WholeTopic(settings, topic) as whole:
        values = [message.value() for message in whole.messages()]
    assert sorted(int(value or b"") for value in values if value != b"later") == list(range(100))
    assert b"later" in values


def test_a_topic_that_is_not_there_is_named(settings: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="there is no topic absent"):
        WholeTopic(settings, "absent")


def test_a_topic_may_be_read_from_a_time_on(settings: dict[str, str], topic: str) -> None:
    with WholeTopic(settings, topic) as whole:
        times = {message.value(): message.timestamp()[1] for message in whole.messages()}
    for since_ms in sorted(set(times.values())):
        wanted = {value for value, at_ms in times.items() if at_ms >= since_ms}
        with WholeTopic(settings, topic, since_us=since_ms * 1000) as later:
            read = {message.value() for message in later.messages()}
        assert wanted <= read
        # The broker's clock gives a marker its time, the client's the records that come behind it.
        assert len(read - wanted) <= 10
    with WholeTopic(settings, topic, since_us=(max(times.values()) + 3_600_000) * 1000) as nothing:
        assert list(nothing.messages()) == []
