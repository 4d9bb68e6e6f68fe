"""Every file of SQL is what it says: parsed by sqlglot, linted by sqlfluff, and the same tables as `tables`."""

import re
from pathlib import Path

import pytest
import sqlglot
from sqlfluff.core import FluffConfig, Linter
from sqlglot import exp

from fulltape.warehouse.connection import Dialect, split_statements
from fulltape.warehouse.migrations import read_migrations, sql_folder
from fulltape.warehouse.tables import TABLES, precision

SQL = sql_folder()
REDSHIFT = sorted((SQL / "redshift").rglob("*.sql"))
DUCKDB = sorted((SQL / "duckdb").glob("*.sql"))
QUERIES = sorted((SQL / "queries").glob("*.sql"))
ONCE: list[tuple[Path, Dialect]] = [
    *((path, "redshift") for path in [*REDSHIFT, *QUERIES]),
    *((path, "duckdb") for path in DUCKDB),
]
EVERYTHING: list[tuple[Path, Dialect]] = [*ONCE, *((path, "duckdb") for path in QUERIES)]


def _identity(value: object) -> str:
    return str(value.relative_to(SQL)) if isinstance(value, Path) else str(value)


@pytest.mark.parametrize(("path", "dialect"), EVERYTHING, ids=_identity)
def test_every_statement_is_understood_by_sqlglot(path: Path, dialect: Dialect) -> None:
    statements = split_statements(path.read_text(), dialect)
    assert statements
    for statement in statements:
        if "FROM KAFKA" in statement:  # an external schema is outside of sqlglot's grammar; sqlfluff has it
            continue
        parsed = sqlglot.parse_one(statement, dialect=dialect)
        assert not parsed.find(exp.Command), statement


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize(("path", "dialect"), ONCE, ids=_identity)
def test_every_file_passes_sqlfluff(path: Path, dialect: Dialect) -> None:
    config = FluffConfig.from_path(str(path), overrides={"dialect": dialect})
    violations = Linter(config=config).lint_string(path.read_text(), fname=str(path)).get_violations()
    assert [f"line {one.line_no}: {one.rule_code()} {one.desc()}" for one in violations] == []


@pytest.mark.parametrize("dialect", ["redshift", "duckdb"])
def test_the_migrations_make_the_tables_as_they_are_defined(dialect: Dialect) -> None:
    made = {}
    for migration in read_migrations(dialect):
        for statement in migration.statements:
            parsed = sqlglot.parse_one(statement, dialect=dialect)
            if isinstance(parsed, exp.Create) and parsed.kind == "TABLE":
                made[parsed.find(exp.Table).name] = statement
    assert set(made) - {"trade_minutes"} == set(TABLES)  # which DuckDB keeps as a table
    for table in TABLES.values():
        lines = re.search(r"\(\n(.*?)\n\)", made[table.name], re.DOTALL)
        assert lines is not None
        columns = [line.strip().rstrip(",").split(" ENCODE ")[0] for line in lines[1].splitlines()]
        assert [column.replace(", ", ",") for column in columns] == [
            f"{column.name} {column.kind}{'' if column.null else ' NOT NULL'}" for column in table.columns
        ]


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_redshift_sorts_by_time_first_and_leaves_that_column_raw(table: object) -> None:
    text = (SQL / "redshift" / "0001_tables.sql").read_text()
    statement = next(one for one in split_statements(text, "redshift") if f"CREATE TABLE {table.qualified} " in one)
    assert f"COMPOUND SORTKEY ({', '.join(table.sort)})" in statement
    encodings = dict(re.findall(r"^    (\w+) .* ENCODE (\w+)", statement, re.MULTILINE))
    assert encodings[table.sort[0]] == "RAW"
    assert [name for name, encoding in encodings.items() if encoding == "RAW"] == [table.sort[0]]
    assert set(encodings) == {column.name for column in table.columns}


def test_decimals_of_single_trades_are_64_bits_wide_in_redshift() -> None:
    for column in TABLES["trades"].columns + TABLES["tickers"].columns:
        digits = precision(column.kind)
        assert digits is None or digits[0] <= 19, column
