"""Reads a whole topic, fast, as a consumer sees it: committed records only, from the first to what is now the end."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fulltape.errors import ConfigurationError, FulltapeError, KafkaUnavailableError
from fulltape.offsets import offsets_since

_CONNECT_SECONDS = 15.0
_SILENT_SECONDS = 30.0
_BATCH = 10_000


class WholeTopic:
    """A topic from its first record to what was its end when this was made; a context manager.

    Args:
        kafka: settings of the client.
        topic: its name.
        since_us: of each partition, what comes before its first record that was written then is left out.

    Raises:
        ConfigurationError: there is no such topic.
        KafkaUnavailableError: the broker does not answer.

    """

    def __init__(self, kafka: Mapping[str, Any], topic: str, *, since_us: int = 0) -> None:
        self._kafka = kafka
        self._topic = topic
        self._since_us = since_us
        self._consumer = Consumer(
            dict(kafka)
            | {
                "group.id": f"{topic}.audit",  # required by the client; no group is ever joined
                "enable.auto.commit": False,
                "auto.offset.reset": "earliest",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "queued.max.messages.kbytes": 65536,
                "fetch.message.max.bytes": 8 * 1024 * 1024,
            }
        )
        try:
            self._spans = self._find_spans()
        except FulltapeError:
            self._consumer.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._consumer.close()

    def messages(self, progress: Callable[[int, int], None] = lambda *_: None) -> Iterator[Message]:
        """Give every record once, each partition's in order; some that were written meanwhile may be among them.

        ``progress`` is told, every while, how many offsets of how many are done.

        Raises:
            KafkaUnavailableError: the broker does not answer any more.

        """
        waiting = {partition: end for partition, (first, end) in self._spans.items() if end > first}
        total = sum(end - first for first, end in self._spans.values())
        records = 0
        heard = time.monotonic()
        try:
            self._consumer.assign(
                [TopicPartition(self._topic, partition, self._spans[partition][0]) for partition in waiting]
            )
            while waiting:
                messages = self._consumer.consume(_BATCH, 0.2)
                for message in messages:
                    error = message.error()
                    if error is None:
                        records += 1
                        yield message
                        # On a busy partition the client never gets an empty answer, and so never tells of the end.
                        if (message.offset() or 0) + 1 >= waiting.get(message.partition() or 0, sys.maxsize):
                            del waiting[message.partition() or 0]
                    elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client has no public name for it
                        raise KafkaUnavailableError(f"can't read {self._topic}: {error}")
                    elif (message.offset() or 0) >= waiting.get(message.partition() or 0, 0):
                        waiting.pop(message.partition() or 0, None)
                if messages:
                    heard = time.monotonic()
                    progress(min(records, total), total)
                elif time.monotonic() - heard > _SILENT_SECONDS:
                    raise KafkaUnavailableError(
                        f"{self._topic} gave nothing for {_SILENT_SECONDS:g} s before its end: is a transaction left "
                        "open, or the broker away?"
                    )
        except KafkaException as problem:
            raise KafkaUnavailableError(f"can't read {self._topic}: {problem}") from None

    def _find_spans(self) -> dict[int, tuple[int, int]]:
        """Return the first offset and the end of every partition."""
        try:
            found = self._consumer.list_topics(self._topic, timeout=_CONNECT_SECONDS).topics[self._topic]
            if found.error is not None and found.error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                raise ConfigurationError(f"may not read {self._topic}: its Kafka gives this user no right to")
            if found.error is not None:
                raise ConfigurationError(f"there is no topic {self._topic}: {found.error}")
            places = [TopicPartition(self._topic, partition) for partition in found.partitions]
            spans = {
                place.partition: self._consumer.get_watermark_offsets(place, timeout=_CONNECT_SECONDS)
                for place in places
            }
            if not self._since_us:
                return spans
            begins = offsets_since(self._kafka, self._topic, spans, self._since_us // 1000)
            return {
                partition: (end if (begin := begins[partition]) is None else begin, end)
                for partition, (_, end) in spans.items()
            }
        except KafkaException as problem:
            raise KafkaUnavailableError(f"can't read {self._topic}: {problem}") from None
