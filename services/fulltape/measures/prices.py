"""Averages of prices: by volume, by time, and by recency."""

from decimal import Decimal
from functools import lru_cache
from math import log, log1p

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
"""A one-dimensional array of 64-bit floats."""


def log_ratio(price: Decimal, base: Decimal) -> float:
    """Return ln(price / base), computed as ln(1 + (price - base) / base) to keep its digits where both are close."""
    change = float(price - base) / float(base)
    return log1p(change) if change > -0.5 else log(float(price) / float(base))


def vwap(notional: float, volume: float) -> float:
    """Return the volume-weighted average price, sum(p q) / sum(q), quote currency.

    Source: S. A. Berkowitz, D. E. Logue and E. A. Noser, "The total cost of transactions on the NYSE", 1988.
    """
    return notional / volume


def vwap_deviation(price: Decimal, notional: Decimal, volume: Decimal) -> float:
    """Return the price's distance from the VWAP as a fraction of it: p / VWAP - 1.

    Computed as (p sum(q) - sum(p q)) / sum(p q), with the difference taken between decimals.
    """
    return float(price * volume - notional) / float(notional)


def twap(closes: Floats) -> float:
    """Return the time-weighted average price: the mean of the last prices at the end of each second, quote currency.

    Source: R. Almgren and N. Chriss, "Optimal execution of portfolio transactions", 2000, section 2.2 (TWAP is the
    average price of trading at a constant rate).
    """
    return float(exponential_weights(closes.size, 1.0).dot(closes))


def ema(closes: Floats, span: int) -> float:
    """Return the exponentially weighted average price, quote currency, of prices in order of time.

    A price of age k (0 is the newest) weighs alpha (1 - alpha)^k, alpha = 2 / (span + 1), over the sum of the weights.
    Source: J. S. Hunter, "The exponentially weighted moving average", 1986; alpha by span is the convention of
    technical analysis, by which the weights' mean age is that of a simple average over ``span`` prices.
    """
    return float(exponential_weights(closes.size, 1 - 2 / (span + 1)).dot(closes))


@lru_cache(maxsize=256)
def exponential_weights(length: int, decay: float) -> Floats:
    """Return the weights decay^(length - 1), ..., decay, 1 over their sum; a decay of 1 makes them equal.

    The array is shared between callers and read-only.
    """
    weights = decay ** np.arange(length - 1, -1, -1, dtype=np.float64)
    weights /= weights.sum()
    weights.setflags(write=False)
    return weights
