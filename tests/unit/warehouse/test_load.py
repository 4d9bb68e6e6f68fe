"""The core of the load: whatever the order, the splits and the repeats, the same rows make the same table."""

import itertools
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fulltape.errors import ConfigurationError
from fulltape.warehouse.connection import WarehouseUnavailableError
from fulltape.warehouse.credentials import redshift_address
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.ledger import ledger_name, version
from fulltape.warehouse.load import Loader, RejectedError
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.redshift import trouble
from fulltape.warehouse.staging import KINDS, Staging, batch_name, file_path
from fulltape.warehouse.tables import LEDGER, TABLES
from tests.redshift.rows import FEED, ask_duck, stage, trade

_VERSIONS = st.lists(st.tuples(st.integers(1, 12), st.integers(0, 3)), min_size=1, max_size=24)


def _row(number: int, newer: int) -> dict[str, Any]:
    """Return a row that is a function of its key and version, as every row of a tape is."""
    return trade(number, version=newer, price=f"{100 + newer}.{number:02d}")


@settings(max_examples=8, deadline=None)
@given(
    versions=_VERSIONS,
    splits=st.sets(st.integers(1, 23), max_size=6),
    again=st.lists(st.integers(0, 6), max_size=4),
    chance=st.randoms(use_true_random=False),
)
def test_any_order_split_and_repetition_of_rows_makes_the_same_table(
    versions: list[tuple[int, int]], splits: set[int], again: list[int], chance: Any
) -> None:
    chance.shuffle(versions)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        file = folder / "warehouse.duckdb"
        make_duckdb(file)
        staging = Staging(str(folder / "staging"))
        cuts = [0, *sorted(cut for cut in splits if cut < len(versions)), len(versions)]
        parts = [versions[start:end] for start, end in itertools.pairwise(cuts)]
        parts += [parts[number % len(parts)] for number in again]
        start = 0
        for part in parts:
            stage(staging, start, [_row(*of) for of in part])
            start += len(part)
            if chance.random() < 0.5:
                Loader(FEED, staging, DuckDatabase(file, staging)).run()
        Loader(FEED, staging, DuckDatabase(file, staging)).run()
        newest = {number: max(newer for other, newer in versions if other == number) for number, _ in versions}
        columns = ", ".join(column.name for column in TABLES["trades"].columns)
        found = ask_duck(file, f"SELECT {columns} FROM fulltape.trades ORDER BY trade_id")
        assert found == [tuple(_row(number, newest[number]).values()) for number in sorted(newest)]
        assert ask_duck(file, "SELECT SUM(batch_rows) FROM fulltape.ledger") == [(start,)]


@given(st.lists(st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)), min_size=2, max_size=2))
def test_names_sort_as_the_tape_does(places: list[tuple[int, int]]) -> None:
    first, second = (sum(place) for place in places)
    assume(first != second)
    names = [batch_name("t", place, place) for place in places]
    assert (names[0] < names[1]) == (first < second)
    assert (ledger_name("a", names[0]) < ledger_name("a", names[1])) == (first < second)


def test_names_are_functions_of_offsets_alone_and_of_feeds() -> None:
    name = batch_name("t", [1, 2], [3, 4])
    assert name.startswith("00000000000000000003-00000000000000000007-")
    assert name == batch_name("t", [1, 2], [3, 4])
    assert file_path("trades", "a", 3) == "files/trades/a-p00003.parquet"
    assert ledger_name("one", "a") == ledger_name("one", "a") != ledger_name("two", "a")
    limit = next(column.kind for column in LEDGER.columns if column.name == "batch")
    assert len(ledger_name("x" * 200, batch_name("t", [0], [1]))) <= int(limit[8:-1])


def test_no_two_batches_share_a_name_though_their_offsets_sum_up_alike() -> None:
    alike = [("t", [0, 0], [10, 10]), ("t", [0, 0], [20, 0]), ("t made anew", [0, 0], [10, 10])]
    names = {batch_name(*place) for place in alike}
    assert len(names) == len(alike)
    assert len({name[:41] for name in names}) == 1


def test_every_kind_has_a_table_and_a_version() -> None:
    for kind in KINDS:
        table = TABLES[kind]
        assert version(table) in {column.name for column in table.columns}


def test_a_table_as_defined_is_not_called_altered_on_duckdb(tmp_path: Path) -> None:
    file = tmp_path / "warehouse.duckdb"
    make_duckdb(file)
    staging = Staging(str(tmp_path))
    Loader(FEED, staging, DuckDatabase(file, staging)).check()


def test_a_file_that_is_no_database_or_is_not_there_is_told(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    with pytest.raises(ConfigurationError, match=r"there is no DuckDB .*warehouse migrate"):
        Loader(FEED, staging, DuckDatabase(tmp_path / "none", staging)).check()
    (tmp_path / "text").write_text("not a database at all" * 500)
    with pytest.raises(ConfigurationError, match="can't open it"):
        Loader(FEED, staging, DuckDatabase(tmp_path / "text", staging)).check()


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"C": "28000", "M": "password authentication failed"}, ConfigurationError),
        ({"C": "42501", "M": "permission denied for relation trades"}, ConfigurationError),
        ({"C": "XX000", "M": "S3ServiceException:Access Denied,Status 403,Error AccessDenied"}, ConfigurationError),
        ({"C": "XX000", "M": "User x is not authorized to assume IAM Role y"}, ConfigurationError),
        ({"C": "XX000", "M": "1023 Serializable isolation violation on table"}, WarehouseUnavailableError),
        ({"C": "XX000", "M": "Disk Full"}, WarehouseUnavailableError),
        ({"C": "53100", "M": "could not extend file: No space left on device"}, WarehouseUnavailableError),
        ({"C": "57P01", "M": "terminating connection"}, WarehouseUnavailableError),
        ({"C": "XX000", "M": "Spectrum Scan Error"}, RejectedError),
        ({"C": "22003", "M": "numeric field overflow"}, RejectedError),
    ],
)
def test_only_the_rows_own_faults_set_a_batch_aside(fields: dict[str, str], kind: type[Exception]) -> None:
    assert type(trouble("Redshift", Exception(fields))) is kind


def test_a_broken_connection_is_worth_another_try() -> None:
    assert isinstance(trouble("Redshift", BrokenPipeError("gone")), WarehouseUnavailableError)


def test_a_secret_that_is_not_whole_is_told(tmp_path: Path) -> None:
    for name, value in {"host": "h", "port": "x", "database": "d", "username": "u"}.items():
        (tmp_path / name).write_text(value)
    with pytest.raises(ConfigurationError, match=r"password: is missing; .*is to hold host, port, database, username"):
        redshift_address(tmp_path)
    (tmp_path / "password").write_text("secret\n")
    with pytest.raises(ConfigurationError, match="'x' is no port"):
        redshift_address(tmp_path)
    (tmp_path / "port").write_text("5439")
    address = redshift_address(tmp_path)
    assert (address.port, address.password, address.tls) == (5439, "secret", "verify-ca")
    assert "secret" not in repr(address)
