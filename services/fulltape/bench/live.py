"""Measures the live path, from a trade at the exchange to the paint in a browser and to Alertmanager's webhook.

All parts are the real programs and share this machine with the exchange, the broker and the browser. A trade's latency
begins with its time at the exchange, the sandbox on the same clock, and ends with the first window (pane, paint,
webhook call) that reflects it; every trade of the measured stretch counts, those of batch boundaries included.
"""

import contextlib
import itertools
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from fulltape import __version__
from fulltape.bench.arrivals import (
    Arrivals,
    Ints,
    Marks,
    PaneMark,
    Trades,
    WindowMark,
    latencies_us,
    read_trades,
    unseen,
)
from fulltape.bench.browser import Browser
from fulltape.bench.floor import kafka_floor
from fulltape.bench.report import StolenCpu, latency, machine, undisturbed, versions
from fulltape.bench.stage import (
    FeedOptions,
    ProducerProgram,
    Program,
    SandboxProgram,
    WorkloadProgram,
    delete_topics,
    make_feed,
    wait_until,
)
from fulltape.bench.tape import PRODUCTS, Say
from fulltape.bench.tape_writer import TapeWriter
from fulltape.bench.webhook import Webhook
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE
from fulltape.local.alertmanager import EmbeddedAlertmanager
from fulltape.local.jars import KAFKA_VERSION
from fulltape.local.kafka import EmbeddedKafka
from fulltape.workloads import ALERTMANAGERS_VARIABLE, PAGE

_STAGES = ("exchange_to_tape", "tape_to_pane", "pane_to_window")
_LIMIT_MS = 1000.0
"""A rate is held where the 99th percentile stays below this."""

_BROWSER_SECONDS = 20.0
"""In which the browser warms up."""
_RATE = 3000
"""Trades a second, where a scenario is not about another rate."""
_ALERT_RULES = 45
_PARTITIONS = 1
"""Of the tape; each takes Spark a task that reads and one that sums, and all the clients a request of its own."""

SCENARIOS = (
    "floor",
    "trade_to_glass",
    "trade_to_pane",
    "trade_to_window",
    "two_streams",
    "microbatch",
    "trade_to_alert",
    "max_rate",
)
"""What is measured, in this order; a method of `LiveBench` each."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Seconds that each scenario is measured for, and the seconds before, in which the JVMs warm up."""

    warm_up: float
    glass: float
    window: float
    pane: float
    hold: float
    two_streams: float
    microbatch: float
    alert: float
    floor: float


FULL = Extent(240, 600, 600, 120, 300, 300, 120, 60, 20)
QUICK = Extent(20, 15, 10, 10, 0, 20, 15, 15, 3)


@dataclass(slots=True)
class _Live:
    """A feed that runs."""

    feed: CryptoFeed
    sandbox: SandboxProgram
    programs: dict[str, WorkloadProgram] = field(default_factory=dict)

    @property
    def page_url(self) -> str:
        return f"http://127.0.0.1:{self.programs['dashboard'].ports[PAGE]}"


class LiveBench:
    """Runs the scenarios, one after the other, on one broker."""

    def __init__(self, extent: Extent, rates: Sequence[int], say: Say) -> None:
        self._for = extent
        self._rates = rates
        self._say = say

    def run(self, only: Sequence[str] = ()) -> dict[str, Any]:
        """Measure everything, or only the scenarios named; return the report."""
        whole = StolenCpu()
        with tempfile.TemporaryDirectory(prefix="fulltape-bench-") as folder, EmbeddedKafka() as broker:
            self._folder = Path(folder)
            self._servers = broker.bootstrap_servers
            steal: dict[str, float | None] = {}
            results: dict[str, Any] = {"steal": steal, "rate": _RATE}
            for name in only or SCENARIOS:
                results[name] = undisturbed(name, getattr(self, f"_{name}"), self._say, steal)
            if "trade_to_glass" in results:
                results["stages"] = results["trade_to_glass"].pop("stages")
        return {
            "benchmark": "live",
            "machine": machine() | {"stolen_cpu": whole.fraction()},
            "versions": {"fulltape": __version__, "kafka": KAFKA_VERSION}
            | versions("pyspark", "confluent-kafka", "msgspec", "aiohttp", "uvloop"),
            "load": {"products": len(PRODUCTS), "partitions": _PARTITIONS} | asdict(self._for),
            "results": results,
        }

    def _floor(self) -> dict[str, Any]:
        return dict(kafka_floor(self._servers, _RATE, self._for.floor, _PARTITIONS))

    def _trade_to_glass(self) -> dict[str, Any]:
        """Look at the market in a browser, which is opened when the rest is warm."""
        with self._live(_RATE) as live, self._watch(live) as windows:
            _pass(self._for.warm_up)
            with Browser(live.page_url) as browser:
                wait_until(lambda: bool(browser.collect()), "the first price is painted")
                _pass(_BROWSER_SECONDS, browser.collect)
                from_us, until_us, used = self._measure(live, self._for.glass, browser.collect)
            trades = self._end(live)
        painted = browser.marks()
        whole = latencies_us(trades, painted, from_us, until_us)
        stages = _stages_us(windows.rows(), painted, from_us, until_us)
        return {
            "rate": _RATE,
            **latency(whole),
            "unseen": unseen(trades, painted, from_us, until_us),
            "stages": {name: dict(latency(samples)) for name, samples in stages.items()},
            **used,
        }

    def _trade_to_pane(self) -> dict[str, Any]:
        """Watch panes come out of Spark alone, from when each trade was written to the tape."""
        rate = 15_000
        with self._live(rate, "panes-0", exchange=False) as live:
            topics = live.feed.topics
            with (
                TapeWriter(self._servers, topics.trades, PRODUCTS, rate, _PARTITIONS),
                Arrivals(self._servers, topics.panes, PaneMark) as panes,
            ):
                _pass(self._for.warm_up)
                from_us, until_us, used = self._measure(live, self._for.pane)
            trades = self._end(live)
        seen = panes.marks()
        measured = latencies_us(trades, seen, from_us, until_us, since_tape=True)
        return {
            "rate": rate,
            **latency(measured),
            "unseen": unseen(trades, seen, from_us, until_us),
            **used,
        }

    def _trade_to_window(self) -> dict[str, Any]:
        return self._windows_at(10_000, self._for.window)

    def _windows_at(self, rate: int, seconds: float, *, environment: Mapping[str, str] | None = None) -> dict[str, Any]:
        with self._live(rate, "panes-0", "monitor", environment=environment) as live:
            with self._watch(live) as windows:
                _pass(self._for.warm_up)
                from_us, until_us, used = self._measure(live, seconds)
            trades = self._end(live)
        measured = latencies_us(trades, windows.marks(), from_us, until_us)
        return {
            "rate": rate,
            **latency(measured),
            "unseen": unseen(trades, windows.marks(), from_us, until_us),
            **used,
        }

    def _two_streams(self) -> dict[str, Any]:
        """Two identical pane streams; one driver is killed in the middle and comes back."""
        with self._live(_RATE, "panes-0", "panes-1", "monitor", streams=2) as live:
            with self._watch(live) as windows:
                killed: list[float] = []

                def kill_once() -> None:
                    if time.monotonic() - began > self._for.two_streams / 2 and not killed:
                        live.programs["panes-0"].kill()
                        killed.append(time.monotonic())
                        live.programs["panes-0"] = self._start(live.feed, "panes-0", live.sandbox)

                _pass(self._for.warm_up)
                began = time.monotonic()
                from_us, until_us, _ = self._measure(live, self._for.two_streams, kill_once)
            trades = self._end(live)
        measured = latencies_us(trades, windows.marks(), from_us, until_us)
        return {
            "rate": _RATE,
            **latency(measured),
            "unseen": unseen(trades, windows.marks(), from_us, until_us),
            "drivers_killed": len(killed),
        }

    def _microbatch(self) -> dict[str, Any]:
        """Do the same with micro-batches in place of Real-time Mode: the baseline."""
        return self._windows_at(_RATE, self._for.microbatch, environment={"FULLTAPE_TRIGGER": "micro-batch"})

    def _trade_to_alert(self) -> dict[str, Any]:
        """Rules that count trades, so that it is known which trade crosses each threshold; each fires once."""
        usual = _RATE / len(PRODUCTS)
        thresholds = [
            round(usual * (self._for.warm_up + step * self._for.alert / _ALERT_RULES)) for step in range(_ALERT_RULES)
        ]
        rules = [{"name": f"Count{count}", "measure": "trades", "window": "1h", "above": count} for count in thresholds]
        with Webhook() as webhook, EmbeddedAlertmanager(webhook=webhook.url) as alertmanager:
            environment = {ALERTMANAGERS_VARIABLE: alertmanager.url}
            analytics = {"windows": ["1m", "1h"]}
            with self._live(
                _RATE, "panes-0", "monitor", environment=environment, analytics=analytics, alerts=rules
            ) as live:
                _pass(self._for.warm_up)
                self._measure(live, self._for.alert)
                trades = self._end(live)
        called = {
            (notice.labels["product"], notice.labels["alertname"]): notice.at_us
            for notice in reversed(webhook.notices)
            if notice.status == "firing" and "product" in notice.labels
        }
        samples = [
            called[product, f"Count{count}"] - int(of_product.time_us[count])
            for product, of_product in trades.items()
            for count in thresholds
            if (product, f"Count{count}") in called
        ]
        doubled = len([notice for notice in webhook.notices if notice.labels.get("product")]) - len(called)
        return {"rate": _RATE, **latency(samples), "doubled": doubled}

    def _max_rate(self) -> dict[str, Any]:
        """Raise the rate until windows no longer keep up."""
        steps = {}
        held = 0
        for rate in self._rates if self._for.hold else ():
            step = self._windows_at(rate, self._for.hold)
            steps[str(rate)] = step
            if step["p99_ms"] >= _LIMIT_MS or step["unseen"]:
                break
            held = rate
        return {"trades_per_second": held, "steps": steps}

    @contextlib.contextmanager
    def _live(
        self,
        rate: int,
        *names: str,
        environment: Mapping[str, str] | None = None,
        streams: int = 1,
        exchange: bool = True,
        analytics: Mapping[str, Any] | None = None,
        alerts: Sequence[Mapping[str, Any]] = (),
    ) -> Iterator[_Live]:
        """Run a feed with the workloads named, or all, until the context ends; without an exchange no trades come."""
        options = FeedOptions(
            PRODUCTS,
            partitions=_PARTITIONS,
            channels=("matches",),
            analytics={"replicas": streams} | dict(analytics or {}),
            alerts=alerts,
        )
        feed = make_feed(f"bench-{uuid4().hex[:8]}", options)
        with contextlib.ExitStack() as stack:
            sandbox = stack.enter_context(
                SandboxProgram(
                    self._folder,
                    *("--products", ",".join(PRODUCTS), "--rate", str(rate)),
                    *("--wait-for-subscriber", "--no-limits", "--no-compression"),
                )
            )
            live = _Live(feed, sandbox)
            stack.callback(_kill, live.programs)
            for name in names or ("panes-0", "monitor", "dashboard"):
                live.programs[name] = self._start(feed, name, sandbox, environment)
            for program in live.programs.values():
                program.wait_ready(seconds=180)
            if exchange:
                live.programs["producer-0"] = self._start(feed, "producer-0", sandbox)
            yield live
        delete_topics(self._servers, feed)

    def _start(
        self, feed: CryptoFeed, name: str, sandbox: SandboxProgram, environment: Mapping[str, str] | None = None
    ) -> WorkloadProgram:
        if name == "producer-0":
            return ProducerProgram(self._folder, feed, sandbox, self._servers)
        variables = {BOOTSTRAP_VARIABLE: self._servers} | dict(environment or {})
        return WorkloadProgram(self._folder, feed, name, environment=variables)

    def _watch(self, live: _Live) -> Arrivals:
        return Arrivals(self._servers, live.feed.topics.windows, WindowMark, only_keys_with=b"/1m/")

    def _measure(
        self, live: _Live, seconds: float, every_second: Callable[[], object] = lambda: None
    ) -> tuple[int, int, dict[str, Any]]:
        """Let trades count; return from and until when, and what each program used of memory and CPU."""
        memory: dict[str, list[float]] = {name: [] for name in live.programs}

        def look() -> None:
            every_second()
            for name, program in live.programs.items():
                memory[name].append(program.rss_mib())

        before = _cpu(live)
        from_us = time.time_ns() // 1000
        _pass(seconds, look)
        until_us = time.time_ns() // 1000
        cores = _used(before, _cpu(live), seconds)
        _pass(2.0, every_second)  # what is under way arrives
        return from_us, until_us, {"rss_mib": {name: _memory(mib) for name, mib in memory.items()}, "cores": cores}

    def _end(self, live: _Live) -> dict[str, Trades]:
        """Stop the exchange and read what the tape holds."""
        for program in (live.sandbox, *live.programs.values()):
            program.kill()
        return read_trades(self._servers, live.feed.topics.trades)


def _stages_us(rows: Mapping[str, Ints], painted: Mapping[str, Marks], from_us: int, until_us: int) -> dict[str, Ints]:
    """Return how long the newest trade of each window took from stage to stage.

    The tape and the panes carry Kafka's times, whole milliseconds rounded down.
    """
    stages: dict[str, list[Ints]] = {name: [] for name in (*_STAGES, "window_to_glass")}
    for product, of_product in rows.items():
        last_id, trade_us, tape_us, pane_us, published_us, _ = of_product[
            (of_product[:, 1] >= from_us) & (of_product[:, 1] < until_us)
        ].T
        stamps = (trade_us, tape_us, pane_us, published_us)
        for name, (earlier, later) in zip(_STAGES, itertools.pairwise(stamps), strict=True):
            stages[name].append(later - earlier)
        if product in painted:
            index = np.searchsorted(painted[product].ids, last_id, side="left")
            known = index < len(painted[product].ids)
            stages["window_to_glass"].append(painted[product].at_us[index[known]] - published_us[known])
    return {name: np.concatenate(parts) for name, parts in stages.items() if parts}


def _kill(programs: Mapping[str, Program]) -> None:
    for program in programs.values():
        program.kill()


def _pass(seconds: float, every_second: Callable[[], object] = lambda: None) -> None:
    """Let time pass, with something to do every second."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(1.0, left))
        every_second()


def _memory(mib: Sequence[float]) -> dict[str, float]:
    """Tell whether memory grows: its mean over the first tenth, the greatest, and the last."""
    first = mib[: max(1, len(mib) // 10)]
    return {"first_tenth": round(sum(first) / len(first), 1), "max": round(max(mib), 1), "end": round(mib[-1], 1)}


def _cpu(live: _Live) -> dict[str, float]:
    programs: dict[str, Program] = {"sandbox": live.sandbox, **live.programs}
    return {name: program.cpu_seconds() for name, program in programs.items()}


def _used(before: Mapping[str, float], after: Mapping[str, float], seconds: float) -> dict[str, float]:
    """Return how many cores each program kept busy."""
    return {name: round((after[name] - before[name]) / seconds, 3) for name in before if name in after}
