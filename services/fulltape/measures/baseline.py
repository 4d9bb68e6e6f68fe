"""What is usual: mean and standard deviation of a measure over the trailing hour, and how far a value is from it."""

import numpy as np

from fulltape.measures.prices import Floats

BASELINE_SECONDS = 3_600
"""How far back it reaches: the hour before a window's start."""

BASELINE_VALUES = 600
"""Fewer known values than this are no baseline: ten minutes."""

Baseline = tuple[float, float]
"""Mean and sample standard deviation (> 0) of a measure."""


def baseline(values: Floats) -> Baseline | None:
    """Return the mean and sample standard deviation of the known values; NaN is unknown.

    None of fewer than `BASELINE_VALUES` known ones, and where they do not vary by more than rounding.
    """
    known = values[~np.isnan(values)]
    if known.size < BASELINE_VALUES:
        return None
    mean, deviation = float(known.mean()), float(known.std(ddof=1))
    return (mean, deviation) if deviation > 1e-9 * abs(mean) else None


def z_score(value: float | None, usual: Baseline | None) -> float | None:
    """Return (value - mean) / standard deviation: a number of standard deviations; None where either is not known.

    Source: E. Kreyszig's standard score; any textbook of statistics.
    """
    if value is None or usual is None:
        return None
    return (value - usual[0]) / usual[1]
