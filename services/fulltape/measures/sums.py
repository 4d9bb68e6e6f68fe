"""Sums over consecutive seconds of one product's trades, and how they merge: all that the measures of a window need.

Merging takes what counts exactly as it is (counts, volumes, extremes: integers and decimals), means and squared
deviations by the pairwise update of T. F. Chan, G. H. Golub and R. J. LeVeque ("Updating formulae and a pairwise
algorithm for computing sample variances", 1979), and falls and rises over ordered neighbours. It is associative, so
any tree of merges over the same seconds gives the same sums, floats to within their rounding.
"""

import struct
from decimal import Decimal
from typing import Self

import msgspec

from fulltape.measures.columns import PANE_SECONDS
from fulltape.measures.prices import log_ratio
from fulltape.messages import Pane

PANE_US = PANE_SECONDS * 1_000_000
"""The length of a pane."""

_LEAST, _TOO_MUCH = Decimal("1e-15"), Decimal("1e38")
"""What a pane's decimals can hold."""
_TOO_MANY = 2**40
"""Far more trades than a second can have, and few enough to add up within `_NINE_COUNTS`."""

_NINE_COUNTS = struct.Struct("<9Q")


class Sums(msgspec.Struct, frozen=True, gc=False):
    """What the trades of [`start_us`, `end_us`) sum up to. The first and the last second hold trades; others need not.

    Decimals are exact up to 28 digits, the precision of Python's default context.
    """

    start_us: int
    """Start of the first second, inclusive; exchange time."""
    end_us: int
    """End of the last second, exclusive."""
    trades: int
    """How many trades; at least one."""
    volume: Decimal
    """Sum of the sizes, base currency."""
    notional: Decimal
    """Sum of price times size, quote currency."""
    buy_volume: Decimal
    """Sum of the sizes whose taker bought."""
    price_mean: float
    """Mean of the trades' prices."""
    price_square_deviations: float
    """Sum of the squares of the prices' deviations from `price_mean`."""
    changes: int
    """How many trades have a trade before them on the tape."""
    change_sum: float
    """Sum of the price changes from the trade before."""
    change_squares: float
    """Sum of their squares."""
    return_squares: float
    """Sum of the squares of the log returns r from the trade before: the realized variance."""
    return_fourths: float
    """Sum of r to the fourth power."""
    return_pairs: int
    """How many trades have two trades before them on the tape."""
    bipower: float
    """Sum over those of |r| times |r of the trade before|."""
    largest_return: float
    """Greatest |r|; 0 without changes."""
    open: Decimal
    """Price of the first trade."""
    high: Decimal
    """Highest price."""
    low: Decimal
    """Lowest price."""
    close: Decimal
    """Price of the last trade."""
    open_us: int
    """Time of the first trade."""
    high_us: int
    """Time of the last trade at the highest price."""
    low_us: int
    """Time of the last trade at the lowest price."""
    trade_us: int
    """Time of the last trade."""
    previous_price: Decimal | None
    """Price of the trade before the first one; None at the beginning of a tape."""
    drawdown: float
    """Greatest fall from a peak, as a fraction of the peak; of equal falls the one from the higher peak."""
    drawdown_peak: Decimal
    """The price that it fell from."""
    drawdown_trough: Decimal
    """The price that it fell to."""
    run_up: float
    """Greatest rise from a trough, as a fraction of the trough."""
    mini_crash: float
    """Greatest fraction that the price moved in a fast run of ticks one way; 0 without one."""
    largest_size: Decimal
    """Size of the largest trade."""
    first_id: int
    last_id: int
    packed_digits: int
    """How many sizes begin with the digit 1, 2, ... 9, in 64 bits each, so that one addition adds all nine.
    `first_digits` unpacks them."""
    round_sizes: int
    """How many sizes have one significant digit only."""
    bars: int
    """How many seconds hold trades and follow a trade."""
    illiquidity: float
    """Sum over those seconds of |ln(close / close before)| / notional."""
    received_us: int
    """Latest time at which one of the trades was received."""
    tape_us: int
    """Latest time at which one was written to the tape; whole milliseconds."""

    @classmethod
    def of(cls, pane: Pane) -> Self:
        """Return the sums of one pane.

        Raises:
            ValueError: no trades could have made the pane: a text is no decimal, a price is zero, a high below a low.

        """
        try:
            sums = cls._of(pane)
            possible = _is_possible(sums)
        except (ArithmeticError, ValueError, struct.error):
            possible = False
        if not possible:
            raise ValueError(f"no trades could have made this pane: {pane}")
        return sums

    @classmethod
    def _of(cls, pane: Pane) -> Self:
        notional, close = Decimal(pane.notional), Decimal(pane.close)
        peak, trough = Decimal(pane.drawdown_peak), Decimal(pane.drawdown_trough)
        previous = None if pane.previous_price is None else Decimal(pane.previous_price)
        bars, illiquidity = 0, 0.0
        if previous is not None and notional:
            bars, illiquidity = 1, abs(log_ratio(close, previous)) / float(notional)
        return cls(
            start_us=pane.start_us,
            end_us=pane.start_us + PANE_US,
            trades=pane.trades,
            volume=Decimal(pane.volume),
            notional=notional,
            buy_volume=Decimal(pane.buy_volume),
            price_mean=pane.price_mean,
            price_square_deviations=pane.price_square_deviations,
            changes=pane.changes,
            change_sum=pane.change_sum,
            change_squares=pane.change_squares,
            return_squares=pane.return_squares,
            return_fourths=pane.return_fourths,
            return_pairs=pane.return_pairs,
            bipower=pane.bipower,
            largest_return=pane.largest_return,
            open=Decimal(pane.open),
            high=Decimal(pane.high),
            low=Decimal(pane.low),
            close=close,
            open_us=pane.open_us,
            high_us=pane.high_us,
            low_us=pane.low_us,
            trade_us=pane.close_us,
            previous_price=previous,
            drawdown=float(peak - trough) / float(peak),
            drawdown_peak=peak,
            drawdown_trough=trough,
            run_up=pane.run_up,
            mini_crash=pane.mini_crash,
            largest_size=Decimal(pane.largest_size),
            first_id=pane.first_id,
            last_id=pane.last_id,
            packed_digits=int.from_bytes(_NINE_COUNTS.pack(*pane.first_digits), "little"),
            round_sizes=pane.round_sizes,
            bars=bars,
            illiquidity=illiquidity,
            received_us=pane.received_us,
            tape_us=pane.tape_us,
        )

    @property
    def first_digits(self) -> tuple[int, ...]:
        """How many sizes begin with the significant digit 1, 2, ... 9."""
        return _NINE_COUNTS.unpack(self.packed_digits.to_bytes(_NINE_COUNTS.size, "little"))


def merge(earlier: Sums, later: Sums) -> Sums:
    """Return the sums over both; ``later`` must not start before ``earlier`` ends.

    The order matters to open and close, to falls and rises, and to nothing else. Written out field by field and
    constructed by position, for it runs several times for every trade.
    """
    a, b = earlier, later
    trades = a.trades + b.trades
    a_high, a_low, b_high, b_low = a.high, a.low, b.high, b.low
    high, high_us = (a_high, a.high_us) if a_high > b_high else (b_high, b.high_us)
    low, low_us = (a_low, a.low_us) if a_low < b_low else (b_low, b.low_us)

    apart = b.price_mean - a.price_mean
    b_share = b.trades / trades

    drawdown, peak, trough = a.drawdown, a.drawdown_peak, a.drawdown_trough
    if b.drawdown > drawdown or (b.drawdown == drawdown and b.drawdown_peak > peak):
        drawdown, peak, trough = b.drawdown, b.drawdown_peak, b.drawdown_trough
    if a_high > b_low:  # fell from the earlier seconds' high to the later ones' low
        fall = float(a_high - b_low) / float(a_high)
        if fall > drawdown or (fall == drawdown and a_high > peak):
            drawdown, peak, trough = fall, a_high, b_low
    run_up = max(a.run_up, b.run_up)
    if b_high > a_low:
        run_up = max(run_up, float(b_high - a_low) / float(a_low))

    return Sums(
        a.start_us,
        b.end_us,
        trades,
        a.volume + b.volume,
        a.notional + b.notional,
        a.buy_volume + b.buy_volume,
        a.price_mean + apart * b_share,
        a.price_square_deviations + b.price_square_deviations + apart * apart * b_share * a.trades,
        a.changes + b.changes,
        a.change_sum + b.change_sum,
        a.change_squares + b.change_squares,
        a.return_squares + b.return_squares,
        a.return_fourths + b.return_fourths,
        a.return_pairs + b.return_pairs,
        a.bipower + b.bipower,
        max(b.largest_return, a.largest_return),
        a.open,
        high,
        low,
        b.close,
        a.open_us,
        high_us,
        low_us,
        b.trade_us,
        a.previous_price,
        drawdown,
        peak,
        trough,
        run_up,
        max(b.mini_crash, a.mini_crash),
        max(b.largest_size, a.largest_size),
        a.first_id,
        b.last_id,
        a.packed_digits + b.packed_digits,
        a.round_sizes + b.round_sizes,
        a.bars + b.bars,
        a.illiquidity + b.illiquidity,
        max(b.received_us, a.received_us),
        max(b.tape_us, a.tape_us),
    )


def _is_possible(sums: Sums) -> bool:
    """Tell whether there could be trades that sum up so, as far as the measures rely on it."""
    return (
        0 < sums.trades < _TOO_MANY
        and sum(sums.first_digits) <= sums.trades
        and 0 <= sums.return_pairs <= sums.changes <= sums.trades
        and _LEAST <= sums.low <= sums.open <= sums.high < _TOO_MUCH
        and sums.low <= sums.close <= sums.high
        and 0 <= sums.buy_volume <= sums.volume < _TOO_MUCH
        and sums.volume >= _LEAST
        and (sums.notional == 0 or _LEAST <= sums.notional < _TOO_MUCH)
        and 0 < sums.drawdown_trough <= sums.drawdown_peak < _TOO_MUCH
        and sums.return_squares >= 0
    )
