"""REST's memory pages like Coinbase, keeps the newest, and shows nothing that has not happened yet."""

from hypothesis import given
from hypothesis import strategies as st

from fulltape.sandbox.history import History
from fulltape.sandbox.trades import Trades


def trades(product: int, ids: list[int]) -> Trades:
    constant = dict.fromkeys(("price", "size", "maker_buys", "time_us", "sequence", "fill"), [1] * len(ids))
    return Trades.of(product=[product] * len(ids), trade_id=ids, **constant)


@given(
    ids=st.lists(st.integers(1, 200), unique=True).map(sorted),
    capacity=st.integers(1, 60),
    chunk=st.integers(1, 70),
    limit=st.integers(1, 30),
    newest=st.integers(0, 210),
    after=st.none() | st.integers(0, 210),
    before=st.none() | st.integers(0, 210),
)
def test_a_page_is_what_a_list_would_give(
    ids: list[int], capacity: int, chunk: int, limit: int, newest: int, after: int | None, before: int | None
) -> None:
    history = History([5, capacity])
    for start in range(0, len(ids), chunk):
        history.append(Trades.concatenate([trades(0, [start + 1]), trades(1, ids[start : start + chunk])]))
    page = history.page(1, newest, limit=limit, after=after, before=before)
    kept = [number for number in ids[-capacity:] if number <= newest]
    wanted = [n for n in kept if (after is None or n < after) and (before is None or n > before)]
    assert page.trade_id.tolist() == wanted[::-1][:limit]
    assert (page.product == 1).all()
