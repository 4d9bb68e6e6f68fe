"""How much prices move: volatility from closes, from ranges and from every trade, and how much of it is jumps.

Volatilities are standard deviations of log returns per bar (or over the whole, where that is said): pure numbers, of
which 0.01 is about 1 %. Arrays are one-dimensional, in order of time, one element a bar.

The `*_variance` functions of ranges take logarithms of ratios, of one bar (floats) or many (arrays).
"""

from math import log, pi, sqrt
from typing import TypeVar

import numpy as np

from fulltape.measures.prices import Floats, exponential_weights

YEAR_SECONDS = 365 * 86_400
"""The markets never close."""

RISKMETRICS_DECAY = 0.94
"""RiskMetrics' decay factor for daily returns, used here for returns of a second."""

_LN2 = log(2)

_Number = TypeVar("_Number", float, Floats)


def log_returns(prices: Floats) -> Floats:
    """Return ln(p[i] / p[i-1]) of n prices as n - 1 numbers."""
    before = prices[:-1]
    return np.log1p((prices[1:] - before) / before)


def sample_deviation(total: float, squares: float, count: int) -> float:
    """Return the sample standard deviation of numbers by their sum, the sum of their squares, and their count (>= 2).

    sqrt((S2 - S1^2 / n) / (n - 1)), in the unit of the numbers. Good where the mean is not large beside the deviation,
    as with changes of prices; a variance that is within rounding of zero is zero.
    """
    deviations = squares - total * total / count
    return sqrt(deviations / (count - 1)) if deviations > 1e-12 * squares else 0.0


def close_to_close(closes: Floats) -> float:
    """Return the sample standard deviation of the log returns of at least three closes: volatility per bar.

    sqrt(sum((r - mean(r))^2) / (n - 1)), n returns. Source: the classical estimator; J. C. Hull, "Options, Futures, and
    Other Derivatives", chapter on Black, Scholes and Merton, "Estimating volatility from historical data".
    """
    return float(log_returns(closes).std(ddof=1))


def realized_volatility(return_squares: float) -> float:
    """Return the square root of the sum of squared log returns: volatility over the whole of them.

    Source: T. G. Andersen, T. Bollerslev, F. X. Diebold and P. Labys, "Modeling and forecasting realized volatility",
    Econometrica 71 (2003), section 2.
    """
    return sqrt(return_squares)


def annualized(volatility: float, seconds: float) -> float:
    """Return a volatility over ``seconds`` as one over a year of 365 days: sigma sqrt(year / seconds).

    Variance grows in proportion to time where returns are uncorrelated (M. F. M. Osborne, "Brownian motion in the stock
    market", 1959).
    """
    return volatility * sqrt(YEAR_SECONDS / seconds)


def bipower_from_sum(products: float, returns: int, pairs: int) -> float:
    """Return the bipower variation by the sum of |r[i]| |r[i-1]| over ``pairs`` adjacent pairs of ``returns`` returns.

    (pi / 2) (returns / pairs) sum |r[i]| |r[i-1]|: an estimate of the variance over all of them without jumps.
    """
    return pi / 2 * returns / pairs * products


def bipower_variation(returns: Floats) -> float:
    """Return the bipower variation of at least two returns: (pi / 2) (n / (n - 1)) sum over i >= 2 of |r[i]| |r[i-1]|.

    A variance over the whole. Source: O. E. Barndorff-Nielsen and N. Shephard, "Power and bipower variation with
    stochastic volatility and jumps", J. Financial Econometrics 2 (2004), equation 3 and section 3 (mu_1^-2 = pi / 2);
    the factor n / (n - 1) makes up for the pair that the first return lacks (as in their 2006 paper, section 2).
    """
    sizes = np.abs(returns)
    return bipower_from_sum(float(np.dot(sizes[1:], sizes[:-1])), returns.size, returns.size - 1)


def jump_ratio(return_squares: float, bipower: float) -> float:
    """Return the share of the realized variance (> 0) that comes from jumps: max(0, 1 - BV / RV), from 0 to 1.

    Source: O. E. Barndorff-Nielsen and N. Shephard, "Econometrics of testing for jumps in financial economics using
    bipower variation", J. Financial Econometrics 4 (2006): the ratio test's statistic, cut off at 0.
    """
    return max(0.0, 1 - bipower / return_squares)


def parkinson_variance(high_low: _Number) -> _Number:
    """Return ln(H/L)^2 / (4 ln 2) for ``high_low`` = ln(H/L)."""
    return high_low * high_low / (4 * _LN2)


def parkinson(high: Floats, low: Floats) -> float:
    """Return Parkinson's volatility per bar: sqrt(mean(ln(H/L)^2) / (4 ln 2)).

    Source: M. Parkinson, "The extreme value method for estimating the variance of the rate of return", J. Business 53
    (1980), pages 61 to 65.
    """
    return _root_mean(parkinson_variance(np.log1p((high - low) / low)))


def garman_klass_variance(high_low: _Number, close_open: _Number) -> _Number:
    """Return ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2."""
    return 0.5 * high_low * high_low - (2 * _LN2 - 1) * close_open * close_open


def garman_klass(opens: Floats, high: Floats, low: Floats, close: Floats) -> float:
    """Return Garman and Klass's volatility per bar: sqrt(mean(ln(H/L)^2 / 2 - (2 ln 2 - 1) ln(C/O)^2)).

    Source: M. B. Garman and M. J. Klass, "On the estimation of security price volatilities from historical data",
    J. Business 53 (1980), pages 67 to 78: their "practical" estimator, sigma_5^2.
    """
    return _root_mean(garman_klass_variance(np.log1p((high - low) / low), np.log1p((close - opens) / opens)))


def rogers_satchell_variance(high_open: _Number, high_close: _Number, low_open: _Number, low_close: _Number) -> _Number:
    """Return ln(H/O) ln(H/C) + ln(L/O) ln(L/C)."""
    return high_open * high_close + low_open * low_close


def rogers_satchell(opens: Floats, high: Floats, low: Floats, close: Floats) -> float:
    """Return Rogers and Satchell's volatility per bar: sqrt(mean(ln(H/O) ln(H/C) + ln(L/O) ln(L/C))).

    A trend does not bias it. Source: L. C. G. Rogers and S. E. Satchell, "Estimating variance from high, low and
    closing prices", Annals of Applied Probability 1 (1991), pages 504 to 512.
    """
    return _root_mean(
        rogers_satchell_variance(
            np.log1p((high - opens) / opens),
            np.log1p((high - close) / close),
            np.log1p((low - opens) / opens),
            np.log1p((low - close) / close),
        )
    )


def ewma_volatility(returns: Floats, decay: float = RISKMETRICS_DECAY) -> float:
    """Return the exponentially weighted volatility per bar of returns in order of time.

    sqrt(sum(lambda^k r_k^2) / sum(lambda^k)), k the age in bars (0 is the newest), mean return taken as zero.
    Source: J. P. Morgan and Reuters, "RiskMetrics: Technical Document", 4th edition (1996), section 5.2; their weights
    (1 - lambda) lambda^k are these for a series without end.
    """
    return sqrt(float(exponential_weights(returns.size, decay).dot(returns * returns)))


def ewma_update(volatility: float, latest_return: float, decay: float = RISKMETRICS_DECAY) -> float:
    """Return the next exponentially weighted volatility: sqrt(lambda sigma^2 + (1 - lambda) r^2).

    Source: "RiskMetrics: Technical Document" (1996), equation 5.3.
    """
    return sqrt(decay * volatility * volatility + (1 - decay) * latest_return * latest_return)


def _root_mean(variances: Floats) -> float:
    return sqrt(float(variances.mean()))
