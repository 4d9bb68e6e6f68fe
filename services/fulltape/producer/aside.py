"""Tickers and rejected messages: what the tape does not wait for goes to Kafka by an ordinary idempotent producer.

A ticker is superseded by the next, so what does not fit while Kafka is away is dropped and counted.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fulltape.messages import Rejected, Ticker
from fulltape.topics import Topics

_QUEUE_MESSAGES = 20_000
_QUEUE_KIB = 16 * 1024
_MESSAGE_BYTES = 2 * 1024 * 1024
"""Holds the longest message that a connection takes, in base64."""
_encode = msgspec.json.Encoder().encode


class AsideProducer:
    """Sends `Ticker` and `Rejected` with bounded memory. All calls come from one thread."""

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
                "message.max.bytes": _MESSAGE_BYTES,
                "queue.buffering.max.messages": _QUEUE_MESSAGES,
                "queue.buffering.max.kbytes": _QUEUE_KIB,
            }
        )

    def send(self, message: Ticker | Rejected) -> None:
        """Queue a message; drop and count it where the queue is full."""
        topic, key = (
            (self._topics.ticker, message.product) if isinstance(message, Ticker) else (self._topics.rejected, None)
        )
        try:
            self._producer.produce(topic, _encode(message), key, on_delivery=self._delivered)
        except (BufferError, KafkaException):
            self.dropped += 1
        self._producer.poll(0)  # what was delivered leaves the queue only when its report is taken

    def close(self, timeout_seconds: float) -> None:
        """Send what is queued, as far as the time allows."""
        self.dropped += self._producer.flush(timeout_seconds)

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self.dropped += 1
