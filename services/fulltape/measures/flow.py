"""Who trades, what it costs, and whether sizes look natural."""

from collections.abc import Sequence
from decimal import Decimal
from math import log10

import numpy as np

from fulltape.measures.prices import Floats

BENFORD = tuple(log10(1 + 1 / digit) for digit in range(1, 10))
"""Benford's law: how often a number begins with the significant digit 1, 2, ... 9."""

BENFORD_TRADES = 50
"""Of fewer sizes the deviation says nothing: chance alone makes it about 0.235 / sqrt(trades); 0.033 here."""


def order_flow_imbalance(bought: Decimal, volume: Decimal) -> float:
    """Return (buy - sell) / (buy + sell) of what takers bought and sold; ``volume`` > 0 is the sum. From -1 to 1.

    Source: T. Chordia, R. Roll and A. Subrahmanyam, "Order imbalance, liquidity, and market returns", J. Financial
    Economics 65 (2002), scaled by volume.
    """
    return float(2 * bought - volume) / float(volume)


def amihud(returns: Floats, values: Floats) -> float:
    """Return Amihud's illiquidity: mean(|r| / traded value), per unit of the quote currency.

    ``returns`` are log returns of bars, ``values`` (> 0) what was traded in each, in quote currency.
    Source: Y. Amihud, "Illiquidity and stock returns", J. Financial Markets 5 (2002), equation 1.
    """
    return float((np.abs(returns) / values).mean())


def relative_spread(bid: float, ask: float) -> float:
    """Return best ask less best bid over their middle: a fraction. Negative for a crossed book.

    Source: Y. Amihud and H. Mendelson, "Asset pricing and the bid-ask spread", J. Financial Economics 17 (1986).
    """
    return (ask - bid) / ((ask + bid) / 2)


def benford_deviation(counts: Sequence[int]) -> float:
    """Return the mean absolute deviation of first digits from Benford's law, a fraction from 0 to 0.212.

    ``counts`` are those of the digits 1 to 9, at least one of them above zero: sum |count_d / n - log10(1 + 1/d)| / 9.
    Sources: F. Benford, "The law of anomalous numbers", 1938; M. J. Nigrini, "Benford's Law", 2012, chapter 7, who
    calls first digits nonconforming above 0.015.
    """
    total = sum(counts)
    return sum([abs(count / total - share) for count, share in zip(counts, BENFORD, strict=True)]) / 9
