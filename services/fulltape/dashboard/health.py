"""How the pipeline is doing: trades a second, and how long the newest trades took through each stage. Pure."""

import math
from collections import deque
from collections.abc import Sequence

import msgspec
import numpy as np

from fulltape.messages import Window

STAGES = ("exchange to producer", "producer to tape", "tape to pane", "pane to window", "window to dashboard")
"""What a trade passes before it is here; the page adds its own way to the glass."""

FIRST_US = 256
"""Upper end of a histogram's first bucket; each further one is `PER_OCTAVE`th root of 2 wider. Microseconds."""
PER_OCTAVE = 4
BUCKETS = 64
"""The last bucket begins at 12 s and has no end."""

RATE_SECONDS = 300
"""How far back the rates go."""
_LATENCY_SECONDS = 60
"""How far back the histograms go."""
_AVERAGED_SECONDS = 5


class HealthReport(msgspec.Struct, frozen=True):
    """What a page is told of the pipeline every second."""

    trades_per_second: float
    """Mean over the last seconds."""
    rates: list[int]
    """Trades in each of the last seconds, oldest first; at most `RATE_SECONDS`."""
    windows_per_second: float
    stages: list[list[int]]
    """Histogram of each of `STAGES` over the last minute."""
    missing: int
    """Trade ids missing in the longest windows, summed over products."""
    gaps: int
    """Trade ids that gap records on the tape wrote off since the dashboard started."""
    undecodable: int
    """Messages that could not be read."""
    quiet_seconds: float
    """Since the last trade came."""
    loading: bool
    """Whether the last minutes are still being read back."""
    kafka: bool
    """Whether a broker can be reached."""
    browsers: int


def bucket(latency_us: int) -> int:
    """Return the bucket that a latency falls into; clocks that disagree may make it negative, which counts as 0."""
    if latency_us < FIRST_US:
        return 0
    return min(BUCKETS - 1, 1 + int(PER_OCTAVE * math.log2(latency_us / FIRST_US)))


class Health:
    """Counts what passes. All times are this machine's, in microseconds."""

    def __init__(self, now_us: int) -> None:
        self._latencies = np.zeros((_LATENCY_SECONDS, len(STAGES), BUCKETS), np.int64)
        self._second = now_us // 1_000_000
        self._rates: deque[int] = deque([0], maxlen=RATE_SECONDS + 1)
        self._window_rates: deque[int] = deque([0], maxlen=_AVERAGED_SECONDS + 1)
        self.trades = 0
        self.windows = 0
        self.last_trade_us = now_us
        """When the last trade came; the start before any did."""

    def count(self, trades: int, windows: int, now_us: int) -> None:
        """Count messages that came now."""
        self._move_on(now_us)
        self.trades += trades
        self.windows += windows
        self._rates[-1] += trades
        self._window_rates[-1] += windows
        if trades:
            self.last_trade_us = now_us

    def passed(self, window: Window, now_us: int) -> None:
        """Note how long the newest trade of a window took through each stage."""
        self._move_on(now_us)
        stamps = (window.trade_us, window.received_us, window.tape_us, window.pane_us, window.published_us, now_us)
        slot = self._latencies[self._second % _LATENCY_SECONDS]
        for stage in range(len(STAGES)):
            slot[stage, bucket(stamps[stage + 1] - stamps[stage])] += 1

    def rates(self, now_us: int) -> list[int]:
        """Return the trades of each whole second, oldest first."""
        self._move_on(now_us)
        return list(self._rates)[:-1]

    def windows_per_second(self, now_us: int) -> float:
        """Return the mean over the last whole seconds."""
        self._move_on(now_us)
        return _mean(list(self._window_rates)[:-1])

    def stages(self, now_us: int) -> list[list[int]]:
        """Return the histogram of each stage over the last minute."""
        self._move_on(now_us)
        totals: list[list[int]] = self._latencies.sum(axis=0).tolist()
        return totals

    def _move_on(self, now_us: int) -> None:
        seconds = now_us // 1_000_000
        for second in range(max(self._second + 1, seconds - RATE_SECONDS), seconds + 1):
            self._rates.append(0)
            self._window_rates.append(0)
            self._latencies[second % _LATENCY_SECONDS] = 0
        self._second = max(self._second, seconds)


def recent_rate(rates: Sequence[int]) -> float:
    """Return the mean of the last few seconds of `Health.rates`."""
    return _mean(rates[-_AVERAGED_SECONDS:])


def _mean(counts: Sequence[int]) -> float:
    return sum(counts) / len(counts) if counts else 0.0
