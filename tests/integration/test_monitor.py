"""The monitor's process on a real broker: panes in, windows and alerts out, through crashes, garbage and successors."""

import random
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from fulltape.bench.stage import (
    FeedOptions,
    Program,
    StageError,
    WorkloadProgram,
    delete_topics,
    wait_until,
    write_feed,
)
from fulltape.bench.stage import make_feed as make_feed_without_windows
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE, prepare_kafka
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Alert, Pane, Ticker, Window
from fulltape.monitor.engine import Engine
from fulltape.monitor.windows import SECOND_US
from tests.unit.monitor.market import Market, make_feed

pytestmark = pytest.mark.integration

PRODUCTS = ("BTC-USD", "ETH-USD")
_FILLERS = 10_000
_encode = msgspec.json.Encoder().encode
Key = tuple[str, str, int]


class Stage:
    """A feed's topics, with the test in the place of the panes application."""

    def __init__(self, broker: EmbeddedKafka, folder: Path, name: str) -> None:
        rule = {"name": "Busy", "measure": "trades", "window": "5s", "above": 8}
        self.feed: CryptoFeed = make_feed(PRODUCTS, windows=["5s", "20s"], watermark="1m", name=name, alerts=[rule])
        self.broker = broker
        self._folder = folder
        self._environment = {BOOTSTRAP_VARIABLE: broker.bootstrap_servers}
        self._programs: list[WorkloadProgram] = []
        prepare_kafka(self.feed, self._environment)
        self._producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 0})

    def monitor(self) -> WorkloadProgram:
        program = WorkloadProgram(self._folder, self.feed, "monitor", environment=self._environment)
        self._programs.append(program)
        return program

    def send(self, messages: Sequence[Pane | Ticker]) -> None:
        for message in messages:
            if isinstance(message, Pane):
                key = f"{message.product}/{message.start_us // SECOND_US}"
                self._producer.produce(self.feed.topics.panes, _encode(message), key)
            else:
                self._producer.produce(self.feed.topics.ticker, _encode(message), message.product)
        assert self._producer.flush(30) == 0

    def send_bytes(self, topic: str, value: bytes | None) -> None:
        self._producer.produce(topic, value, "key")
        assert self._producer.flush(30) == 0

    def read(self, topic: str) -> list[bytes]:
        """Return the values of all committed messages of a topic."""
        consumer = Consumer(
            {"bootstrap.servers": self.broker.bootstrap_servers, "group.id": "test", "enable.partition.eof": True}
        )
        places = self._places(topic)
        consumer.assign(places)
        values, ended = [], 0
        while ended < len(places):
            message = consumer.poll(10)
            assert message is not None
            if message.error() is None:
                values.append(message.value() or b"")
            else:
                ended += 1
        consumer.close()
        return values

    def send_filler(self) -> int:
        """Write so much to each partition of the panes that a start reads them in more than one piece; return it."""
        topic = self.feed.topics.panes
        places = self._places(topic)
        for place in places:
            for _ in range(_FILLERS):
                self._producer.produce(topic, b"filler", b"filler", place.partition)
            assert self._producer.flush(30) == 0
        return _FILLERS * len(places)

    def _places(self, topic: str) -> list[TopicPartition]:
        numbers = self._producer.list_topics(topic).topics[topic].partitions
        return [TopicPartition(topic, number, 0) for number in numbers]

    def pane_ends(self) -> list[TopicPartition]:
        """Return where each partition of the panes ends now."""
        places = self._places(self.feed.topics.panes)
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap_servers, "group.id": "test"})
        for place in places:
            place.offset = consumer.get_watermark_offsets(place, timeout=10)[1]
        consumer.close()
        return places

    def delete_before(self, places: list[TopicPartition]) -> None:
        """Delete all records before these places."""
        client = AdminClient({"bootstrap.servers": self.broker.bootstrap_servers})
        for deleted in client.delete_records(places).values():
            deleted.result()

    def windows(self) -> dict[Key, Window]:
        """Return the last version of every window."""
        found = (msgspec.json.decode(value, type=Window) for value in self.read(self.feed.topics.windows))
        return {(window.product, window.window, window.end_us): window for window in found}

    def alerts(self, name: str) -> list[Alert]:
        found = (msgspec.json.decode(value, type=Alert) for value in self.read(self.feed.topics.alerts))
        return [alert for alert in found if alert.name == name]

    def close(self) -> None:
        for program in self._programs:
            program.kill()
        delete_topics(self.broker.bootstrap_servers, self.feed)


@pytest.fixture
def stage(kafka: EmbeddedKafka, tmp_path: Path, topic_prefix: str) -> Iterator[Stage]:
    set_up = Stage(kafka, tmp_path, topic_prefix)
    yield set_up
    set_up.close()


def market_of(seconds: int, seed: int, since: int) -> list[list[Pane | Ticker]]:
    """Return what comes in each second: every version of the panes, and a ticker after each."""
    chance = random.Random(seed)
    markets = [Market(product, seed) for product in PRODUCTS]
    day: list[list[Pane | Ticker]] = []
    for second in range(since, since + seconds):
        day.append([])
        for market in markets:
            busy = (second - since) % 30 >= 20
            for pane in market.versions(second, chance.choice([3, 4, 5] if busy else [0, 1, 1])):
                ask = f"{float(pane.close) * (1 + chance.random() / 1000):.2f}"
                quote = ("1", "buy", pane.close, "1", ask, "1", pane.close_us, pane.last_id, pane.received_us)
                ticker = Ticker(pane.product, pane.last_id, pane.close, *quote)  # type: ignore[arg-type]
                day[-1] += [ticker, pane]
    return day


def undisturbed(feed: CryptoFeed, day: Sequence[Sequence[Pane | Ticker]], until: int) -> dict[Key, Window]:
    """Return the windows that the engine by itself gives."""
    engine = Engine(feed, lambda: time.time_ns() // 1000)
    found: dict[Key, Window] = {}
    for messages in day:
        engine.take_tickers([_encode(message) for message in messages if isinstance(message, Ticker)])
        engine.take_panes([(_encode(message), 0) for message in messages if isinstance(message, Pane)])
        engine.run_clock(alone=False)
        for update in engine.collect(everything=True):
            found[update.window.product, update.window.window, update.window.end_us] = update.window
    engine.set_clock(until + 1)
    for update in engine.collect(everything=True):
        found[update.window.product, update.window.window, update.window.end_us] = update.window
    return {key: window for key, window in found.items() if key[2] <= until * SECOND_US}


def without_stamps(windows: dict[Key, Window]) -> dict[Key, Window]:
    """Leave out when a window and its pane were written."""
    return {key: msgspec.structs.replace(window, pane_us=0, published_us=0) for key, window in windows.items()}


def wait_for_windows(stage: Stage, day: Sequence[Sequence[Pane | Ticker]], since: int) -> None:
    """Wait until the last version of every window is what an undisturbed run gives, to the last bit."""
    until = since + len(day)
    expected = without_stamps(undisturbed(stage.feed, day, until))
    seen: dict[Key, Window] = {}

    def all_there() -> bool:
        nonlocal seen
        seen = without_stamps(stage.windows())
        return all(seen.get(key) == window for key, window in expected.items())

    try:
        wait_until(all_there, "the windows are as expected", seconds=20)
    except StageError:
        wrong = [(key, seen.get(key), window) for key, window in expected.items() if seen.get(key) != window]
        key, found, wanted = wrong[0]
        fields = (
            []
            if found is None
            else [
                (name, value, wanted.measures[name])
                for name, value in found.measures.items()
                if value != wanted.measures[name]
            ]
        )
        raise AssertionError(
            f"{len(wrong)} of {len(expected)} differ, such as {key}: {fields}; found {found}, not {wanted}"
        ) from None


def start_second() -> int:
    return int(time.time()) - 600


def test_panes_become_windows_and_probes_tell_of_them(stage: Stage) -> None:
    monitor = stage.monitor()
    monitor.wait_ready()
    assert monitor.get("healthz")[0] == 200
    since = start_second()
    day = market_of(60, 1, since)
    for messages in day:
        stage.send(messages)
    wait_for_windows(stage, day, since)
    metrics = monitor.get("metrics")[1]
    assert (
        f'fulltape_measure{{feed="{stage.feed.metadata.name}",measure="vwap",product="BTC-USD",window="5s"}}' in metrics
    )
    panes = sum(isinstance(message, Pane) for messages in day for message in messages)
    assert monitor.metric("fulltape_panes_total") == monitor.metric("fulltape_trades_total") == panes
    assert monitor.metric("fulltape_garbage_total") == 0
    assert monitor.terminate() == 0


def test_a_killed_monitor_goes_on_to_the_same_windows_and_no_alert_is_lost_or_doubled(stage: Stage) -> None:
    since = start_second()
    day = market_of(150, 2, since)
    monitor = stage.monitor()
    monitor.wait_ready()
    chance = random.Random(5)
    kills = {40, 75, 110}
    for number, messages in enumerate(day):
        stage.send(messages)
        if number in kills:
            time.sleep(chance.random())  # anywhere within a second's commits
            monitor.kill()
            monitor = stage.monitor()
    monitor.wait_ready()
    wait_for_windows(stage, day, since)

    def all_resolved() -> bool:
        return {alert.product: alert.state for alert in stage.alerts("Busy")} == dict.fromkeys(PRODUCTS, "resolved")

    wait_until(all_resolved, "the last alerts resolve, as the clock goes on after the day")
    assert monitor.terminate() == 0
    for product in PRODUCTS:
        states = [alert.state for alert in stage.alerts("Busy") if alert.product == product]
        assert states == ["firing", "resolved"] * 5, states


def test_a_start_knows_panes_of_which_compaction_has_left_a_late_writing_alone(stage: Stage) -> None:
    since = start_second()
    day = market_of(170, 7, since)
    late = [message for message in day[84] if isinstance(message, Pane) and message.product == "BTC-USD"]
    early = [[message for message in messages if message not in late] for messages in day[:140]]
    panes = [message for messages in early for message in messages if isinstance(message, Pane)]
    newest = {(pane.product, pane.start_us): pane for pane in panes}
    # A stream that continues from its checkpoint writes panes once more. Of every second one that writing is left.
    once, again = ([one for one in newest.values() if one.start_us // SECOND_US % 2 == odd] for odd in (0, 1))
    monitor = stage.monitor()
    monitor.wait_ready()
    for messages in early:
        stage.send(messages)
    ends = stage.pane_ends()
    stage.send(once)
    left = len(once) + stage.send_filler() + len(again)
    stage.send(again)
    wait_until(lambda: monitor.metric("fulltape_panes_total") == len(panes) + left, "all panes are read")
    assert monitor.terminate() == 0
    stage.delete_before(ends)

    monitor = stage.monitor()
    monitor.wait_ready()
    stage.send(late)
    wait_until(lambda: monitor.metric("fulltape_panes_total") == left + len(late), "the late pane is read")
    for messages in day[140:]:
        stage.send(messages)
    wait_for_windows(stage, day, since)


def test_a_successor_fences_the_monitor_before_it(stage: Stage) -> None:
    first = stage.monitor()
    first.wait_ready()
    second = stage.monitor()
    second.wait_ready()
    assert first.wait(30) == 75
    assert "has taken over" in first.tail()
    assert second.running


def test_garbage_is_counted_and_stops_nothing(stage: Stage) -> None:
    monitor = stage.monitor()
    monitor.wait_ready()
    since = start_second()
    day = market_of(20, 3, since)
    pane = next(message for message in day[0] + day[1] + day[2] if isinstance(message, Pane))
    garbage = [
        None,
        b"hello",
        b"\xff\xfe",
        b"[" * 5000,
        _encode(pane)[:-30],
        _encode(msgspec.structs.replace(pane, product="DOGE-USD")),
        _encode(msgspec.structs.replace(pane, start_us=pane.start_us + 7)),
        _encode(msgspec.structs.replace(pane, start_us=pane.start_us * 2, close_us=pane.close_us * 2)),
        _encode(msgspec.structs.replace(pane, start_us=(since - 5) * SECOND_US, volume="much")),
    ]
    for value in garbage:
        stage.send_bytes(stage.feed.topics.panes, value)
    stage.send_bytes(stage.feed.topics.ticker, b"{}")
    for messages in day:
        stage.send(messages)
    wait_for_windows(stage, day, since)
    assert monitor.metric("fulltape_garbage_total") == len(garbage) + 1


def test_a_feed_without_windows_is_refused(kafka: EmbeddedKafka, tmp_path: Path, topic_prefix: str) -> None:
    file = write_feed(tmp_path, make_feed_without_windows(topic_prefix, FeedOptions(products=PRODUCTS)))
    program = Program(
        "monitor",
        [sys.executable, "-m", "fulltape.cli", "monitor", "--feed", str(file)],
        tmp_path,
        environment={BOOTSTRAP_VARIABLE: kafka.bootstrap_servers},
    )
    assert program.wait(60) == 2
    assert "add spec.analytics" in program.tail()
