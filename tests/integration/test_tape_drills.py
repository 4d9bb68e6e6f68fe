"""The promise under fire: whatever breaks, the tape holds every trade once, in order; proven by the audit each time."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fulltape.bench.stage import wait_until
from fulltape.local.kafka import EmbeddedKafka
from tests.data import shared_data
from tests.integration.tape import DRILL_SECONDS, Stage, assert_complete, rounds

pytestmark = pytest.mark.integration

RATE = 2000


@pytest.fixture
def stage(kafka: EmbeddedKafka, tmp_path: Path, topic_prefix: str) -> Iterator[Stage]:
    set_up = Stage(kafka, tmp_path, topic_prefix)
    yield set_up
    set_up.close()


@pytest.fixture
def mortal_stage(tmp_path: Path, topic_prefix: str) -> Iterator[Stage]:
    """A stage whose broker may be killed, since no other test uses it."""
    with EmbeddedKafka() as broker:
        set_up = Stage(broker, tmp_path, topic_prefix)
        yield set_up
        set_up.end_programs()


def test_a_lossy_repeating_reordering_garbling_exchange(stage: Stage) -> None:
    faults = ["drop", "repeat", "reorder", "garbage", "malformed"]
    options = [word for fault in faults for word in ("--fault", f"{fault},probability=0.002")]
    sandbox = stage.sandbox(*options, rate=RATE, seconds=DRILL_SECONDS)
    producer = stage.producer(stage.feed(), sandbox)
    audit = stage.proof(sandbox)
    assert_complete(audit, sandbox.state()["trades"])
    struck = sandbox.state()["struck"]
    assert all(struck.get(fault) for fault in faults), struck
    assert producer.metric("fulltape_rejected_total") >= struck["garbage"] + struck["malformed"]
    assert producer.metric("fulltape_duplicates_dropped_total") >= struck["repeat"]


def test_two_connections_of_which_one_is_cut_again_and_again(stage: Stage) -> None:
    sandbox = stage.sandbox(rate=RATE, seconds=DRILL_SECONDS)
    producer = stage.producer(stage.feed(connections=2, channels=["matches", "ticker"]), sandbox)
    producer.wait_ready()
    for _ in rounds(DRILL_SECONDS, 5.0 if DRILL_SECONDS > 30 else 2.0):
        sandbox.order("faults", fault="close", connections=1)
    assert producer.get("readyz")[0] == 200
    audit = stage.proof(sandbox)
    assert_complete(audit, sandbox.state()["trades"])
    assert producer.metric("fulltape_reconnects_total") >= 2


def test_a_silent_connection_is_replaced_and_what_it_missed_is_fetched(stage: Stage) -> None:
    sandbox = stage.sandbox(rate=500, seconds=15)
    producer = stage.producer(stage.feed(), sandbox)
    producer.wait_ready()
    sandbox.order("faults", fault="stall", seconds=60)
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])
    assert 'cause="stale"' in producer.get("metrics")[1]


def test_rest_that_refuses_and_then_crawls(stage: Stage) -> None:
    sandbox = stage.sandbox(rate=RATE, seconds=DRILL_SECONDS)
    producer = stage.producer(stage.feed(), sandbox)
    producer.wait_ready()
    sandbox.order("faults", fault="refuse_rest", seconds=4)
    sandbox.order("faults", fault="drop", next=20)
    wait_until(lambda: producer.metric("fulltape_held") > 0, "trades wait behind the hole")
    sandbox.order("faults", fault="slow_rest", delay_seconds=0.7, seconds=5)
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])


def test_a_producer_that_is_killed_again_and_again(stage: Stage) -> None:
    sandbox = stage.sandbox(rate=RATE, seconds=DRILL_SECONDS)
    feed = stage.feed()
    producer = stage.producer(feed, sandbox)
    wait_until(lambda: sandbox.state()["begun"], "the exchange is subscribed to")
    for _ in rounds(DRILL_SECONDS, 5.0 if DRILL_SECONDS > 30 else 3.0):
        producer.kill()
        producer = stage.producer(feed, sandbox)
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])


def test_a_producer_that_wakes_up_after_its_successor_took_over(stage: Stage) -> None:
    sleep_seconds = min(20.0, DRILL_SECONDS / 2)
    sandbox = stage.sandbox(rate=RATE, seconds=sleep_seconds + 15)
    feed = stage.feed()
    zombie = stage.producer(feed, sandbox)
    zombie.wait_ready()
    wait_until(lambda: zombie.metric("fulltape_transactions_total") > 10, "the zombie-to-be writes")
    zombie.freeze()
    asleep = time.monotonic()
    successor = stage.producer(feed, sandbox)
    successor.wait_ready()
    wait_until(lambda: successor.metric("fulltape_transactions_total") > 10, "the successor writes")
    wait_until(lambda: time.monotonic() - asleep > sleep_seconds, "the zombie has slept")
    zombie.thaw()
    assert zombie.wait(60) == 75, zombie.tail()
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])
    assert successor.running


def test_a_broker_that_is_killed_and_comes_back(mortal_stage: Stage) -> None:
    stage = mortal_stage
    sandbox = stage.sandbox(rate=RATE, seconds=DRILL_SECONDS + 10)
    producer = stage.producer(stage.feed(), sandbox)
    producer.wait_ready()
    for _ in rounds(DRILL_SECONDS, 5.0):
        stage.broker.kill()
        stage.broker.restart()
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])
    assert producer.running


def test_a_broker_that_stays_away_costs_bounded_memory_and_no_trade(mortal_stage: Stage) -> None:
    stage = mortal_stage
    sandbox = stage.sandbox(rate=5000, seconds=DRILL_SECONDS + 5)
    producer = stage.producer(stage.feed(), sandbox)
    producer.wait_ready()
    stage.broker.kill()
    most_mib = 0.0
    for _ in rounds(DRILL_SECONDS, 0.5):
        most_mib = max(most_mib, producer.rss_mib())
    assert producer.get("healthz")[0] == 200  # a restart would not bring Kafka back
    wait_until(lambda: producer.get("readyz")[0] == 503, "the producer says that records wait")
    stage.broker.restart()
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])
    assert max(most_mib, producer.rss_mib()) < 200


def test_more_shards_and_fewer_again_while_trades_flow(stage: Stage) -> None:
    sandbox = stage.sandbox(rate=RATE, seconds=25)
    shards = [stage.producer(stage.feed(), sandbox)]
    shards[0].wait_ready()
    for replicas in (3, 1):
        feed = stage.feed(replicas=replicas)
        successors = [stage.producer(feed, sandbox, shard) for shard in range(replicas)]
        for successor in successors:
            successor.wait_ready()
        for shard in shards:  # as in a rolling update, the old ones are still there when the new ones come
            if shard.running:
                shard.terminate()
        shards = successors
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])


def test_a_producer_that_is_asked_to_end_writes_what_it_has_and_ends_well(stage: Stage) -> None:
    sandbox = stage.sandbox(rate=RATE, seconds=DRILL_SECONDS)
    feed = stage.feed()
    for _ in range(3):
        producer = stage.producer(feed, sandbox)
        producer.wait_ready()
        time.sleep(0.5)  # let it work; any moment is as good
        assert producer.terminate(10) == 0, producer.tail()
        assert stage.audit().kept
    stage.producer(feed, sandbox)
    assert_complete(stage.proof(sandbox), sandbox.state()["trades"])


def test_the_crash_day_as_recorded_is_on_the_tape_and_only_the_recorders_losses_are_gaps(stage: Stage) -> None:
    products = ["LINK-USD", "AVAX-USD", "ATOM-USD"]
    files = [str(shared_data(f"coinbase_trades_2025-10-10_{product}.csv.gz")) for product in products]
    replay = [word for file in files for word in ("--replay", file)]
    sandbox = stage.sandbox_replay(*replay, "--speed", "max", "--clock", "recorded")
    stage.producer(stage.feed(products=products, start={}), sandbox)
    audit = stage.proof(sandbox)
    assert audit.kept, audit
    assert {product.product: (product.trades, product.gap_ids) for product in audit.products} == {
        "AVAX-USD": (113_589, 39),
        "LINK-USD": (228_597, 185),
        "ATOM-USD": (33_166, 22),
    }
