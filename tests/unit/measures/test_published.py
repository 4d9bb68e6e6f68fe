"""The general functions give the numbers that others have published for the same data."""

import math
from decimal import Decimal
from itertools import pairwise

import numpy as np
import pytest

from fulltape.measures import flow, prices, volatility
from fulltape.measures.sums import Sums, merge
from tests.panes import panes_of
from tests.unit.measures.tapes import Step, as_on_tape, recorded

# OpenGamma's OG-Platform: 21 daily bars of HistoricalVolatilityCalculatorTestCase, and what its tests expect of them.
BARS = np.array(
    [
        (132.5, 131, 132.5), (134, 131, 133.5), (136, 134, 135), (137, 133, 133), (136, 133, 133), (137, 133, 137),
        (136.5, 135, 135), (136, 135, 135), (143.5, 137, 142.5), (145, 142, 143), (147, 142, 144.5),
        (147.5, 145, 145), (147, 143, 146), (150, 148, 149), (149, 146.5, 148), (149.5, 147, 147), (147.5, 146, 147),
        (149, 146.5, 147), (147.5, 144.5, 145), (145, 144, 145), (150, 143.5, 150),
    ]
)  # fmt: skip
HIGHS, LOWS, CLOSES = BARS.T
FOUR_DIGITS = 5e-5


def test_close_to_close_of_opengamma() -> None:
    assert volatility.close_to_close(CLOSES) == pytest.approx(0.0173, abs=FOUR_DIGITS)


def test_ewma_of_opengamma() -> None:
    # their recursion begins with the first return's size; the figure is for a year of 252 days, to 1e-4
    first, *rest = volatility.log_returns(CLOSES)
    estimate = abs(float(first))
    for latest in rest:
        estimate = volatility.ewma_update(estimate, float(latest), 0.94)

    assert estimate * math.sqrt(252) == pytest.approx(0.2455, abs=1e-4)


def test_garman_klass_of_opengamma() -> None:
    # their form has no opening prices: a bar opens where the one before closed
    assert volatility.garman_klass(CLOSES[:-1], HIGHS[1:], LOWS[1:], CLOSES[1:]) == pytest.approx(
        0.0128, abs=FOUR_DIGITS
    )


def test_parkinson_of_opengamma() -> None:
    # they take the mean of the bars' volatilities, where Parkinson takes the root of the mean of their squares
    bars = [volatility.parkinson(HIGHS[i : i + 1], LOWS[i : i + 1]) for i in range(HIGHS.size)]

    assert np.mean(bars) == pytest.approx(0.0126, abs=FOUR_DIGITS)
    assert volatility.parkinson(HIGHS, LOWS) == pytest.approx(math.sqrt(np.mean(np.square(bars))), rel=1e-14)


def test_close_to_close_of_the_frm_examination() -> None:
    # a worked question of GARP's Financial Risk Manager courses (2020): monthly prices, 0.0942 a month, 32.6 % a year
    monthly = volatility.close_to_close(np.array([35.0, 38, 41, 37, 33, 32]))

    assert monthly == pytest.approx(0.0942, abs=FOUR_DIGITS)
    assert monthly * math.sqrt(12) == pytest.approx(0.326, abs=5e-4)


def test_ewma_of_hull() -> None:
    # J. C. Hull, "Risk Management and Financial Institutions", example 5.2: lambda 0.90, 1 % a day, then a move of 2 %
    assert volatility.ewma_update(0.01, 0.02, 0.90) == pytest.approx(math.sqrt(0.00013), rel=1e-12)
    assert volatility.ewma_update(0.01, 0.02, 0.90) == pytest.approx(0.0114, abs=FOUR_DIGITS)


def test_weights_of_a_long_ewma_are_those_of_riskmetrics() -> None:
    # (1 - lambda) lambda^k, of which the newest is 6 %
    weights = prices.exponential_weights(500, 0.94)

    assert weights[-3:] == pytest.approx([0.06 * 0.94**2, 0.06 * 0.94, 0.06], rel=1e-10)


def test_ewma_by_weights_is_the_recursion_in_the_long_run() -> None:
    returns = np.tile(volatility.log_returns(CLOSES), 30)
    estimate = 0.0
    for latest in returns:
        estimate = volatility.ewma_update(estimate, float(latest))

    assert volatility.ewma_volatility(returns) == pytest.approx(estimate, rel=1e-12)


def test_first_digits_of_benford() -> None:
    # F. Benford (1938), table of the frequency of first digits, in thousandths
    assert [round(1_000 * share) for share in flow.BENFORD] == [301, 176, 125, 97, 79, 67, 58, 51, 46]
    assert flow.benford_deviation([301, 176, 125, 97, 79, 67, 58, 51, 46]) == pytest.approx(0, abs=5e-4)


@pytest.mark.parametrize("middle", [100_000_020, 1_000_000_020], ids=["NumAcc3", "NumAcc4"])
def test_deviation_of_nist(middle: int) -> None:
    # NIST's Statistical Reference Datasets, univariate: 1,001 values of which the first is the mean and the others
    # alternate 0.1 below and above it; certified sample standard deviation 0.1. Here as prices in cents, in 10 panes.
    steps = [Step(0, 10**8), Step(-10, 10**8), *(Step(20 * (-1) ** i, 10**8, pause_us=10_000) for i in range(999))]
    sums, *others = map(Sums.of, panes_of(as_on_tape(recorded(middle, steps))))
    assert len(others) > 5
    for later in others:
        sums = merge(sums, later)

    assert sums.trades == 1_001
    assert sums.price_mean == pytest.approx(middle / 100, rel=1e-15)
    assert math.sqrt(sums.price_square_deviations / 1_000) == pytest.approx(0.1, rel=1e-8)


def test_bipower_variation_of_equal_moves() -> None:
    # of n returns of the same size r, RV is n r^2 and BV is (pi / 2) n r^2
    returns = np.array([0.01, -0.01, 0.01, 0.01, -0.01])

    assert volatility.bipower_variation(returns) == pytest.approx(math.pi / 2 * 5 * 1e-4, rel=1e-14)


def test_bipower_variation_estimates_the_variance_without_the_jump() -> None:
    # Barndorff-Nielsen and Shephard (2004): of a Brownian motion BV and RV estimate the same variance, here 1; a jump
    # of 2 adds 4 to RV and little to BV
    returns = np.random.default_rng(2004).normal(0, 1 / math.sqrt(20_000), 20_000)
    calm = volatility.bipower_variation(returns)
    returns[7_000] += 2
    jumped = volatility.bipower_variation(returns)
    squares = float(returns @ returns)

    assert calm == pytest.approx(1, abs=0.03)
    assert jumped == pytest.approx(1, abs=0.06)
    assert volatility.jump_ratio(squares, jumped) == pytest.approx(4 / 5, abs=0.02)


def test_range_estimators_find_the_variance_of_a_fine_random_walk() -> None:
    # each is unbiased for a Brownian motion without drift; Rogers and Satchell's with drift, too
    walks = np.random.default_rng(1980).normal(0, 0.01 / math.sqrt(2_000), (2_000, 2_000)).cumsum(axis=1)
    for drift in (0.0, 0.02):
        paths = 100 * np.exp(walks + drift * np.linspace(0, 1, 2_000))
        opens, high, low, close = np.full(2_000, 100.0), paths.max(axis=1), paths.min(axis=1), paths[:, -1]
        high, low = np.maximum(high, opens), np.minimum(low, opens)

        assert volatility.rogers_satchell(opens, high, low, close) == pytest.approx(0.01, rel=0.05)
        if not drift:
            assert volatility.garman_klass(opens, high, low, close) == pytest.approx(0.01, rel=0.05)
            assert volatility.parkinson(high, low) == pytest.approx(0.01, rel=0.05)


def test_amihud_is_the_mean_move_per_unit_of_value() -> None:
    assert flow.amihud(np.array([0.01, -0.03]), np.array([1e6, 2e6])) == pytest.approx(1.25e-8, rel=1e-14)


def test_ema_is_the_recursion_of_technical_analysis_in_the_long_run() -> None:
    closes = np.tile(CLOSES, 20)
    estimate = closes[0]
    for close in closes[1:]:
        estimate += 2 / (10 + 1) * (close - estimate)

    assert prices.ema(closes, 10) == pytest.approx(estimate, rel=1e-14)
    assert prices.twap(CLOSES) == pytest.approx(math.fsum(CLOSES) / 21, rel=1e-15)


def test_log_returns_keep_the_digits_of_small_moves() -> None:
    closes = [2.0, 2.0 + 2**-40, 2.0]
    returns = volatility.log_returns(np.array(closes))

    assert returns == pytest.approx([math.log1p((b - a) / a) for a, b in pairwise(closes)], rel=1e-15)
    assert returns[0] == pytest.approx(2**-41, rel=1e-12)


def test_the_relative_spread_is_of_the_middle() -> None:
    assert flow.relative_spread(99.0, 101.0) == pytest.approx(0.02, rel=1e-15)


@pytest.mark.parametrize(
    ("price", "base"),
    [("65000.01", "65000"), ("0.0000000001", "99999999999"), ("99999999999", "0.0000000001"), ("7", "7")],
)
def test_logarithms_of_ratios_hold_for_near_and_far_prices(price: str, base: str) -> None:
    exact = Decimal(price).ln() - Decimal(base).ln()

    assert prices.log_ratio(Decimal(price), Decimal(base)) == pytest.approx(float(exact), rel=1e-15)
