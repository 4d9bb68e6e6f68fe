"""What integration tests share: one broker and one stand-in for Redshift, and names that no other test uses."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from fulltape.local.kafka import EmbeddedKafka
from fulltape.warehouse.credentials import redshift_address
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.redshift import RedshiftDatabase
from fulltape.warehouse.staging import Staging
from tests.redshift.postgres import Postgres
from tests.redshift.rows import FEED, Warehouse, ask_duck, run_migrations
from tests.redshift.s3 import ObjectStore, object_store
from tests.redshift.server import ROLE, StandIn


@pytest.fixture(scope="session")
def kafka() -> Iterator[EmbeddedKafka]:
    """Give the session's broker; tests that stop or kill one start their own."""
    with EmbeddedKafka() as broker:
        yield broker


@pytest.fixture
def topic_prefix() -> str:
    """Give a prefix under which no other test has topics, groups or transactional ids."""
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture(scope="session")
def s3() -> Iterator[ObjectStore]:
    with object_store() as store:
        store.make_bucket()
        yield store


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        yield server


@pytest.fixture(scope="session")
def stand_in(postgres: Postgres, s3: ObjectStore) -> Iterator[StandIn]:
    with StandIn(postgres, s3.environment) as server:
        yield server


@pytest.fixture
def redshift(
    stand_in: StandIn, s3: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Warehouse]:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    stand_in.execute("DROP SCHEMA IF EXISTS fulltape CASCADE")
    run_migrations("redshift", stand_in.execute)
    staging = Staging(f"s3://tape-staging/{uuid4().hex}/{FEED}")
    postgres = stand_in.postgres
    secret = {
        "host": "127.0.0.1",
        "port": str(stand_in.port),
        "database": postgres.database,
        "username": postgres.user,
        "password": postgres.password,
        "sslmode": "disable",
    }
    (tmp_path / "redshift").mkdir()
    for name, value in secret.items():
        (tmp_path / "redshift" / name).write_text(value)
    made: list[RedshiftDatabase] = []

    def make() -> RedshiftDatabase:
        made.append(RedshiftDatabase(redshift_address(tmp_path / "redshift"), staging, ROLE))
        return made[-1]

    yield Warehouse(
        engine="redshift",
        staging=staging,
        environment={
            **s3.environment,
            "FULLTAPE_WAREHOUSE": str(tmp_path / "redshift"),
        },
        make=make,
        ask=stand_in.execute,
    )
    for database in made:
        database.close()


@pytest.fixture
def duck(tmp_path: Path) -> Warehouse:
    file = tmp_path / "warehouse.duckdb"
    make_duckdb(file)
    staging = Staging(str(tmp_path / "staging"))
    return Warehouse(
        engine="duck",
        staging=staging,
        environment={"FULLTAPE_WAREHOUSE": str(file)},
        make=lambda: DuckDatabase(file, staging),
        ask=lambda sql: ask_duck(file, sql),
    )


@pytest.fixture(params=["duck", "redshift"])
def warehouse(request: pytest.FixtureRequest) -> Warehouse:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Warehouse)
    return found
