"""The peer's figures are counted fairly: what it wrote once, what it wrote twice, what it lost."""

import msgspec
import pytest

from fulltape.bench.peer import tally


def record(product: str, trade_id: int, received_seconds: float, written_ms: int) -> tuple[bytes, int]:
    fields = {"symbol": product, "id": str(trade_id), "receipt_timestamp": received_seconds, "price": 1.5}
    return msgspec.json.encode(fields), written_ms


def test_what_was_written_lost_and_repeated_is_told_apart() -> None:
    records = [
        record("A", 5, 100.0, 100_200),
        record("A", 6, 100.1, 100_300),
        record("A", 6, 100.1, 100_350),
        record("A", 9, 100.2, 102_000),
        record("B", 1, 100.5, 101_000),
    ]
    counted = tally(records, {"A": 10, "B": 1, "C": 7})
    assert (counted.trades, counted.duplicates, counted.missing) == (4, 1, {"A": 3, "B": 0, "C": 1})
    assert counted.seconds == pytest.approx(2.0)
    assert counted.trades_per_second == pytest.approx(2.0)


def test_a_peer_that_wrote_nothing_has_no_rate() -> None:
    counted = tally([], {"A": 3})
    assert (counted.trades, counted.trades_per_second, counted.missing) == (0, 0.0, {"A": 1})


def test_foreign_records_are_no_figures() -> None:
    with pytest.raises(msgspec.DecodeError):
        tally([(b"hello", 1)], {})
