"""The backfill against the sandbox exchange, its limits and faults, and a DuckDB file: all of its history, exactly."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest

from fulltape.bench.stage import Program, SandboxProgram, wait_until
from fulltape.warehouse.connection import open_duckdb
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.export import Selection, export
from fulltape.warehouse.load import Loader
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.queries import ask, named_queries
from fulltape.warehouse.staging import Staging, backfill_path
from tests.redshift.rows import FEED, plain_environment

pytestmark = pytest.mark.integration

PRODUCT = "BTC-USD"
TRADES = 30_000
_BACKFILL = """
from fulltape.warehouse import backfill
backfill.BLOCK = 2000
from fulltape import cli
cli._COMMANDS = {"backfill": ("fulltape.warehouse.cli_backfill", "backfill_command")}
cli.main()
"""
_LOADER = "from fulltape.warehouse.cli import load_command; load_command()"
_FEED = f"""
apiVersion: fulltape.dev/v1alpha1
kind: CryptoFeed
metadata: {{name: test}}
spec:
  exchange: Coinbase
  products: [{PRODUCT}]
  kafka: {{bootstrapServers: 'localhost:9092', topics: {{prefix: {FEED}}}}}
  warehouse: {{every: 1s}}
"""

Trade = tuple[int, datetime, Decimal, Decimal, str]


@dataclass
class Place:
    """A feed's warehouse, and what fills it."""

    folder: Path
    programs: list[Program]

    @property
    def file(self) -> Path:
        return self.folder / "warehouse.duckdb"

    @property
    def staging(self) -> Staging:
        return Staging(str(self.folder / "staging"))

    def start(self, name: str, program: str, *arguments: str) -> Program:
        environment = {
            **plain_environment(),
            "FULLTAPE_WAREHOUSE": str(self.file),
            "FULLTAPE_STAGING": str(self.folder / "staging"),
        }
        feed = self.folder / "feed.yaml"
        feed.write_text(_FEED)
        command = [sys.executable, "-c", program, *arguments, "--feed", str(feed)]
        self.programs.append(Program(name, command, self.folder, environment=environment))
        return self.programs[-1]

    def backfill(self, sandbox: SandboxProgram, since: str, *options: str) -> Program:
        arguments = ("backfill", PRODUCT, "--since", since, "--rest-url", sandbox.rest_url, *options)
        return self.start("backfill", _BACKFILL, *arguments)

    def noted(self) -> bytes | None:
        """Return which ids are noted as staged."""
        return self.staging.content(backfill_path(PRODUCT))

    def load(self) -> None:
        loader = Loader(FEED, self.staging, DuckDatabase(self.file, self.staging))
        loader.run()
        loader.close()

    def trades(self) -> list[Trade]:
        return self.ask("SELECT trade_id, traded_at, price, size, taker_side FROM fulltape.trades ORDER BY trade_id")

    def ask(self, sql: str) -> list[Any]:
        connection = open_duckdb(self.file, read_only=True)
        try:
            return connection.run(sql).rows
        finally:
            connection.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path, [])
    make_duckdb(made.file)
    yield made
    for program in made.programs:
        program.kill()


def history(sandbox: SandboxProgram) -> list[Trade]:
    """Return all that the exchange's REST lists of the product, read here, page by page."""
    found: list[Trade] = []
    after = ""
    while True:
        request = urllib.request.Request(
            f"{sandbox.rest_url}/products/{PRODUCT}/trades?limit=1000{after}", headers={"User-Agent": "test"}
        )
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                page = json.load(answer)
        except urllib.error.HTTPError as refusal:
            if refusal.code != 429:
                raise
            time.sleep(0.1)  # the exchange's own limit
            continue
        if not page:
            return found[::-1]
        found += [
            (
                one["trade_id"],
                datetime.fromisoformat(one["time"]).replace(tzinfo=None),
                Decimal(one["price"]),
                Decimal(one["size"]),
                {"buy": "sell", "sell": "buy"}[one["side"]],
            )
            for one in page
        ]
        after = f"&after={page[-1]['trade_id']}"


def ended_sandbox(folder: Path, *options: str) -> SandboxProgram:
    """Return an exchange that has made its trades."""
    sandbox = SandboxProgram(folder, *options)
    wait_until(lambda: sandbox.state()["ended"], "the exchange has made its trades")
    return sandbox


def test_killed_and_continued_it_brings_the_exchanges_whole_history_once(place: Place) -> None:
    """At five times the rate that the exchange allows, with a loader beside it, and REST out of order now and then."""
    options = ("--products", PRODUCT, "--rate", "20000", "--count", str(TRADES))
    with ended_sandbox(place.folder, *options) as sandbox:
        loader = place.start("loader", _LOADER)
        for fault in (
            {"fault": "refuse_rest", "seconds": 1.0},
            {"fault": "slow_rest", "delay_seconds": 0.3, "seconds": 2.0},
        ):
            before = place.noted()
            backfill = place.backfill(sandbox, "now - 1d", "--rate", "50")
            wait_until(lambda before=before: place.noted() != before, "a block is staged")
            backfill.kill()
            assert place.noted() != before
            sandbox.order("faults", **fault)
        backfill = place.backfill(sandbox, "now - 1d", "--rate", "50")
        assert backfill.wait(120) == 0, backfill.tail()
        assert loader.terminate() == 0, loader.tail()
        place.load()
        expected = history(sandbox)
        assert len(expected) == TRADES + 1  # the exchange begins with one
        assert place.trades() == expected
        assert place.ask("SELECT DISTINCT source, late, sequence FROM fulltape.trades") == [("backfill", True, None)]
        assert not place.staging.quarantined("trades")
        written = {path: path.stat().st_mtime_ns for path in place.folder.rglob("*.parquet")}
        again = place.backfill(sandbox, "now - 1d")
        assert again.wait(60) == 0
        assert "0 of them fetched now" in again.tail()
        assert {path: path.stat().st_mtime_ns for path in place.folder.rglob("*.parquet")} == written
    connection = open_duckdb(place.file, read_only=True)
    end = expected[-1][1] + timedelta(microseconds=1)
    done = export(connection, Selection("trades", PRODUCT, expected[0][1], end), place.folder / "all.parquet")
    connection.close()
    columns = ["trade_id", "traded_at", "price", "size", "taker_side"]
    table = pyarrow.parquet.read_table(done.file, columns=columns).sort_by("trade_id")
    assert [tuple(row.values()) for row in table.to_pylist()] == expected


def test_a_part_of_the_history_is_bounded_by_the_times_of_its_trades(place: Place) -> None:
    with ended_sandbox(place.folder, "--products", PRODUCT, "--rate", "5000", "--count", "5000") as sandbox:
        expected = history(sandbox)
        since, until = expected[1500][1], expected[3500][1]
        backfill = place.backfill(sandbox, since.isoformat(), "--until", until.isoformat(), "--rate", "10")
        assert backfill.wait(60) == 0, backfill.tail()
    place.load()
    assert place.trades() == [one for one in expected if since <= one[1] < until]


def test_what_the_exchange_lacks_is_told_and_stored_as_gaps(place: Place) -> None:
    start_us = int(datetime(2025, 10, 10, 21, tzinfo=UTC).timestamp()) * 1_000_000
    lacking = {*range(500, 511), 1700}
    rows = [
        f"coinbase,{PRODUCT},{start_us + 1000 * number},0,{number},buy,64000.01,0.5\n"
        for number in range(1, 2501)
        if number not in lacking
    ]
    recording = place.folder / "day.csv"
    recording.write_text("exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n" + "".join(rows))
    options = ("--replay", str(recording), "--speed", "1000000", "--clock", "recorded")
    with ended_sandbox(place.folder, *options) as sandbox:
        backfill = place.backfill(sandbox, "2025-10-10", "--rate", "50")
        assert backfill.wait(60) == 1
    assert "error: the exchange lacks 12 trades of BTC-USD: 500 to 510 (absent from 3" in backfill.tail()
    assert "1700 to 1700" in backfill.tail()
    place.load()
    assert [one[0] for one in place.trades()] == [number for number in range(1, 2501) if number not in lacking]
    assert place.ask("SELECT first_id, last_id FROM fulltape.gaps ORDER BY first_id") == [(500, 510), (1700, 1700)]
    connection = open_duckdb(place.file, read_only=True)
    result = ask(connection, named_queries()["tape_complete"])
    connection.close()
    (whole,) = [dict(zip(result.columns, row, strict=True)) for row in result.rows]
    assert (whole["missing"], whole["known_gaps"], whole["unexplained"]) == (12, 12, 0)


def test_a_product_that_the_exchange_lacks_and_an_exchange_that_is_away_are_told(place: Place) -> None:
    with ended_sandbox(place.folder, "--products", "ETH-USD", "--count", "1") as sandbox:
        backfill = place.backfill(sandbox, "now - 1d")
        assert backfill.wait(60) == 2
    assert "error: the exchange has no product 'BTC-USD'" in backfill.tail()
    assert place.noted() is None
