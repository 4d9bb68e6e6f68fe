"""Reads a whole tape and enters each of its records into the books."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from confluent_kafka import Message

from fulltape.audit.account import Account, ProductAudit, summarize
from fulltape.audit.reader import WholeTopic
from fulltape.messages import UNDECODABLE


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
    accounts: dict[tuple[int, str], Account] = {}
    records = foreign = 0
    with WholeTopic(kafka, topic) as whole:
        began = time.monotonic()
        for message in whole.messages(progress):
            records += 1
            foreign += _book(message, accounts)
        seconds = time.monotonic() - began
    products = summarize(accounts.values())
    return TapeAudit(
        topic=topic,
        kept=records > 0 and foreign == 0 and all(product.kept for product in products),
        records=records,
        foreign=foreign,
        seconds=round(seconds, 3),
        records_per_second=round(records / seconds, 1) if seconds else 0.0,
        products=products,
    )


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
