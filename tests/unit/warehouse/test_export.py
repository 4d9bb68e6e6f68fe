"""The export: a file holds what the table holds, exactly, and has its name only when it is whole."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.errors import ConfigurationError
from fulltape.warehouse import export as module
from fulltape.warehouse.cli_export import export_command
from fulltape.warehouse.connection import DuckDB, open_duckdb
from fulltape.warehouse.export import Page, Selection, export, pages
from fulltape.warehouse.migrations import migrate
from fulltape.warehouse.tables import TABLES, arrow_schema, precision

Row = tuple[Any, ...]

START = datetime(2025, 10, 10, 21, 0, 0)  # noqa: DTZ001 - the warehouse's times have no zone
END = START + timedelta(days=2)
MANY = 10_000
ROWS_OF_A_LONG_EXPORT = 100_000
_TRADES = """
    INSERT INTO fulltape.trades
    SELECT '{product}', n, TIMESTAMP '{start}' + to_microseconds(n // 3 * {step}), 0.0000000001 + n, 0.00000001 * n,
        CASE WHEN n % 2 = 0 THEN 'buy' ELSE 'sell' END, CASE WHEN n % 7 = 0 THEN NULL ELSE n * 10 END,
        TIMESTAMP '{start}', TIMESTAMP '{start}', 'stream', n % 5 = 0
    FROM range(1, {count} + 1) AS ids (n) ORDER BY hash(n)
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("warehouse") / "fulltape.duckdb"
    database = open_duckdb(file, read_only=False)
    migrate(database)
    database.run(_TRADES.format(product="BTC-USD", start=START, step=1_000_000, count=MANY))
    database.run(_TRADES.format(product="ETH-USD", start=START, step=1, count=30))
    database.run(_TRADES.format(product="SOL-USD", start=START, step=1_000_000, count=ROWS_OF_A_LONG_EXPORT))
    for minute in range(5):
        for seconds in (60, 300):
            values = {
                "product": "BTC-USD", "window_seconds": seconds, "window_start": START + timedelta(minutes=minute),
                "window_end": START + timedelta(minutes=minute, seconds=seconds), "trades": 2,
                "volume": Decimal("12345678901234567890.12345678"), "notional": Decimal("1e-15"), "buy_volume": 0,
                "open_price": None, "realized_volatility": 0.1 + minute, "drawdown": None,
            }  # fmt: skip
            database.run(
                f"INSERT INTO fulltape.windows ({', '.join(values)}) VALUES ({', '.join(f':{one}' for one in values)})",
                values,
            )
    database.close()
    return file


@pytest.fixture(autouse=True)
def _many_are_several_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_ROWS", 4_096)


@pytest.fixture
def database(path: Path) -> Iterator[DuckDB]:
    connection = open_duckdb(path, read_only=True)
    yield connection
    connection.close()


def trades(product: str = "BTC-USD", since: datetime = START, until: datetime = END) -> Selection:
    return Selection("trades", product, since, until)


def stored(database: DuckDB, wanted: Selection) -> list[Row]:
    """Return what the file is to hold, by one plain question."""
    table = TABLES[wanted.table]
    columns = ", ".join(column.name for column in table.columns)
    order = {"trades": "traded_at, trade_id", "windows": "window_start, window_seconds"}[wanted.table]
    found = database.run(
        f"SELECT {columns} FROM {table.qualified} WHERE product = :product ORDER BY {order}",
        {"product": wanted.product},
    ).rows
    time_of = [column.name for column in table.columns].index(order.split(",")[0])
    return [row for row in found if wanted.since <= row[time_of] < wanted.until]


def read_parquet(file: Path, _: str) -> list[Row]:
    return [tuple(row.values()) for row in pyarrow.parquet.read_table(file).to_pylist()]


def read_csv(file: Path, table: str) -> list[Row]:
    """Read every text as the kind of its column says."""
    with file.open(newline="") as stream:
        headings, *lines = csv.reader(stream)
    columns = TABLES[table].columns
    assert headings == [column.name for column in columns]

    def value(kind: str, text: str) -> Any:
        if not text:
            return None
        if precision(kind):
            return Decimal(text)
        if kind == "TIMESTAMP":
            return datetime.fromisoformat(text)
        if kind == "BOOLEAN":
            return {"true": True, "false": False}[text]
        return text if kind.startswith("VARCHAR") else float(text) if kind.startswith("DOUBLE") else int(text)

    return [tuple(value(column.kind, text) for column, text in zip(columns, line, strict=True)) for line in lines]


READERS: dict[str, Callable[[Path, str], list[Row]]] = {"parquet": read_parquet, "csv": read_csv}


@pytest.mark.parametrize("form", READERS)
@pytest.mark.parametrize(
    "wanted",
    [
        trades(),
        trades("ETH-USD"),
        trades(since=START + timedelta(minutes=10, microseconds=1), until=START + timedelta(minutes=50)),
        trades(until=START + timedelta(seconds=1)),
        Selection("windows", "BTC-USD", START, END),
    ],
)
def test_a_file_holds_what_the_table_holds_in_order(
    database: DuckDB, tmp_path: Path, wanted: Selection, form: str
) -> None:
    file = tmp_path / f"out.{form}"
    done = export(database, wanted, file)
    expected = stored(database, wanted)
    assert READERS[form](file, wanted.table) == expected
    assert (done.rows, done.bytes) == (len(expected), file.stat().st_size)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_parquet_has_the_types_of_the_table_and_is_compressed(database: DuckDB, tmp_path: Path) -> None:
    export(database, trades(), tmp_path / "out.parquet")
    file = pyarrow.parquet.ParquetFile(tmp_path / "out.parquet")
    assert file.schema_arrow.equals(arrow_schema(TABLES["trades"]))
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert file.metadata.num_row_groups <= 2 * MANY / module.PAGE_ROWS + 1


def test_no_answer_holds_more_than_a_page_and_few_are_asked_for(database: DuckDB, tmp_path: Path) -> None:
    answers: list[int] = []

    class Watched(DuckDB):
        def arrow(self, sql: str, parameters: Any, schema: pa.Schema) -> pa.Table:
            table = super().arrow(sql, parameters, schema)
            answers.append(table.num_rows)
            return table

    told: list[tuple[float, int]] = []
    export(Watched(database._connection), trades(), tmp_path / "a.csv", lambda *now: told.append(now))
    assert max(answers) <= module.PAGE_ROWS
    assert len(answers) < 30
    assert told == sorted(told)
    assert told[-1] == (1.0, MANY)


_PLACES = st.lists(st.tuples(st.integers(0, 400), st.integers(0, 5)), max_size=80, unique=True)


@settings(deadline=None)
@given(_PLACES, st.integers(0, 400), st.integers(0, 400), st.integers(1, 9), st.sampled_from([1, 1_000, 60_000_000]))
def test_pages_hold_every_row_of_the_range_once_in_order(
    places: list[tuple[int, int]], since: int, until: int, most: int, unit: int
) -> None:
    rows = sorted((START + timedelta(microseconds=moment * unit), number) for moment, number in places)
    first, last = (START + timedelta(microseconds=moment * unit) for moment in (since, until))

    def ask(start: datetime, after: int, end: datetime) -> Page:
        some = [row for row in rows if (start, after) < row and start <= row[0] < end][:most]
        columns = {"moment": [moment for moment, _ in some], "number": [number for _, number in some]}
        return Page(pa.table(columns), some[-1] if some else None)

    found = list(pages(ask, first, last, most))
    listed = [tuple(row.values()) for page, _ in found for row in page.to_pylist()]
    assert listed == [row for row in rows if first <= row[0] < last]
    reached = [moment for _, moment in found]
    assert reached == sorted(reached)
    assert not found or reached[-1] >= last or first >= last


def test_a_product_that_is_not_there_is_told_with_those_that_are(database: DuckDB, tmp_path: Path) -> None:
    said = "no trades of 'DOGE-USD'; there are trades of BTC-USD, ETH-USD, SOL-USD"
    with pytest.raises(ConfigurationError, match=said):
        export(database, trades("DOGE-USD"), tmp_path / "out.csv")
    assert not list(tmp_path.iterdir())


def test_a_range_without_rows_is_told_with_the_one_that_has_some(database: DuckDB, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"has no trades from 2020.* it has some from 2025-10-10 21:00:00 to"):
        export(database, trades(since=datetime(2020, 1, 1), until=datetime(2021, 1, 1)), tmp_path / "a.csv")  # noqa: DTZ001
    with pytest.raises(ConfigurationError, match="no time at all"):
        export(database, trades(since=END, until=START), tmp_path / "a.csv")


def test_a_file_that_cannot_be_is_told(database: DuckDB, tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ConfigurationError, match=r"\.parquet or \.csv"):
        export(database, trades(), tmp_path / "out.xlsx")
    with pytest.raises(ConfigurationError, match="no such folder"):
        export(database, trades(), tmp_path / "none" / "out.csv")
    with pytest.raises(ConfigurationError, match="is a folder"):
        export(database, trades(), tmp_path / "folder.csv")


def test_an_export_that_fails_leaves_the_file_that_was_there(database: DuckDB, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    file.write_text("yesterday's")

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        export(database, trades(), file, stop)
    assert file.read_text() == "yesterday's"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]
    export(database, trades("ETH-USD"), file)
    assert len(file.read_text().splitlines()) == 31


def start(path: Path, to: Path, before: str = "") -> subprocess.Popen[str]:
    program = f"{before}\nfrom fulltape import cli\ncli._COMMANDS['export'] = {_COMMAND!r}\ncli.main()"
    arguments = ["export", "SOL-USD", "--since", START.isoformat(), "--to", str(to), "--warehouse", str(path)]
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stderr=subprocess.PIPE, text=True)


_COMMAND = ("fulltape.warehouse.cli_export", "export_command")


@pytest.mark.parametrize("form", READERS)
def test_a_killed_export_leaves_no_file_of_that_name(path: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"out.{form}"
    with start(path, file) as process:
        try:
            deadline = time.monotonic() + 30
            while not list(tmp_path.glob(f"{file.name}.*.part")):
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline, "it never began"
                time.sleep(0.001)
        finally:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    assert not file.exists()


@pytest.mark.parametrize("form", READERS)
def test_a_disk_that_is_full_is_told_and_nothing_is_left(path: Path, tmp_path: Path, form: str) -> None:
    """Files may not grow beyond a limit, which ends a write as a full disk does."""
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))"
    with start(path, tmp_path / f"out.{form}", limit) as process:
        said = process.communicate(timeout=60)[1]
    assert process.returncode == 1
    assert said.startswith(f"error: {tmp_path / f'out.{form}'}: can't be written: File too large")
    assert len(said.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_the_command_says_what_it_did(path: Path, tmp_path: Path) -> None:
    file = tmp_path / "out.csv"
    arguments = ["ETH-USD", "--since", "latest - 3d", "--to", str(file), "--warehouse", str(path)]
    plain = CliRunner().invoke(export_command, arguments, catch_exceptions=False)
    assert "30 rows from 2025-10-10 21:00:00 to 2025-10-10 21:00:00.000010" in plain.stdout
    summary = json.loads(CliRunner().invoke(export_command, [*arguments, "--json"], catch_exceptions=False).stdout)
    assert summary == {
        "file": str(file),
        "table": "trades",
        "product": "ETH-USD",
        "first_at": "2025-10-10T21:00:00",
        "last_at": "2025-10-10T21:00:00.000010",
        "rows": 30,
        "bytes": file.stat().st_size,
    }


def test_a_time_that_is_none_is_told(path: Path, tmp_path: Path) -> None:
    arguments = ["BTC-USD", "--since", "noon", "--to", str(tmp_path / "a.csv"), "--warehouse", str(path)]
    with pytest.raises(ConfigurationError, match="since: 'noon' is no time"):
        CliRunner().invoke(export_command, arguments, catch_exceptions=False)
