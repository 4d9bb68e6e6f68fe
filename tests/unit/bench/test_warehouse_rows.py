"""The made-up warehouse is one that the programs could have filled: what is measured on it is what they would have."""

from collections.abc import Iterator

import pytest

from fulltape.bench.tape import PRODUCTS
from fulltape.bench.warehouse_rows import fill_warehouse
from fulltape.sandbox.products import choose_products
from fulltape.warehouse.connection import DuckDB, open_duckdb
from fulltape.warehouse.queries import ask, named_queries
from fulltape.warehouse.rollup import MINUTES, insert_minutes

TRADES = 200_000
RATE = 300


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DuckDB]:
    file = tmp_path_factory.mktemp("made-up") / "warehouse.duckdb"
    said: list[str] = []
    fill_warehouse(file, TRADES, RATE, said.append)
    assert len(said) > 1
    connection = open_duckdb(file, read_only=False)
    yield connection
    connection.close()


def test_there_are_as_many_trades_as_asked_for_each_id_once_in_order_of_time(database: DuckDB) -> None:
    ((trades, products),) = database.run("SELECT COUNT(*), COUNT(DISTINCT product) FROM fulltape.trades").rows
    assert (trades, products) == (TRADES, len(PRODUCTS))
    assert database.run("SELECT MAX(missing) FROM fulltape.completeness").rows == [(0,)]
    ((backwards,),) = database.run(
        "SELECT COUNT(*) FROM (SELECT traded_at < LAG(traded_at) OVER (ORDER BY rowid) AS back FROM fulltape.trades) "
        "WHERE back"
    ).rows
    assert backwards == 0


def test_they_came_at_the_rate(database: DuckDB) -> None:
    ((seconds,),) = database.run("SELECT EXTRACT(EPOCH FROM MAX(traded_at) - MIN(traded_at)) FROM fulltape.trades").rows
    assert seconds == pytest.approx(TRADES / RATE, rel=0.2)


def test_prices_and_sizes_are_multiples_of_the_exchanges_increments(database: DuckDB) -> None:
    rows = database.run("SELECT DISTINCT product, price, size FROM fulltape.trades USING SAMPLE 5000 ROWS").rows
    products = {product.product_id: product for product in choose_products(PRODUCTS)}
    for name, price, size in rows:
        assert price > 0
        assert size > 0
        assert price % products[name].quote_increment == 0
        assert size % products[name].base_increment == 0


def test_the_minutes_are_those_of_the_trades(database: DuckDB) -> None:
    before = database.run(f"SELECT * FROM {MINUTES.qualified} ORDER BY product, minute_at").rows
    with database.transaction():
        database.run(f"DELETE FROM {MINUTES.qualified}")
        database.run(insert_minutes())
    assert database.run(f"SELECT * FROM {MINUTES.qualified} ORDER BY product, minute_at").rows == before


@pytest.mark.parametrize("name", named_queries())
def test_every_question_finds_something(database: DuckDB, name: str) -> None:
    assert ask(database, named_queries()[name]).rows
