"""Tapes drawn by hypothesis: the trades of a product as the producer writes them, with seconds that hold none."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from hypothesis import strategies as st

from fulltape.coinbase.messages import Match
from fulltape.decimals import shortest_decimal
from fulltape.messages import Trade
from fulltape.producer.tail import Tail
from tests.exact import PRICE, SIZE, Recorded

START_US = 1_760_100_000_000_000
"""A whole minute."""


class Step(NamedTuple):
    """One trade, as it differs from the one before."""

    ticks: int
    """Price change, in cents."""
    size: int
    """In units of 1 / SIZE."""
    bought: bool = True
    pause_us: int = 0
    ids: int = 1
    """More than 1: ids that the exchange never gave."""


STEPS = st.builds(
    Step,
    st.one_of(st.just(0), st.integers(-3, 3), st.integers(-900, 900)),
    st.one_of(st.integers(1, 9).map(lambda digit: digit * 10**6), st.integers(1, 10**11)),
    st.booleans(),
    st.one_of(st.integers(0, 1_000), st.integers(0, 400_000), st.integers(0, 4_000_000)),
    st.sampled_from((1, 1, 1, 1, 3)),
)


def recorded(first_ticks: int, steps: Sequence[Step]) -> list[Recorded]:
    """Return the trades in exact units."""
    trades, ticks, time_us, trade_id = [], first_ticks, START_US, 1_000
    for step in steps:
        ticks = max(1_000, ticks + step.ticks)
        time_us += step.pause_us
        trade_id += step.ids
        trades.append(Recorded(trade_id, time_us, ticks * (PRICE // 100), step.size, step.bought))
    return trades


def as_on_tape(trades: Sequence[Recorded]) -> list[Trade]:
    """Return the trades as the producer writes them."""
    tail = Tail("BTC-USD", None)
    return [
        tail.append(
            Match(
                "BTC-USD",
                trade.trade_id,
                shortest_decimal(format(Decimal(trade.price) / PRICE, "f")),
                shortest_decimal(format(Decimal(trade.size) / SIZE, "f")),
                "sell" if trade.bought else "buy",
                "",
                trade.trade_id,
            ),
            trade.time_us,
            trade.time_us + 20_123,
            "stream",
        )
        for trade in trades
    ]


TAPES = st.builds(recorded, st.integers(2_000, 7_000_000), st.lists(STEPS, min_size=1, max_size=40))
"""Tapes from their first trade on; prices of 20 to 70,000 that move by up to 9 at once."""
