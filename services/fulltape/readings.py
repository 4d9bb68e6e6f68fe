"""Rates and percentiles of a run's last seconds, from the metrics that its parts serve."""

import math
from collections import deque
from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from prometheus_client.parser import text_string_to_metric_families

Key = TypeVar("Key", bound=Hashable)

_RECORDS = "fulltape_tape_records_total"
_TO_WINDOW = "fulltape_stage_seconds"
_TO_WINDOW_LABELS = {"stage": "received_to_window"}
_TO_TAPE = "fulltape_commit_delay_seconds"
_READ = frozenset({_RECORDS, f"{_TO_WINDOW}_bucket", f"{_TO_TAPE}_bucket"})
_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Figures:
    """How the feed as a whole does; None where nothing is known yet."""

    trades_per_second: float | None = None
    way: str = "socket to tape"
    """From where to where the latency is."""
    p50_seconds: float | None = None
    p99_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One line of Prometheus' text format."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(text: str, names: Collection[str]) -> list[Sample]:
    """Return the samples of some metrics, given by their names in the text (``..._total``, ``..._bucket``).

    Raises:
        ValueError: a line of theirs is not of Prometheus' text format.

    """
    # A monitor serves a thousand lines, and parsing costs: the others are not looked at.
    wanted = "\n".join(line for line in text.splitlines() if line.partition("{")[0].partition(" ")[0] in names)
    return [
        Sample(sample.name, sample.labels, sample.value)
        for family in text_string_to_metric_families(wanted + "\n")
        for sample in family.samples
    ]


def buckets(found: Iterable[Sample], name: str, labels: Mapping[str, str] | None = None) -> dict[float, float]:
    """Return a histogram's cumulative counts by upper bound, summed over all that have ``labels``."""
    counts: dict[float, float] = {}
    for sample in found:
        if sample.name == f"{name}_bucket" and (labels or {}).items() <= sample.labels.items():
            bound = float(sample.labels["le"])
            counts[bound] = counts.get(bound, 0.0) + sample.value
    return counts


def quantile(counts: Mapping[float, float], share: float) -> float | None:
    """Return the value below which ``share`` (0 to 1) of a histogram lies; None where it is empty.

    Linear within a bucket, as PromQL's histogram_quantile; beyond the last finite bound, that bound.
    """
    bounds = sorted(counts)
    total = counts[bounds[-1]] if bounds else 0.0
    if total <= 0:
        return None
    lower, below = 0.0, 0.0
    for bound in bounds:
        if counts[bound] >= share * total and counts[bound] > below:
            if math.isinf(bound):
                return lower
            lower = min(lower, bound)  # a first bucket below zero has no width
            return lower + (bound - lower) * (share * total - below) / (counts[bound] - below)
        lower, below = bound, counts[bound]
    return lower


@dataclass(slots=True)
class Recent(Generic[Key]):
    """What counters that only rise gained of late; keyed counters, such as a histogram's buckets, go together."""

    seconds: float
    """How far back."""
    _history: deque[tuple[float, Mapping[Key, float]]] = field(default_factory=deque)

    def add(self, now: float, counts: Mapping[Key, float]) -> None:
        """Take the counters as they stand at ``now`` (seconds); a program that began anew begins a new history."""
        if self._history and any(counts.get(key, 0.0) < value for key, value in self._history[-1][1].items()):
            self._history.clear()
        self._history.append((now, counts))
        while len(self._history) > 2 and self._history[1][0] <= now - self.seconds:
            self._history.popleft()

    def gained(self) -> dict[Key, float]:
        """Return what each counter gained."""
        if not self._history:
            return {}
        first, last = self._history[0][1], self._history[-1][1]
        return {key: value - first.get(key, 0.0) for key, value in last.items()}

    def per_second(self) -> float | None:
        """Return what all counters together gained a second; None before two readings, and while there are none."""
        if len(self._history) < 2 or not self._history[-1][1]:
            return None
        return sum(self.gained().values()) / (self._history[-1][0] - self._history[0][0])


class Meter:
    """Turns the metrics of all parts, read now and then, into `Figures` of the last ten seconds."""

    def __init__(self) -> None:
        self._records: Recent[str] = Recent(_SECONDS)
        self._to_window: Recent[float] = Recent(_SECONDS)
        self._to_tape: Recent[float] = Recent(_SECONDS)

    def add(self, now: float, texts: Mapping[str, str]) -> None:
        """Take what the parts' /metrics said at ``now`` (seconds), by the parts' names.

        Raises:
            ValueError: a text is not of Prometheus' text format.

        """
        found = {name: samples(text, _READ) for name, text in texts.items()}
        together = [sample for of_part in found.values() for sample in of_part]
        self._records.add(
            now, {name: one.value for name, of_part in found.items() for one in of_part if one.name == _RECORDS}
        )
        self._to_window.add(now, buckets(together, _TO_WINDOW, _TO_WINDOW_LABELS))
        self._to_tape.add(now, buckets(together, _TO_TAPE))

    def figures(self) -> Figures:
        """Return the figures: the latency to the windows, or to the tape where there are none."""
        rate = self._records.per_second()
        for way, recent in (("socket to window", self._to_window), ("socket to tape", self._to_tape)):
            counts = recent.gained()
            if (p50 := quantile(counts, 0.5)) is not None:
                return Figures(rate, way, p50, quantile(counts, 0.99))
        return Figures(rate)
