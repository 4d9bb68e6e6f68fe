"""Counts what cryptofeed, the peer of `fulltape bench tape`, has written, from the records of its topic."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import msgspec
from confluent_kafka import Consumer, TopicPartition

_START_SECONDS = 30.0
_REST_SECONDS = 2.0
_POLL_SECONDS = 0.25


class PeerTrade(msgspec.Struct):
    """What is read of a trade as cryptofeed's Kafka back-end writes it; it also has side, amount, price and time.

    ``id`` is the exchange's trade id; ``receipt_timestamp`` is when its frame was received, in seconds.
    """

    symbol: str
    id: str
    receipt_timestamp: float


@dataclass(frozen=True, slots=True)
class PeerTally:
    """The peer's trades: how many, how complete, in what time."""

    trades: int
    """Different trades that reached Kafka."""
    duplicates: int
    """Records beyond those: a reconnection sends the last trade again."""
    missing: Mapping[str, int]
    """By product: ids between the first that was written and the exchange's last that were not."""
    seconds: float
    """From the receipt of the first frame to the last record."""

    @property
    def trades_per_second(self) -> float:
        """The rate, reading and writing included; 0 where nothing was written."""
        return self.trades / self.seconds if self.seconds > 0 else 0.0


def read_at_rest(bootstrap_servers: str, topic: str) -> list[tuple[bytes, int]]:
    """Wait until a topic has not grown for a while, then read it whole, for `tally`.

    Nothing is read before: a consumer that waits for records would be woken by each, at the cost of whoever writes.
    """
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{topic}.tally",
            "enable.auto.commit": False,
        }
    )
    try:
        partitions = [
            TopicPartition(topic, number, 0) for number in consumer.list_topics(topic).topics[topic].partitions
        ]

        def size() -> int:
            return sum(consumer.get_watermark_offsets(partition)[1] for partition in partitions)

        seen, grown = 0, time.monotonic()
        while time.monotonic() - grown < (_REST_SECONDS if seen else _START_SECONDS):
            time.sleep(_POLL_SECONDS)
            if (now := size()) > seen:
                seen, grown = now, time.monotonic()
        consumer.assign(partitions)
        records: list[tuple[bytes, int]] = []
        while len(records) < seen:
            messages = [message for message in consumer.consume(10_000, 0.2) if message.error() is None]
            records += [(message.value() or b"", message.timestamp()[1]) for message in messages]
        return records
    finally:
        consumer.close()


def tally(records: Iterable[tuple[bytes, int]], last_ids: Mapping[str, int]) -> PeerTally:
    """Count the peer's trades.

    Args:
        records: value and timestamp (milliseconds) of each record of its topic, in any order.
        last_ids: the exchange's newest trade id of each product, asked no sooner than the records were read. A product
            without any record is missing that one trade at least, since subscribing brings it.

    Raises:
        msgspec.DecodeError: a record is not cryptofeed's.

    """
    decode = msgspec.json.Decoder(PeerTrade).decode
    ids: defaultdict[str, set[int]] = defaultdict(set)
    count, first_seconds, last_ms = 0, float("inf"), 0
    for value, timestamp_ms in records:
        trade = decode(value)
        ids[trade.symbol].add(int(trade.id))
        count += 1
        first_seconds = min(first_seconds, trade.receipt_timestamp)
        last_ms = max(last_ms, timestamp_ms)
    trades = sum(map(len, ids.values()))
    missing = {
        product: last_id - min(ids[product], default=last_id) + 1 - len(ids[product])
        for product, last_id in last_ids.items()
    }
    return PeerTally(
        trades=trades,
        duplicates=count - trades,
        missing=missing,
        seconds=last_ms / 1000 - first_seconds if count else 0.0,
    )
