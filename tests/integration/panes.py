"""A market and a stream of panes of its tape: what the tests of panes share."""

import random
import time
from collections import defaultdict
from collections.abc import Mapping
from decimal import localcontext
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from fulltape.bench.stage import FeedOptions, WorkloadProgram, make_feed, wait_until
from fulltape.coinbase.messages import Match
from fulltape.decimals import shortest_decimal
from fulltape.errors import FulltapeError
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, ensure_topics, topic_specs
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Pane, Trade
from fulltape.producer.tail import Tail
from tests.panes import panes_of

PRODUCTS = ("BTC-USD", "SHIB-USD", "ETH-USD")
SECOND_US = 1_000_000


class Market:
    """Trades as a producer writes them, and the tape that it writes them to."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers})
        self._topic = topic
        self._random = random.Random(20_101_010)
        self._tails = {product: Tail(product, None) for product in PRODUCTS}
        self._prices = {"BTC-USD": 6_512_345, "SHIB-USD": 91_827_364, "ETH-USD": 351_844}
        self._digits = {"BTC-USD": 2, "SHIB-USD": 10, "ETH-USD": 2}
        self.trades: dict[str, list[Trade]] = defaultdict(list)

    def trade(self, product: str, time_us: int) -> Trade:
        """Write the next trade of a product."""
        chance = self._random
        self._prices[product] += chance.choice((-7, -1, -1, 0, 0, 1, 1, 7))
        digits = self._digits[product]
        whole, part = divmod(self._prices[product], 10**digits)
        size = chance.choice(("0.00000001", "250", "0.5", "12345678901234.00000001", f"{chance.random():.8f}1"[:10]))
        trade_id = len(self.trades[product]) + 1
        match = Match(
            product_id=product,
            trade_id=trade_id,
            price=f"{whole}.{part:0{digits}d}",
            size=size,
            side=chance.choice(("buy", "sell")),
            time="",
            sequence=trade_id,
        )
        received_us = time.time_ns() // 1_000
        trade = self._tails[product].append(match, time_us, received_us, "stream")
        self.trades[product].append(trade)
        self.write(msgspec.json.encode(trade), product, -(-received_us // 1_000))
        return trade

    def burst(self, trades: int, first_us: int, seconds: int) -> None:
        """Write trades of all products, ordered, spread over some seconds."""
        times = sorted(first_us + self._random.randrange(seconds * SECOND_US) for _ in range(trades))
        for time_us in times:
            self.trade(self._random.choice(PRODUCTS), time_us)
        self.flush()

    def write(self, value: bytes, key: str, time_ms: int = 0) -> None:
        self._producer.produce(self._topic, value, key, timestamp=time_ms or time.time_ns() // 1_000_000)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0

    def panes(self) -> dict[tuple[str, int], Pane]:
        """Return the panes that these trades make, by plain Python."""
        with localcontext(prec=60):
            panes = [pane for trades in self.trades.values() for pane in panes_of(trades)]
        return {(pane.product, pane.start_us): pane for pane in panes}


class Stage:
    """The market, and the stream of panes with what it has published."""

    def __init__(self, broker: EmbeddedKafka, folder: Path, store: Mapping[str, str] | None = None) -> None:
        """Make the topics. ``store`` is the environment in which the stream finds S3."""
        self.folder = folder
        self._store = dict(store or {})
        self._servers = broker.bootstrap_servers
        self.feed = make_feed(f"test-{uuid4().hex[:12]}", FeedOptions(PRODUCTS, partitions=2, analytics={}))
        self.kafka = ClientConfiguration({"bootstrap.servers": self._servers})
        ensure_topics(self.kafka, topic_specs(self.feed, replicas=1))
        self.market = Market(self._servers, self.feed.topics.trades)
        self.program: WorkloadProgram
        self.checkpoint = folder / "state" / self.feed.metadata.name / "panes-0"

    def launch(self, *, warm: bool = False, checkpoint: str = "", **environment: str) -> None:
        """Start the stream, and wait for nothing."""
        environment |= {BOOTSTRAP_VARIABLE: self._servers, "FULLTAPE_BATCH": "10s", **self._store}
        environment |= {"FULLTAPE_WARM_UP": str(int(warm))}
        further = ("--checkpoint", checkpoint) if checkpoint else ()  # of an option given twice the last counts
        self.program = WorkloadProgram(self.folder, self.feed, "panes-0", environment=environment, further=further)

    def start(self, *, warm: bool = False, checkpoint: str = "", **environment: str) -> None:
        """Start the stream, and wait until it is ready."""
        self.launch(warm=warm, checkpoint=checkpoint, **environment)
        self.program.wait_ready(300)

    def said(self) -> str:
        return self.program.output.read_text()

    def published(self) -> list[tuple[str, Pane]]:
        """Return every version of every pane with its key, in the order of each partition."""
        topic, found = self.feed.topics.panes, []
        decoder = msgspec.json.Decoder(Pane, strict=True)
        consumer = Consumer({**self.kafka, "group.id": "test", "enable.auto.commit": False})
        try:
            for partition in range(2):
                place = TopicPartition(topic, partition, 0)
                _, end = consumer.get_watermark_offsets(place, timeout=10)
                consumer.assign([place])
                at = 0
                while at < end:
                    message = consumer.poll(10)
                    assert message is not None
                    assert not message.error()
                    value, key, offset = message.value(), message.key(), message.offset()
                    assert value is not None
                    assert offset is not None
                    assert isinstance(key, bytes)
                    found.append((key.decode(), decoder.decode(value)))
                    at = offset + 1
        finally:
            consumer.close()
        return found

    def panes(self) -> dict[tuple[str, int], Pane]:
        """Return the version of each pane that counts."""
        newest: dict[tuple[str, int], Pane] = {}
        for key, pane in self.published():
            assert key == f"{pane.product}/{pane.start_us // SECOND_US}"
            place = (pane.product, pane.start_us)
            if place not in newest or pane.trades > newest[place].trades:
                newest[place] = pane
        return newest

    def assert_panes_become_those_of_the_market(self) -> None:
        """Wait until every trade is in a pane, then compare each field."""
        expected = self.market.panes()
        counts = {place: pane.trades for place, pane in expected.items()}

        def complete() -> bool:
            if not self.program.running:
                raise FulltapeError(f"the stream ended with {self.program.exit_code}:\n{self.program.tail()}")
            return {place: pane.trades for place, pane in self.panes().items()} == counts

        try:
            wait_until(complete, "every trade is in a pane", seconds=180)
        finally:
            found = self.panes()
            missing = {
                place: pane.trades - found[place].trades if place in found else pane.trades
                for place, pane in expected.items()
            }
            assert not any(missing.values()), {place: trades for place, trades in missing.items() if trades}
        for place, pane in expected.items():
            assert_equal(found[place], pane)


def assert_equal(found: Pane, expected: Pane) -> None:
    """Hold every field to the reference: decimals, counts and times exactly, statistics to rounding."""
    for field in msgspec.structs.fields(Pane):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(one, str) and field.name != "product":
            one = shortest_decimal(one)
        if isinstance(other, float):
            # What may cancel to nearly nothing is held to the rounding of what was added.
            exact_to = {
                "change_sum": 1e-12 * (expected.change_squares * expected.changes) ** 0.5,
                "price_square_deviations": 1e-15
                * expected.price_mean
                * (expected.price_square_deviations * expected.trades) ** 0.5,
            }.get(field.name, 0.0)
            assert one == pytest.approx(other, rel=1e-9, abs=exact_to), (field.name, found, expected)
        else:
            assert one == other, (field.name, found, expected)


def now_us() -> int:
    return time.time_ns() // 1_000
