"""What an answer of REST proves about a hole: only what it covers, and never more."""

from hypothesis import given
from hypothesis import strategies as st

from fulltape.coinbase.messages import RestTrade
from fulltape.coinbase.rest import PAGE_LIMIT, TradePage
from fulltape.producer.backfill import written_off
from fulltape.producer.gate import Hole


def page(ids: list[int]) -> TradePage:
    return TradePage([RestTrade(trade_id, "1", "1", "buy", "t") for trade_id in ids], [], 0)


@given(
    st.integers(1, 5000),
    st.integers(0, 3000),
    st.sets(st.integers(1, 9000), max_size=400),
)
def test_only_ids_that_the_exchange_was_asked_for_and_lacks_are_written_off(
    first: int, more: int, exist: set[int]
) -> None:
    hole = Hole(first, first + more)
    after = min(hole.first + PAGE_LIMIT, hole.last + 1)
    limit = min(PAGE_LIMIT, hole.last - hole.first + 1)
    answer = sorted([trade_id for trade_id in exist if trade_id < after], reverse=True)[
        :limit
    ]  # what the exchange does
    last = written_off(hole, page(sorted(answer)))
    if first in exist:
        assert last is None
    else:
        assert last is not None
        assert hole.first <= last <= hole.last
        assert not exist & set(range(hole.first, last + 1))
