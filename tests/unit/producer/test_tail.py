"""What a trade owes to its place on the tape: previous prices and runs of ticks, the same after any restart."""

from decimal import Decimal
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from fulltape.coinbase.messages import Match
from fulltape.messages import Trade
from fulltape.producer.tail import Tail


def match(trade_id: int, price: str, side: str = "buy") -> Match:
    return Match("BTC-USD", trade_id, price, "1", side, "2026-01-01T00:00:00.000000Z", trade_id)  # type: ignore[arg-type]


def tape_of(prices: list[str], last: Trade | None = None, first_id: int = 1) -> list[Trade]:
    tail = Tail("BTC-USD", last)
    return [
        tail.append(match(first_id + index, price), (first_id + index) * 1000, 0, "stream")
        for index, price in enumerate(prices)
    ]


def runs_from_scratch(prices: list[str]) -> list[int]:
    """The definition of a run, by looking back from every trade."""
    runs = []
    for end in range(len(prices)):
        changes = [
            1 if Decimal(after) > Decimal(before) else -1
            for before, after in pairwise(prices[: end + 1])
            if Decimal(after) != Decimal(before)
        ]
        run = 0
        for change in reversed(changes):
            if run * change < 0:
                break
            run += change
        runs.append(run)
    return runs


prices = st.lists(st.sampled_from(["1", "1.0", "1.01", "0.99", "2", "100.5", "1.00000000000000000001"]), max_size=40)


@given(prices)
def test_a_run_counts_price_changes_in_one_direction(prices: list[str]) -> None:
    assert [trade.run_ticks for trade in tape_of(prices)] == runs_from_scratch(prices)


@given(prices)
def test_each_trade_carries_the_two_prices_before_it(prices: list[str]) -> None:
    padded = [None, None, *prices]
    assert [(trade.second_previous_price, trade.previous_price) for trade in tape_of(prices)] == [
        (padded[index], padded[index + 1]) for index in range(len(prices))
    ]


@given(prices, st.integers(0, 40))
def test_a_restart_at_any_trade_changes_nothing(prices: list[str], cut: int) -> None:
    whole = tape_of(prices)
    before = tape_of(prices[:cut])
    after = tape_of(prices[cut:], last=before[-1] if before else None, first_id=len(before) + 1)
    assert before + after == whole


def test_a_run_says_since_when_and_from_which_price() -> None:
    last = tape_of(["10", "12", "11", "11", "10"])[-1]
    assert (last.run_ticks, last.run_start_price, last.run_start_us) == (-2, "12", 2000)


def test_the_tape_stores_the_takers_side() -> None:
    tail = Tail("BTC-USD", None)
    assert tail.append(match(1, "1", "buy"), 0, 0, "stream").taker_side == "sell"
    assert tail.append(match(2, "1", "sell"), 0, 0, "stream").taker_side == "buy"


@given(st.lists(st.tuples(st.sampled_from(["1", "1.0", "1.01", "0.99", "2"]), st.integers(0, 700_000)), max_size=40))
def test_each_trade_carries_the_extremes_of_its_second_so_far(steps: list[tuple[str, int]]) -> None:
    tail, now_us, seconds = Tail("BTC-USD", None), 0, dict[int, list[Decimal]]()
    for index, (price, later_us) in enumerate(steps, 1):
        now_us += later_us
        so_far = seconds.setdefault(now_us // 1_000_000, [])
        so_far.append(Decimal(price))
        trade = tail.append(match(index, price), now_us, 0, "stream")
        assert (Decimal(trade.pane_high), Decimal(trade.pane_low)) == (max(so_far), min(so_far))
