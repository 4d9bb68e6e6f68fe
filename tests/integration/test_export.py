"""The export from Redshift: the same files as from DuckDB, byte for byte."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from fulltape.warehouse.connection import open_warehouse
from fulltape.warehouse.export import Selection, export
from fulltape.warehouse.migrations import make_duckdb
from tests.redshift.postgres import Postgres
from tests.redshift.rows import DAY, run_migrations, trade
from tests.redshift.server import StandIn

pytestmark = pytest.mark.integration

ROWS = [trade(number) for number in range(1, 400)]


@pytest.fixture(scope="module")
def stand_in() -> Iterator[StandIn]:
    nowhere = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:1",
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_REGION": "us-east-1",
    }
    with Postgres() as postgres, StandIn(postgres, nowhere) as server:
        run_migrations("redshift", server.execute)
        yield server


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_redshift_and_duckdb_make_the_same_file(stand_in: StandIn, tmp_path: Path, form: str) -> None:
    folder = tmp_path / "redshift"
    folder.mkdir()
    postgres = stand_in.postgres
    for name, value in {
        "host": "127.0.0.1",
        "port": str(stand_in.port),
        "database": postgres.database,
        "username": postgres.user,
        "password": postgres.password,
        "sslmode": "disable",
    }.items():
        (folder / name).write_text(value)
    file = tmp_path / "warehouse.duckdb"
    make_duckdb(file)
    wanted = Selection("trades", "BTC-USD", DAY, DAY + timedelta(milliseconds=300))
    contents = []
    for path in (folder, file):
        connection = open_warehouse(path, read_only=False)
        connection.run("DELETE FROM fulltape.trades")
        for row in ROWS:
            names = ", ".join(row)
            values = ", ".join(f":{name}" for name in row)
            connection.run(f"INSERT INTO fulltape.trades ({names}) VALUES ({values})", row)
        connection.close()
        reading = open_warehouse(path, read_only=True)
        try:
            assert export(reading, wanted, tmp_path / f"{path.name}.{form}").rows == 299
        finally:
            reading.close()
        contents.append((tmp_path / f"{path.name}.{form}").read_bytes())
    assert contents[0] == contents[1]
