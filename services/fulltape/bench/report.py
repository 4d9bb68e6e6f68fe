"""What every benchmark reports besides its own figures: machine, versions, stolen CPU; and how percentiles are told."""

import json
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

_MOST_STOLEN = 0.05


class Latency(TypedDict):
    """Percentiles of a latency."""

    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    count: int


def latency(samples_us: Sequence[int] | NDArray[np.int64]) -> Latency:
    """Summarize latencies, given in microseconds; all zero where there are none."""
    values = np.asarray(samples_us if len(samples_us) else [0], dtype=np.float64) / 1000.0
    p50, p90, p99, p999 = (round(float(value), 3) for value in np.percentile(values, (50, 90, 99, 99.9)))
    return Latency(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        p999_ms=p999,
        max_ms=round(float(values.max()), 3),
        count=len(samples_us),
    )


def machine() -> dict[str, str | int | float]:
    """Describe this machine."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count() or 1,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": sys.version.split()[0],
    }


def versions(*packages: str) -> dict[str, str]:
    """Return the installed versions of ``packages``."""
    return {package: version(package) for package in packages}


def undisturbed(
    name: str,
    scenario: Callable[[], dict[str, Any]],
    say: Callable[[str], None],
    stolen_cpu: dict[str, float | None],
    *,
    tries: int = 3,
) -> dict[str, Any]:
    """Measure; and again, at most ``tries`` times in all, where the host took more than 5 % of the CPU meanwhile.

    What is returned is the last run's alone, and its share is noted in ``stolen_cpu`` under ``name``.
    """
    for attempt in range(tries):
        say(f"measuring {name}{' again: the host took too much CPU' if attempt else ''}")
        stolen = StolenCpu()
        results = scenario()
        fraction = stolen_cpu[name] = stolen.fraction()
        if fraction is None or fraction <= _MOST_STOLEN:
            break
    return results


class StolenCpu:
    """Measures which share of the CPU the machine's host took from it, from creation to `fraction`."""

    def __init__(self) -> None:
        self._before = self._read()

    def fraction(self) -> float | None:
        """Return stolen time as a fraction of all CPU time; None where the system does not tell."""
        now = self._read()
        if self._before is None or now is None:
            return None
        total = sum(now) - sum(self._before)
        return round((now[7] - self._before[7]) / total, 4) if total else 0.0

    @staticmethod
    def _read() -> list[int] | None:
        try:
            first = Path("/proc/stat").read_text().splitlines()[0].split()
        except OSError:
            return None
        return [int(field) for field in first[1:9]]  # user nice system idle iowait irq softirq steal


def tell(report: Mapping[str, Any], *, as_json: bool) -> None:
    """Print a report: one JSON object, a table for a person, or lines for a pipe."""
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
        return
    rows = _flat(report["results"])
    if not sys.stdout.isatty():
        sys.stdout.writelines(f"{name}={value}\n" for name, value in rows)
        return
    table = Table("figure", "value", title=f"{report['benchmark']} on {report['machine']['processor']}")
    for name, value in rows:
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    Console().print(table)


def _flat(results: Mapping[Any, Any], within: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in results.items():
        inner = dict(enumerate(value, 1)) if isinstance(value, list) else value
        rows += _flat(inner, f"{within}{name}.") if isinstance(inner, Mapping) else [(f"{within}{name}", inner)]
    return rows


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
