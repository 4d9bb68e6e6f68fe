"""What is particular to a DuckDB file as the warehouse."""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from fulltape.warehouse.connection import WarehouseUnavailableError
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.ledger import Statement
from fulltape.warehouse.load import Loader
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.staging import Staging
from tests.redshift.rows import DAY, FEED, ask_duck, stage, trade

ROW_GROUP = 122_880
"""So many rows DuckDB keeps together; larger inserts take another way through it."""


def test_a_load_of_more_rows_than_a_row_group_arrives_whole(tmp_path: Path) -> None:
    file, staging = tmp_path / "warehouse.duckdb", Staging(str(tmp_path / "staging"))
    make_duckdb(file)
    known = trade(1) | {"size": 1}
    count = ROW_GROUP + 1000
    rows = [
        known | {"trade_id": number, "traded_at": DAY + timedelta(milliseconds=number), "sequence": number or None}
        for number in range(count)
    ]
    stage(staging, 0, rows, files=2)
    Loader(FEED, staging, DuckDatabase(file, staging)).run()
    found = ask_duck(file, "SELECT COUNT(DISTINCT trade_id), SUM(size), COUNT(DISTINCT rowid) FROM fulltape.trades")
    assert found == [(count, count, count)]
    assert ask_duck(file, "SELECT SUM(trades) FROM fulltape.trade_minutes") == [(count,)]


class Forgetful(DuckDatabase):
    """A database that loses a row and says nothing."""

    def execute(self, statement: Statement) -> list[tuple[Any, ...]]:
        rows = super().execute(statement)
        if statement.sql.startswith("INSERT INTO fulltape.trades"):
            super().execute(Statement("DELETE FROM fulltape.trades WHERE trade_id = 2"))
        return rows


def test_a_load_of_which_the_database_lost_rows_is_undone(tmp_path: Path) -> None:
    file, staging = tmp_path / "warehouse.duckdb", Staging(str(tmp_path / "staging"))
    make_duckdb(file)
    stage(staging, 0, [trade(1), trade(2), trade(3)])
    with pytest.raises(WarehouseUnavailableError, match=r"holds 2 of the 3 rows .* undone"):
        Loader(FEED, staging, Forgetful(file, staging)).run()
    assert ask_duck(file, "SELECT (SELECT COUNT(*) FROM fulltape.trades), (SELECT COUNT(*) FROM fulltape.ledger)") == [
        (0, 0)
    ]
    assert Loader(FEED, staging, DuckDatabase(file, staging)).run() == 3
