"""Names and lateness are functions of the offsets: a batch that is done again is the same batch."""

from pathlib import Path

import pytest

from fulltape.warehouse.staging import batch_name
from fulltape_spark.archive_batch import BatchError, OffsetLog, Reached, clock
from fulltape_spark.archive_stream import backlog_of, flat, nested, own_words
from fulltape_spark.archive_windows import windows_name

IDS = {"x.trades": "a", "x.ticker": "b"}


def log(folder: Path, batch: int, line: str) -> None:
    (folder / "offsets").mkdir(exist_ok=True)
    (folder / "offsets" / str(batch)).write_text(f'v1\n{{"batchWatermarkMs":0}}\n{line}')


def test_a_batch_is_named_by_where_it_starts_and_ends(tmp_path: Path) -> None:
    log(tmp_path, 0, '{"x.trades":{"0":10,"1":5},"x.ticker":{"0":1}}')
    log(tmp_path, 1, '{"x.trades":{"0":12,"1":7},"x.ticker":{"0":1}}')
    offsets = OffsetLog(tmp_path, {"x.trades": {"0": 4, "1": 0}, "x.ticker": {"0": 0}}, IDS)
    assert offsets.names(0)["x.trades"] == batch_name("a", [4, 0], [10, 5])
    assert offsets.names(1) == {
        "x.trades": batch_name("a", [10, 5], [12, 7]),
        "x.ticker": batch_name("b", [1], [1]),
    }


def test_batches_of_windows_are_told_apart_by_all_that_makes_them() -> None:
    trades = batch_name("a", [5], [5])
    quotes = [batch_name("b", [start], [start + 1]) for start in (1, 2)]
    names = [windows_name("x.trades", {"x.trades": trades, "x.ticker": quote}, ("1m",)) for quote in quotes]
    names.append(windows_name("x.trades", {"x.trades": trades, "x.ticker": quotes[0]}, ("1m", "15m")))
    assert len(set(names)) == 3
    assert {name.rpartition("-")[0] for name in names} == {trades.rpartition("-")[0]}
    assert windows_name("x.trades", {"x.trades": trades, "x.ticker": quotes[0]}, ("1m",)) == names[0]


@pytest.mark.parametrize("line", ["", "garbage", "[]", '{"x.trades":{"0":"a"}}', "-"])
def test_a_log_that_is_damaged_is_said(tmp_path: Path, line: str) -> None:
    log(tmp_path, 0, line)
    with pytest.raises(BatchError, match="so that the batch has no name"):
        OffsetLog(tmp_path, {}, IDS).names(0)
    with pytest.raises(BatchError, match="offsets/6"):
        OffsetLog(tmp_path, {}, IDS).names(7)


def test_how_far_trades_had_come_before_a_batch_is_the_same_when_it_is_done_again(tmp_path: Path) -> None:
    path = tmp_path / "reached.json"
    reached = Reached(path)
    assert reached.before(0) == 0
    reached.note(0, 50)
    reached.note(1, 40)  # all of it late
    assert reached.before(2) == 50
    again = Reached(path)
    assert (again.before(1), again.before(2)) == (50, 50)
    again.note(2, 90)
    assert (Reached(path).before(2), Reached(path).before(3)) == (50, 90)


def test_a_damaged_note_of_how_far_trades_had_come_is_as_none(tmp_path: Path) -> None:
    (tmp_path / "reached.json").write_bytes(b"\xff")
    assert Reached(tmp_path / "reached.json").before(3) == 0


def test_seconds_are_late_as_they_are_to_the_windows() -> None:
    assert clock(700_999_999, 600_000_000).late_us == 100_000_000


def test_offsets_are_kept_flat() -> None:
    offsets = {"x.y.trades": {"0": 17, "1": 4}, "x.y.ticker": {"0": 0}}
    assert nested(flat(offsets)) == offsets


def test_the_backlog_is_what_lies_behind_the_batch() -> None:
    source = {"endOffset": {"x": {"0": 5, "1": 7}}, "latestOffset": {"x": {"0": 9, "1": 7}}}
    assert backlog_of({"sources": [source, {"endOffset": None, "latestOffset": None}]}) == 4


def test_the_text_of_an_own_error_is_found_in_what_spark_makes_of_it() -> None:
    problem = RuntimeError(
        "Job aborted\nTraceback ...\nfulltape.warehouse.staging.StagingUnavailableError: no S3\n\tat x"
    )
    assert own_words(problem) == "no S3"
    assert own_words(RuntimeError("a\nCaused by: b")) == "b"
