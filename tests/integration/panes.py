"""A stream of panes of a market's tape: what the tests of panes share."""

from collections.abc import Mapping
from decimal import localcontext
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
from confluent_kafka import Consumer, TopicPartition

from fulltape.bench.stage import FeedOptions, WorkloadProgram, make_feed, wait_until
from fulltape.decimals import shortest_decimal
from fulltape.errors import FulltapeError
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, ensure_topics, topic_specs
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Pane
from tests.integration.market import PRODUCTS, SECOND_US, Market
from tests.panes import panes_of


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
        self.market = Market(self._servers, self.feed.topics.trades, "12345678901234.00000001")
        self.program: WorkloadProgram
        self.checkpoint = folder / "state" / self.feed.metadata.name / "panes-0"

    def launch(self, *, warm: bool = False, checkpoint: str = "", **environment: str) -> None:
        """Start the stream, and wait for nothing."""
        environment = {"FULLTAPE_BATCH": "10s", **environment, **self._store}
        environment |= {BOOTSTRAP_VARIABLE: self._servers, "FULLTAPE_WARM_UP": str(int(warm))}
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

    def expected(self) -> dict[tuple[str, int], Pane]:
        """Return the panes that the market's trades make, by plain Python."""
        with localcontext(prec=60):
            panes = [pane for product in PRODUCTS for pane in panes_of(self.market.of(product))]
        return {(pane.product, pane.start_us): pane for pane in panes}

    def assert_panes_become_those_of_the_market(self) -> None:
        """Wait until every trade is in a pane, then compare each field."""
        expected = self.expected()
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
            # What may cancel to nearly nothing is held to the rounding of what was added; of squared deviations that
            # are updated trade by trade this is n·κ·u (Chan, Golub and LeVeque, 1983, table 1), here twice.
            exact_to = {
                "change_sum": 1e-12 * (expected.change_squares * expected.changes) ** 0.5,
                "price_square_deviations": 2**-52
                * expected.trades
                * expected.price_mean
                * (expected.price_square_deviations * expected.trades) ** 0.5,
            }.get(field.name, 0.0)
            assert one == pytest.approx(other, rel=1e-9, abs=exact_to), (field.name, found, expected)
        else:
            assert one == other, (field.name, found, expected)
