"""The loader against a DuckDB file and against the stand-in for Redshift: every row once, whatever fails."""

import gc
import json
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import pytest
from click.testing import CliRunner

from fulltape.errors import ConfigurationError
from fulltape.local.kafka import free_port
from fulltape.warehouse.cli import warehouse_group
from fulltape.warehouse.connection import WarehouseUnavailableError
from fulltape.warehouse.credentials import Address
from fulltape.warehouse.load import Loader, Retention
from fulltape.warehouse.redshift import RedshiftDatabase
from fulltape.warehouse.staging import Staging, StagingUnavailableError, batch_path
from tests.redshift.postgres import Postgres
from tests.redshift.rows import FEED, Warehouse, plain_environment, stage, trade
from tests.redshift.server import ROLE, StandIn

pytestmark = pytest.mark.integration

_DEADLINE_SECONDS = 60.0


_LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({}, resource.RLIM_INFINITY)); "
_PROGRAM = "from fulltape.warehouse.cli import load_command; load_command()"
_FEED = f"""
apiVersion: fulltape.dev/v1alpha1
kind: CryptoFeed
metadata: {{name: test}}
spec:
  exchange: Coinbase
  products: [BTC-USD]
  channels: [matches]
  kafka: {{bootstrapServers: 'localhost:9092', topics: {{prefix: {FEED}}}}}
  warehouse:
    every: 1s
    redshift: {{secretRef: {{name: redshift}}}}
    staging: {{uri: "s3://tape-staging/unused", iamRole: "{ROLE}"}}
"""


class Start(Protocol):
    """Starts a loader's process, which may write no file larger than so; the test's end kills it."""

    def __call__(
        self, warehouse: Warehouse, port: int = 0, *, most_bytes: int = resource.RLIM_INFINITY
    ) -> "subprocess.Popen[str]": ...


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give what starts loaders."""
    started: list[subprocess.Popen[str]] = []

    def start_one(
        warehouse: Warehouse, port: int = 0, *, most_bytes: int = resource.RLIM_INFINITY
    ) -> subprocess.Popen[str]:
        folder = tmp_path / f"loader-{len(started)}"
        folder.mkdir()
        feed = folder / "feed.yaml"
        feed.write_text(_FEED)
        environment = {**plain_environment(), **warehouse.environment, "FULLTAPE_STAGING": warehouse.staging.uri}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [
                    sys.executable,
                    "-c",
                    _LIMITED.format(most_bytes) + _PROGRAM,
                    "--feed",
                    str(feed),
                    "--port",
                    str(port),
                ],
                env=environment,
                stderr=log,
                text=True,
            )
        process.log = folder / "log"  # type: ignore[attr-defined]
        started.append(process)
        return process

    yield start_one
    for process in started:
        process.kill()
        process.wait()


def _address(stand_in: StandIn, **changes: Any) -> Address:
    postgres = stand_in.postgres
    given = {
        "host": "127.0.0.1",
        "port": stand_in.port,
        "database": postgres.database,
        "user": postgres.user,
        "password": postgres.password,
        "tls": "disable",
    }
    return Address(**{**given, **changes})


def _loader(warehouse: Warehouse, **changes: Any) -> Loader:
    return Loader(FEED, warehouse.staging, warehouse.make(), **changes)


def _ids(warehouse: Warehouse) -> list[int]:
    return [row[1] for row in warehouse.trades()]


def test_rows_come_out_as_they_went_in(warehouse: Warehouse) -> None:
    rows = [trade(number) for number in range(1, 30)]
    stage(warehouse.staging, 0, rows, files=3)
    loader = _loader(warehouse)
    loader.check()
    assert loader.run() == 29
    assert warehouse.trades() == [tuple(row.values()) for row in rows]


def test_a_load_that_is_repeated_changes_nothing(warehouse: Warehouse) -> None:
    stage(warehouse.staging, 0, [trade(1), trade(2)])
    assert _loader(warehouse).run() == 2
    before = warehouse.trades(), warehouse.ask("SELECT kind, batch, load_id FROM fulltape.ledger")
    stage(warehouse.staging, 0, [trade(1), trade(2)])  # a replay writes the same again
    loader = _loader(warehouse)
    assert loader.run() == 0
    assert loader.run() == 0
    assert (warehouse.trades(), warehouse.ask("SELECT kind, batch, load_id FROM fulltape.ledger")) == before


def test_of_a_key_that_comes_again_the_newest_version_stays(warehouse: Warehouse) -> None:
    stage(warehouse.staging, 0, [trade(1), trade(1, version=2, price="2"), trade(2, version=1)])
    loader = _loader(warehouse)
    loader.run()
    stage(warehouse.staging, 3, [trade(1, version=1, price="1"), trade(2, version=3, price="3"), trade(3)])
    loader.run()
    assert [(row[1], int(row[3])) for row in warehouse.trades()] == [(1, 2), (2, 3), (3, 64000)]


def test_many_batches_are_loaded_ten_at_a_time(warehouse: Warehouse) -> None:
    for number in range(25):
        stage(warehouse.staging, number * 2, [trade(number * 2 + 1), trade(number * 2 + 2)])
    loader = _loader(warehouse)
    assert loader.run() == 50
    assert loader.tally.loads == 3
    assert _ids(warehouse) == list(range(1, 51))
    assert len(warehouse.ask("SELECT DISTINCT load_id FROM fulltape.ledger")) == 3


def test_two_feeds_share_a_database(warehouse: Warehouse) -> None:
    stage(warehouse.staging, 0, [trade(1)])
    _loader(warehouse).run()
    other = Staging(f"{warehouse.staging.uri}-other")
    stage(other, 0, [trade(1, product="ETH-USD")])
    database = warehouse.make()
    database._staging = other
    Loader("markets.other", other, database).run()
    assert [row[0] for row in warehouse.trades()] == ["BTC-USD", "ETH-USD"]


def test_files_go_when_they_are_loaded_and_old(warehouse: Warehouse) -> None:
    batch = stage(warehouse.staging, 0, [trade(1)], files=1)
    _loader(warehouse).run()
    assert batch.name in warehouse.staging.listed("trades")
    _loader(warehouse, staged_seconds=-5).run()
    assert not warehouse.staging.listed("trades")
    with pytest.raises(FileNotFoundError):
        warehouse.staging._content(batch.files[0].path)


def test_old_rows_of_the_feeds_own_products_go(warehouse: Warehouse) -> None:
    now = datetime.now(UTC).replace(tzinfo=None)
    rows = [
        trade(number, product=product) | {"traded_at": now - timedelta(days=days)}
        for number, (product, days) in enumerate([("BTC-USD", 1), ("BTC-USD", 9), ("ETH-USD", 9)], start=1)
    ]
    stage(warehouse.staging, 0, rows)
    loader = _loader(warehouse, retention=Retention(["BTC-USD"], 5 * 86_400))
    assert loader.run() == 3
    assert sorted(_ids(warehouse)) == [1, 3]
    assert len(warehouse.ask("SELECT batch FROM fulltape.ledger")) == 1


def test_what_was_set_aside_is_listed_and_released(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _corrupt(warehouse.staging, 0)
    _loader(warehouse).run()
    feed = tmp_path / "feed.yaml"
    feed.write_text(_FEED)
    for name, value in (*warehouse.environment.items(), ("FULLTAPE_STAGING", warehouse.staging.uri)):
        monkeypatch.setenv(name, value)
    listed = CliRunner().invoke(warehouse_group, ["quarantine", "--feed", str(feed)])
    assert (listed.exit_code, path in listed.output) == (1, True)
    released = CliRunner().invoke(warehouse_group, ["quarantine", "--feed", str(feed), "--release"])
    assert (released.exit_code, warehouse.staging.quarantined("trades")) == (0, [])
    assert list(warehouse.staging.listed("trades")) == [path]


def _corrupt(staging: Staging, start: int) -> str:
    batch = stage(staging, start, [trade(start + 1)])
    staging.write(batch.files[0].path, b"x" * batch.files[0].bytes)
    return batch.name


def _short(staging: Staging, start: int) -> str:
    batch = stage(staging, start, [trade(start + 1), trade(start + 2)])
    staging.write_parquet("trades", batch.name, 0, _table([trade(start + 1)]))
    content = staging._content(batch.files[0].path)
    file = {"path": batch.files[0].path, "rows": 1, "bytes": len(content)}
    description = json.loads(staging._content(batch_path("trades", batch.name)))
    staging.write(batch_path("trades", batch.name), json.dumps({**description, "files": [file]}).encode())
    return batch.name


def _other_columns(staging: Staging, start: int) -> str:
    batch = stage(staging, start, [trade(start + 1)])
    table = _table([trade(start + 1)]).drop_columns(["price"])
    file = staging.write_parquet("trades", batch.name, 0, table)
    description = json.loads(staging._content(batch_path("trades", batch.name)))
    description["files"] = [{"path": file.path, "rows": 1, "bytes": file.bytes}]
    staging.write(batch_path("trades", batch.name), json.dumps(description).encode())
    return batch.name


def _no_file(staging: Staging, start: int) -> str:
    batch = stage(staging, start, [trade(start + 1)])
    staging.remove(batch.files[0].path)
    return batch.name


def _no_description(staging: Staging, start: int) -> str:
    batch = stage(staging, start, [trade(start + 1)])
    staging.write(batch_path("trades", batch.name), b"{garbage")
    return batch.name


def _table(rows: list[dict[str, Any]]) -> Any:
    import pyarrow as pa  # noqa: PLC0415

    from fulltape.warehouse.tables import TABLES, arrow_schema  # noqa: PLC0415

    return pa.Table.from_pylist(rows, schema=arrow_schema(TABLES["trades"]))


@pytest.mark.parametrize("spoil", [_corrupt, _short, _other_columns, _no_file, _no_description])
def test_a_batch_that_cannot_be_loaded_is_set_aside_and_the_next_are_loaded(
    warehouse: Warehouse, spoil: Callable[[Staging, int], str]
) -> None:
    stage(warehouse.staging, 0, [trade(1)])
    bad = spoil(warehouse.staging, 10)
    stage(warehouse.staging, 20, [trade(21)])
    loader = _loader(warehouse)
    loader.run()
    assert _ids(warehouse) == [1, 21]
    (aside,) = warehouse.staging.quarantined("trades")
    assert aside.name == bad
    assert len(aside.reason) > 10
    assert loader.tally.quarantined["trades"] == loader.tally.aside["trades"] == 1
    assert bad not in warehouse.staging.listed("trades")
    # Mended and released, it is loaded as any other.
    stage(warehouse.staging, 10, [trade(11)] * (2 if spoil is _short else 1), publish=False)
    if spoil in {_corrupt, _no_file}:
        warehouse.staging.release(aside)
        assert loader.run() == 1
        assert _ids(warehouse) == [1, 11, 21]


def test_the_reason_is_from_redshifts_own_error_view(redshift: Warehouse) -> None:
    name = _other_columns(redshift.staging, 0)
    _loader(redshift).run()
    (aside,) = redshift.staging.quarantined("trades")
    assert "Unmatched number of columns between table and file" in aside.reason
    assert aside.reason.startswith(f"s3://{redshift.staging.uri.removeprefix('s3://')}/files/trades/{name}")


def test_loaders_at_the_same_time_load_each_row_once(warehouse: Warehouse, start: Start) -> None:
    for number in range(30):
        stage(warehouse.staging, number, [trade(number + 1)])
    failures: list[BaseException] = []

    def run() -> None:
        try:
            _loader(warehouse).run()
        except BaseException as problem:  # noqa: BLE001 - shown by the assertion below
            failures.append(problem)

    threads = [threading.Thread(target=run) for _ in range(1 if warehouse.engine == "duck" else 3)]
    processes = [start(warehouse) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_DEADLINE_SECONDS)
    _until(lambda: len(_rows(warehouse)) >= 30)
    for process in processes:
        process.kill()
        process.wait()
    assert not failures
    assert _ids(warehouse) == list(range(1, 31))
    assert len(warehouse.ask("SELECT batch FROM fulltape.ledger")) == 30


def test_an_altered_table_is_told_and_nothing_is_loaded(warehouse: Warehouse) -> None:
    stage(warehouse.staging, 0, [trade(1)])
    warehouse.ask("ALTER TABLE fulltape.trades ADD COLUMN note VARCHAR(10)")
    with pytest.raises(ConfigurationError, match=r"is not as Fulltape made it: fulltape\.trades\.note: is none of"):
        _loader(warehouse).check()
    with pytest.raises(ConfigurationError, match="note"):
        _loader(warehouse).run()
    warehouse.ask("ALTER TABLE fulltape.trades DROP COLUMN note")
    assert not warehouse.ask("SELECT * FROM fulltape.ledger")
    assert _loader(warehouse).run() == 1


def test_a_table_that_is_missing_is_told(warehouse: Warehouse) -> None:
    warehouse.ask("DROP TABLE fulltape.trades")
    with pytest.raises(ConfigurationError, match=r"fulltape\.trades: is missing.*warehouse migrate"):
        _loader(warehouse).check()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # the driver leaves a refused connection open
def test_wrong_credentials_are_told(redshift: Warehouse, stand_in: StandIn) -> None:
    database = RedshiftDatabase(_address(stand_in, password="wrong"), redshift.staging, ROLE)
    with pytest.raises(ConfigurationError, match="refused the user or the password"):
        Loader(FEED, redshift.staging, database).check()
    database = RedshiftDatabase(_address(stand_in, database="nowhere"), redshift.staging, ROLE)
    with pytest.raises(ConfigurationError, match="no such database"):
        Loader(FEED, redshift.staging, database).check()
    gc.collect()


def test_a_role_that_may_not_read_is_told_and_no_batch_is_set_aside(redshift: Warehouse, stand_in: StandIn) -> None:
    stage(redshift.staging, 0, [trade(1)])
    database = RedshiftDatabase(_address(stand_in), redshift.staging, "arn:aws:iam::123456789012:role/Other")
    with pytest.raises(ConfigurationError, match="may not read the staged files"):
        Loader(FEED, redshift.staging, database).run()
    assert not redshift.staging.quarantined("trades")
    assert _loader(redshift).run() == 1


def test_a_user_without_the_right_to_write_is_told(redshift: Warehouse, stand_in: StandIn) -> None:
    stage(redshift.staging, 0, [trade(1)])
    stand_in.execute("DROP ROLE IF EXISTS reader")
    stand_in.execute("CREATE ROLE reader LOGIN PASSWORD 'reader'; GRANT USAGE ON SCHEMA fulltape TO reader")
    stand_in.execute("GRANT SELECT ON ALL TABLES IN SCHEMA fulltape TO reader")
    try:
        database = RedshiftDatabase(_address(stand_in, user="reader", password="reader"), redshift.staging, ROLE)
        with pytest.raises(ConfigurationError, match="did not permit it"):
            Loader(FEED, redshift.staging, database).run()
    finally:
        stand_in.execute("DROP OWNED BY reader; DROP ROLE reader")
    assert not redshift.staging.quarantined("trades")


def test_a_missing_bucket_is_told(redshift: Warehouse) -> None:
    staging = Staging(f"s3://no-such-bucket/{FEED}")
    with pytest.raises(ConfigurationError, match="there is no bucket no-such-bucket"):
        Loader(FEED, staging, redshift.make()).check()
    with pytest.raises(ConfigurationError, match="no such bucket"):
        stage(staging, 0, [trade(1)])


def test_storage_that_does_not_answer_is_told(redshift: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        staging = Staging("s3://tape-staging/x", {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{closed.getsockname()[1]}"})
        with pytest.raises(StagingUnavailableError):
            staging.check()


def test_a_lost_connection_is_told_and_the_next_pass_goes_on(redshift: Warehouse, stand_in: StandIn) -> None:
    loader = _loader(redshift)
    stage(redshift.staging, 0, [trade(1)])
    assert loader.run() == 1
    stand_in.drop_connections()
    stage(redshift.staging, 1, [trade(2)])
    with pytest.raises(WarehouseUnavailableError, match="connection is lost"):
        loader.run()
    assert loader.run() == 1
    assert _ids(redshift) == [1, 2]


def test_a_killed_loader_leaves_all_of_a_load_or_nothing(warehouse: Warehouse, start: Start) -> None:
    chance = random.Random(7)
    total = 0
    for _ in range(10):
        for _ in range(3):
            stage(warehouse.staging, total, [trade(total + number + 1) for number in range(200)], files=2)
            total += 200
        loader = start(warehouse)
        _until(lambda process=loader: _answers(process))
        time.sleep(chance.uniform(0.0, 0.4))  # the point of death is what is random here
        loader.send_signal(signal.SIGKILL)
        loader.wait()
        rows = _rows(warehouse)
        ledger = _until_answered(lambda: warehouse.ask("SELECT SUM(batch_rows) FROM fulltape.ledger"))[0][0] or 0
        assert len(rows) == ledger
    _loader(warehouse).run()
    assert _ids(warehouse) == list(range(1, total + 1))


def test_a_killed_database_loses_nothing_that_was_loaded_and_the_loader_goes_on(
    redshift: Warehouse, postgres: Postgres, start: Start
) -> None:
    chance = random.Random(11)
    total = 0
    loader = start(redshift)
    for _ in range(4):
        for _ in range(3):
            stage(redshift.staging, total, [trade(total + number + 1) for number in range(200)], files=2)
            total += 200
        time.sleep(chance.uniform(0.3, 1.5))  # the point of death is what is random here
        postgres.kill()
        postgres.start()
    _until(lambda: len(_rows(redshift)) == total)
    loader.terminate()
    assert loader.wait(30) == 0
    assert _ids(redshift) == list(range(1, total + 1))


def test_the_service_shows_what_it_did_and_that_it_is_ready(warehouse: Warehouse, start: Start) -> None:
    stage(warehouse.staging, 0, [trade(1), trade(2)])
    port = free_port()
    loader = start(warehouse, port)
    _until(lambda: _answers(loader) and _get(port, "/readyz") == "ok\n")
    assert 'fulltape_warehouse_rows_total{kind="trades"} 2.0' in _get(port, "/metrics")
    assert _get(port, "/healthz") == "ok\n"
    loader.terminate()
    assert loader.wait(30) == 0


def test_a_full_disk_is_told_and_nothing_is_lost_or_half_done(duck: Warehouse, start: Start) -> None:
    chance = random.Random(3)
    rows = [trade(number) | {"sequence": chance.getrandbits(62)} for number in range(1, 30_001)]
    stage(duck.staging, 0, rows)
    port = free_port()
    file = Path(duck.environment["FULLTAPE_WAREHOUSE"])
    loader = start(duck, port, most_bytes=file.stat().st_size + 100_000)
    _until(lambda: _answers(loader) and "no room" in _get(port, "/readyz"))
    assert not duck.staging.quarantined("trades")
    resource.prlimit(loader.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    _until(lambda: _get(port, "/readyz") == "ok\n")
    loader.kill()
    loader.wait()
    assert _ids(duck) == [row["trade_id"] for row in rows]


def _answers(process: Any) -> bool:
    assert process.poll() is None, process.log.read_text()
    return "loading into" in process.log.read_text()


def _rows(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return _until_answered(lambda: warehouse.ask("SELECT trade_id FROM fulltape.trades"))


def _until_answered(ask: Callable[[], list[tuple[Any, ...]]]) -> list[tuple[Any, ...]]:
    """Ask until nobody else holds the database."""
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while True:
        try:
            return ask()
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never came to be"
        time.sleep(0.05)


def _get(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}") as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as problem:
        return str(problem.read().decode())
