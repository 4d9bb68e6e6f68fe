"""The audit's books: exact about what is missing, twice and out of order, against a count by sets."""

from hypothesis import given
from hypothesis import strategies as st

from fulltape.audit.account import Account, summarize


@given(st.lists(st.integers(1, 40), min_size=1, max_size=80))
def test_the_books_equal_a_count_by_sets(ids: list[int]) -> None:
    account = Account("X", ids[0])
    for trade_id in ids:
        account.trade(trade_id, trade_id)
    seen = set(ids)
    (audit,) = summarize([account])
    assert (audit.first_id, audit.last_id) == (min(seen), max(seen))
    assert audit.missing == max(seen) - min(seen) + 1 - len(seen)
    assert audit.duplicates == len(ids) - len(seen)
    first_seen = [trade_id for index, trade_id in enumerate(ids) if trade_id not in ids[:index]]
    late = sum(trade_id < max(first_seen[:index]) for index, trade_id in enumerate(first_seen) if index)
    assert audit.out_of_order == late
    assert audit.kept == (ids == list(range(ids[0], ids[0] + len(ids))))


def test_a_gap_record_accounts_for_its_ids() -> None:
    account = Account("X", 5)
    account.trade(5, 1)
    account.gap(6, 9)
    account.trade(10, 2)
    (audit,) = summarize([account])
    assert audit.kept
    assert (audit.gap_records, audit.gap_ids, audit.trades) == (1, 4, 2)


def test_a_product_that_moved_to_another_partition_is_one_tape() -> None:
    first, second = Account("X", 1), Account("X", 4)
    for trade_id in (1, 2, 3):
        first.trade(trade_id, trade_id)
    for trade_id in (4, 5):
        second.trade(trade_id, trade_id)
    (audit,) = summarize([second, first])
    assert audit.kept
    assert (audit.first_id, audit.last_id, audit.trades) == (1, 5, 5)


def test_two_partitions_that_overlap_or_leave_a_hole_break_the_promise() -> None:
    def account(*ids: int) -> Account:
        part = Account("X", ids[0])
        for trade_id in ids:
            part.trade(trade_id, trade_id)
        return part

    (overlap,) = summarize([account(1, 2, 3), account(3, 4)])
    assert (overlap.duplicates, overlap.missing, overlap.kept) == (1, 0, False)
    (hole,) = summarize([account(1, 2), account(5, 6)])
    assert (hole.duplicates, hole.missing, hole.kept) == (0, 2, False)
