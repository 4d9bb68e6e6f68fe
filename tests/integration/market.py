"""Trades of three products as a producer writes them: a random walk, the same in every run, of awkward numbers."""

import random
import time
from collections import Counter

import msgspec
from confluent_kafka import Producer

from fulltape.coinbase.messages import Match
from fulltape.messages import Trade
from fulltape.producer.tail import Tail

PRODUCTS = ("BTC-USD", "SHIB-USD", "ETH-USD")
SECOND_US = 1_000_000

_DIGITS = {"BTC-USD": 2, "SHIB-USD": 10, "ETH-USD": 2}
"""Behind the point, of each product's prices."""


class Market:
    """The trades so far, and a hand that writes the next ones, and whatever else, to Kafka.

    Args:
        bootstrap_servers: of Kafka.
        tape: the topic of trades.
        largest_size: a size that some trades have; how large it may be is for those to say who read it.

    """

    def __init__(self, bootstrap_servers: str, tape: str, largest_size: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers})
        self._tape = tape
        self._largest_size = largest_size
        self._random = random.Random(20_101_010)
        self._tails = {product: Tail(product, None) for product in PRODUCTS}
        self._prices = {"BTC-USD": 6_512_345, "SHIB-USD": 91_827_364, "ETH-USD": 351_844}
        self._ids: Counter[str] = Counter()
        self.trades: dict[tuple[str, int], Trade] = {}
        """By product and id, in the order of their writing."""

    def of(self, product: str) -> list[Trade]:
        """Return the trades of one product."""
        return [trade for trade in self.trades.values() if trade.product == product]

    def trade(self, product: str, time_us: int) -> Trade:
        """Write the next trade of a product."""
        chance = self._random
        self._prices[product] += chance.choice((-7, -1, -1, 0, 0, 1, 1, 7))
        digits = _DIGITS[product]
        whole, part = divmod(self._prices[product], 10**digits)
        size = chance.choice(("0.00000001", "250", "0.5", self._largest_size, f"{chance.random():.8f}1"[:10]))
        self._ids[product] += 1
        match = Match(
            product_id=product,
            trade_id=self._ids[product],
            price=f"{whole}.{part:0{digits}d}",
            size=size,
            side=chance.choice(("buy", "sell")),
            time="",
            sequence=self._ids[product],
        )
        received_us = now_us()
        trade = self._tails[product].append(match, time_us, received_us, "stream")
        self.trades[product, trade.trade_id] = trade
        self.write(self._tape, msgspec.json.encode(trade), product, -(-received_us // 1_000))
        return trade

    def burst(self, trades: int, first_us: int, seconds: int) -> None:
        """Write trades of all products, ordered, spread over some seconds."""
        for time_us in sorted(first_us + self._random.randrange(seconds * SECOND_US) for _ in range(trades)):
            self.trade(self._random.choice(PRODUCTS), time_us)
        self.flush()

    def write(self, topic: str, value: bytes, key: str, time_ms: int = 0) -> None:
        """Write any message."""
        self._producer.produce(topic, value, key, timestamp=time_ms or now_us() // 1_000)

    def flush(self) -> None:
        """Wait until all is written."""
        assert self._producer.flush(30) == 0


def now_us() -> int:
    """Return the time."""
    return time.time_ns() // 1_000
