"""The patterns that an alert rule may name instead of one measure: which measures make each, and from which values on.

The one table that the feed's validation, its reference and the monitor read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

PatternName = Literal["flashCrash", "vRecovery", "tradeBurst", "washTrading", "liquidityGap"]


@dataclass(frozen=True, slots=True)
class Condition:
    """Holds while a measure is above the threshold of this name, or below it."""

    measure: str
    threshold: str
    below: bool = False


@dataclass(frozen=True, slots=True)
class Pattern:
    """A pattern holds where all conditions of any one of its cases hold."""

    description: str
    cases: tuple[tuple[Condition, ...], ...]
    thresholds: Mapping[str, float]
    """Default of each threshold, by its name: that of the measure it is held against."""


def _above(measure: str) -> Condition:
    return Condition(measure, measure)


PATTERNS: Mapping[PatternName, Pattern] = MappingProxyType(
    {
        # Nanex, "Flash Crash Summary Report" (2010): a price that ticks one way ten times or more within 1.5 seconds
        # and moves more than 0.8 %. The measure counts both ways; with a fall as large in the window it is a crash.
        "flashCrash": Pattern(
            "a mini crash as Nanex defines it (10 or more ticks down within 1.5 s), or a deep fall over the window",
            ((_above("miniCrash"), Condition("drawdown", "miniCrash")), (_above("drawdown"),)),
            {"miniCrash": 0.008, "drawdown": 0.05},
        ),
        "vRecovery": Pattern(
            "a fall of which the price has won back a large part",
            ((_above("drawdown"), _above("recovery")),),
            {"drawdown": 0.02, "recovery": 0.5},
        ),
        "tradeBurst": Pattern(
            "far more trades a second than in the hour before",
            ((_above("tradeRateZScore"), _above("trades")),),
            {"tradeRateZScore": 8.0, "trades": 100.0},
        ),
        # Cong, Li, Tang and Yang, "Crypto Wash Trading" (2023): sizes of genuine trades follow Benford's law and
        # cluster at round numbers; programs that trade with themselves show neither.
        "washTrading": Pattern(
            "many trades whose sizes neither follow Benford's law nor cluster at round numbers",
            (
                (
                    _above("firstDigitDeviation"),
                    Condition("roundSizeShare", "roundSizeShare", below=True),
                    _above("trades"),
                ),
            ),
            {"firstDigitDeviation": 0.06, "roundSizeShare": 0.02, "trades": 500.0},
        ),
        "liquidityGap": Pattern(
            "a jump from one trade to the next, over an empty stretch of the order book",
            ((_above("largestReturn"),),),
            {"largestReturn": 0.01},
        ),
    }
)
"""Every pattern by its name in a feed."""
