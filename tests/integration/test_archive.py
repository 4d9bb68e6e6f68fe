"""The archive by a real Spark from a real tape: every trade once, whatever is killed, lost or strewn in between.

One archive is driven through the tests in order: a start of Spark takes long, and each leaves the tape as the next one
finds it.
"""

import shutil
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from fulltape.bench.stage import delete_topics
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Gap, Ticker
from tests.integration.archive import Stage, micros
from tests.integration.market import SECOND_US, now_us

pytestmark = pytest.mark.integration

GARBAGE = (
    b"",
    b"no json",
    b"\xff\xfe",
    b"[]",
    b'{"type":"trade"}',
    b'{"type":"what a later version writes","product":"BTC-USD"}',
)


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(kafka, tmp_path_factory.mktemp("archive"))
    stage.start()
    yield stage
    stage.program.kill()
    delete_topics(kafka.bootstrap_servers, stage.feed)


def test_every_trade_is_stored_once_and_exactly(stage: Stage) -> None:
    stage.market.burst(3_000, now_us() - 20 * SECOND_US, seconds=20)
    stage.assert_every_trade_is_stored()
    assert len(stage.rows("trades")) == 3_000
    assert not any(row["late"] for row in stage.rows("trades"))


def test_what_is_no_trade_is_skipped_and_counted(stage: Stage) -> None:
    topic = stage.feed.topics.trades
    for value in GARBAGE:
        stage.market.write(topic, value, "BTC-USD")
    large = msgspec.structs.replace(next(iter(stage.market.trades.values())), trade_id=10**6, size="1e30")
    stage.market.write(topic, msgspec.json.encode(large), "BTC-USD")
    stage.market.burst(200, now_us(), seconds=1)
    stage.assert_every_trade_is_stored()
    counted = "fulltape_archive_unusable_records_total"
    stage.wait_until(lambda: stage.program.metric(counted) == len(GARBAGE) + 1, "what is no trade is counted")


def test_gaps_and_tickers_are_stored(stage: Stage) -> None:
    gap = Gap("BTC-USD", 5, 6, "404", now_us())
    quote = Ticker("BTC-USD", 7, "1.5", "2", "buy", "1.4", "1", "1.6", "3", now_us(), 8, now_us())
    stage.market.write(stage.feed.topics.trades, msgspec.json.encode(gap), "BTC-USD")
    stage.market.write(stage.feed.topics.ticker, msgspec.json.encode(quote), "BTC-USD")
    stage.market.flush()
    stage.wait_until(lambda: stage.rows("gaps") and stage.rows("tickers"), "both are stored")
    (kept,), (quoted,) = stage.rows("gaps"), stage.rows("tickers")
    assert (kept["first_id"], kept["last_id"], micros(kept["detected_at"])) == (5, 6, gap.detected_us)
    assert (quoted["best_bid"], quoted["best_ask"], quoted["sequence"]) == (Decimal("1.4"), Decimal("1.6"), 8)


def test_a_trade_behind_the_watermark_is_stored_as_late(stage: Stage) -> None:
    late = stage.market.trade("ETH-USD", now_us() - 1_200 * SECOND_US)
    stage.market.flush()
    stage.assert_every_trade_is_stored()
    assert [row["trade_id"] for row in stage.rows("trades") if row["late"]] == [late.trade_id]
    stage.wait_until(lambda: stage.program.metric("fulltape_archive_late_trades_total") == 1, "it is counted")


def test_a_batch_that_is_done_again_after_kill_9_writes_the_same(stage: Stage) -> None:
    stage.market.burst(2_000, now_us(), seconds=2)
    stage.assert_every_trade_is_stored()
    stage.program.kill()
    before = stage.files()
    spark = stage.program.checkpoint / "records" / "current" / "spark"
    last = max(int(path.name) for path in (spark / "offsets").iterdir() if path.name.isdigit())
    for commit in (spark / "commits").glob(f"*{last}*"):  # as if killed between its files and its commit
        commit.unlink()
    newest = max(name for name in before if name.startswith("batches/trades"))
    for file in stage.staging.read("trades", Path(newest).stem).files:
        (stage.root / file.path).unlink()
    (stage.root / newest).unlink()
    stage.start()
    assert "continuing from the checkpoint" in stage.said()
    stage.assert_every_trade_is_stored()
    assert stage.files() == before


def test_without_its_checkpoint_it_stores_all_again(stage: Stage) -> None:
    assert stage.program.terminate(60) == 0
    shutil.rmtree(stage.program.checkpoint)
    stage.market.burst(100, now_us(), seconds=1)
    stage.start()
    assert "beginning at the oldest records" in stage.said()
    stage.assert_every_trade_is_stored()
    stage.wait_until(
        lambda: len(stage.rows("trades")) >= 2 * len(stage.market.trades) - 100, "all is stored from the oldest on"
    )
    assert stage.stored().keys() == stage.market.trades.keys()
