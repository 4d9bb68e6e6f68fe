"""Reads windows, trades and alerts from Kafka: the last minutes once, then what comes, conflated at each look."""

import logging
import sys
import time
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # it does not list its names

from fulltape.dashboard.market import ALERTS_KEPT, HISTORY_US, TRADES_KEPT, Batch, is_gap
from fulltape.errors import ConfigurationError, KafkaUnavailableError
from fulltape.kafka import patiently
from fulltape.offsets import offsets_since
from fulltape.topics import Topics

LOG = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 15.0
_BATCH, _LOOK = 2_000, 20_000
"""Messages taken from the client at a time, and in one look at most."""
_QUIET_SECONDS = 3.0
"""History that gives nothing for so long has been read: its last offsets may hold only the ends of transactions."""
_CHECK_SECONDS = 1.0
_MARGIN_US = 10_000_000
"""A window is published about when it ends; this much is read back beyond the history."""


class Source:
    """The dashboard's one consumer. Every method blocks; use it from one thread at a time."""

    def __init__(self, kafka: Mapping[str, Any], topics: Topics, products: Iterable[str]) -> None:
        self._kafka = dict(kafka)
        self._topics = topics
        self._names = {product.encode(): product for product in products}
        self._history: dict[int, int] = {}
        """Where the windows end in each partition whose history has not been read so far."""
        self._read = 0
        self.connected = True
        """Whether a broker can be reached, as far as is known."""

    def open(self) -> None:
        """Find where the last minutes begin.

        Raises:
            ConfigurationError: a topic is missing.
            KafkaUnavailableError: no broker answers, or it refuses.

        """
        self._opened_ms = time.time_ns() // 1_000_000
        self._consumer = Consumer(
            self._kafka
            | {
                "group.id": f"{self._topics.prefix}.dashboard",  # required by the client; no group is ever joined
                "enable.auto.commit": False,
                "auto.offset.reset": "latest",
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 1,
                "queued.max.messages.kbytes": 16 * 1024,
                "error_cb": self._error,
                "log_level": 2,
            }
        )
        try:
            self._consumer.assign([*self._windows(), *self._tails()])
        except KafkaException as problem:
            raise KafkaUnavailableError(f"can't find where to read from: {problem}; check that Kafka runs") from None

    def close(self) -> None:
        """Leave."""
        self._consumer.close()

    def look(self, wait_seconds: float) -> Batch:
        """Wait for a message, then take all that is there."""
        loading = bool(self._history)
        first = self._consumer.poll(max(wait_seconds, _QUIET_SECONDS) if loading else wait_seconds)
        if first is None:
            self._history.clear()
            if not self.connected:
                self._check()
            return Batch({}, 0, {}, 0, (), (), loading=False)
        messages = [first]
        while len(messages) < _LOOK:
            more = self._consumer.consume(_BATCH, 0)
            messages += more
            if len(more) < _BATCH:
                break
        if loading:
            self._progress(messages)
        return self._batch(messages, loading=loading)

    def _batch(self, messages: Sequence[Message], *, loading: bool) -> Batch:
        windows: dict[bytes, bytes] = {}
        trades: defaultdict[bytes, deque[bytes]] = defaultdict(lambda: deque(maxlen=TRADES_KEPT))
        gaps, alerts = [], []
        window_messages = trade_messages = 0
        window_topic, trade_topic, opened_ms = self._topics.windows, self._topics.trades, self._opened_ms
        for message in messages:
            error = message.error()
            if error is not None:
                LOG.warning("Kafka: %s", error)
                continue
            topic, value = message.topic(), message.value() or b""
            if topic == trade_topic:
                trade_messages += message.timestamp()[1] >= opened_ms
                trades[message.key() or b""].append(value)
                if is_gap(value):
                    gaps.append(value)
            elif topic == window_topic:
                window_messages += 1
                windows[message.key() or b""] = value
            else:
                alerts.append(value)
            self.connected = True
        names = self._names
        known = {names[key]: records for key, records in trades.items() if key in names}
        return Batch(windows, window_messages, known, trade_messages, gaps, alerts, loading=loading)

    def _progress(self, messages: Sequence[Message]) -> None:
        for message in messages:
            partition = message.partition() or 0
            if (
                message.error() is None
                and message.topic() == self._topics.windows
                and (message.offset() or 0) + 1 >= self._history.get(partition, sys.maxsize)
            ):
                del self._history[partition]
        self._read += len(messages)
        if not self._history:
            LOG.info("read back %d messages", self._read)

    def _windows(self) -> list[TopicPartition]:
        """Return the places that the history begins at: so long before the newest message, not before now.

        A feed that was stopped an hour ago still shows its last minutes.
        """
        topic = self._topics.windows
        spans = self._spans(topic)
        client = AdminClient({**self._kafka, "log_level": 2})
        asked = {TopicPartition(topic, partition): OffsetSpec.max_timestamp() for partition in spans}  # type: ignore[no-untyped-call]

        def newest() -> int:
            found = client.list_offsets(asked, request_timeout=_TIMEOUT_SECONDS)
            return max(int(future.result().timestamp) for future in found.values())

        since_ms = patiently(newest) - (HISTORY_US + _MARGIN_US) // 1000
        begins = []
        for partition, offset in offsets_since(self._kafka, topic, spans, since_ms).items():
            first, end = spans[partition]
            begin = end if offset is None else max(first, offset)
            if begin < end:
                self._history[partition] = end
            begins.append(TopicPartition(topic, partition, begin))
        return begins

    def _tails(self) -> list[TopicPartition]:
        """Return the places from which some last trades and alerts can be had; every commit takes an offset too."""
        lengths = {self._topics.trades: 20 * TRADES_KEPT, self._topics.alerts: 2 * ALERTS_KEPT}
        begins = []
        for topic, length in lengths.items():
            for partition, (first, end) in self._spans(topic).items():
                begins.append(TopicPartition(topic, partition, max(first, end - length)))
        return begins

    def _spans(self, topic: str) -> dict[int, tuple[int, int]]:
        """Return the first offset and the end of every partition."""
        found = self._consumer.list_topics(topic, timeout=_TIMEOUT_SECONDS).topics[topic]
        if found.error is not None:
            raise ConfigurationError(
                f"there is no topic {topic}: {found.error}; start the feed's producer and monitor, which make it"
            )

        def span_of(partition: int) -> tuple[int, int]:
            place = TopicPartition(topic, partition)
            return patiently(lambda: self._consumer.get_watermark_offsets(place, timeout=_TIMEOUT_SECONDS))

        return {partition: span_of(partition) for partition in found.partitions}

    def _error(self, error: KafkaError) -> None:
        if error.code() == KafkaError._ALL_BROKERS_DOWN and self.connected:  # noqa: SLF001 - it has no public name
            self.connected = False
            LOG.warning("Kafka is away; the page keeps what it has")

    def _check(self) -> None:
        """Ask a broker whether it is back: in a quiet market no message would tell."""
        try:
            self._consumer.list_topics(self._topics.alerts, timeout=_CHECK_SECONDS)
        except KafkaException:
            time.sleep(_CHECK_SECONDS / 4)
        else:
            self.connected = True
            LOG.info("Kafka is back")
