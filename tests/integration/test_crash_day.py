"""A real crash and a quiet day, through all programs of the live path: every number is right, as are the alerts.

``FULLTAPE_CRASH_HOURS=24`` replays whole days, and not only the hours around the crash and six quiet ones, and
``FULLTAPE_CRASH_SPEED=60`` sets how many times as fast as it was; together they are the full measure.
"""

import csv
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from confluent_kafka import Consumer, KafkaError, TopicPartition

from fulltape.bench.stage import SandboxProgram, WorkloadProgram, wait_until
from fulltape.feed.model import CryptoFeed
from fulltape.feed.patterns import PATTERNS
from fulltape.kafka import BOOTSTRAP_VARIABLE
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Alert, Window
from tests.data import shared_data
from tests.exact import PRICE, SIZE, Recorded, disagreements, exact_windows, read_recorded
from tests.integration.tape import FIRST_ID, Stage

pytestmark = pytest.mark.integration

SPEED = os.environ.get("FULLTAPE_CRASH_SPEED", "max")
WHOLE_DAY = os.environ.get("FULLTAPE_CRASH_HOURS") == "24"
WINDOWS = {"1m": 60, "5m": 300}
PRODUCTS = ("LINK-USD", "AVAX-USD", "ATOM-USD")
ANALYTICS = {"windows": list(WINDOWS), "slide": "1s", "watermark": "1h"}
PARTITIONS = 1 if SPEED == "max" else 3
"""As fast as it goes, partitions that are a second apart on this machine would be hours apart at the exchange, and what
comes by the slower one too late to count; with one partition nothing overtakes."""
SHOWN = 20
SECONDS = 3600.0 if WHOLE_DAY else 900.0
CALM_SECONDS = 24 * 3600 if WHOLE_DAY else 6 * 3600


def moment_us(hour: int, minute: int) -> int:
    """Return a time of the day of the crash."""
    return int(datetime(2025, 10, 10, hour, minute, tzinfo=UTC).timestamp()) * 1_000_000


STRETCH_US = (moment_us(0, 0), 2**62) if WHOLE_DAY else (moment_us(19, 40), moment_us(21, 35))
HOUR_BEFORE_US = (moment_us(19, 40), moment_us(20, 50))
CRASH_US = (moment_us(20, 50), moment_us(21, 30))


class LiveStage(Stage):
    """A stage with all programs from the exchange to the windows."""

    def live_feed(self, products: tuple[str, ...], patterns: tuple[str, ...]) -> CryptoFeed:
        """Return a feed that watches for patterns, at their defaults, in every window."""
        alerts = [
            {"name": f"{pattern[0].upper()}{pattern[1:]}{window}", "pattern": pattern, "window": window}
            for pattern in patterns
            for window in WINDOWS
        ]
        return self.feed(products=products, start={}, partitions=PARTITIONS, analytics=ANALYTICS, alerts=alerts)

    def workload(self, feed: CryptoFeed, name: str) -> WorkloadProgram:
        environment = {BOOTSTRAP_VARIABLE: self.broker.bootstrap_servers}
        program = WorkloadProgram(self.folder, feed, name, environment=environment)
        self._programs.append(program)
        return program

    def play(self, feed: CryptoFeed, recordings: list[Path], trades: int) -> None:
        """Replay recordings and return when all their trades are in windows, and these are written."""
        panes, monitor = self.workload(feed, "panes-0"), self.workload(feed, "monitor")
        panes.wait_ready(600)
        monitor.wait_ready(600)
        replay = [word for file in recordings for word in ("--replay", str(file))]
        sandbox: SandboxProgram = self.sandbox_replay(*replay, "--speed", SPEED, "--clock", "recorded")
        self.producer(feed, sandbox)

        def arrived() -> bool:
            assert panes.running, panes.tail()
            assert monitor.running, monitor.tail()
            assert not monitor.metric("fulltape_late_panes_total")
            return monitor.metric("fulltape_trades_total") == trades

        wait_until(arrived, f"{trades:,} trades are in windows", seconds=SECONDS)
        assert monitor.terminate() == 0, monitor.tail()

    def records(self, topic: str) -> Iterator[tuple[bytes, bytes]]:
        """Yield key and value of all that is on a topic."""
        consumer = Consumer(
            {
                "bootstrap.servers": self.broker.bootstrap_servers,
                "group.id": f"{topic}.test",
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
            }
        )
        try:
            partitions = consumer.list_topics(topic).topics[topic].partitions
            places = [TopicPartition(topic, number, 0) for number in partitions]
            consumer.assign(places)
            reading = len(places)
            while reading:
                for message in consumer.consume(5_000, 1.0):
                    error = message.error()
                    if error is None:
                        yield message.key() or b"", message.value() or b""
                    else:
                        assert error.code() == KafkaError._PARTITION_EOF, error
                        reading -= 1
        finally:
            consumer.close()

    def windows(self, feed: CryptoFeed) -> dict[tuple[str, str], dict[int, bytes]]:
        """Return the final version of every window by product, size and end (us)."""
        final: dict[tuple[str, str], dict[int, bytes]] = {}
        for key, value in self.records(feed.topics.windows):
            product, size, end = key.decode().split("/")
            final.setdefault((product, size), {})[int(end) * 1_000_000] = value
        return final

    def alerts(self, feed: CryptoFeed) -> list[Alert]:
        return [msgspec.json.decode(value, type=Alert) for _, value in self.records(feed.topics.alerts)]


@pytest.fixture
def stage(kafka: EmbeddedKafka, tmp_path: Path, topic_prefix: str) -> Iterator[LiveStage]:
    set_up = LiveStage(kafka, tmp_path, topic_prefix)
    yield set_up
    set_up.close()


def test_every_measure_of_every_window_of_the_crash_is_exact_and_each_product_raises_its_flash_crash(
    stage: LiveStage, tmp_path: Path
) -> None:
    tapes = {
        product: read_recorded(shared_data(f"coinbase_trades_2025-10-10_{product}.csv.gz"), *STRETCH_US)
        for product in PRODUCTS
    }
    recordings = [write_recording(tmp_path / f"{product}.csv", product, tape) for product, tape in tapes.items()]
    feed = stage.live_feed(PRODUCTS, ("flashCrash",))
    stage.play(feed, recordings, sum(map(len, tapes.values())))

    published = stage.windows(feed)
    assert set(published) == {(product, size) for product in PRODUCTS for size in WINDOWS}
    for (product, size), windows in published.items():
        wrong = list(islice(differences(tapes[product], WINDOWS[size], windows), SHOWN))
        assert not wrong, "\n".join([f"{product} {size}:", *wrong])

    fired = [alert for alert in stage.alerts(feed) if alert.name.startswith("FlashCrash") and alert.state == "firing"]
    begun = {(alert.product, alert.starts_us) for alert in fired if alert.starts_us is not None}
    in_crash = {product for product, starts_us in begun if CRASH_US[0] <= starts_us < CRASH_US[1]}
    assert in_crash == set(PRODUCTS), fired
    assert not [begins for begins in begun if HOUR_BEFORE_US[0] <= begins[1] < HOUR_BEFORE_US[1]], fired


def test_calm_raises_no_alert_of_any_pattern(stage: LiveStage, tmp_path: Path) -> None:
    tape = calm_market()
    feed = stage.live_feed(("CALM-USD",), tuple(PATTERNS))
    stage.play(feed, [write_recording(tmp_path / "calm.csv", "CALM-USD", tape)], len(tape))

    windows = stage.windows(feed)["CALM-USD", "5m"]
    assert len(windows) >= tape[-1].time_us // 1_000_000 - tape[0].time_us // 1_000_000 + 1
    newest = msgspec.json.decode(windows[max(windows)], type=Window)
    assert newest.last_id == tape[-1].trade_id
    # What the patterns watch is known, so that silence is a statement; recovery is null only where nothing fell.
    watched = {condition.measure for pattern in PATTERNS.values() for case in pattern.cases for condition in case}
    assert not [measure for measure in watched if newest.measures[measure] is None]
    fired = {alert.name for alert in stage.alerts(feed) if alert.state == "firing"}
    assert fired <= ({"LatencyOverBudget"} if SPEED == "max" else set())  # as fast as it goes, much waits by design


def differences(tape: list[Recorded], seconds: int, published: dict[int, bytes]) -> Iterator[str]:
    """Yield in words whatever is not as it must be in the windows of one product and size, which are used up."""
    ended_us = (tape[-1].time_us // 1_000_000 + 1) * 1_000_000
    decode = msgspec.json.Decoder(Window).decode
    for exact in exact_windows(tape, seconds, through_us=max(ended_us, *published)):
        value = published.pop(exact.end_us, None)
        if value is None:
            yield f"{exact.end_us}: there is no such window"
            continue
        window = decode(value)
        yield from (f"{exact.end_us}: {difference}" for difference in disagreements(window, exact))
        if window.measures["spread"] is not None or window.measures["spreadZScore"] is not None:
            yield f"{exact.end_us}: it knows a spread, and the feed has no ticker"
    yield from (f"{end_us}: there should be no such window" for end_us in published)


def write_recording(path: Path, product: str, tape: list[Recorded]) -> Path:
    """Write trades as the sandbox reads them."""
    with path.open("w", newline="") as file:
        rows: Any = csv.writer(file)
        rows.writerow(["exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"])
        for trade in tape:
            side = "buy" if trade.bought else "sell"
            price, size = (
                format(Decimal(units) / scale, "f") for units, scale in ((trade.price, PRICE), (trade.size, SIZE))
            )
            rows.writerow(["coinbase", product, trade.time_us, trade.time_us, trade.trade_id, side, price, size])
    return path


def calm_market() -> list[Recorded]:
    """Return trades of a quiet market, 50,000 a day: a random walk of 40 % a year, bid and ask a tick apart.

    Taker orders come by chance, of one to four trades each; one size in seven is round.
    """
    random = np.random.default_rng(20251010)
    orders = 32_000 * CALM_SECONDS // 86_400
    times_us = moment_us(0, 0) + np.sort(random.integers(0, CALM_SECONDS * 1_000_000, orders))
    fills = random.choice([1, 2, 3, 4], len(times_us), p=[0.65, 0.2, 0.1, 0.05])
    steps = random.normal(0, 0.4 / np.sqrt(365 * 86_400), len(times_us))
    steps *= np.sqrt(np.diff(times_us, prepend=times_us[0]) / 1e6)
    mids = 25 * np.exp(steps.cumsum())
    buys = random.random(len(times_us)) < 0.5
    trades: list[Recorded] = []
    for time_us, count, mid, bought in zip(times_us.tolist(), fills, mids, buys.tolist(), strict=True):
        tick = int(np.ceil(mid * 1000) if bought else np.floor(mid * 1000))
        for size in np.exp(random.normal(1.5, 1.6, count)):
            units = round(size) * SIZE if random.random() < 0.15 else int(size * 10**4) * SIZE // 10**4
            trades.append(Recorded(FIRST_ID + len(trades), time_us, tick * PRICE // 1000, max(units, 10**4), bought))
    return trades
