"""A crash day through tape, archive and load while Spark, the loader and the database are killed: every trade once."""

import csv
import gzip
import os
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from decimal import Decimal
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest

from fulltape.bench.stage import Program, StageError, WorkloadProgram, wait_until
from fulltape.kafka import BOOTSTRAP_VARIABLE
from fulltape.local.kafka import EmbeddedKafka
from fulltape.workloads import STAGING_VARIABLE
from tests.data import shared_data
from tests.integration.tape import Stage
from tests.redshift.postgres import Postgres
from tests.redshift.rows import Warehouse
from tests.redshift.server import ROLE

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("FULLTAPE_DRILL_KILLS", "1"))
"""How often each of Spark, loader and database is killed; ten is the full measure."""
PRODUCTS = ("LINK-USD", "AVAX-USD", "ATOM-USD")

_DAY_SECONDS = 86_400
_SECONDS_A_KILL = 40
"""Spark takes half of that to start, so that deaths fall into starts as well as into batches."""


@pytest.fixture
def stage(kafka: EmbeddedKafka, tmp_path: Path, topic_prefix: str) -> Iterator[Stage]:
    set_up = Stage(kafka, tmp_path, topic_prefix)
    yield set_up
    set_up.close()


def test_a_crash_day_is_in_the_warehouse_once_whatever_is_killed(
    stage: Stage, warehouse: Warehouse, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    files = {product: shared_data(f"coinbase_trades_2025-10-10_{product}.csv.gz") for product in PRODUCTS}
    replay = [word for file in files.values() for word in ("--replay", str(file))]
    seconds = (KILLS + 1) * _SECONDS_A_KILL
    sandbox = stage.sandbox_replay(*replay, "--speed", str(_DAY_SECONDS / seconds), "--clock", "recorded")
    feed = stage.feed(products=PRODUCTS, start={}, warehouse=spec_of(warehouse))
    environment = {
        **warehouse.environment,
        BOOTSTRAP_VARIABLE: stage.broker.bootstrap_servers,
        STAGING_VARIABLE: warehouse.staging.uri,
    }

    def start(name: str) -> Callable[[], Program]:
        return lambda: WorkloadProgram(tmp_path, feed, name, environment=environment)

    victims: list[Victim] = [ProgramVictim(start("archive")), ProgramVictim(start("warehouse"))]
    if warehouse.engine == "redshift":
        victims.append(DatabaseVictim(request.getfixturevalue("postgres")))
    stage.producer(feed, sandbox)
    with killed_at_random(victims, seconds):
        audit = stage.proof(sandbox, seconds=seconds + 120)
    assert [victim.deaths for victim in victims] == [KILLS] * len(victims)
    expected = {product: recorded(file) for product, file in files.items()}
    total = sum(count for count, _, _ in expected.values())
    assert sum(product.trades for product in audit.products) == total
    question = (
        "SELECT product, COUNT(*), COUNT(DISTINCT trade_id), SUM(size), SUM(CAST(price * size AS DECIMAL(38, 15))) "
        "FROM fulltape.trades GROUP BY product"
    )

    def stored() -> dict[str, tuple[Any, ...]]:
        try:
            return {row[0]: row[1:] for row in warehouse.ask(question)}
        except Exception:  # noqa: BLE001 - the loader has the file
            return {}

    try:
        wait_until(lambda: sum(row[0] for row in stored().values()) >= total, "all is loaded", seconds=300)
        loaded = stored()
    finally:
        for victim in victims:
            victim.end()
    found = {product: (int(row[0]), int(row[1]), Decimal(row[2]), Decimal(row[3])) for product, row in loaded.items()}
    assert found == {product: (count, count, size, notional) for product, (count, size, notional) in expected.items()}
    gaps = warehouse.ask("SELECT product, SUM(last_id - first_id + 1) FROM fulltape.gaps GROUP BY product")
    assert {product: int(ids) for product, ids in gaps} == {
        product.product: product.gap_ids for product in audit.products
    }


class Victim:
    """Something that is killed and comes back."""

    def __init__(self) -> None:
        self.deaths = 0

    def kill(self) -> None:
        """Kill it and bring it back."""
        raise NotImplementedError

    def end(self) -> None:
        """End it for good."""


class ProgramVictim(Victim):
    """A program that is killed with all its children, and started again as an operator would."""

    def __init__(self, start: Callable[[], Program]) -> None:
        super().__init__()
        self._start = start
        self._program = start()

    def kill(self) -> None:
        if not self._program.running:
            raise StageError(f"{self._program.name} ended by itself:\n{self._program.tail()}")
        self._program.kill()
        self._program = self._start()
        self.deaths += 1

    def end(self) -> None:
        self._program.kill()


class DatabaseVictim(Victim):
    """The database's server."""

    def __init__(self, server: Postgres) -> None:
        super().__init__()
        self._server = server

    def kill(self) -> None:
        self._server.kill()
        self._server.start()
        self.deaths += 1


@contextmanager
def killed_at_random(victims: list[Victim], seconds: float) -> Iterator[None]:
    """Kill each victim as often as `KILLS` says, at random moments of so many seconds; the context ends after that."""
    chance = random.Random(KILLS)
    moments = sorted(
        ((chance.uniform(5, seconds), victim) for victim in victims for _ in range(KILLS)), key=itemgetter(0)
    )
    began = time.monotonic()

    def kill() -> None:
        for moment, victim in moments:
            time.sleep(max(0.0, began + moment - time.monotonic()))  # the moment of death is what is random here
            victim.kill()

    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(kill)
        yield
        killing.result()


def spec_of(warehouse: Warehouse) -> dict[str, Any]:
    """Return what a feed says of a warehouse that is loaded every second."""
    if warehouse.engine == "duck":
        return {"every": "1s"}
    return {
        "every": "1s",
        "redshift": {"secretRef": {"name": "redshift"}},
        "staging": {"uri": "s3://tape-staging/unused", "iamRole": ROLE},
    }


def recorded(file: Path) -> tuple[int, Decimal, Decimal]:
    """Return of a recorded day how many trades, their size, and their price times size, exactly."""
    count, size, notional = 0, Decimal(0), Decimal(0)
    with gzip.open(file, "rt") as lines:
        for row in csv.DictReader(lines):
            amount = Decimal(row["amount"])
            count, size, notional = count + 1, size + amount, notional + Decimal(row["price"]) * amount
    return count, size, notional
