"""Panes computed from trades in plain Python, exactly: what `fulltape.measures.columns` says in SQL.

Decimals are summed as decimals, floats by `math.fsum`, so each float is within its last digit of what it stands for.
"""

import math
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from itertools import groupby

from fulltape.decimals import shortest_decimal
from fulltape.measures.columns import MINI_CRASH_TICKS, MINI_CRASH_US, PANE_SECONDS
from fulltape.messages import Pane, Trade

PANE_US = PANE_SECONDS * 1_000_000
_NOTIONAL = Decimal("1e-15")


def panes_of(trades: Sequence[Trade]) -> list[Pane]:
    """Return the pane of each second that holds trades of one product, in order.

    A trade counts as written to the tape at the end of the millisecond in which it was received.
    """
    ordered = sorted(trades, key=lambda trade: (trade.time_us // PANE_US, trade.trade_id))
    seconds = [list(group) for _, group in groupby(ordered, key=lambda trade: trade.time_us // PANE_US)]
    return [pane_of(second, max(-(-trade.received_us // 1_000) * 1_000 for trade in second)) for second in seconds]


def pane_of(trades: Sequence[Trade], tape_us: int) -> Pane:
    """Return the pane of trades of one product and second, in any order; ``tape_us``: when the last was written."""
    trades = sorted(trades, key=lambda trade: trade.trade_id)
    first, last = trades[0], trades[-1]
    prices = [Decimal(trade.price) for trade in trades]
    sizes = [Decimal(trade.size) for trade in trades]
    changes = [change for trade in trades if (change := _change(trade.price, trade.previous_price)) is not None]
    returns = [r for trade in trades if (r := _return(trade.price, trade.previous_price)) is not None]
    pairs = [
        abs(r * before)
        for trade in trades
        if (r := _return(trade.price, trade.previous_price)) is not None
        and (before := _return(trade.previous_price, trade.second_previous_price)) is not None
    ]
    # Of equal falls the one from the highest peak: where no trade fell, a late one's own price is not it.
    fell = max(
        trades,
        key=lambda trade: (
            _part(trade.pane_high, trade.price, trade.pane_high),
            Decimal(trade.pane_high),
            Decimal(trade.price),
        ),
    )
    mean = sum(map(Fraction, prices)) / len(prices)
    high, low = max(prices), min(prices)
    digits = [trade.size.replace(".", "").strip("0") for trade in trades]
    return Pane(
        product=first.product,
        start_us=first.time_us // PANE_US * PANE_US,
        trades=len(trades),
        volume=_text(sum(sizes, Decimal(0))),
        notional=_text(
            sum(((p * q).quantize(_NOTIONAL, ROUND_HALF_UP) for p, q in zip(prices, sizes, strict=True)), Decimal(0))
        ),
        buy_volume=_text(sum((Decimal(trade.size) for trade in trades if trade.taker_side == "buy"), Decimal(0))),
        price_mean=float(mean),
        price_square_deviations=float(sum((Fraction(price) - mean) ** 2 for price in prices)),
        changes=len(changes),
        change_sum=math.fsum(changes),
        change_squares=math.fsum(change * change for change in changes),
        return_squares=math.fsum(r * r for r in returns),
        return_fourths=math.fsum(r**4 for r in returns),
        return_pairs=len(pairs),
        bipower=math.fsum(pairs),
        largest_return=max(map(abs, returns), default=0.0),
        open=shortest_decimal(first.price),
        high=_text(high),
        low=_text(low),
        close=shortest_decimal(last.price),
        open_us=first.time_us,
        high_us=max(trade.time_us for trade, price in zip(trades, prices, strict=True) if price == high),
        low_us=max(trade.time_us for trade, price in zip(trades, prices, strict=True) if price == low),
        close_us=last.time_us,
        previous_price=None if first.previous_price is None else shortest_decimal(first.previous_price),
        drawdown_peak=_text(Decimal(fell.pane_high)),
        drawdown_trough=_text(Decimal(fell.price)),
        run_up=max(_part(trade.price, trade.pane_low, trade.pane_low) for trade in trades),
        mini_crash=max(map(_run, trades)),
        largest_size=_text(max(sizes)),
        first_id=first.trade_id,
        last_id=last.trade_id,
        first_digits=tuple(sum(size[0] == digit for size in digits) for digit in "123456789"),  # type: ignore[arg-type]
        round_sizes=sum(len(size) == 1 for size in digits),
        received_us=max(trade.received_us for trade in trades),
        tape_us=tape_us,
    )


def _text(value: Decimal) -> str:
    return shortest_decimal(format(value, "f"))


def _change(price: str, before: str | None) -> float | None:
    return None if before is None else float(Decimal(price) - Decimal(before))


def _return(price: str | None, before: str | None) -> float | None:
    return None if price is None or before is None else math.log1p(_part(price, before, before))


def _part(more: str, less: str, whole: str) -> float:
    """Return (more - less) / whole."""
    return float(Decimal(more) - Decimal(less)) / float(whole)


def _run(trade: Trade) -> float:
    """Return how far a fast run of ticks has moved the price up to and with this trade, as a fraction."""
    start_us, departed = trade.run_start_us, trade.run_start_price
    if start_us is None or departed is None or abs(trade.run_ticks) < MINI_CRASH_TICKS:
        return 0.0
    return abs(_part(trade.price, departed, departed)) if trade.time_us - start_us <= MINI_CRASH_US else 0.0
