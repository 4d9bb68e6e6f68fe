"""Follows a feed's alerts topic, for a terminal that shows the latest."""

from collections.abc import Mapping

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicPartition

from fulltape.messages import UNDECODABLE, Alert

_LATEST = 10
_ANSWER_SECONDS = 5.0


class AlertTail:
    """Reads the latest alerts of a topic, and each new one; blocks briefly while it is made.

    Args:
        configuration: as for every Kafka client of the feed.
        topic: its alerts topic, which has one partition.

    Raises:
        KafkaException: the broker does not answer.

    """

    def __init__(self, configuration: Mapping[str, str | int], topic: str) -> None:
        settings: dict[str, str | int | bool] = {
            **configuration,
            "group.id": "fulltape-run",  # librdkafka wants one; nothing is committed
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "log_level": 0,  # that a broker is away is said elsewhere
        }
        self._consumer = Consumer(settings)
        try:
            _, end = self._consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=_ANSWER_SECONDS)
            self._consumer.assign([TopicPartition(topic, 0, max(0, end - _LATEST))])
        except KafkaException:
            self.close()
            raise

    def poll(self) -> list[Alert]:
        """Return what has come since; never waits. What is no alert is left out."""
        alerts = []
        for message in self._consumer.consume(100, 0):
            if message.error() is None:
                try:
                    alerts.append(msgspec.json.decode(message.value() or b"", type=Alert))
                except UNDECODABLE:
                    continue
        return alerts

    def close(self) -> None:
        """Let the broker go."""
        self._consumer.close()
