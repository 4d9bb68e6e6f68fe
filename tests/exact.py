"""Every window of recorded trades computed anew and exactly, to hold the measures of the live path against.

It shares no arithmetic with `fulltape.measures`: prices, sizes and logarithms are whole numbers of a very small unit,
sums over a window are differences of exact running sums, falls are looked for trade by trade, and a float appears only
as the last step, the quotient or root of two whole numbers. What each measure means stands in `docs/measures.md`.
"""

import csv
import gzip
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fulltape.measures.names import MEASURES
from fulltape.messages import Window

PRICE = 10**10
"""Prices are whole numbers of 1 / PRICE quote units."""
SIZE = 10**8
"""Sizes are whole numbers of 1 / SIZE base units."""
_LOG = 10**40
"""Logarithms are whole numbers of 1 / _LOG."""
_ILLIQUIDITY = 10**60
_SECOND_US = 1_000_000
_YEAR_SECONDS = 365 * 86_400
_TRAILING_SECONDS, _TRAILING_LEAST = 3_600, 600
_BENFORD_LEAST = 50
_RUN_TICKS, _RUN_US = 10, 1_500_000
_DECAY = 0.94
_OF_THE_TICKER = ("spread", "spreadZScore")

Integers = npt.NDArray[np.int64]
Long = npt.NDArray[np.longdouble]


class Recorded(NamedTuple):
    """One trade of a recording."""

    trade_id: int
    time_us: int
    price: int
    """In units of 1 / `PRICE`."""
    size: int
    """In units of 1 / `SIZE`."""
    bought: bool


class ExactWindow(NamedTuple):
    """What a window must say; fields as those of `messages.Window`."""

    end_us: int
    trades: int
    missing: int
    volume: Decimal
    notional: Decimal
    buy_volume: Decimal
    open: Decimal | None
    high: Decimal | None
    low: Decimal | None
    close: Decimal | None
    last_price: Decimal
    last_id: int
    largest_size: Decimal | None
    trade_us: int
    measures: dict[str, float | None]
    """All measures but those of the ticker."""


def read_recorded(path: Path, start_us: int = 0, end_us: int = 2**62) -> list[Recorded]:
    """Read the trades of [``start_us``, ``end_us``) of one product from a CSV file, in order of their ids."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
        trades = [
            Recorded(
                int(row["id"]),
                int(row["timestamp"]),
                _units(row["price"], PRICE),
                _units(row["amount"], SIZE),
                row["side"] == "buy",
            )
            for row in csv.DictReader(lines)
            if start_us <= int(row["timestamp"]) < end_us
        ]
    return sorted(trades)


def exact_windows(trades: Sequence[Recorded], seconds: int, *, through_us: int | None = None) -> Iterator[ExactWindow]:
    """Yield the window of so many seconds that ends at each second, in order.

    Args:
        trades: of one product, in order of id and of time; at least one.
        seconds: the windows' length.
        through_us: the last end; that of the last trade's second if left out.

    """
    first = trades[0].time_us // _SECOND_US
    last = trades[-1].time_us // _SECOND_US + 1 if through_us is None else through_us // _SECOND_US
    tape = _Tape(trades, first, last)
    volatility, rate, imbalance = (_Trailing(first + seconds, seconds) for _ in range(3))
    for end in range(first + 1, last + 1):
        start = end - seconds
        lo, hi = tape.before(start), tape.before(end)
        measures: dict[str, float | None] = {name: None for name in MEASURES if name not in _OF_THE_TICKER}
        measures["trades"] = hi - lo
        measures["staleness"] = (end * _SECOND_US - trades[hi - 1].time_us) / _SECOND_US
        measures["tradeRateZScore"] = rate.z_score(end, hi - lo)
        measures |= tape.of_closes(start, end)
        volume = tape.volume[hi] - tape.volume[lo]
        notional = tape.notional[hi] - tape.notional[lo]
        bought = tape.bought[hi] - tape.bought[lo]
        realized = share = None
        if hi > lo:
            close = trades[hi - 1].price
            share = (2 * bought - volume) * _LOG // volume
            measures |= tape.of_falls(lo, hi) | tape.of_range(lo, hi) | tape.of_sizes(lo, hi)
            measures |= tape.of_illiquidity(start, end)
            measures |= {
                "sma": (tape.price[hi] - tape.price[lo]) / ((hi - lo) * PRICE),
                "vwap": notional / (volume * PRICE),
                "vwapDeviation": (close * volume - notional) / notional,
                "orderFlowImbalance": (2 * bought - volume) / volume,
                "orderFlowZScore": imbalance.z_score(end, share),
            }
            changes = hi - max(lo, 1)
            if changes > 0:
                realized = math.isqrt(tape.squares[hi] - tape.squares[lo])
                measures |= tape.of_returns(lo, hi, seconds)
                measures["volatilityZScore"] = volatility.z_score(end, realized)
        volatility.add(realized)
        rate.add(hi - lo)
        imbalance.add(share)
        yield ExactWindow(
            end * _SECOND_US,
            hi - lo,
            trades[hi - 1].trade_id - trades[lo].trade_id + 1 - (hi - lo) if hi > lo else 0,
            _decimal(volume, SIZE),
            _decimal(notional, PRICE * SIZE),
            _decimal(bought, SIZE),
            _decimal(trades[lo].price, PRICE) if hi > lo else None,
            _decimal(int(tape.prices[lo:hi].max()), PRICE) if hi > lo else None,
            _decimal(int(tape.prices[lo:hi].min()), PRICE) if hi > lo else None,
            _decimal(trades[hi - 1].price, PRICE) if hi > lo else None,
            _decimal(trades[hi - 1].price, PRICE),
            trades[hi - 1].trade_id,
            _decimal(int(tape.sizes[lo:hi].max()), SIZE) if hi > lo else None,
            trades[hi - 1].time_us,
            measures,
        )


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far a measure may be from its exact value: by a fraction of that, or absolutely where it is a difference."""

    absolute: float
    why: str


RELATIVE = 1e-9
TOLERANCES = {
    "jumpRatio": Tolerance(1e-14, "1 less a ratio near 1: what is left has the absolute rounding of 1"),
    "volatilityZScore": Tolerance(1e-12, "a value less a mean near it: what is left has the rounding of both"),
    "tradeRateZScore": Tolerance(1e-12, "the same"),
    "orderFlowZScore": Tolerance(1e-12, "the same"),
}
"""Measures that come out near zero as the difference of larger numbers; all others are held to `RELATIVE` alone."""


def disagreements(window: Window, exact: ExactWindow) -> Iterator[str]:
    """Yield a line for every field or measure of a window that is not what it must be."""
    for field in exact._fields[:-1]:
        said, wanted = getattr(window, field), getattr(exact, field)
        if isinstance(wanted, Decimal) and said is not None:
            said = Decimal(said)
        if said != wanted:
            yield f"{field} is {said}, not {wanted}"
    for name, value in exact.measures.items():
        got = window.measures[name]
        absolute = TOLERANCES[name].absolute if name in TOLERANCES else 0.0
        if got is None or value is None:
            agreed = got is value
        else:
            agreed = math.isclose(got, value, rel_tol=RELATIVE, abs_tol=absolute)
        if not agreed:
            yield f"{name} is {got!r}, not {value!r}"


class _Tape:
    """Running sums over the trades of one product, and over its seconds from ``first`` to ``last``.

    Running sums begin with 0: the sum over the trades lo, ..., hi - 1 is the difference of the items hi and lo.
    """

    def __init__(self, trades: Sequence[Recorded], first: int, last: int) -> None:
        self._first = first
        self.prices: Integers = np.array([trade.price for trade in trades], dtype=np.int64)
        self.sizes: Integers = np.array([trade.size for trade in trades], dtype=np.int64)
        ends_us = np.arange(first, last + 1, dtype=np.int64) * _SECOND_US
        self._before = np.searchsorted([trade.time_us for trade in trades], ends_us).tolist()
        self._logs = [_log(trade.price) for trade in trades]
        changes = [0] + [after.price - before.price for before, after in pairwise(trades)]
        returns = [0] + [after - before for before, after in pairwise(self._logs)]

        self.price = _running(trade.price for trade in trades)
        self.volume = _running(trade.size for trade in trades)
        self.notional = _running(trade.price * trade.size for trade in trades)
        self.bought = _running(trade.size if trade.bought else 0 for trade in trades)
        self._changes = _running(changes)
        self._change_squares = _running(change * change for change in changes)
        self.squares = _running(r * r for r in returns)
        self._products = _running([0] + [abs(r * r1) for r1, r in pairwise(returns)])
        self._moves = np.array([abs(r) / _LOG for r in returns])
        self._runs = np.array(list(_fast_runs(trades)))

        digits = [str(trade.size) for trade in trades]
        first_digits = np.array([[text[0] == digit for digit in "123456789"] for text in digits])
        self._digits = np.vstack([np.zeros((1, 9), dtype=np.int64), first_digits.cumsum(axis=0)])
        self._rounds = _running(len(text.rstrip("0")) == 1 for text in digits)

        self._of_seconds()

    def _of_seconds(self) -> None:
        """Look at the tape second by second: the last price at the end of each, and the illiquidity of those traded."""
        closes = [hi - 1 for hi in self._before[1:]]
        self._close = _running(int(self.prices[trade]) for trade in closes)
        self._long_closes: Long = np.array([self.prices[trade] for trade in closes], dtype=np.longdouble)
        logs = [self._logs[trade] for trade in closes]
        moves = [0] + [(after - before) / _LOG for before, after in pairwise(logs)]
        self._close_squares: Long = np.array(moves, dtype=np.longdouble) ** 2
        bars, illiquidity = [], []
        for lo, hi in pairwise(self._before):
            follows = hi > lo > 0
            bars.append(follows)
            moved = abs(self._logs[hi - 1] - self._logs[lo - 1]) if follows else 0
            traded = self.notional[hi] - self.notional[lo]
            illiquidity.append(moved * _ILLIQUIDITY * PRICE * SIZE // (traded * _LOG) if follows else 0)
        self._bars, self._illiquidity = _running(bars), _running(illiquidity)

    def before(self, second: int) -> int:
        """Return how many trades there are before a second."""
        count: int = self._before[max(second - self._first, 0)]
        return count

    def of_closes(self, start: int, end: int) -> dict[str, float | None]:
        """Return the measures that come from the last price at the end of each second, of those where there is one."""
        lo, hi = max(start - self._first, 0), end - self._first
        weights = _weights(hi - lo, 1 - np.longdouble(2) / (end - start + 1))
        measures: dict[str, float | None] = {
            "twap": (self._close[hi] - self._close[lo]) / ((hi - lo) * PRICE),
            "ema": float((weights * self._long_closes[lo:hi]).sum() / weights.sum() / PRICE),
        }
        if hi - lo > 1:
            weights = _weights(hi - lo - 1, np.longdouble(_DECAY))
            squares = self._close_squares[lo + 1 : hi]
            measures["ewmaVolatility"] = float(np.sqrt((weights * squares).sum() / weights.sum()))
        return measures

    def of_returns(self, lo: int, hi: int, seconds: int) -> dict[str, float | None]:
        """Return the measures of the changes from trade to trade; the first trade of all has none, the second no pair.

        The change of a window's first trade is from the trade before the window.
        """
        changes, pairs = hi - max(lo, 1), hi - max(lo, 2)
        squares = self.squares[hi] - self.squares[lo]
        realized = math.isqrt(squares) / _LOG
        measures: dict[str, float | None] = {
            "realizedVolatility": realized,
            "annualizedVolatility": realized * math.sqrt(_YEAR_SECONDS / seconds),
            "largestReturn": float(self._moves[lo:hi].max()),
        }
        if changes > 1:
            total = self._changes[hi] - self._changes[lo]
            total_squares = self._change_squares[hi] - self._change_squares[lo]
            variance = (changes * total_squares - total * total) / (changes * (changes - 1) * PRICE * PRICE)
            measures["priceChangeStdDev"] = math.sqrt(variance)
        if pairs > 0:
            products = self._products[hi] - self._products[lo]
            measures["bipowerVariation"] = math.pi / 2 * (changes * products / (pairs * _LOG * _LOG))
            if squares:
                measures["jumpRatio"] = max(0.0, 1 - math.pi / 2 * (changes * products / (pairs * squares)))
        return measures

    def of_falls(self, lo: int, hi: int) -> dict[str, float | None]:
        """Return the greatest fall and rise between any two trades, and what became of the fall."""
        prices = self.prices[lo:hi]
        peaks, troughs = np.maximum.accumulate(prices), np.minimum.accumulate(prices)
        falls = (peaks - prices) / peaks
        deepest = {(int(peaks[at]), int(prices[at])) for at in np.flatnonzero(falls >= falls.max() * (1 - 1e-14))}
        peak, trough = max(deepest, key=lambda fall: (Fraction(fall[0] - fall[1], fall[0]), fall[0]))
        rises = (prices - troughs) / troughs
        return {
            "drawdown": (peak - trough) / peak,
            "recovery": (int(prices[-1]) - trough) / (peak - trough) if peak > trough else None,
            "runUp": float(rises.max()),
            "miniCrash": float(self._runs[lo:hi].max()),
        }

    def of_range(self, lo: int, hi: int) -> dict[str, float | None]:
        """Return the volatilities of the window as one bar."""
        opened, closed = self._logs[lo], self._logs[hi - 1]
        high, low = _log(int(self.prices[lo:hi].max())), _log(int(self.prices[lo:hi].min()))
        ln2 = math.log(2)
        return {
            "parkinson": (high - low) / _LOG / math.sqrt(4 * ln2),
            "garmanKlass": math.sqrt(
                (high - low) ** 2 / (2 * _LOG * _LOG) - (2 * ln2 - 1) * ((closed - opened) ** 2 / (_LOG * _LOG))
            ),
            "rogersSatchell": math.sqrt(
                ((high - opened) * (high - closed) + (low - opened) * (low - closed)) / (_LOG * _LOG)
            ),
        }

    def of_sizes(self, lo: int, hi: int) -> dict[str, float | None]:
        """Return how natural the sizes look."""
        measures: dict[str, float | None] = {"roundSizeShare": (self._rounds[hi] - self._rounds[lo]) / (hi - lo)}
        if hi - lo >= _BENFORD_LEAST:
            shares = (self._digits[hi] - self._digits[lo]) / (hi - lo)
            benford = np.log10(1 + 1 / np.arange(1, 10))
            measures["firstDigitDeviation"] = float(np.abs(shares - benford).mean())
        return measures

    def of_illiquidity(self, start: int, end: int) -> dict[str, float | None]:
        """Return Amihud's measure over the seconds with trades, less the first of all, which follows no price."""
        lo, hi = max(start - self._first, 0), end - self._first
        bars = self._bars[hi] - self._bars[lo]
        total = self._illiquidity[hi] - self._illiquidity[lo]
        return {"amihudIlliquidity": total / (bars * _ILLIQUIDITY)} if bars else {}


class _Trailing:
    """A measure at every end so far, and how far a value is from those of the hour before its window's start.

    Values are whole numbers of any unit; None is unknown, as are windows that end before ``first_end``: they begin
    before the first trade.
    """

    def __init__(self, first_end: int, seconds: int) -> None:
        self._first_end = first_end
        self._seconds = seconds
        self._next_end = first_end - seconds + 1
        self._known, self._sum, self._squares = [0], [0], [0]

    def add(self, value: int | None) -> None:
        """Take the value at the next end."""
        if self._next_end >= self._first_end:
            self._known.append(self._known[-1] + (value is not None))
            self._sum.append(self._sum[-1] + (value or 0))
            self._squares.append(self._squares[-1] + (value or 0) ** 2)
        self._next_end += 1

    def z_score(self, end: int, value: int) -> float | None:
        """Return (value - mean) / sample standard deviation over the ends in (start - 1 h, start]."""
        hi = max(end - self._seconds - self._first_end + 1, 0)
        lo = max(hi - _TRAILING_SECONDS, 0)
        count = self._known[hi] - self._known[lo]
        if count < _TRAILING_LEAST:
            return None
        total, squares = self._sum[hi] - self._sum[lo], self._squares[hi] - self._squares[lo]
        spread = count * squares - total * total
        if spread * 10**18 <= total * total:  # it varies by no more than 1e-9 of its mean
            return None
        return (count * value - total) * _LOG / math.isqrt(spread * count * _LOG * _LOG // (count - 1))


def _fast_runs(trades: Sequence[Recorded]) -> Iterator[float]:
    """Yield for each trade how far the run of ticks one way that it is in has moved the price; 0 if slow or short."""
    ticks, departed, previous = 0, trades[0], trades[0]
    for trade in trades:
        if trade.price != previous.price:
            direction = 1 if trade.price > previous.price else -1
            if ticks * direction <= 0:
                ticks, departed = 0, previous
            ticks += direction
        fast = abs(ticks) >= _RUN_TICKS and trade.time_us - departed.time_us <= _RUN_US
        yield abs(trade.price - departed.price) / departed.price if fast else 0.0
        previous = trade


@cache
def _log(price: int) -> int:
    """Return the natural logarithm of a price, in units of 1 / _LOG."""
    context = Context(prec=60)
    return int(context.multiply(context.ln(Decimal(price)), Decimal(_LOG)))


@cache
def _weights(count: int, decay: np.longdouble) -> Long:
    return decay ** np.arange(count - 1, -1, -1)


def _running(values: "Iterator[int] | Sequence[int]") -> list[int]:
    return list(accumulate(values, initial=0))


def _units(text: str, scale: int) -> int:
    units = Decimal(text) * scale
    if units != int(units):
        raise ValueError(f"{text} is finer than 1 / {scale}")
    return int(units)


def _decimal(units: int, scale: int) -> Decimal:
    return Context(prec=60).divide(Decimal(units), Decimal(scale))
