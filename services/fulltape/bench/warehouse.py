"""`fulltape bench warehouse`: how soon a trade can be asked for, how many are loaded a second, how long answers take.

Archive and loader are the real programs and write a DuckDB file; they share this machine with the broker, the exchange
and whoever asks. Questions are asked of a file of made-up rows, each with its defaults.
"""

import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from fulltape import __version__
from fulltape.bench.arrivals import latencies_us, read_trades, unseen
from fulltape.bench.queryable import QueryWatch
from fulltape.bench.report import StolenCpu, latency, machine, undisturbed, versions
from fulltape.bench.stage import (
    FeedOptions,
    ProducerProgram,
    Program,
    SandboxProgram,
    StageError,
    WorkloadProgram,
    delete_topics,
    make_feed,
    wait_until,
)
from fulltape.bench.tape import PRODUCTS, Say
from fulltape.bench.tape_writer import fill_tape
from fulltape.bench.warehouse_rows import fill_warehouse
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, ensure_topics, topic_specs
from fulltape.local.jars import KAFKA_VERSION
from fulltape.local.kafka import EmbeddedKafka
from fulltape.local.surroundings import check_room
from fulltape.warehouse.connection import open_warehouse
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.queries import ask, named_queries
from fulltape.warehouse.tables import TABLES
from fulltape.workloads import STAGING_VARIABLE, WAREHOUSE_VARIABLE

_RATE = 3000
"""Trades a second, live and by the times of those that are made up."""
_EVERY = "5s"
_PARTITIONS = 2
_RUNS = 20
"""Of each question, after a first one that finds nothing in memory."""
_START_SECONDS = 300.0
_CAUGHT_UP_SECONDS = 3600.0
_POLL_SECONDS = 0.2

_QUESTIONS_BYTES = 50
_TAPE_BYTES = 400
"""Room that a trade takes: in the file that is questioned; on tape, staged and loaded."""
_ROOM_MIB = 1024

SCENARIOS = ("trade_to_queryable", "load", "catch_up", "queries")
"""What is measured, in this order; a method of `WarehouseBench` each."""


@dataclass(frozen=True, slots=True)
class Extent:
    """Seconds that trades are watched for, and those before; and how many trades there are where it is not time."""

    warm_up: float
    trade_to_queryable: float
    load: int
    catch_up: int
    queries: int


FULL = Extent(30, 300, 4_000_000, 10_800_000, 100_000_000)
QUICK = Extent(15, 20, 1_000_000, 1_000_000, 2_000_000)  # more than one batch of the archive


@dataclass(slots=True)
class _Stored:
    """A feed whose trades are stored in a DuckDB file."""

    feed: CryptoFeed
    folder: Path
    programs: dict[str, WorkloadProgram] = field(default_factory=dict)

    @property
    def file(self) -> Path:
        return self.folder / "warehouse.duckdb"


class WarehouseBench:
    """Runs the scenarios, one after the other."""

    def __init__(self, extent: Extent, say: Say) -> None:
        self._for = extent
        self._say = say

    def run(self, only: Sequence[str] = ()) -> dict[str, Any]:
        """Measure everything, or only the scenarios named; return the report.

        Raises:
            ConfigurationError: there is no room for what will be written.

        """
        names = only or SCENARIOS
        whole = StolenCpu()
        steal: dict[str, float | None] = {}
        found: dict[str, dict[str, Any]] = {}
        with contextlib.ExitStack() as stack:
            self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fulltape-bench-")))
            check_room(self._folder, self._room_mib(names), "what this benchmark writes there")
            if set(names) - {"queries"}:
                self._servers = stack.enter_context(EmbeddedKafka()).bootstrap_servers
            for name in names:
                found[name] = undisturbed(name, getattr(self, f"_{name}"), self._say, steal, tries=1)
        return {
            "benchmark": "warehouse",
            "machine": machine() | {"stolen_cpu": whole.fraction()},
            "versions": {"fulltape": __version__, "kafka": KAFKA_VERSION}
            | versions("duckdb", "pyarrow", "pyspark", "confluent-kafka", "msgspec"),
            "load": {
                "products": len(PRODUCTS),
                "partitions": _PARTITIONS,
                "rate": _RATE,
                "every": _EVERY,
                "runs_of_each_query": _RUNS,
            }
            | asdict(self._for),
            "results": _results(found) | {"steal": steal},
        }

    def _room_mib(self, names: Sequence[str]) -> int:
        live = int(_RATE * (self._for.warm_up + self._for.trade_to_queryable))
        needed = {
            "trade_to_queryable": live * _TAPE_BYTES,
            "load": self._for.load * _TAPE_BYTES,
            "catch_up": self._for.catch_up * _TAPE_BYTES,
            "queries": self._for.queries * _QUESTIONS_BYTES,
        }
        return _ROOM_MIB + max(needed[name] for name in names) // 2**20

    def _trade_to_queryable(self) -> dict[str, Any]:
        """Trade at a steady rate while somebody opens the file again and again and asks for the newest trades."""
        with self._stored() as stored:
            options = ("--products", ",".join(PRODUCTS), "--rate", str(_RATE))
            with SandboxProgram(
                stored.folder, *options, "--wait-for-subscriber", "--no-limits", "--no-compression"
            ) as sandbox:
                self._start(stored)
                for program in stored.programs.values():
                    program.wait_ready(_START_SECONDS)
                with ProducerProgram(stored.folder, stored.feed, sandbox, self._servers) as producer:
                    producer.wait_ready()
                    with QueryWatch(stored.file) as watch:
                        time.sleep(self._for.warm_up)
                        from_us = time.time_ns() // 1000
                        time.sleep(self._for.trade_to_queryable)
                        until_us = time.time_ns() // 1000
                        sandbox.kill()
                        producer.terminate()
                        trades = read_trades(self._servers, stored.feed.topics.trades)
                        self._wait_loaded(stored, sum(len(of.ids) for of in trades.values()))
                        last = {product: int(of.ids[-1]) for product, of in trades.items()}
                        wait_until(
                            lambda: {product: mark.ids[-1] for product, mark in watch.marks().items()} == last,
                            "the last trade is seen",
                        )
            seen = watch.marks()
            return {
                **latency(latencies_us(trades, seen, from_us, until_us)),
                "unseen": unseen(trades, seen, from_us, until_us),
                **_account(stored.file, {product: len(of.ids) for product, of in trades.items()}),
            }

    def _load(self) -> dict[str, Any]:
        """Archive and load what is on the tape; the rate is that of all but the archive's first batch."""
        return self._drained(self._for.load)

    def _catch_up(self) -> dict[str, Any]:
        """Do the same with an hour's worth, from when the programs are started."""
        return self._drained(self._for.catch_up)

    def _queries(self) -> dict[str, Any]:
        """Ask every question with its defaults."""
        file = self._folder / "questions.duckdb"
        fill_warehouse(file, self._for.queries, _RATE, self._say)
        try:
            return {
                "queries": {name: _asked(file, name, self._say) for name in named_queries()},
                "rows": _counts(file),
                "file_bytes": file.stat().st_size,
            }
        finally:
            file.unlink()

    def _drained(self, trades: int) -> dict[str, Any]:
        """Put trades on a tape, and then start what stores them."""
        with self._stored() as stored:
            topic = stored.feed.topics.trades
            written = fill_tape(self._servers, topic, PRODUCTS, _PARTITIONS, trades=trades, rate=_RATE, say=self._say)
            began = time.monotonic()
            self._start(stored)
            first, archived = self._first_archived(stored)
            cpu = _cpu_seconds(stored.programs)
            self._wait_loaded(stored, trades)
            open_warehouse(stored.file, read_only=True, patience_seconds=_CAUGHT_UP_SECONDS).close()
            done = time.monotonic()
            cores = {
                name: round((after - cpu[name]) / (done - first), 2)
                for name, after in _cpu_seconds(stored.programs).items()
            }
            return {
                "trades": trades,
                "trades_per_second": round((trades - archived) / (done - first)),
                "seconds": round(done - began, 1),
                "first_archived_seconds": round(first - began, 1),
                **_account(stored.file, written),
                "cores": cores,
                "rss_mib": {name: round(program.rss_mib()) for name, program in stored.programs.items()},
            }

    @contextlib.contextmanager
    def _stored(self) -> Iterator[_Stored]:
        """Make topics and an empty warehouse; end the programs, and delete all, at the end."""
        options = FeedOptions(PRODUCTS, partitions=_PARTITIONS, warehouse={"every": _EVERY})
        feed = make_feed(f"bench-{uuid4().hex[:8]}", options)
        ensure_topics(ClientConfiguration({"bootstrap.servers": self._servers}), topic_specs(feed, replicas=1))
        with tempfile.TemporaryDirectory(dir=self._folder) as folder, contextlib.ExitStack() as stack:
            stored = _Stored(feed, Path(folder))
            stack.callback(delete_topics, self._servers, feed)
            stack.callback(_kill, stored.programs)
            make_duckdb(stored.file)
            yield stored

    def _start(self, stored: _Stored) -> None:
        environment = {
            BOOTSTRAP_VARIABLE: self._servers,
            STAGING_VARIABLE: str(stored.folder / "staging"),
            WAREHOUSE_VARIABLE: str(stored.file),
        }
        for name in ("archive", "warehouse"):
            stored.programs[name] = WorkloadProgram(stored.folder, stored.feed, name, environment=environment)

    def _first_archived(self, stored: _Stored) -> tuple[float, int]:
        """Return when the archive's first batch was done, and how many trades it held."""
        rows = 0

        def archived() -> bool:
            nonlocal rows
            _check_running(stored.programs)
            rows = round(stored.programs["archive"].metric("fulltape_archive_rows_total"))
            return rows > 0

        wait_until(archived, "the first trades are archived", seconds=_START_SECONDS)
        return time.monotonic(), rows

    def _wait_loaded(self, stored: _Stored, trades: int) -> None:
        """Wait until the loader says that it has committed so many rows."""
        said = -1

        def loaded() -> bool:
            nonlocal said
            _check_running(stored.programs)
            time.sleep(_POLL_SECONDS)
            rows = round(stored.programs["warehouse"].metric("fulltape_warehouse_rows_total"))
            if rows != said:
                self._say(f"loaded {rows:,} of {trades:,} trades")
                said = rows
            return rows >= trades

        wait_until(loaded, "all trades are loaded", seconds=_CAUGHT_UP_SECONDS)


def _asked(file: Path, name: str, say: Callable[[str], None]) -> dict[str, Any]:
    """Ask a question of a file that was just opened, then as often as it counts."""
    say(f"asking {name}")
    query = named_queries()[name]
    connection = open_warehouse(file, read_only=True)
    taken_ms = []
    try:
        for _ in range(1 + _RUNS):
            began = time.perf_counter()
            rows = ask(connection, query).rows
            taken_ms.append((time.perf_counter() - began) * 1000)
    finally:
        connection.close()
    p50, p95 = np.percentile(taken_ms[1:], (50, 95))
    return {
        "first_ms": round(taken_ms[0], 1),
        "p50_ms": round(float(p50), 1),
        "p95_ms": round(float(p95), 1),
        "max_ms": round(max(taken_ms[1:]), 1),
        "rows": len(rows),
    }


def _counts(file: Path) -> dict[str, int]:
    """Return how many rows each table has."""
    connection = open_warehouse(file, read_only=True)
    try:
        return {
            name: connection.run(f"SELECT COUNT(*) FROM {table.qualified}").rows[0][0]  # noqa: S608 - a constant
            for name, table in TABLES.items()
        }
    finally:
        connection.close()


def _account(file: Path, written: Mapping[str, int]) -> dict[str, int]:
    """Return how many of the trades written, so many by product, are missing and how many are there more than once."""
    connection = open_warehouse(file, read_only=True, patience_seconds=_CAUGHT_UP_SECONDS)
    try:
        rows = connection.run(
            f"SELECT product, COUNT(*), COUNT(DISTINCT trade_id) FROM {TABLES['trades'].qualified} GROUP BY product"  # noqa: S608
        ).rows
    finally:
        connection.close()
    distinct = {product: ids for product, _, ids in rows}
    return {
        "missing": sum(count - distinct.get(product, 0) for product, count in written.items()),
        "duplicates": sum(count - ids for _, count, ids in rows),
    }


def _results(found: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of the scenarios; what all of them lost or doubled stands once, summed."""
    results = {name: dict(figures) for name, figures in found.items() if name != "queries"}
    stored = list(results.values())
    if "load" in results:
        results["load_trades_per_second"] = results["load"]["trades_per_second"]
    if stored:
        results |= {name: sum(figures.pop(name) for figures in stored) for name in ("missing", "duplicates")}
    return results | dict(found.get("queries", {}))


def _check_running(programs: Mapping[str, Program]) -> None:
    for program in programs.values():
        if not program.running:
            raise StageError(f"{program.name} ended with {program.exit_code}:\n{program.tail()}")


def _kill(programs: Mapping[str, Program]) -> None:
    for program in programs.values():
        program.kill()


def _cpu_seconds(programs: Mapping[str, Program]) -> dict[str, float]:
    return {name: program.cpu_seconds() for name, program in programs.items()}
