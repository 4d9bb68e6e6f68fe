"""The backfill: every past trade staged once, whatever ends a run, and none in place of one that was streamed."""

import asyncio
import itertools
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

import msgspec
import pyarrow.parquet
import pytest
from aiohttp import web
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.coinbase.messages import Product, RestTrade
from fulltape.coinbase.rest import RestClient, RestUnavailableError, TradePage
from fulltape.errors import ConfigurationError, ExchangeError
from fulltape.warehouse import backfill as module
from fulltape.warehouse.backfill import Backfill, Backfilled, Span, cut, holes, merged, misfit, runs, without
from fulltape.warehouse.cli_backfill import backfill_command
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.ledger import ledger_name
from fulltape.warehouse.load import Loader
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.staging import Staging, backfill_name, backfill_path
from fulltape.warehouse.tables import LEDGER
from tests.redshift.rows import DAY, FEED, ask_duck, stage, trade

PRODUCT = "BTC-USD"
DAY_US = int(DAY.replace(tzinfo=UTC).timestamp()) * 1_000_000

_SPANS = st.builds(lambda first, more: Span(first, first + more), st.integers(1, 60), st.integers(0, 20))


def ids_of(*spans: Span) -> set[int]:
    return {one for span in spans for one in range(span.first, span.last + 1)}


@given(st.lists(_SPANS))
def test_merging_keeps_the_ids_and_nothing_touches(spans: list[Span]) -> None:
    found = merged(spans)
    assert ids_of(*found) == ids_of(*spans)
    assert all(left.last + 1 < right.first for left, right in itertools.pairwise(found))
    assert runs(ids_of(*spans)) == found


@given(_SPANS, st.lists(_SPANS))
def test_what_is_left_is_what_is_not_done(span: Span, done: list[Span]) -> None:
    left = list(without(span, done))
    assert ids_of(*left) == ids_of(span) - ids_of(*done)
    assert merged(left) == left


@given(_SPANS, st.integers(1, 9))
def test_parts_end_where_those_of_any_other_span_do(span: Span, length: int) -> None:
    parts = list(cut(span, length))
    assert [one for part in parts for one in range(part.first, part.last + 1)] == sorted(ids_of(span))
    assert all(part.first // length == part.last // length for part in parts)
    assert all(part.last % length == length - 1 for part in parts[:-1])


def test_holes_are_told_apart_by_their_reasons() -> None:
    found = [(hole.span, hole.reason) for hole in holes({3: "a", 1: "a", 2: "b", 4: "a", 9: "b"})]
    assert found == [(Span(1, 1), "a"), (Span(2, 2), "b"), (Span(3, 4), "a"), (Span(9, 9), "b")]


_NAMES = st.tuples(st.sampled_from(["A-B", "BTC-USD", "BTC-USDC", "X" * 16, "X" * 41]), st.integers(1, 2**63 - 1))


@given(_NAMES, _NAMES, st.integers(1, 50_000))
def test_names_fit_the_ledger_and_sort_there_as_they_do_in_the_staging_area(
    one: tuple[str, int], other: tuple[str, int], rows: int
) -> None:
    names = [backfill_name(*which, rows) for which in (one, other)]
    limit = next(column.kind for column in LEDGER.columns if column.name == "batch")
    assert all(len(ledger_name("feed" * 60, name)) <= int(limit[8:-1]) for name in names)
    assert (names[0] < names[1]) == (ledger_name("f", names[0]) < ledger_name("f", names[1]))
    assert (names[0] == names[1]) == (one == other)
    if one[0] == other[0]:
        assert (names[0] < names[1]) == (one[1] < other[1])


def rest_trade(trade_id: int, **changes: Any) -> RestTrade:
    moment = datetime.fromtimestamp(0, UTC) + timedelta(microseconds=DAY_US + trade_id * 1000)
    fields = {"price": "64000.01", "size": "0.5", "side": "buy" if trade_id % 2 else "sell"} | changes
    return RestTrade(trade_id=trade_id, time=f"{moment:%Y-%m-%dT%H:%M:%S.%f}Z", **fields)


def at(trade_id: int) -> int:
    """Return the time of a trade."""
    return DAY_US + trade_id * 1000


class Exchange:
    """REST that lists some trades, and breaks off after so many requests."""

    def __init__(self, listed: set[int], *, dies_after: int = 10**9) -> None:
        self.trades_by_id = {trade_id: rest_trade(trade_id) for trade_id in listed}
        self.malformed: set[int] = set()
        self.dies_after = dies_after
        self.asked: list[tuple[int, int]] = []

    async def products(self, *, within_seconds: float) -> list[Product]:
        assert within_seconds > 0
        return [Product(PRODUCT), Product("BTC-EUR")]

    async def trades(
        self, product: str, *, after: int = 2**63, limit: int = 1000, within_seconds: float = 30.0
    ) -> TradePage:
        assert (product, within_seconds > 0) == (PRODUCT, True)
        self.asked.append((after, limit))
        if len(self.asked) > self.dies_after:
            raise RestUnavailableError("503 for ever")
        ids = sorted(one for one in self.trades_by_id if one < after)[-limit:]
        good = [self.trades_by_id[one] for one in ids if one not in self.malformed]
        return TradePage(good, [(b"{}", "price '-1'") for one in ids if one in self.malformed], 0)


def run(exchange: Exchange, staging: Staging, since: int, until: int | None = None) -> Backfilled:
    """Backfill from one trade to before another."""
    backfill = Backfill(PRODUCT, exchange, staging)  # type: ignore[arg-type]
    return asyncio.run(backfill.run(at(since), None if until is None else at(until)))


@contextmanager
def small(block: int = 20, page: int = 5) -> Iterator[None]:
    """Make blocks and pages small, and do not wait long for ids that are absent."""
    values = {"BLOCK": block, "PAGE_LIMIT": page, "ABSENT_SECONDS": 0.0, "ABSENT_ANSWERS": 1}
    with mock.patch.multiple(module, **values):
        yield


@pytest.fixture
def _small() -> Iterator[None]:
    with small():
        yield


def staged_rows(staging: Staging, kind: Any = "trades") -> list[dict[str, Any]]:
    batches = [staging.read(kind, name) for name in staging.listed(kind)]
    rows: list[dict[str, Any]] = []
    for batch in batches:
        (file,) = batch.files
        found = pyarrow.parquet.read_table(staging.uri_of(file.path)).to_pylist()
        assert (len(found), Path(staging.uri_of(file.path)).stat().st_size) == (file.rows, file.bytes)
        rows += found
    return rows


def staged_ids(staging: Staging) -> list[int]:
    return sorted(row["trade_id"] for row in staged_rows(staging))


@settings(max_examples=40, deadline=None)
@given(
    listed=st.sets(st.integers(1, 150), min_size=1, max_size=120),
    orders=st.lists(
        st.tuples(st.integers(1, 150), st.integers(1, 150) | st.none(), st.integers(1, 60)), min_size=1, max_size=5
    ),
)
def test_whatever_is_asked_for_and_wherever_runs_end_each_trade_is_staged_once(
    listed: set[int], orders: list[tuple[int, int | None, int]]
) -> None:
    with tempfile.TemporaryDirectory() as folder, small():
        staging = Staging(folder)
        wanted: set[int] = set()
        for since, until, dies_after in orders:
            inside = {one for one in listed if since <= one and (until is None or one < until)}
            if not inside:
                with pytest.raises(ConfigurationError):
                    run(Exchange(listed), staging, since, until)
                continue
            wanted |= inside
            try:
                run(Exchange(listed, dies_after=dies_after), staging, since, until)
            except ExchangeError:
                done = run(Exchange(listed), staging, since, until)
                assert ids_of(*(hole.span for hole in done.holes)) == ids_of(done.span) - listed
            ids = staged_ids(staging)
            assert len(ids) == len(set(ids))
            assert set(ids) == wanted
        gaps = {one for row in staged_rows(staging, "gaps") for one in range(row["first_id"], row["last_id"] + 1)}
        assert not gaps & listed


@pytest.mark.usefixtures("_small")
def test_what_was_staged_is_not_fetched_again(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    run(Exchange(set(range(1, 101))), staging, 30, 70)
    exchange = Exchange(set(range(1, 101)))
    assert run(exchange, staging, 30, 70).fetched == 0
    assert run(exchange, staging, 20, None).fetched == 41
    assert staged_ids(staging) == list(range(20, 101))


@pytest.mark.usefixtures("_small")
def test_written_again_everything_is_the_same_bytes_under_the_same_names(tmp_path: Path) -> None:
    for place in ("one", "other"):
        run(Exchange(set(range(1, 101)) - {50}), Staging(str(tmp_path / place)), 1)
    one, other = (
        {path.relative_to(tmp_path / place): path.read_bytes() for path in (tmp_path / place).rglob("*trades/*")}
        for place in ("one", "other")
    )
    assert one == other
    assert len(one) == 14  # seven runs of ids: five whole blocks, one in two as it has a hole, and the last


@pytest.mark.usefixtures("_small")
def test_a_block_that_was_staged_and_not_noted_is_written_again_to_the_same_effect(tmp_path: Path) -> None:
    """As after a death between the two."""
    staging = Staging(str(tmp_path))
    run(Exchange(set(range(1, 101))), staging, 1)
    before = staging.listed("trades").keys()
    staging.remove(backfill_path(PRODUCT))
    run(Exchange(set(range(1, 101))), staging, 1)
    assert staging.listed("trades").keys() == before


@pytest.mark.usefixtures("_small")
def test_a_note_that_is_damaged_costs_requests_and_no_trade(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    staging = Staging(str(tmp_path))
    staging.write(backfill_path(PRODUCT), b'[[1, "x')
    run(Exchange(set(range(1, 101))), staging, 1)
    assert staged_ids(staging) == list(range(1, 101))
    assert "can't be read, so that all is fetched" in caplog.text


@pytest.mark.usefixtures("_small")
def test_ids_that_rest_lacks_are_gaps_and_are_asked_for_again(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    exchange = Exchange(set(range(1, 101)) - {33, 34, 35, 36, 80})
    exchange.malformed = {60}
    exchange.trades_by_id[70] = rest_trade(70, price="0.00000000001")
    done = run(exchange, staging, 11)
    assert [hole.span for hole in done.holes] == [Span(33, 36), Span(60, 60), Span(70, 70), Span(80, 80)]
    gaps = staged_rows(staging, "gaps")
    assert [(row["first_id"], row["last_id"]) for row in gaps] == [(33, 36), (60, 60), (70, 70), (80, 80)]
    assert "malformed trades: price '-1'" in gaps[1]["reason"]
    assert gaps[2]["reason"] == "its price of 0.00000000001 does not fit DECIMAL(19,10)"
    files = {path: path.read_bytes() for path in tmp_path.rglob("*gaps/*.parquet")}
    again = Exchange(set(range(1, 101)) - {80})
    done = run(again, staging, 11)
    assert (done.fetched, [hole.span for hole in done.holes]) == (6, [Span(80, 80)])
    assert staged_ids(staging) == [one for one in range(11, 101) if one != 80]
    assert {path: path.read_bytes() for path in tmp_path.rglob("*gaps/*.parquet")} == files


async def test_a_trade_that_rest_lists_late_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ABSENT_SECONDS", 30.0)
    exchange = Exchange(set(range(1, 21)) - {7})

    async def appear() -> None:
        while sum(limit > 1 for _, limit in exchange.asked) < 2:
            await asyncio.sleep(0.01)
        exchange.trades_by_id[7] = rest_trade(7)

    backfill = Backfill(PRODUCT, exchange, Staging(str(tmp_path)))  # type: ignore[arg-type]
    done, _ = await asyncio.gather(backfill.run(at(1)), appear())
    assert (done.fetched, done.holes) == (20, ())


def test_a_row_is_a_function_of_its_trade(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    exchange = Exchange({1, 2})
    exchange.trades_by_id[2] = rest_trade(2, price="123456789.0123456789", size="12345678901.12345678")
    run(exchange, staging, 1)
    first, second = staged_rows(staging)
    moment = DAY + timedelta(milliseconds=1)
    assert first == {
        "product": PRODUCT,
        "trade_id": 1,
        "traded_at": moment,
        "price": 64000 + first["price"] % 1,
        "size": first["size"],
        "taker_side": "sell",
        "sequence": None,
        "received_at": moment,
        "tape_at": moment,
        "source": "backfill",
        "late": True,
    }
    assert [str(first["price"]), str(first["size"])] == ["64000.0100000000", "0.50000000"]
    assert [str(second["price"]), str(second["size"])] == ["123456789.0123456789", "12345678901.12345678"]


@pytest.mark.parametrize(
    ("price", "size", "fits"),
    [
        ("999999999.9999999999", "1", True),
        ("1000000000", "1", False),
        ("0.00000000001", "1", False),
        ("1", "99999999999.99999999", True),
        ("1", "100000000000", False),
        ("1", "0.000000001", False),
        ("000000000001", "1", True),
    ],
)
def test_only_what_the_columns_hold_is_staged(price: str, size: str, *, fits: bool) -> None:
    assert (misfit(rest_trade(1, price=price, size=size)) is None) == fits


@pytest.mark.parametrize("first", ["streamed", "fetched"])
def test_a_streamed_trade_is_never_replaced_by_a_fetched_one(tmp_path: Path, first: str) -> None:
    file = tmp_path / "warehouse.duckdb"
    make_duckdb(file)
    staging = Staging(str(tmp_path / "staging"))
    loader = Loader(FEED, staging, DuckDatabase(file, staging))
    steps = {
        "streamed": lambda: stage(staging, 0, [trade(number) for number in range(5, 15)]),
        "fetched": lambda: run(Exchange(set(range(1, 21))), staging, 1),
    }
    for name in (first, *(name for name in steps if name != first)):
        steps[name]()
        loader.run()
    loader.close()
    found = ask_duck(file, "SELECT trade_id, source FROM fulltape.trades ORDER BY trade_id")
    assert found == [(number, "stream" if 5 <= number < 15 else "backfill") for number in range(1, 21)]
    assert ask_duck(file, "SELECT COUNT(*) FROM fulltape.ledger") == [(2,)]


def test_a_product_that_the_exchange_does_not_have_is_told_with_what_it_has(tmp_path: Path) -> None:
    backfill = Backfill("BTC-USDD", Exchange({1}), Staging(str(tmp_path)))  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"no product 'BTC-USDD'; it has BTC-USD"):
        asyncio.run(backfill.run(at(1)))


def test_a_time_without_trades_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no trade of BTC-USD since then"):
        run(Exchange({1, 2}), Staging(str(tmp_path)), 3)
    with pytest.raises(ConfigurationError, match="was not traded in that time"):
        run(Exchange({1, 9}), Staging(str(tmp_path)), 3, 5)


def test_an_exchange_that_stays_away_ends_the_run_and_the_next_one_continues(tmp_path: Path) -> None:
    staging = Staging(str(tmp_path))
    with small():
        with pytest.raises(ExchangeError, match=r"503 for ever; what was fetched is kept, so run the same again"):
            run(Exchange(set(range(1, 101)), dies_after=20), staging, 1)
        kept = len(staged_ids(staging))
        assert 0 < kept < 100
        assert run(Exchange(set(range(1, 101))), staging, 1).fetched == 100 - kept


async def test_no_request_is_sent_before_the_exchange_allows_it() -> None:
    times: list[float] = []

    async def answer(_: web.Request) -> web.Response:
        times.append(time.monotonic())
        if len(times) == 1:
            return web.json_response({"message": "slow down"}, status=429, headers={"Retry-After": "1"})
        return web.json_response([])

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    began = time.monotonic()
    try:
        async with RestClient(f"http://{host}:{port}", requests_per_second=20, burst=1) as rest:
            for _ in range(4):
                await rest.trades(PRODUCT)
    finally:
        await runner.cleanup()
    assert times[1] - times[0] >= 0.99
    assert time.monotonic() - began >= 1.14  # and three more, spaced by the rate


_FEED = {
    "apiVersion": "fulltape.dev/v1alpha1",
    "kind": "CryptoFeed",
    "metadata": {"name": "test"},
    "spec": {
        "exchange": "Coinbase",
        "products": [PRODUCT],
        "kafka": {"bootstrapServers": "localhost:9092"},
    },
}


@pytest.mark.parametrize(
    ("warehouse", "arguments", "said"),
    [
        (None, ["--since", "2020-01-01"], r"no spec\.warehouse; add it"),
        ({}, ["--since", "2020-01-01"], r"no spec\.warehouse\.staging; add it, or name a folder"),
        ({}, ["--since", "2999-01-01"], "is in the future"),
        ({}, ["--since", "now - 1h", "--until", "now - 2h"], "no time at all"),
        ({}, ["--since", "noon"], "'noon' is no time"),
        (
            {"retention": "30d"},
            ["--since", "now - 40d"],
            r"retention is 30d, so that rows from before .* would be deleted",
        ),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_asked(
    tmp_path: Path, warehouse: dict[str, Any] | None, arguments: list[str], said: str
) -> None:
    feed = tmp_path / "feed.yaml"
    spec = {**_FEED["spec"], **({} if warehouse is None else {"warehouse": warehouse})}  # type: ignore[dict-item]
    feed.write_bytes(msgspec.json.encode({**_FEED, "spec": spec}))
    with pytest.raises(ConfigurationError, match=said):
        CliRunner().invoke(
            backfill_command,
            [PRODUCT, "--feed", str(feed), "--rest-url", "http://127.0.0.1:1", *arguments],
            catch_exceptions=False,
            env={"FULLTAPE_STAGING": None},
        )
