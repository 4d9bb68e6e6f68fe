"""Tickers and rejected messages: what the tape does not wait for goes to Kafka by an ordinary idempotent producer.

A ticker is superseded by the next, so when Kafka is away the newest that do not fit are dropped and counted.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import KafkaException, Producer

from fulltape.messages import Rejected, Ticker
from fulltape.topics import Topics

_QUEUE_MESSAGES = 20_000
_encode = msgspec.json.Encoder().encode


class AsideProducer:
    """Sends `Ticker` and `Rejected` with bounded memory."""

    def __init__(self, kafka: Mapping[str, Any], topics: Topics) -> None:
        self._topics = topics
        self.dropped = 0
        self._producer = Producer(
            dict(kafka)
            | {
                "enable.idempotence": True,
                "partitioner": "murmur2_random",
                "compression.type": "lz4",
                "linger.ms": 5,
                "queue.buffering.max.messages": _QUEUE_MESSAGES,
            }
        )

    def send(self, message: Ticker | Rejected) -> None:
        """Queue a message; drop and count it where the queue is full."""
        topic, key = (
            (self._topics.ticker, message.product) if isinstance(message, Ticker) else (self._topics.rejected, None)
        )
        try:
            self._producer.produce(topic, _encode(message), key)
        except (BufferError, KafkaException):
            self.dropped += 1

    def close(self, timeout_seconds: float) -> None:
        """Send what is queued, as far as the time allows."""
        self.dropped += self._producer.flush(timeout_seconds)
