"""Claims: who must be fenced, from where a tape is searched, and what of a failed transaction is written again."""

import pytest

from fulltape.errors import FencedError, TapeLostRecordsError
from fulltape.messages import Cursor, Gap, Trade
from fulltape.producer.claims import TapeEnd, best_end, rivals
from fulltape.producer.writer import check_continuity, still_missing


def trade(trade_id: int, product: str = "A") -> Trade:
    return Trade(product, trade_id, "1", "1", "buy", 0, None, 0, "stream", None, None, 0, None, None, "1", "1")


def cursor(product: str, owner: str, next_id: int | None, offset: int = 0, partition: int | None = 0) -> Cursor:
    return Cursor(product, owner, "x", 6, partition, offset, next_id, None)


def test_everybody_else_who_claims_one_of_my_products_is_a_rival() -> None:
    claims = {
        ("A", "0-of-2"): cursor("A", "0-of-2", 5),
        ("A", "0-of-1"): cursor("A", "0-of-1", 4),
        ("B", "1-of-2"): cursor("B", "1-of-2", 9),
    }
    assert rivals(["A"], "0-of-2", claims) == {"0-of-1"}
    assert rivals(["A", "B"], "0-of-1", claims) == {"0-of-2", "1-of-2"}


def test_the_search_for_the_end_begins_at_the_furthest_claim() -> None:
    claims = {
        ("A", "old"): cursor("A", "old", 10, offset=100),
        ("A", "new"): cursor("A", "new", 20, offset=300),
        ("A", "fresh"): cursor("A", "fresh", None, partition=None),
    }
    end = best_end("A", claims)
    assert end is not None
    assert (end.next_id, end.offset) == (20, 300)
    assert best_end("B", claims) is None


def test_an_end_moves_behind_trades_and_gaps_and_becomes_a_cursor() -> None:
    end = TapeEnd(6)
    end.advance(trade(5))
    end.advance(Gap("A", 6, 8, "lost", 0))
    assert (end.next_id, end.last) == (9, trade(5))
    assert end.cursor("A", "0-of-1", "i").next_id == 9


def test_after_a_failure_exactly_what_the_tape_lacks_is_written_again() -> None:
    ends = {"A": TapeEnd(6, next_id=7), "B": TapeEnd(6)}
    entries = [(trade(5), b""), (trade(1, "B"), b""), (trade(6), b""), (trade(7), b""), (Gap("A", 8, 9, "x", 0), b"")]
    assert still_missing(entries, ends) == [entries[1], entries[3], entries[4]]


def test_a_tape_that_ends_where_it_can_is_continued() -> None:
    entries = [(trade(5), b""), (trade(6), b"")]
    for next_id in (5, 6, 7):  # none, one or both of the unconfirmed became durable
        check_continuity({"A": 5, "B": None}, {"A": TapeEnd(6, next_id=next_id), "B": TapeEnd(6)}, entries)


def test_a_tape_shorter_than_what_was_acknowledged_is_told() -> None:
    with pytest.raises(TapeLostRecordsError, match="ends before id 4, though 4 had been acknowledged"):
        check_continuity({"A": 5}, {"A": TapeEnd(6, next_id=4)}, [])


def test_a_tape_longer_than_what_was_sent_has_another_writer() -> None:
    with pytest.raises(FencedError, match="up to id 7"):
        check_continuity({"A": 5}, {"A": TapeEnd(6, next_id=8)}, [(trade(5), b"")])
