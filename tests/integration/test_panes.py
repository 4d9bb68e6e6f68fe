"""Panes from a real tape by a real Spark: equal to plain Python's, whatever is killed, lost or strewn in between.

One stream is driven through the tests in order: a start of Spark takes long, and each leaves the tape as the next one
finds it.
"""

import json
import shutil
import time
from collections.abc import Iterator, Sequence

import msgspec
import pytest
from confluent_kafka import Consumer, Producer

from fulltape.bench.stage import FeedOptions, delete_topics, make_feed, wait_until
from fulltape.kafka import ClientConfiguration, ensure_topics, topic_specs
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Gap, Trade
from fulltape_spark.checkpoint import Tape
from tests.integration.market import PRODUCTS, SECOND_US, now_us
from tests.integration.panes import Stage

pytestmark = pytest.mark.integration

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


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(kafka, tmp_path_factory.mktemp("panes"))
    stage.start(warm=True)
    yield stage
    stage.program.kill()
    delete_topics(kafka.bootstrap_servers, stage.feed)


def test_panes_equal_plain_pythons_and_a_version_comes_with_every_trade(stage: Stage) -> None:
    stage.market.burst(3_000, now_us() - 20 * SECOND_US, seconds=20)
    stage.assert_panes_become_those_of_the_market()
    assert len(stage.published()) == 3_000


def test_what_is_no_trade_is_skipped_and_counted(stage: Stage) -> None:
    gap = msgspec.json.encode(Gap("BTC-USD", 5, 6, "404", now_us()))
    far = msgspec.structs.replace(stage.market.of("BTC-USD")[-1], time_us=now_us() + 3_600 * SECOND_US)
    free = {**json.loads(msgspec.json.encode(far)), "time_us": now_us(), "price": "0"}
    tape = stage.feed.topics.trades
    for value in (*GARBAGE, gap, json.dumps(free).encode()):
        stage.market.write(tape, value, "BTC-USD")
    stage.market.write(tape, msgspec.json.encode(far), "BTC-USD")
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
    first = min(stage.expected())
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


def test_a_boundary_comes_soon_after_a_start_however_far_apart_they_are(stage: Stage) -> None:
    assert stage.program.terminate(60) == 0
    stage.start(FULLTAPE_BATCH="1h")
    stage.market.burst(300, now_us(), seconds=1)
    wait_until(lambda: stage.program.metric("fulltape_panes_batch") >= 1, "a batch has ended", seconds=120)
    stage.market.burst(300, now_us(), seconds=1)  # is read by the query of longer batches
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
