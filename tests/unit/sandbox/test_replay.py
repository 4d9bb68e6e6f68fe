"""A replay gives back what was recorded: every trade once, exactly, in order, at the speed asked."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from fulltape.errors import ConfigurationError
from fulltape.sandbox.replay import Replay, read_recording
from fulltape.sandbox.trades import Block, Trades
from tests.data import shared_data

HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


def csv_file(folder: Path, *rows: str, name: str = "trades.csv") -> Path:
    path = folder / name
    path.write_text(HEADER + "".join(row + "\n" for row in rows))
    return path


def blocks(replay: Replay) -> list[Block]:
    found = []
    while block := replay.block():
        found.append(block)
    return found


def test_trades_are_exact_and_sides_become_the_makers(tmp_path: Path) -> None:
    rows = ("coinbase,X-USD,1000000,0,7,buy,0.00001163,1e-08", "coinbase,X-USD,1000000,0,8,sell,12.5,3")
    recording = read_recording([csv_file(tmp_path, *rows)])
    trades = recording.trades
    assert trades.trade_id.tolist() == [7, 8]
    assert trades.price.tolist() == [11_630_000, 12_500_000_000_000]
    assert trades.size.tolist() == [1, 300_000_000]
    assert trades.maker_buys.tolist() == [False, True]
    assert (str(recording.products[0].quote_increment), recording.products[0].lot) == ("1E-8", 1)


def test_files_are_merged_by_time_and_a_trade_read_twice_counts_once(tmp_path: Path) -> None:
    first = csv_file(tmp_path, "c,A-USD,10,0,1,buy,1,1", "c,A-USD,30,0,2,buy,1,1", name="a.csv")
    second = csv_file(tmp_path, "c,B-USD,20,0,5,buy,2,1", "c,A-USD,30,0,2,buy,9,9", name="b.csv")
    trades = read_recording([first, second]).trades
    assert trades.trade_id.tolist() == [1, 5, 2]
    assert trades.price[2] == 10**12


def test_ids_ascend_even_where_the_recorder_saw_them_late(tmp_path: Path) -> None:
    rows = ("c,A-USD,10,0,1,buy,1,1", "c,A-USD,12,0,3,buy,1,1", "c,A-USD,11,0,2,buy,1,1", "c,A-USD,11,0,4,buy,1,1")
    recording = read_recording([csv_file(tmp_path, *rows)])
    assert recording.trades.trade_id.tolist() == [1, 2, 3, 4]
    due = np.concatenate([block.due_us for block in blocks(Replay(recording))])
    assert (np.diff(due) >= 0).all()


def test_the_trades_of_one_microsecond_and_side_are_one_order(tmp_path: Path) -> None:
    sides = ("buy", "buy", "sell", "sell", "sell", "buy")
    rows = [f"c,A-USD,{10 + number // 5},0,{number + 1},{side},1,1" for number, side in enumerate(sides)]
    trades = read_recording([csv_file(tmp_path, *rows)]).trades
    assert trades.fill.tolist() == [0, 1, 0, 1, 2, 0]
    assert trades.last_of_orders().tolist() == [False, True, False, False, True, True]


@pytest.mark.parametrize(("speed", "expected"), [(1.0, [0, 20, 100]), (10.0, [0, 2, 10]), (0.5, [0, 40, 200])])
def test_trades_are_due_by_speed_and_bear_the_time_of_now(tmp_path: Path, speed: float, expected: list[int]) -> None:
    rows = [f"c,A-USD,{time},0,{time},buy,1,1" for time in (1000, 1020, 1100)]
    replay = Replay(read_recording([csv_file(tmp_path, *rows)]), speed=speed)
    assert len(replay.begin(5_000)) == 0
    (block,) = blocks(replay)
    assert (block.due_us - 5_000).tolist() == expected
    assert block.trades.time_us.tolist() == block.due_us.tolist()


def test_the_recordings_own_clock_is_kept_when_asked(tmp_path: Path) -> None:
    rows = [f"c,A-USD,{time},0,{time},buy,1,1" for time in (1000, 1020)]
    replay = Replay(read_recording([csv_file(tmp_path, *rows)]), speed=None, clock="recorded")
    replay.begin(5_000)
    (block,) = blocks(replay)
    assert block.trades.time_us.tolist() == [1000, 1020]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("c,A-USD,10,0,1,buy,1", "7 columns instead of 8"),
        ("c,A-USD,10,0,1,hold,1,1", "side 'hold'"),
        ("c,A-USD,ten,0,1,buy,1,1", "ten"),
        ("c,A-USD,10,0,0,buy,1,1", "id 0"),
        ("c,A-USD,10,0,1,buy,zero,1", "price 'zero' is not a number"),
        ("c,A-USD,10,0,1,buy,NaN,1", "price 'NaN' is not a number"),
        ("c,A-USD,10,0,1,buy,-1,1", "price '-1' is not above 0"),
        ("c,A-USD,10,0,1,buy,1,0.000000001", "at most 8 decimals"),
        ("", "0 columns"),
    ],
)
def test_a_bad_csv_line_is_named_with_file_and_number(tmp_path: Path, line: str, problem: str) -> None:
    path = csv_file(tmp_path, "c,A-USD,10,0,1,buy,1,1", line)
    with pytest.raises(ConfigurationError, match=rf"trades\.csv, line 3: .*({problem})"):
        read_recording([path])


@pytest.mark.parametrize(
    "line",
    [
        '{"type":"match","trade_id":1}',
        "not json",
        '{"type":"match","trade_id":1,"side":"buy","size":"1","price":"1","product_id":"A-USD","sequence":1,"time":"noon"}',
        (
            '{"type":"match","trade_id":1,"side":"buy","size":"1","price":"1","product_id":"A-USD","sequence":1,'
            '"time":"2026-01-01T00:00:00"}'
        ),
    ],
)
def test_a_bad_ndjson_line_is_named_with_file_and_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / "feed.ndjson"
    path.write_text('{"type":"heartbeat"}\n' + line + "\n")
    with pytest.raises(ConfigurationError, match=r"feed\.ndjson, line 2: "):
        read_recording([path])


def test_files_that_are_no_recordings_are_named(tmp_path: Path) -> None:
    (tmp_path / "empty.ndjson").touch()
    (tmp_path / "wrong.csv").write_text("a,b\n")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(HEADER.encode())[:-9])
    (tmp_path / "plain.csv.gz").write_text("x")
    (tmp_path / "latin.csv").write_bytes(HEADER.encode() + b"\xff\n")
    for name, problem in (
        ("empty.ndjson", "no trades in"),
        ("wrong.csv", "line 1: the header must be"),
        ("cut.csv.gz", "can't be read"),
        ("plain.csv.gz", "can't be read"),
        ("latin.csv", "can't be read"),
        ("absent.csv", "can't be read"),
        ("trades.parquet", "not a recording by its name"),
    ):
        with pytest.raises(ConfigurationError, match=problem):
            read_recording([tmp_path / name])


def test_an_impossible_speed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="speed of 0"):
        Replay(read_recording([csv_file(tmp_path, "c,A-USD,10,0,1,buy,1,1")]), speed=0)


def test_the_crash_day_of_a_product_is_whole_but_for_what_the_recorder_lost() -> None:
    recording = read_recording([shared_data("coinbase_trades_2025-10-10_ATOM-USD.csv.gz")])
    replay = Replay(recording, speed=None, clock="recorded")
    replay.begin(0)
    trades = Trades.concatenate([block.trades for block in blocks(replay)])
    assert len(trades) == 33_166
    steps = np.diff(trades.trade_id)
    assert (steps > 0).all()
    assert (steps - 1).sum() == 22
    assert np.count_nonzero(steps > 1) == 3
    assert recording.products[0].tick == 10**9
    assert (np.diff(trades.sequence) > 0).all()


def test_a_feed_capture_keeps_its_sequences_and_orders() -> None:
    recording = read_recording([shared_data("coinbase-exchange-ws-2026-07-07-60s.ndjson.gz")])
    trades = recording.trades
    assert len(trades) == 437
    for number in range(2):
        mine = trades.take(trades.product == number)
        assert (np.diff(mine.trade_id) == 1).all()
        assert (np.diff(mine.sequence) > 1).all()
    assert trades.time_us[0] == 1_783_465_096_156_605
