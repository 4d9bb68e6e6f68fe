"""Sums merge to the sums of the whole, in whatever tree, and stay exact at any number of trades."""

import itertools
import math
from decimal import Decimal
from fractions import Fraction
from functools import reduce
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.measures.columns import PANE_COLUMNS
from fulltape.measures.sums import PANE_US, Sums, merge
from fulltape.messages import Pane
from tests.exact import Recorded
from tests.panes import pane_of, panes_of
from tests.unit.measures.tapes import START_US, TAPES, Step, as_on_tape, recorded


def close(left: Any, right: Any) -> bool:
    """Tell whether two fields agree: floats to 1e-12, all others to the last digit."""
    if isinstance(left, float):
        return math.isclose(left, right, rel_tol=1e-12, abs_tol=1e-300)
    return type(left) is type(right) and left == right


def differing(left: Sums, right: Sums) -> dict[str, tuple[object, object]]:
    """Return the fields that do not agree."""
    fields = zip(Sums.__struct_fields__, msgspec.structs.astuple(left), msgspec.structs.astuple(right), strict=True)
    # sums of signed numbers may cancel out, so they are held to the size of what they sum; deviations from a mean
    # know that only to its own rounding
    n, rounding = left.trades, 8 * math.ulp(left.price_mean)
    allowed = {
        "change_sum": 1e-12 * math.sqrt(n * left.change_squares),
        "price_square_deviations": 2 * rounding * math.sqrt(n * left.price_square_deviations) + n * rounding**2,
    }
    return {
        name: (a, b)
        for name, a, b in fields
        if not close(a, b) and not (name in allowed and abs(a - b) <= allowed[name])
    }


def in_a_tree(sums: list[Sums], cuts: st.DataObject) -> Sums:
    """Merge neighbours in an order that hypothesis draws."""
    while len(sums) > 1:
        at = cuts.draw(st.integers(0, len(sums) - 2))
        sums[at : at + 2] = [merge(sums[at], sums[at + 1])]
    return sums[0]


def some_pane() -> Pane:
    return panes_of(as_on_tape(recorded(6_500_000, [Step(7, 5 * 10**7, pause_us=10)] * 3)))[0]


@settings(deadline=None)
@given(TAPES, st.data())
def test_any_tree_of_merges_gives_the_same_sums(tape: list[Recorded], cuts: st.DataObject) -> None:
    sums = [Sums.of(pane) for pane in panes_of(as_on_tape(tape))]

    assert differing(in_a_tree(sums.copy(), cuts), reduce(merge, sums)) == {}


@settings(deadline=None)
@given(TAPES)
def test_merged_panes_are_the_sums_over_all_trades(tape: list[Recorded]) -> None:
    trades = as_on_tape(tape)
    sums = reduce(merge, map(Sums.of, panes_of(trades)))
    # the same sums, taken at once as if all trades had been made in one second: only falls, rises and bars differ
    at_once = Sums.of(pane_of(trades, max(-(-trade.received_us // 1_000) * 1_000 for trade in trades)))
    by_second = {"start_us", "end_us", "drawdown", "drawdown_peak", "drawdown_trough", "run_up"}
    by_second |= {"bars", "illiquidity"}

    assert {name: pair for name, pair in differing(sums, at_once).items() if name not in by_second} == {}


@settings(deadline=None)
@given(TAPES)
def test_falls_and_rises_are_those_between_any_two_trades(tape: list[Recorded]) -> None:
    sums = reduce(merge, map(Sums.of, panes_of(as_on_tape(tape))))
    pairs = list(itertools.combinations_with_replacement([Fraction(trade.price) for trade in tape], 2))

    assert math.isclose(sums.drawdown, max(1 - after / before for before, after in pairs), rel_tol=1e-12)
    assert math.isclose(sums.run_up, max(after / before - 1 for before, after in pairs), rel_tol=1e-12)
    assert math.isclose(sums.drawdown, 1 - sums.drawdown_trough / sums.drawdown_peak, rel_tol=1e-9, abs_tol=1e-25)


@settings(deadline=None)
@given(TAPES)
def test_bars_are_the_seconds_that_follow_a_trade(tape: list[Recorded]) -> None:
    panes = panes_of(as_on_tape(tape))
    sums = reduce(merge, map(Sums.of, panes))
    terms = [
        abs(math.log1p(Fraction(after.close) / Fraction(before.close) - 1)) / float(after.notional)
        for before, after in itertools.pairwise(panes)
    ]
    first = panes[0]
    assert first.previous_price is None

    assert sums.bars == len(terms)
    assert math.isclose(sums.illiquidity, math.fsum(terms), rel_tol=1e-12)


def later(sums: Sums, by_us: int) -> Sums:
    """Return the same trades again, so much later."""
    return msgspec.structs.replace(sums, start_us=sums.start_us + by_us, end_us=sums.end_us + by_us)


def test_a_thousand_million_trades_lose_no_digit() -> None:
    steps = [Step(ticks, 10**5 + ticks, bought=ticks % 2 == 0, pause_us=900) for ticks in (3, -2, 5, -4, 0, 1, -3, 2)]
    panes = panes_of(as_on_tape(recorded(6_500_000, steps)))
    assert len(panes) == 1
    small = Sums.of(panes[0])
    doublings = 27
    sums = small
    for _ in range(doublings):
        sums = merge(sums, later(sums, sums.end_us - sums.start_us))
    times = 2**doublings

    assert sums.trades == 8 * times > 10**9
    for name in ("volume", "notional", "buy_volume"):
        assert getattr(sums, name) == getattr(small, name) * times
    assert sums.first_digits == tuple(count * times for count in small.first_digits)
    assert sums.round_sizes == small.round_sizes * times
    assert sums.price_mean == pytest.approx(small.price_mean, rel=1e-15)
    for name in (
        "price_square_deviations",
        "change_sum",
        "change_squares",
        "return_squares",
        "return_fourths",
        "bipower",
        "illiquidity",
    ):
        assert getattr(sums, name) == pytest.approx(getattr(small, name) * times, rel=1e-14), name


def test_a_second_after_a_thousand_million_trades_still_counts() -> None:
    before, after = (
        Sums.of(panes_of(as_on_tape(recorded(ticks, [Step(0, 10**8), Step(1, 10**8)])))[0])
        for ticks in (6_500_000, 6_600_000)
    )
    many = before
    for _ in range(30):
        many = merge(many, later(many, many.end_us - many.start_us))
    sums = merge(many, later(after, many.end_us - after.start_us))

    n = many.trades
    low, high = Fraction("65000.005"), Fraction("66000.005")
    mean = (n * low + 2 * high) / (n + 2)
    deviations = n * (low - mean) ** 2 + 2 * (high - mean) ** 2 + (n + 2) * Fraction("0.005") ** 2
    assert sums.price_mean == pytest.approx(float(mean), rel=1e-15)
    assert sums.price_square_deviations == pytest.approx(float(deviations), rel=1e-9)
    assert sums.volume == n + 2


def test_many_merges_in_a_row_do_not_drift() -> None:
    small = Sums.of(some_pane())
    sums = small
    times = 20_000
    for _ in range(times - 1):
        sums = merge(sums, later(small, sums.end_us - small.start_us))

    assert sums.price_mean == pytest.approx(small.price_mean, rel=1e-14)
    for name in ("price_square_deviations", "change_squares", "return_squares", "bipower"):
        assert getattr(sums, name) == pytest.approx(getattr(small, name) * times, rel=1e-11), name


def test_of_equal_falls_the_one_from_the_higher_peak_counts() -> None:
    def fall(peak: int, second: int) -> Sums:
        steps = [Step(0, 10**8, pause_us=second * PANE_US), Step(-peak // 2, 10**8)]
        return Sums.of(panes_of(as_on_tape(recorded(peak, steps)))[0])

    high, low = Decimal(80), Decimal(20)
    for one, other in ((8_000, 4_000), (4_000, 8_000)):
        sums = merge(fall(one, 0), fall(other, 1))
        assert sums.drawdown == (0.5 if one < other else 0.75)
        assert sums.drawdown_peak == high
        assert sums.drawdown_trough == (high / 2 if one < other else low)


@pytest.mark.parametrize(
    "broken",
    [
        {"trades": 0},
        {"volume": "0"},
        {"volume": "a few"},
        {"notional": "-1"},
        {"notional": "NaN"},
        {"buy_volume": "1000"},
        {"low": "0"},
        {"high": "Infinity"},
        {"high": "1"},
        {"open": "1"},
        {"close": "1e9"},
        {"previous_price": "0"},
        {"previous_price": "-5"},
        {"previous_price": "sNaN"},
        {"drawdown_trough": "0"},
        {"drawdown_peak": "-1"},
        {"return_squares": -1e-9},
        {"first_digits": (-1, 0, 0, 0, 0, 0, 0, 0, 0)},
        {"first_digits": (2**64, 0, 0, 0, 0, 0, 0, 0, 0)},
    ],
    ids=str,
)
def test_a_pane_that_no_trades_could_have_made_is_refused(broken: dict[str, Any]) -> None:
    pane = msgspec.structs.replace(some_pane(), **broken)

    with pytest.raises(ValueError, match="no trades could have made this pane"):
        Sums.of(pane)


def test_every_field_of_a_pane_has_its_column() -> None:
    assert {*PANE_COLUMNS, "product", "start_us"} == set(Pane.__struct_fields__)


def test_the_tapes_of_these_tests_begin_on_a_second() -> None:
    assert START_US % PANE_US == 0
