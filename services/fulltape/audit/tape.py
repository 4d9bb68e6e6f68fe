"""Reads a whole tape, fast, as a consumer sees it: committed records only."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from fulltape.audit.account import Account, ProductAudit, summarize
from fulltape.errors import ConfigurationError, KafkaUnavailableError
from fulltape.messages import UNDECODABLE

_CONNECT_SECONDS = 15.0
_SILENT_SECONDS = 30.0
_BATCH = 10_000


class _Trade(msgspec.Struct, tag="trade", tag_field="type", gc=False):
    """The fields of `fulltape.messages.Trade` that the books need: decoding the others would halve the speed."""

    product: str
    trade_id: int
    time_us: int


class _Gap(msgspec.Struct, tag="gap", tag_field="type", gc=False):
    product: str
    first_id: int
    last_id: int


_decoder: msgspec.json.Decoder[_Trade | _Gap] = msgspec.json.Decoder(_Trade | _Gap)
_decode = _decoder.decode


class TapeAudit(msgspec.Struct, kw_only=True):
    """What a tape holds."""

    topic: str
    kept: bool
    """Whether the promise holds for every product, with nothing foreign in between; an empty tape proves nothing."""
    records: int
    foreign: int
    """Messages that are no tape records."""
    seconds: float
    records_per_second: float
    products: list[ProductAudit]


def audit_tape(kafka: Mapping[str, Any], topic: str, progress: Callable[[int, int], None]) -> TapeAudit:
    """Read ``topic`` from its beginning to what is now its end.

    ``progress`` is told, every while, how many offsets of how many are done.

    Raises:
        ConfigurationError: there is no such topic.
        KafkaUnavailableError: the broker does not answer.

    """
    consumer = Consumer(
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
        spans = _spans(consumer, topic)
        began = time.monotonic()
        accounts, records, foreign = _read(consumer, topic, spans, progress)
        seconds = time.monotonic() - began
    except KafkaException as problem:
        raise KafkaUnavailableError(f"can't read {topic}: {problem}") from None
    finally:
        consumer.close()
    products = summarize(accounts)
    return TapeAudit(
        topic=topic,
        kept=records > 0 and foreign == 0 and all(product.kept for product in products),
        records=records,
        foreign=foreign,
        seconds=round(seconds, 3),
        records_per_second=round(records / seconds, 1) if seconds else 0.0,
        products=products,
    )


def _spans(consumer: Consumer, topic: str) -> dict[int, tuple[int, int]]:
    """Return the first offset and the end of every partition."""
    found = consumer.list_topics(topic, timeout=_CONNECT_SECONDS).topics[topic]
    if found.error is not None:
        raise ConfigurationError(f"there is no topic {topic} to audit: {found.error}")
    return {
        partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_CONNECT_SECONDS)
        for partition in found.partitions
    }


def _read(
    consumer: Consumer, topic: str, spans: Mapping[int, tuple[int, int]], progress: Callable[[int, int], None]
) -> tuple[list[Account], int, int]:
    waiting = {partition: end for partition, (first, end) in spans.items() if end > first}
    consumer.assign([TopicPartition(topic, partition, spans[partition][0]) for partition in waiting])
    total = sum(end - first for first, end in spans.values())
    accounts: dict[tuple[int, str], Account] = {}
    records = foreign = 0
    heard = time.monotonic()
    while waiting:
        messages = consumer.consume(_BATCH, 0.2)
        for message in messages:
            error = message.error()
            if error is None:
                records += 1
                foreign += _book(message, accounts)
                # On a busy partition the client never gets an empty answer, and so never tells of the end.
                if (message.offset() or 0) + 1 >= waiting.get(message.partition() or 0, sys.maxsize):
                    del waiting[message.partition() or 0]
            elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client has no public name for it
                raise KafkaUnavailableError(f"can't read {topic}: {error}")
            elif (message.offset() or 0) >= waiting.get(message.partition() or 0, 0):
                waiting.pop(message.partition() or 0, None)
        if messages:
            heard = time.monotonic()
            progress(min(records, total), total)
        elif time.monotonic() - heard > _SILENT_SECONDS:
            raise KafkaUnavailableError(
                f"{topic} gave nothing for {_SILENT_SECONDS:g} s before its end: is a transaction left open, or the"
                " broker away?"
            )
    return list(accounts.values()), records, foreign


def _book(message: Message, accounts: dict[tuple[int, str], Account]) -> bool:
    """Enter one message into its product's account; return whether it is foreign to a tape."""
    try:
        record = _decode(message.value() or b"")
    except UNDECODABLE:
        return True
    key = (message.partition() or 0, record.product)
    account = accounts.get(key)
    if isinstance(record, _Trade):
        if account is None:
            account = accounts[key] = Account(record.product, record.trade_id)
        account.trade(record.trade_id, record.time_us)
    else:
        if account is None:
            account = accounts[key] = Account(record.product, record.first_id)
        account.gap(record.first_id, record.last_id)
    return False
