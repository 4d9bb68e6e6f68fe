"""The engine: many products and one clock, the newest versions alone, garbage counted, rules shown what is newest."""

import msgspec
import pytest

from fulltape.errors import ConfigurationError
from fulltape.messages import Pane
from fulltape.monitor.engine import PACE_US, Engine, Latency, Update
from fulltape.monitor.windows import SECOND_US
from tests.unit.monitor.market import NOON, Market, make_feed, pane_time_us

_encode = msgspec.json.Encoder().encode


class Clock:
    """A machine's clock that a test sets."""

    def __init__(self) -> None:
        self.us = NOON * SECOND_US

    def __call__(self) -> int:
        return self.us


def engine_of(*products: str, slide: str = "1s") -> tuple[Engine, Clock]:
    clock = Clock()
    return Engine(make_feed(products, windows=["10s"], slide=slide), clock), clock


def send(engine: Engine, *panes: Pane) -> None:
    engine.take_panes([(_encode(pane), pane_time_us(pane)) for pane in panes])
    engine.run_clock(alone=False)


def ends(updates: list[Update]) -> list[int]:
    return [update.window.end_us // SECOND_US - NOON for update in updates]


def test_of_many_versions_the_one_with_the_most_trades_is_decoded_and_published() -> None:
    engine, _ = engine_of("BTC-USD")
    versions = list(Market().versions(NOON, 5))
    send(engine, *versions[:3], versions[4], versions[3])
    (update,) = engine.collect()
    assert update.window.trades == 5
    assert (engine.panes, engine.decoded, engine.trades) == (5, 1, {"BTC-USD": 5})


def test_the_first_change_is_published_at_once_and_the_next_no_sooner_than_the_pace() -> None:
    engine, clock = engine_of("BTC-USD")
    one, two, three = Market().versions(NOON, 3)
    send(engine, one)
    assert len(list(engine.collect())) == 1
    send(engine, two)
    assert list(engine.collect()) == []
    due_us = engine.due_us()
    assert due_us is not None
    assert clock.us < due_us <= clock.us + PACE_US
    clock.us = due_us
    (update,) = engine.collect()
    assert update.window.trades == 2
    send(engine, three)
    assert [update.window.trades for update in engine.collect(everything=True)] == [3]


def test_every_window_is_published_once_its_second_has_passed_however_many_come_together() -> None:
    engine, _ = engine_of("BTC-USD")
    market = Market()
    send(engine, *(market.pane(NOON + second, 3) for second in range(30)))
    updates = list(engine.collect())
    assert ends(updates) == list(range(1, 31))
    assert all(update.newest for update in updates)


def test_a_product_without_trades_follows_the_clock_a_second_later() -> None:
    engine, _ = engine_of("BTC-USD", "ETH-USD")
    bitcoin, ether = Market("BTC-USD"), Market("ETH-USD")
    send(engine, bitcoin.pane(NOON, 1), ether.pane(NOON, 1))
    list(engine.collect())
    send(engine, bitcoin.pane(NOON + 3, 1))
    updates = list(engine.collect(everything=True))
    assert ends([update for update in updates if update.window.product == "BTC-USD"]) == [2, 3, 4]
    assert ends([update for update in updates if update.window.product == "ETH-USD"]) == [2, 3]


def test_in_silence_the_clock_goes_on_alone_but_not_for_ever() -> None:
    engine, clock = engine_of("BTC-USD")
    pane = Market().pane(NOON, 1)
    send(engine, pane)
    list(engine.collect())
    clock.us = pane_time_us(pane) + SECOND_US
    engine.run_clock(alone=True)
    assert engine.clock == NOON
    clock.us += 4 * SECOND_US
    engine.run_clock(alone=False)
    assert engine.clock == NOON
    engine.run_clock(alone=True)
    assert engine.clock == (pane.close_us + 5 * SECOND_US) // SECOND_US
    clock.us += 86_400 * SECOND_US
    engine.run_clock(alone=True)
    assert engine.clock == (pane.close_us + 600 * SECOND_US) // SECOND_US


def test_after_a_standstill_nothing_is_late_and_every_window_comes_though_tickers_are_far_ahead() -> None:
    engine, clock = engine_of("BTC-USD", "ETH-USD")
    bitcoin, ether = Market("BTC-USD"), Market("ETH-USD")
    send(engine, bitcoin.pane(NOON, 1), ether.pane(NOON, 1))
    list(engine.collect())
    clock.us += 3000 * SECOND_US
    quote = b'{"type":"ticker","product":"BTC-USD","trade_id":%d,"best_bid":"1","best_ask":"2","time_us":%d}'
    engine.take_tickers([quote % (number, (NOON + number) * SECOND_US) for number in range(1, 3000)])
    send(engine, *(bitcoin.pane(NOON + second, 1) for second in range(1, 3000)), ether.pane(NOON + 1, 1))
    updates = list(engine.collect(everything=True))
    of_bitcoin = [update for update in updates if update.window.product == "BTC-USD"]
    assert ends(of_bitcoin) == list(range(2, 3001))
    assert {update.window.measures["spread"] for update in of_bitcoin} == {2 / 3}
    assert set(ends(updates)) == set(range(2, 3001))
    assert [windows.late for windows in engine.products.values()] == [0, 0]
    assert engine.corrections == 0


def test_spreads_read_back_from_windows_serve_the_comparison_with_the_hour_before() -> None:
    engine, clock = engine_of("BTC-USD")
    clock.us += 3000 * SECOND_US
    market = Market()
    send(engine, *(market.pane(NOON + second, 1) for second in range(2000)))
    for second in range(2000):
        engine.restore_spread("BTC-USD", (NOON + second + 1) * SECOND_US, 0.001 + (second % 2) / 1000)
    engine.skip()
    send(engine, market.pane(NOON + 2000, 1))
    window = next(engine.collect()).window
    assert window.measures["spread"] == 0.002
    score = window.measures["spreadZScore"]
    assert score == pytest.approx(1.0, abs=0.01)


def test_a_ticker_that_comes_late_stands_over_what_windows_told_meanwhile() -> None:
    engine, _ = engine_of("BTC-USD")
    market = Market()
    send(engine, *(market.pane(NOON + second, 1) for second in range(5)))
    for second in range(5):
        engine.restore_spread("BTC-USD", (NOON + second + 1) * SECOND_US, 0.001)
    engine.skip()
    quote = b'{"type":"ticker","product":"BTC-USD","trade_id":7,"best_bid":"1","best_ask":"2","time_us":%d}'
    engine.take_tickers([quote % ((NOON + 2) * SECOND_US)])
    updates = list(engine.collect(everything=True))
    assert [update.window.measures["spread"] for update in updates] == [2 / 3] * 3


def test_a_ticker_older_than_the_watermark_changes_no_window_whose_panes_are_forgotten() -> None:
    """A product that nobody traded for long has one: an exchange tells it first to whoever subscribes."""
    clock = Clock()
    engine = Engine(make_feed(["BTC-USD"], windows=["10s", "60s"], watermark="100s"), clock)
    market = Market()
    for second in range(400):
        send(engine, market.pane(NOON + second, 1))
        list(engine.collect(everything=True))
    quote = b'{"type":"ticker","product":"BTC-USD","trade_id":1000300,"best_bid":"1","best_ask":"2","time_us":%d}'
    engine.take_tickers([quote % ((NOON + 250) * SECOND_US)])
    updates = list(engine.collect(everything=True))
    assert [update.window.trades for update in updates] == [10, 60] * 101
    assert ends(updates)[::2] == list(range(300, 401))


def test_corrections_are_not_shown_to_rules() -> None:
    engine, _ = engine_of("BTC-USD")
    market = Market()
    panes = [market.pane(NOON + second, 1) for second in range(5)]
    late = panes.pop(2)
    send(engine, *panes)
    list(engine.collect())
    send(engine, late)
    updates = list(engine.collect(everything=True))
    assert [(end, update.newest) for end, update in zip(ends(updates), updates, strict=True)] == [
        (3, False),
        (4, False),
        (5, True),
    ]
    assert engine.corrections == 2


def test_what_was_published_before_a_restart_is_skipped() -> None:
    engine, _ = engine_of("BTC-USD")
    market = Market()
    send(engine, *(market.pane(NOON + second, 1) for second in range(5)))
    engine.set_clock(NOON + 7)
    engine.skip()
    assert list(engine.collect(everything=True)) == []
    send(engine, market.pane(NOON + 8, 1))
    assert ends(list(engine.collect(everything=True))) == [8, 9]


def test_garbage_is_counted_and_moves_nothing() -> None:
    engine, clock = engine_of("BTC-USD")
    pane = Market().pane(NOON, 1)
    replace = msgspec.structs.replace
    far = pane.start_us + 3600 * SECOND_US
    garbage = [
        None,
        b"",
        b"hello",
        b"\xff",
        b"[" * 5000,
        b'{"type":"trade"}',
        _encode(replace(pane, product="DOGE-USD")),
        _encode(replace(pane, start_us=pane.start_us + 1)),
        _encode(replace(pane, start_us=far, close_us=far)),
        _encode(replace(pane, low="0")),
    ]
    engine.take_panes([(value, clock.us) for value in garbage])
    assert list(engine.collect(everything=True)) == []
    assert engine.garbage == len(garbage)
    engine.take_tickers([None, b"{}", b'{"type":"ticker","product":"DOGE-USD"}'])
    assert engine.garbage == len(garbage) + 3
    send(engine, pane)
    assert len(list(engine.collect(everything=True))) == 1


def test_a_feed_without_analytics_is_refused() -> None:
    feed = make_feed()
    without = feed.model_copy(update={"spec": feed.spec.model_copy(update={"analytics": None})})
    with pytest.raises(ConfigurationError, match=r"spec\.analytics"):
        Engine(without, Clock())


def test_the_percentile_is_of_the_last_minute() -> None:
    latency = Latency()
    assert latency.p99_us(100) is None
    for _ in range(99):
        latency.add_at(5_000, 100)
    latency.add_at(900_000, 101)
    assert 5_000 <= (latency.p99_us(101) or 0) < 7_000
    latency.add_at(900_000, 101)
    assert (latency.p99_us(101) or 0) >= 900_000
    assert latency.p99_us(160) is not None
    assert latency.p99_us(161) is None
