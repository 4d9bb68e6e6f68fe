"""Migrations: each once, whole or not at all, never an edited one; and what was done to a table since is seen."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape.warehouse.connection import DuckDB, StatementError, open_duckdb, split_statements
from fulltape.warehouse.migrations import (
    Migration,
    MigrationError,
    alterations,
    applied_migrations,
    migrate,
    pending,
    read_migrations,
    standings,
)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[DuckDB]:
    connection = open_duckdb(tmp_path / "fulltape.duckdb", read_only=False)
    yield connection
    connection.close()


def folder(tmp_path: Path, *texts: str) -> Path:
    where = tmp_path / "sql"
    where.mkdir(exist_ok=True)
    for number, text in enumerate(texts, start=1):
        (where / f"{number:04d}_step.sql").write_text(text)
    return where


def test_a_database_is_made_once_and_then_up_to_date(database: DuckDB) -> None:
    files = read_migrations("duckdb")
    assert migrate(database) == files
    assert migrate(database) == []
    assert [(one.number, one.checksum) for one in applied_migrations(database)] == [
        (one.number, one.checksum) for one in files
    ]
    assert {one.state for one in standings(files, applied_migrations(database))} == {"applied"}
    assert alterations(database) == []


def test_redshift_has_the_migrations_that_duckdb_has() -> None:
    assert [one.name for one in read_migrations("redshift")] == [one.name for one in read_migrations("duckdb")]


def test_a_migration_that_was_edited_after_it_ran_is_refused_and_nothing_changes(
    database: DuckDB, tmp_path: Path
) -> None:
    where = folder(tmp_path, "CREATE TABLE fulltape.one (x INTEGER);")
    migrate(database, read_migrations("duckdb", where))
    folder(tmp_path, "CREATE TABLE fulltape.one (x BIGINT);", "CREATE TABLE fulltape.two (x INTEGER);")
    edited = read_migrations("duckdb", where)
    assert [one.state for one in standings(edited, applied_migrations(database))] == ["edited", "pending"]
    with pytest.raises(MigrationError, match=r"0001_step was edited after it ran.*new migration"):
        migrate(database, edited)
    assert len(applied_migrations(database)) == 1


def test_a_database_of_a_newer_release_is_left_alone(database: DuckDB, tmp_path: Path) -> None:
    files = read_migrations(
        "duckdb", folder(tmp_path, "CREATE TABLE fulltape.a (x INTEGER);", "CREATE TABLE fulltape.b (x INTEGER);")
    )
    migrate(database, files)
    with pytest.raises(MigrationError, match="0002_step ran on this database, but this release does not have it"):
        migrate(database, files[:1])


def test_a_migration_that_fails_leaves_nothing_behind(database: DuckDB, tmp_path: Path) -> None:
    where = folder(
        tmp_path,
        "CREATE TABLE fulltape.one (x INTEGER);",
        "CREATE TABLE fulltape.two (x INTEGER);\nCREATE TABLE fulltape.one (x INTEGER);",
    )
    with pytest.raises(StatementError, match=r"migration 0002_step, at 'CREATE TABLE fulltape\.one"):
        migrate(database, read_migrations("duckdb", where))
    tables = database.run("SELECT table_name FROM information_schema.tables WHERE table_schema = 'fulltape'").rows
    assert sorted(tables) == [("migrations",), ("one",)]
    assert [one.number for one in applied_migrations(database)] == [1]


def test_what_another_run_did_meanwhile_is_not_done_again(database: DuckDB, tmp_path: Path) -> None:
    files = read_migrations(
        "duckdb", folder(tmp_path, "CREATE TABLE fulltape.a (x INTEGER);", "CREATE TABLE fulltape.b (x INTEGER);")
    )
    beaten: list[Migration] = []

    def other_run(_: Migration) -> None:
        if not beaten:
            beaten.extend(migrate(database, files))

    assert migrate(database, files, other_run) == files[:1]
    assert beaten == files[1:]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("ALTER TABLE fulltape.gaps DROP COLUMN reason", "fulltape.gaps.reason: is missing"),
        ("ALTER TABLE fulltape.gaps ADD COLUMN note VARCHAR", "fulltape.gaps.note: is none of fulltape's columns"),
        ("DROP TABLE fulltape.ledger", "fulltape.ledger: is missing"),
        (
            "ALTER TABLE fulltape.tickers ALTER price TYPE DECIMAL(18,8)",
            "fulltape.tickers.price: is DECIMAL(18,8), should be DECIMAL(19,10)",
        ),
        (
            "ALTER TABLE fulltape.gaps ALTER reason DROP NOT NULL",
            "fulltape.gaps.reason: may be null, should be NOT NULL",
        ),
    ],
)
def test_a_table_that_someone_altered_is_noticed(database: DuckDB, change: str, line: str) -> None:
    migrate(database)
    database.run(change)
    assert alterations(database) == [line]


def test_numbers_count_by_one(tmp_path: Path) -> None:
    where = folder(tmp_path, "SELECT 1;", "SELECT 2;")
    (where / "0002_step.sql").rename(where / "0003_step.sql")
    with pytest.raises(MigrationError, match="0002 comes next"):
        read_migrations("duckdb", where)
    (where / "0003_step.sql").rename(where / "second.sql")
    with pytest.raises(MigrationError, match="0001_what_it_makes"):
        read_migrations("duckdb", where)


def test_semicolons_in_strings_and_comments_end_no_statement() -> None:
    text = "-- a; b\nSELECT ';' AS x; /* ; */ SELECT 'it''s; fine' -- end;\n;\n;"
    assert split_statements(text, "redshift") == ["SELECT ';' AS x", "SELECT 'it''s; fine'"]


def test_nothing_is_pending_without_files_that_did_not_run() -> None:
    assert pending([], []) == []


def test_reading_what_is_no_database_says_so(tmp_path: Path) -> None:
    path = tmp_path / "notes.duckdb"
    path.write_text("no database at all, but long enough to look at " * 100)
    with pytest.raises(ConfigurationError, match="can't open it"):
        open_duckdb(path, read_only=True)
    with pytest.raises(ConfigurationError, match="no such file"):
        open_duckdb(tmp_path / "absent.duckdb", read_only=True)
    with pytest.raises(ConfigurationError, match="no such folder"):
        open_duckdb(tmp_path / "absent" / "a.duckdb", read_only=False)
