"""Windows equal what a plain computation over all panes gives, in whatever order and versions those come."""

import math
import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import reduce

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.feed.duration import Duration
from fulltape.measures.baseline import BASELINE_SECONDS, BASELINE_VALUES
from fulltape.measures.names import MEASURES
from fulltape.measures.sums import Sums, merge
from fulltape.measures.window import WindowContext, window_measures
from fulltape.messages import Pane, Window
from fulltape.monitor.windows import SECOND_US, ProductWindows
from tests.unit.monitor.market import NOON, Market, pane_time_us

Spreads = Mapping[int, float]
Key = tuple[str, int]


def product_windows(sizes: Sequence[str], slide: str = "1s", watermark: str = "10m") -> ProductWindows:
    return ProductWindows("BTC-USD", [Duration(size) for size in sizes], Duration(slide), Duration(watermark))


class Plain:
    """Every window, by its definition, from the last version of every pane."""

    def __init__(self, panes: Iterable[Pane], spreads: Spreads, sizes: Sequence[str], slide: str = "1s") -> None:
        self._panes = sorted(panes, key=lambda pane: pane.start_us)
        self._seconds = [pane.start_us // SECOND_US for pane in self._panes]
        self._each = [Sums.of(pane) for pane in self._panes]
        self._closes = {second: float(sums.close) for second, sums in zip(self._seconds, self._each, strict=True)}
        self._spreads = dict(sorted(spreads.items()))
        self._sizes = {size: int(Duration(size).seconds) for size in sizes}
        self._slide = int(Duration(slide).seconds)
        self._known: dict[tuple[int, int], dict[str, float]] = {}

    def window(self, size: str, end: int) -> Window | None:
        seconds = self._sizes[size]
        start = end - seconds
        before = bisect_left(self._seconds, end)
        if not before:
            return None
        last, last_sums = self._panes[before - 1], self._each[before - 1]
        sums = self._sums(start, end)
        baselines = {}
        for name in ("realizedVolatility", "tradeRate", "orderFlowImbalance"):
            hour = (self._values(past, seconds).get(name) for past in range(start - BASELINE_SECONDS + 1, start + 1))
            baselines[name] = mean_and_deviation(hour)
        baselines["spread"] = mean_and_deviation(lasts(self._spreads, start - BASELINE_SECONDS, start))
        closes = [math.nan if close is None else close for close in lasts(self._closes, start, end)]
        context = WindowContext(
            start_us=start * SECOND_US,
            end_us=end * SECOND_US,
            closes=np.array(closes),
            baselines=baselines,
            spread=lasts(self._spreads, end - 1, end)[0],
            last_trade_us=last.close_us,
            last_price=last_sums.close,
        )
        return Window(
            product="BTC-USD",
            window=size,
            start_us=start * SECOND_US,
            end_us=end * SECOND_US,
            trades=sums.trades if sums else 0,
            missing=sums.last_id - sums.first_id + 1 - sums.trades if sums else 0,
            volume=plain(sums.volume) if sums else "0",
            notional=plain(sums.notional) if sums else "0",
            buy_volume=plain(sums.buy_volume) if sums else "0",
            open=plain(sums.open) if sums else None,
            high=plain(sums.high) if sums else None,
            low=plain(sums.low) if sums else None,
            close=plain(sums.close) if sums else None,
            last_price=plain(last_sums.close),
            last_id=last.last_id,
            largest_size=plain(sums.largest_size) if sums else None,
            measures=window_measures(sums, context),
            trade_us=last.close_us,
            received_us=last.received_us,
            tape_us=last.tape_us,
            pane_us=pane_time_us(last),
            published_us=0,
        )

    def _sums(self, start: int, end: int) -> Sums | None:
        found = self._each[bisect_left(self._seconds, start) : bisect_left(self._seconds, end)]
        return reduce(merge, found) if found else None

    def _values(self, end: int, seconds: int) -> dict[str, float]:
        """Return the measures, of a window of the past, that later ones are compared with."""
        if end - seconds < self._seconds[0]:
            return {}
        if (end, seconds) not in self._known:
            sums = self._sums(end - seconds, end)
            values = {"tradeRate": (sums.trades if sums else 0) / seconds}
            if sums is not None:
                nothing = dict.fromkeys(("realizedVolatility", "tradeRate", "orderFlowImbalance", "spread"))
                context = WindowContext(0, seconds * SECOND_US, np.full(seconds, math.nan), nothing, None, None, None)
                measures = window_measures(sums, context)
                for name in ("realizedVolatility", "orderFlowImbalance"):
                    if (value := measures[name]) is not None:
                        values[name] = value
            self._known[end, seconds] = values
        return self._known[end, seconds]


def lasts(series: Mapping[int, float], start: int, end: int) -> list[float | None]:
    """Return the last value at or before each second of [start, end)."""
    known, values = list(series), list(series.values())
    positions = (bisect_right(known, second) for second in range(start, end))
    return [values[position - 1] if position else None for position in positions]


def mean_and_deviation(values: Iterable[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    if len(known) < BASELINE_VALUES:
        return None
    mean = math.fsum(known) / len(known)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in known) / (len(known) - 1))
    return (mean, deviation) if deviation > 1e-9 * abs(mean) else None


def plain(value: object) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def assert_equal(window: Window, expected: Window | None) -> None:
    assert expected is not None
    for field in Window.__struct_fields__:
        if field not in {"measures", "published_us"}:
            assert getattr(window, field) == getattr(expected, field), (field, window, expected)
    assert window.measures.keys() == MEASURES.keys()
    for name, value in window.measures.items():
        wanted = expected.measures[name]
        if wanted is None or value is None:
            assert value is wanted, (name, window, expected)
        elif name.endswith("ZScore"):  # a difference over a deviation: the rounding is that of what is subtracted
            assert value == pytest.approx(wanted, rel=1e-9, abs=1e-7), (name, window, expected)
        else:
            assert value == pytest.approx(wanted, rel=1e-9, abs=1e-14), (name, window, expected)


def note(published: dict[Key, Window], windows: Iterable[Window]) -> None:
    for window in windows:
        published[window.window, window.end_us // SECOND_US] = window


Event = tuple[float, Callable[[ProductWindows], object]]


def run(windows: ProductWindows, events: Sequence[Event], collect_after: Callable[[int], bool]) -> dict[Key, Window]:
    """Let events happen in the order of their times; return the last version of every window."""
    published: dict[Key, Window] = {}
    for position, (_, happen) in enumerate(sorted(events, key=lambda event: event[0])):
        happen(windows)
        if collect_after(position):
            note(published, windows.collect(0))
    return published


def pane_event(time: float, pane: Pane) -> Event:
    return time, lambda windows: windows.add_pane(pane, pane_time_us(pane))


def spread_event(time: float, second: int, spread: float) -> Event:
    return time, lambda windows: windows.add_spread(second * SECOND_US + 5, second, spread)


def clock_event(time: float, second: int) -> Event:
    return time, lambda windows: windows.advance(second)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    counts=st.lists(st.sampled_from([0, 0, 0, 1, 1, 2, 5]), min_size=1, max_size=50),
    sizes_and_slide=st.sampled_from(
        [(["5s"], "1s"), (["4s", "10s"], "1s"), (["10s", "20s"], "5s"), (["6s"], "6s"), (["1s", "3s"], "1s")]
    ),
    disorder=st.sampled_from([0.0, 1.5, 30.0]),
    quiet=st.integers(0, 20),
)
def test_every_window_equals_the_plain_computation_in_any_order_of_arrival(
    seed: int, counts: list[int], sizes_and_slide: tuple[list[str], str], disorder: float, quiet: int
) -> None:
    sizes, slide = sizes_and_slide
    chance = random.Random(seed)
    market = Market(seed=seed)
    events: list[Event] = []
    last_versions: list[Pane] = []
    spreads: dict[int, float] = {}
    for number, count in enumerate(counts):
        second = NOON + number
        versions = list(market.versions(second, count))
        last_versions += versions[-1:]
        for pane in versions:
            times = (number + chance.random() * (1 + disorder) for _ in range(chance.choice([1, 1, 2])))
            events += [pane_event(time, pane) for time in times]  # versions repeat
        if chance.random() < 0.6:
            spreads[second] = chance.random() / 1000
            events.append(spread_event(number + chance.random() * (1 + disorder), second, spreads[second]))
        events.append(clock_event(number + 1.0, second - 1))
    every = Duration(slide).us // SECOND_US
    last = NOON + len(counts) - 1 + quiet + every  # a spread counts for sure once its window has passed
    windows = product_windows(sizes, slide)
    published = run(windows, events, lambda _: chance.random() < 0.4)
    windows.advance(last)
    note(published, windows.collect(0))
    if not last_versions:
        assert not published
        return
    expected = Plain(last_versions, spreads, sizes, slide)
    first_end = last_versions[0].start_us // SECOND_US
    first_end += every - first_end % every
    last_end = max(last, windows.frontier)
    last_end += every - last_end % every
    assert set(published) == {(size, end) for size in sizes for end in range(first_end, last_end + 1, every)}
    for (size, end), window in published.items():
        assert_equal(window, expected.window(size, end))


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_the_order_of_arrival_changes_no_bit(seed: int) -> None:
    chance = random.Random(seed)
    market = Market(seed=seed)
    panes = [pane for second in range(120) for pane in market.versions(NOON + second, chance.choice([0, 1, 1, 3]))]
    results = []
    for disorder in (0.0, 3.0, 200.0):
        events = [pane_event(pane.start_us / 1e6 + chance.random() * disorder, pane) for pane in panes]
        windows = product_windows(["20s", "1m"])
        published = run(windows, events, lambda _: chance.random() < 0.05)
        note(published, windows.collect(0))
        results.append(published)
    assert results[0] == results[1] == results[2]


def test_measures_are_compared_with_the_hour_before() -> None:
    """Over more than an hour, so that baselines begin, fill, and move on, and the past is forgotten."""
    chance = random.Random(7)
    market = Market(seed=7)
    sizes = ["10s", "1m"]
    windows = product_windows(sizes, watermark="30s")
    published: dict[Key, Window] = {}
    panes: list[Pane] = []
    spreads: dict[int, float] = {}
    for second in range(NOON, NOON + 5000):
        if chance.random() < 0.7:
            panes.append(market.pane(second, chance.choice([1, 2, 4])))
            windows.add_pane(panes[-1], pane_time_us(panes[-1]))
        if chance.random() < 0.5:
            spreads[second] = chance.random() / 1000
            windows.add_spread(second * SECOND_US, second, spreads[second])
        windows.advance(second - 1)
        note(published, windows.collect(0))
    expected = Plain(panes, spreads, sizes)
    ends = [NOON + 660, NOON + 671, NOON + 1500, NOON + 3660, NOON + 3700, NOON + 4999]
    for end in ends:
        for size in sizes:
            assert_equal(published[size, end], expected.window(size, end))
    scores = [published["1m", end].measures["volatilityZScore"] for end in ends]
    assert scores[0] is None
    assert None not in scores[2:]


def test_a_late_pane_corrects_the_windows_after_it_and_their_comparison() -> None:
    market = Market(seed=3)
    panes = [market.pane(NOON + second, 2) for second in range(1000)]
    late = panes.pop(500)
    windows = product_windows(["10s"])
    published: dict[Key, Window] = {}
    for pane in panes:
        windows.add_pane(pane, pane_time_us(pane))
        note(published, windows.collect(0))
    windows.add_pane(late, pane_time_us(late))
    corrected = windows.collect(0)
    assert [window.end_us // SECOND_US for window in corrected] == list(range(NOON + 501, NOON + 1001))
    note(published, corrected)
    expected = Plain([*panes, late], {}, ["10s"])
    for end in (NOON + 500, NOON + 501, NOON + 510, NOON + 511, NOON + 999, NOON + 1000):
        assert_equal(published["10s", end], expected.window("10s", end))


def test_a_pane_behind_the_watermark_is_counted_and_changes_nothing() -> None:
    market = Market()
    first, late = market.pane(NOON, 1), market.pane(NOON + 1, 1)
    last_in_time, newest = market.pane(NOON + 2, 1), market.pane(NOON + 32, 1)
    windows = product_windows(["10s"], watermark="30s")
    for pane in (first, newest):
        windows.add_pane(pane, 0)
    windows.collect(0)
    assert not windows.add_pane(late, 0)
    assert windows.late == 1
    assert windows.collect(0) == []
    assert windows.add_pane(last_in_time, 0)
    assert windows.late == 1
    assert [window.end_us // SECOND_US for window in windows.collect(0)] == list(range(NOON + 3, NOON + 34))


def test_an_older_or_equal_version_changes_nothing() -> None:
    one, two, three = Market().versions(NOON, 3)
    windows = product_windows(["10s"])
    assert windows.add_pane(two, 0)
    windows.collect(0)
    assert not windows.add_pane(one, 0)
    assert not windows.add_pane(two, 0)
    assert windows.collect(0) == []
    assert windows.add_pane(three, 0)


def test_a_spread_alone_is_published_with_what_comes_next() -> None:
    market = Market()
    windows = product_windows(["10s"])
    windows.add_pane(market.pane(NOON, 1), 0)
    windows.collect(0)
    windows.add_spread(NOON * SECOND_US + 9, 1, 0.001)
    assert windows.collect(0) == []
    windows.advance(NOON + 1)
    assert [window.measures["spread"] for window in windows.collect(0)] == [0.001, 0.001]


def test_of_one_second_the_spread_of_the_last_trade_counts() -> None:
    windows = product_windows(["10s"])
    windows.add_spread(NOON * SECOND_US + 5, 12, 0.002)
    windows.add_spread(NOON * SECOND_US + 4, 11, 0.001)
    windows.add_pane(Market().pane(NOON, 1), 0)
    assert windows.collect(0)[-1].measures["spread"] == 0.002


def test_a_leap_of_the_clock_leaves_out_empty_windows_alone() -> None:
    market = Market()
    day = 86_400
    panes = [market.pane(NOON, 1), market.pane(NOON + day, 1), market.pane(NOON + day + 1, 1)]
    windows = product_windows(["10s"])
    ends = []
    for pane in panes:
        windows.add_pane(pane, 0)
        ends += [window.end_us // SECOND_US - NOON for window in windows.collect(0)]
    assert ends == [*range(1, 12), day + 1, day + 2]


def test_memory_is_bounded() -> None:
    market = Market()
    windows = product_windows(["10s", "1m"], watermark="1m")
    size = windows._timeline.rows.nbytes
    for second in range(4000):
        windows.add_pane(market.pane(NOON + second, 1), 0)
        windows.add_spread((NOON + second) * SECOND_US, second, 0.001)
        windows.collect(0)
        assert len(windows._seconds) == len(windows._leaves) < 60 + 60 + 100
        assert len(windows._ticker_ids) < 300
        assert sum(map(len, windows._tree._nodes)) < 3 * (60 + 100)
    assert windows._timeline.rows.nbytes == size


def test_a_price_that_is_none_is_refused_and_leaves_no_trace() -> None:
    good = Market().pane(NOON, 2)
    windows = product_windows(["10s"])
    for bad in ({"low": "0"}, {"high": "much"}, {"trades": 0}, {"low": "NaN"}):
        with pytest.raises((ValueError, ArithmeticError)):
            windows.add_pane(msgspec.structs.replace(good, **bad), 0)
    assert windows.newest is None
    assert windows.add_pane(good, 0)
