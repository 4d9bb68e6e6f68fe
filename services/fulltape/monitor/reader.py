"""Reads the partitions of several topics, each message once, from given places on.

While it is behind, as after a start, it hands messages out in the order in which they were written, over all
partitions: one that is read faster than the others would otherwise make what they still hold look late. Once at the end
of every partition it hands out what comes, at once.
"""

import logging
import time
from collections import deque
from collections.abc import Mapping
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fulltape.errors import ConfigurationError, KafkaUnavailableError
from fulltape.kafka import patiently
from fulltape.offsets import offsets_since

LOG = logging.getLogger(__name__)

Place = tuple[str, int]
"""A topic and one of its partitions."""

_BATCH_MESSAGES = 5000
_BEHIND_MS = 5000
_HELD_HIGH, _HELD_LOW = 3000, 500
"""Messages of one partition that may wait for those of others before it is read no further, and when it is again."""
_TIMEOUT_SECONDS = 15.0
_REFUSED = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED}


def reading_consumer(kafka: Mapping[str, Any], group: str) -> Consumer:
    """Return a consumer for reading at low latency by assignment; it commits nothing by itself."""
    return Consumer(
        dict(kafka)
        | {
            "group.id": group,
            "enable.auto.commit": False,
            "auto.offset.reset": "earliest",  # where retention has passed the place that was asked for
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.error.backoff.ms": 50,
            "queued.max.messages.kbytes": 16 * 1024,
            "socket.nagle.disable": True,
            "reconnect.backoff.max.ms": 1000,
        }
    )


def places_of(consumer: Consumer, topics: list[str]) -> list[Place]:
    """Return every partition of the topics.

    Raises:
        ConfigurationError: one of them does not exist.
        KafkaUnavailableError: no broker answered.

    """
    try:
        known = consumer.list_topics(timeout=_TIMEOUT_SECONDS).topics
    except KafkaException as problem:
        raise KafkaUnavailableError(f"Kafka does not say what topics there are: {problem}") from None
    missing = [topic for topic in topics if topic not in known]
    if missing:
        raise ConfigurationError(f"there is no topic {', '.join(missing)}; is it the right Kafka, and is the feed up?")
    return [(topic, partition) for topic in topics for partition in sorted(known[topic].partitions)]


def offsets_at(kafka: Mapping[str, Any], consumer: Consumer, places: list[Place], time_ms: int) -> dict[Place, int]:
    """Return the offset of the first message of each partition written at or after a time; its end where none is.

    Raises:
        KafkaException: no broker answered.

    """
    offsets = {}
    for topic in dict.fromkeys(topic for topic, _ in places):
        partitions = [partition for other, partition in places if other == topic]
        found = offsets_since(kafka, topic, partitions, time_ms)
        for partition, offset in found.items():
            place = topic, partition
            offsets[place] = offset if offset is not None else ends_of(consumer, [place])[place]
    return offsets


def ends_of(consumer: Consumer, places: list[Place]) -> dict[Place, int]:
    """Return the offset after the last message of each partition.

    Raises:
        KafkaException: no broker answered.

    """

    def end_of(place: Place) -> int:
        known = patiently(
            lambda: consumer.get_watermark_offsets(TopicPartition(*place), timeout=_TIMEOUT_SECONDS, cached=False)
        )
        return int(known[1])

    return {place: end_of(place) for place in places}


class Reader:
    """Hands out messages; `positions` tells up to where."""

    def __init__(self, consumer: Consumer, starts: Mapping[Place, int]) -> None:
        self._consumer = consumer
        self.positions = dict(starts)
        """The offset after the last message that was handed out."""
        self._received = dict(starts)
        self._at_end = dict.fromkeys(starts, False)
        self._written_ms = dict.fromkeys(starts, -1)
        self._held: dict[Place, deque[Message]] = {place: deque() for place in starts}
        self._paused: set[Place] = set()
        self._behind = True
        consumer.assign([TopicPartition(*place, offset) for place, offset in starts.items()])

    @property
    def caught_up(self) -> bool:
        """Whether all that there was has been handed out."""
        return not self._behind and all(self._at_end.values())

    def read(self, timeout_seconds: float, limits: Mapping[Place, int] | None = None) -> list[Message]:
        """Return messages, waiting for the first at most so long; with ``limits``, none from those offsets on.

        Raises:
            KafkaUnavailableError: the broker refuses.

        """
        fresh = self._fetch(timeout_seconds)
        if not self._behind and fresh:
            oldest_ms = int(time.time() * 1000) - _BEHIND_MS
            self._behind = any(message.timestamp()[1] < oldest_ms for message in fresh)
        if not self._behind:
            self._hand_out(fresh)
            return fresh
        for message in fresh:
            self._held[message.topic() or "", message.partition() or 0].append(message)
        return self._merged(limits or {})

    def _fetch(self, timeout_seconds: float) -> list[Message]:
        """Take what the client has, or wait for one; notice where a partition ends."""
        messages = self._consumer.consume(_BATCH_MESSAGES, 0)
        if not messages and (first := self._consumer.poll(timeout_seconds)) is not None:
            messages = [first]
        fresh = []
        for message in messages:
            place = message.topic() or "", message.partition() or 0
            error = message.error()
            if error is None:
                fresh.append(message)
                self._at_end[place] = False
                # Several writers of a partition are not in order to the millisecond. Were this to go back, what waits
                # could be later than it for ever: of a partition with much that waits no more is read until it is less.
                self._written_ms[place] = max(self._written_ms[place], message.timestamp()[1])
                self._received[place] = (message.offset() or 0) + 1
            elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's local errors
                self._at_end[place] = True
            elif error.code() in _REFUSED:
                raise KafkaUnavailableError(f"Kafka does not allow to read {place[0]}: {error.str()}; grant Read on it")
            else:  # it goes on by itself
                LOG.warning("reading %s: %s", place[0] or "Kafka", error.str())
        return fresh

    def _merged(self, limits: Mapping[Place, int]) -> list[Message]:
        """Return what no partition can precede any more, in the order in which it was written."""
        safe_ms = min(
            (
                written_ms
                for place, written_ms in self._written_ms.items()
                if not self._at_end[place] and self._received[place] < limits.get(place, 2**62)
            ),
            default=2**62,
        )
        messages = []
        for place, held in self._held.items():
            limit = limits.get(place, 2**62)
            while held and held[0].timestamp()[1] <= safe_ms and (held[0].offset() or 0) < limit:
                messages.append(held.popleft())
        messages.sort(key=lambda message: message.timestamp()[1])
        self._hand_out(messages)
        self._regulate()
        self._behind = bool(limits) or safe_ms != 2**62 or any(self._held.values())
        return messages

    def reached(self, limits: Mapping[Place, int]) -> bool:
        """Tell whether all before the limits has been handed out."""
        for place, limit in limits.items():
            held = self._held[place]
            if held and (held[0].offset() or 0) < limit:
                return False
            if self._received[place] < limit and not self._at_end[place]:
                return False
        return True

    def backlog(self) -> int:
        """Return how many messages were not handed out yet, as far as the last answers of the brokers tell."""
        total = 0
        for place, position in self.positions.items():
            known = self._consumer.get_watermark_offsets(TopicPartition(*place), cached=True)
            total += max(0, known[1] - position) if known is not None else 0
        return total

    def _hand_out(self, messages: list[Message]) -> None:
        positions = self.positions
        for message in messages:
            place = message.topic() or "", message.partition() or 0
            offset = (message.offset() or 0) + 1
            positions[place] = max(positions[place], offset)

    def _regulate(self) -> None:
        """Read no further in partitions of which much waits, and go on in those of which little does."""
        full = {place for place, held in self._held.items() if len(held) > _HELD_HIGH} - self._paused
        if full:
            self._consumer.pause([TopicPartition(*place) for place in full])
            self._paused |= full
        low = {place for place in self._paused if len(self._held[place]) < _HELD_LOW}
        if low:
            self._consumer.resume([TopicPartition(*place) for place in low])
            self._paused -= low
