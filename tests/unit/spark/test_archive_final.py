"""Final windows are the monitor's windows, each once, in whatever portions their seconds come."""

import random
from functools import cache

import msgspec
import pytest

from fulltape.coinbase.messages import Match
from fulltape.feed.duration import Duration
from fulltape.feed.model import Analytics
from fulltape.messages import Pane, Window
from fulltape.monitor.windows import STEP_SECONDS, ProductWindows
from fulltape.producer.tail import Tail
from fulltape_spark.archive_final import FinalWindows, Second, final_end, quotes_horizon
from fulltape_spark.archive_rows import Clock, rows_of
from tests.panes import panes_of

START = 1_760_000_000
SECOND_US = 1_000_000


def analytics(slide: str = "1s") -> Analytics:
    return Analytics(windows=(Duration("20s"), Duration("60s")), slide=Duration(slide), watermark=Duration("30s"))


def panes(seed: int, seconds: int) -> list[Pane]:
    chance, tail, trades, price = random.Random(seed), Tail("A-B", None), [], 10_000
    time_us = START * SECOND_US
    for number in range(seconds):
        time_us += chance.choice((100_000, 400_000, 1_500_000, 1_500_000, 30_000_000))
        price += chance.choice((-2, -1, 0, 1, 2))
        match = Match(
            product_id="A-B",
            trade_id=number + 1,
            price=f"{price / 100:.2f}",
            size=f"0.{chance.randrange(1, 99)}",
            side=chance.choice(("buy", "sell")),
            time="",
            sequence=number,
        )
        trades.append(tail.append(match, time_us, time_us, "stream"))
    return panes_of(trades)


def monitors(
    known: list[Pane], settings: Analytics, quotes: dict[int, tuple[int, float]]
) -> dict[tuple[int, int], Window]:
    """Return the last version of each window that the monitor gives, by length and end."""
    windows = ProductWindows("A-B", settings.windows, settings.slide, settings.watermark)
    newest = {}
    for pane in known:
        second = pane.start_us // SECOND_US
        while windows.newest is not None and windows.frontier + STEP_SECONDS < second:
            for window in windows.collect(0, everything=True):
                newest[window.end_us - window.start_us, window.end_us] = window
            windows.advance(windows.frontier + STEP_SECONDS)
        windows.add_pane(pane, 0)
        if second in quotes:
            windows.add_spread(pane.start_us, *quotes[second])
        for window in windows.collect(0, everything=True):
            newest[window.end_us - window.start_us, window.end_us] = window
    return {place: window for place, window in newest.items() if window.trades}


@cache
def market(slide: str) -> tuple[list[Pane], dict[int, tuple[int, float]], dict[tuple[int, int], Window]]:
    """Return panes, quotes by second, and the monitor's windows of them."""
    known = panes(17, 400)
    quotes = {pane.start_us // SECOND_US: (pane.last_id, pane.trades / 1000) for pane in known[::3]}
    return known, quotes, monitors(known, analytics(slide), quotes)


@pytest.mark.parametrize("slide", ["1s", "5s"])
@pytest.mark.parametrize("portion", [1, 7, 1000])
def test_they_are_the_monitors(slide: str, portion: int) -> None:
    settings = analytics(slide)
    known, quotes, expected = market(slide)
    state, found = FinalWindows.of("A-B", settings).content(), []
    last = known[-1].start_us // SECOND_US
    seconds = [Second(pane.start_us // SECOND_US, pane, quotes.get(pane.start_us // SECOND_US)) for pane in known]
    for first in range(0, len(seconds), portion):
        part = seconds[first : first + portion]
        windows = FinalWindows.restored(state)
        end = final_end(part[-1].second * SECOND_US, settings.slide)
        found += [window for window, _ in windows.take(part, end, quotes_horizon(settings))]
        state = windows.content()
    ends = [window.window_end for window in found]
    assert ends == sorted(ends)
    whole = (last + 1) // settings.slide.seconds * settings.slide.us
    assert {(window.window_seconds * SECOND_US, window.window_end) for window in found} == {
        place for place in expected if place[1] <= whole
    }
    assert len(found) == len({(window.window_seconds, window.window_end) for window in found})
    for window in found:
        other = expected[window.window_seconds * SECOND_US, window.window_end]
        assert window.measures == other.measures
        assert (window.volume, window.close_price, window.trades) == (other.volume, other.close, other.trades)


def test_windows_that_hold_its_last_trades_come_when_time_has_passed() -> None:
    settings = analytics()
    windows = FinalWindows.of("A-B", settings)
    (pane, *_) = panes(1, 1)
    second = pane.start_us // SECOND_US
    assert len(list(windows.take([Second(second, pane, None)], second + 1, 10))) == 2
    assert windows.outstanding
    assert len(list(windows.take([], second + 500, 10))) == 19 + 59
    assert not windows.outstanding


def test_a_window_becomes_a_row_with_every_measure() -> None:
    windows = FinalWindows.of("A-B", analytics())
    (pane, *_) = panes(1, 1)
    second = pane.start_us // SECOND_US
    ((window, tape_us), _) = windows.take([Second(second, pane, (1, 0.25))], second + 1, 10)
    (row,) = rows_of("windows", [msgspec.json.encode(window)], [tape_us], Clock(0, 0)).rows["windows"].table.to_pylist()
    assert (row["product"], row["window_seconds"], row["trades"], row["spread"]) == ("A-B", 20, 1, 0.25)
    assert (row["first_id"], row["last_id"], float(row["close_price"])) == (1, 1, float(pane.close))
    assert row["vwap"] == window.measures["vwap"]
