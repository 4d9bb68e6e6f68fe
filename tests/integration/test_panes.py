"""Panes from a real tape by a real Spark: equal to plain Python's, whatever is killed, lost or strewn in between.

One stream is driven through the tests in order: a start of Spark takes long, and each leaves the tape as the next one
finds it.
"""

import json
import random
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from decimal import localcontext
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from fulltape.bench.stage import FeedOptions, WorkloadProgram, delete_topics, make_feed, wait_until
from fulltape.coinbase.messages import Match
from fulltape.decimals import shortest_decimal
from fulltape.errors import FulltapeError
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, ensure_topics, topic_specs
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Gap, Pane, Trade
from fulltape.producer.tail import Tail
from fulltape_spark.checkpoint import Tape
from tests.panes import panes_of

pytestmark = pytest.mark.integration

PRODUCTS = ("BTC-USD", "SHIB-USD", "ETH-USD")
SECOND_US = 1_000_000
GARBAGE = (
    b"",
    b"no json",
    b"\xff\xfe",
    b"[]",
    b"17",
    b'{"type":"trade"}',
    b'{"type":"trade","product":"BTC-USD","trade_id":"one"}',
    b'{"type":"what a later version writes","product":"BTC-USD"}',
)


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

    def __init__(self, broker: EmbeddedKafka, folder: Path) -> None:
        self.folder = folder
        self._servers = broker.bootstrap_servers
        self.feed = make_feed(f"test-{uuid4().hex[:12]}", FeedOptions(PRODUCTS, partitions=2, analytics={}))
        self.kafka = ClientConfiguration({"bootstrap.servers": self._servers})
        ensure_topics(self.kafka, topic_specs(self.feed, replicas=1))
        self.market = Market(self._servers, self.feed.topics.trades)
        self.program: WorkloadProgram
        self.checkpoint = folder / "state" / self.feed.metadata.name / "panes-0"

    def start(self, *, warm: bool = False) -> None:
        environment = {BOOTSTRAP_VARIABLE: self._servers, "FULLTAPE_BATCH": "10s", "FULLTAPE_WARM_UP": str(int(warm))}
        self.program = WorkloadProgram(self.folder, self.feed, "panes-0", environment=environment)
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


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(kafka, tmp_path_factory.mktemp("panes"))
    stage.start(warm=True)
    yield stage
    stage.program.kill()
    delete_topics(kafka.bootstrap_servers, stage.feed)


def now_us() -> int:
    return time.time_ns() // 1_000


def test_panes_equal_plain_pythons_and_a_version_comes_with_every_trade(stage: Stage) -> None:
    stage.market.burst(3_000, now_us() - 20 * SECOND_US, seconds=20)
    stage.assert_panes_become_those_of_the_market()
    assert len(stage.published()) == 3_000


def test_what_is_no_trade_is_skipped_and_counted(stage: Stage) -> None:
    gap = msgspec.json.encode(Gap("BTC-USD", 5, 6, "404", now_us()))
    far = msgspec.structs.replace(stage.market.trades["BTC-USD"][-1], time_us=now_us() + 3_600 * SECOND_US)
    free = {**json.loads(msgspec.json.encode(far)), "time_us": now_us(), "price": "0"}
    for value in (*GARBAGE, gap, json.dumps(free).encode()):
        stage.market.write(value, "BTC-USD")
    stage.market.write(msgspec.json.encode(far), "BTC-USD")
    stage.market.burst(200, now_us(), seconds=1)
    stage.assert_panes_become_those_of_the_market()
    wait_until(
        lambda: stage.program.metric("fulltape_panes_unusable_records_total") == len(GARBAGE) + 2,
        "what is neither gap nor trade is counted at the end of its batch",
        seconds=120,
    )


def test_a_late_trade_corrects_its_pane(stage: Stage) -> None:
    wait_until(
        lambda: stage.program.metric("fulltape_panes_watermark_seconds") > time.time() - 1_200,
        "a batch has ended, and with it the first second's",
        seconds=120,
    )
    first = min(stage.market.panes())
    stage.market.trade(first[0], first[1] + 999_999)
    stage.market.flush()
    stage.assert_panes_become_those_of_the_market()


def test_after_kill_9_the_checkpoint_gives_the_same_panes(stage: Stage) -> None:
    second_us = now_us()
    stage.market.burst(500, second_us, seconds=2)
    stage.assert_panes_become_those_of_the_market()
    stage.program.kill()
    stage.market.burst(500, second_us, seconds=2)  # the same seconds, half of whose trades the dead one had counted
    stage.start()
    assert "continuing from the checkpoint" in stage.said()
    stage.assert_panes_become_those_of_the_market()


def test_without_its_checkpoint_it_reads_the_tape_and_gives_the_same_panes(stage: Stage) -> None:
    assert stage.program.terminate(60) == 0
    shutil.rmtree(stage.checkpoint)
    second_us = now_us() - 10 * SECOND_US
    stage.market.burst(500, second_us, seconds=2)
    stage.start()
    assert "s back in the tape" in stage.said()
    stage.assert_panes_become_those_of_the_market()


def test_a_damaged_checkpoint_is_set_aside_and_gives_the_same_panes(stage: Stage) -> None:
    wait_until(lambda: stage.program.metric("fulltape_panes_batch") >= 1, "a checkpoint was written", seconds=120)
    stage.program.kill()
    for part in ("offsets", "commits"):
        for file in (stage.checkpoint / "current" / "spark" / part).iterdir():
            file.write_bytes(b"v1\ngarbage")
    stage.market.burst(300, now_us() - 5 * SECOND_US, seconds=2)
    stage.start()
    assert "the checkpoint can't be continued" in stage.said()
    assert (stage.checkpoint / "unusable" / "spark").exists()
    stage.assert_panes_become_those_of_the_market()


def test_the_topics_of_the_warm_up_are_gone(stage: Stage) -> None:
    consumer = Consumer({**stage.kafka, "group.id": "test"})
    topics = set(consumer.list_topics(timeout=10).topics)
    consumer.close()
    assert not [topic for topic in topics if topic.startswith(f"{stage.feed.metadata.name}.panes-0")]


class TestBeginning:
    """Where a start without a checkpoint begins."""

    @staticmethod
    def tape(kafka: EmbeddedKafka, prefix: str, trades: Sequence[Trade]) -> Tape:
        """Return a tape on which each trade was written when it was received."""
        feed = make_feed(prefix, FeedOptions(PRODUCTS, partitions=1, analytics={}))
        configuration = ClientConfiguration({"bootstrap.servers": kafka.bootstrap_servers})
        ensure_topics(configuration, topic_specs(feed, replicas=1))
        producer = Producer({**configuration})
        for trade in trades:
            producer.produce(feed.topics.trades, msgspec.json.encode(trade), timestamp=trade.received_us // 1_000)
        assert producer.flush(30) == 0
        return Tape(configuration, feed.topics.trades)

    @staticmethod
    def trades(*places: tuple[int, int]) -> list[Trade]:
        """Return a trade for each (received second, milliseconds of exchange time before)."""
        base = Trade("A-B", 1, "1", "1", "buy", 0, 1, 0, "stream", None, None, 0, None, None, "1", "1")
        return [
            msgspec.structs.replace(base, received_us=second * SECOND_US, time_us=second * SECOND_US - before * 1_000)
            for second, before in places
        ]

    def test_an_empty_tape_is_begun_at_its_start(self, kafka: EmbeddedKafka, topic_prefix: str) -> None:
        beginning = self.tape(kafka, topic_prefix, []).begin("any", now_us())
        assert (beginning.offsets, beginning.complete_from_us) == ({"0": 0}, 0)

    def test_panes_that_had_begun_by_then_are_left_out(self, kafka: EmbeddedKafka, topic_prefix: str) -> None:
        start = now_us() // SECOND_US - 100
        tape = self.tape(
            kafka, topic_prefix, self.trades((start, 10), (start + 1, 300), (start + 1, 5_000), (start + 2, 0))
        )
        beginning = tape.begin("any", (start + 2) * SECOND_US)
        assert beginning.offsets == {"0": 3}
        assert beginning.complete_from_us == (start + 1) * SECOND_US  # the last whole second before it holds start+0.7

    def test_a_tape_that_has_been_silent_since_is_begun_at_its_end(
        self, kafka: EmbeddedKafka, topic_prefix: str
    ) -> None:
        start = now_us() // SECOND_US - 3_600
        tape = self.tape(kafka, topic_prefix, self.trades((start, 0), (start + 1, 0)))
        assert tape.begin("any", now_us() - 60 * SECOND_US).offsets == {"0": 2}

    def test_a_tape_that_was_made_anew_is_another(self, kafka: EmbeddedKafka, topic_prefix: str) -> None:
        first, second = self.tape(kafka, topic_prefix, []), self.tape(kafka, f"{topic_prefix}-b", [])
        assert first.identity("x") == self.tape(kafka, topic_prefix, []).identity("x")
        assert len({first.identity("x"), first.identity("y"), second.identity("x")}) == 3
