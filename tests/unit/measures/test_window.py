"""Every measure of a window, from merged panes, is what an exact computation from the trades gives."""

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.measures.baseline import BASELINE_VALUES, Baseline, baseline, z_score
from fulltape.measures.flow import BENFORD_TRADES
from fulltape.measures.names import MEASURES
from fulltape.measures.prices import Floats
from fulltape.measures.sums import PANE_US, Sums, merge
from fulltape.measures.window import Measures, WindowContext, window_measures
from fulltape.messages import Pane
from tests.exact import RELATIVE, TOLERANCES, Recorded, exact_windows
from tests.panes import panes_of
from tests.unit.measures.tapes import TAPES, Step, as_on_tape, recorded

UNKNOWN: Mapping[str, Baseline | None] = dict.fromkeys(
    ("realizedVolatility", "tradeRate", "orderFlowImbalance", "spread")
)


def context_of(
    panes: Sequence[Pane],
    end_us: int,
    seconds: int,
    baselines: Mapping[str, Baseline | None] = UNKNOWN,
    spread: float | None = None,
) -> WindowContext:
    """Return the context of the window of so many seconds that ends at ``end_us``."""
    closes = np.full(seconds, np.nan)
    start_us = end_us - seconds * PANE_US
    before = [pane for pane in panes if pane.start_us < end_us]
    for pane in before:
        closes[max(0, (pane.start_us - start_us) // PANE_US) :] = float(pane.close)
    return WindowContext(
        start_us,
        end_us,
        closes,
        baselines,
        spread,
        before[-1].close_us if before else None,
        Decimal(before[-1].close) if before else None,
    )


def sums_of(panes: Sequence[Pane], start_us: int, end_us: int) -> Sums | None:
    inside = [Sums.of(pane) for pane in panes if start_us <= pane.start_us < end_us]
    return reduce(merge, inside) if inside else None


def unlike(measures: Measures, exact: Measures) -> list[str]:
    """Return a line for each measure that is further from the exact one than it may be."""
    assert set(measures) == set(MEASURES)
    lines = []
    for name, wanted in exact.items():
        got = measures[name]
        absolute = TOLERANCES[name].absolute if name in TOLERANCES else 0.0
        if got is None or wanted is None:
            alike = got is wanted
        else:
            alike = math.isclose(got, wanted, rel_tol=RELATIVE, abs_tol=absolute)
        if not alike:
            lines.append(f"{name} is {got!r}, not {wanted!r}")
    return lines


@settings(deadline=None)
@given(TAPES, st.sampled_from((1, 5, 60)))
def test_every_measure_is_that_of_the_trades(tape: list[Recorded], seconds: int) -> None:
    panes = panes_of(as_on_tape(tape))
    for exact in exact_windows(tape, seconds):
        context = context_of(panes, exact.end_us, seconds)
        measures = window_measures(sums_of(panes, context.start_us, context.end_us), context)

        assert unlike(measures, exact.measures) == [], f"window that ends at {exact.end_us}"


@settings(deadline=None)
@given(TAPES, st.floats(-1, 1), st.integers(1, 30))
def test_measures_are_finite_or_undetermined(tape: list[Recorded], spread: float, seconds: int) -> None:
    panes = panes_of(as_on_tape(tape))
    end_us = panes[-1].start_us + PANE_US
    usual = dict.fromkeys(UNKNOWN, (0.1, 1e-3))
    context = context_of(panes, end_us, seconds, usual, spread)
    measures = window_measures(sums_of(panes, context.start_us, end_us), context)

    assert all(value is None or math.isfinite(value) for value in measures.values())
    for name, value in measures.items():
        if value is not None:
            assert MEASURES[name].least <= value + 1e-15 or name == "spread"
            assert value - 1e-15 <= MEASURES[name].most


def test_a_window_without_trades_knows_what_the_last_price_tells() -> None:
    panes = panes_of(as_on_tape(recorded(10_000, [Step(0, 10**8), Step(5, 10**8)])))
    context = context_of(panes, panes[0].start_us + 100 * PANE_US, 60)
    measures = window_measures(None, context)

    known = {name: value for name, value in measures.items() if value is not None}
    assert known == {
        "trades": 0,
        "staleness": 100.0,
        "twap": pytest.approx(100.05, rel=1e-15),
        "ema": pytest.approx(100.05, rel=1e-15),
        "ewmaVolatility": 0.0,
    }


def test_before_the_first_trade_only_the_count_is_known() -> None:
    context = WindowContext(0, 60 * PANE_US, np.full(60, np.nan), UNKNOWN, None, None, None)

    assert {name for name, value in window_measures(None, context).items() if value is not None} == {"trades"}


def test_a_first_trade_determines_no_return() -> None:
    panes = panes_of(as_on_tape(recorded(10_000, [Step(0, 10**8)])))
    context = context_of(panes, panes[0].start_us + PANE_US, 60)
    measures = window_measures(Sums.of(panes[0]), context)

    assert {name for name, value in measures.items() if value is None} == {
        "priceChangeStdDev",
        "realizedVolatility",
        "annualizedVolatility",
        "bipowerVariation",
        "jumpRatio",
        "ewmaVolatility",
        "volatilityZScore",
        "orderFlowZScore",
        "tradeRateZScore",
        "amihudIlliquidity",
        "spread",
        "spreadZScore",
        "recovery",
        "largestReturn",
        "firstDigitDeviation",
    }


@pytest.mark.parametrize(
    ("trades", "known"), [(BENFORD_TRADES - 1, None), (BENFORD_TRADES, 2 * (1 - math.log10(10 / 9)) / 9)]
)
def test_few_sizes_say_nothing_about_first_digits(trades: int, known: float | None) -> None:
    panes = panes_of(as_on_tape(recorded(10_000, [Step(0, 9 * 10**8)] * trades)))
    context = context_of(panes, panes[0].start_us + PANE_US, 60)
    deviation = window_measures(Sums.of(panes[0]), context)["firstDigitDeviation"]

    assert deviation == (known if known is None else pytest.approx(known))


def test_equal_price_changes_do_not_deviate() -> None:
    panes = panes_of(as_on_tape(recorded(10_000, [Step(7, 10**8, pause_us=100)] * 20)))
    context = context_of(panes, panes[0].start_us + PANE_US, 60)

    assert window_measures(Sums.of(panes[0]), context)["priceChangeStdDev"] == 0.0


def test_z_scores_are_taken_against_the_baselines() -> None:
    panes = panes_of(as_on_tape(recorded(10_000, [Step(5, 10**8, pause_us=100)] * 30)))
    usual: dict[str, Baseline | None] = {
        "realizedVolatility": (0.001, 0.0005),
        "tradeRate": (0.25, 0.125),
        "orderFlowImbalance": (0.5, 0.25),
        "spread": (1e-4, 2e-4),
    }
    context = context_of(panes, panes[0].start_us + PANE_US, 60, usual, spread=5e-4)
    measures = window_measures(Sums.of(panes[0]), context)

    assert measures["tradeRateZScore"] == 2.0
    assert measures["orderFlowZScore"] == 2.0
    assert measures["spread"] == 5e-4
    assert measures["spreadZScore"] == pytest.approx(2.0)
    realized = measures["realizedVolatility"]
    assert realized is not None
    assert measures["volatilityZScore"] == pytest.approx((realized - 0.001) / 0.0005)


def values_with(known: int) -> Floats:
    values = np.full(3_600, np.nan)
    values[:known] = np.arange(known)
    return values


def test_a_baseline_is_the_mean_and_sample_deviation_of_what_is_known() -> None:
    n = BASELINE_VALUES
    known = baseline(values_with(n))

    assert known == pytest.approx(((n - 1) / 2, math.sqrt(n * (n + 1) / 12)), rel=1e-14)
    assert z_score(n - 1.0, known) == pytest.approx((n - 1) / 2 / math.sqrt(n * (n + 1) / 12))


@pytest.mark.parametrize("values", [values_with(BASELINE_VALUES - 1), np.full(3_600, 0.1), np.full(3_600, np.nan)])
def test_too_few_or_constant_values_are_no_baseline(values: Floats) -> None:
    assert baseline(values) is None
    assert z_score(1.0, None) is None
    assert z_score(None, (0.0, 1.0)) is None
