"""The sliding windows of one product, kept up to date by its panes, its spreads and the clock. Pure: no I/O, no time.

A window is a function of what is known of its seconds and those before, never of how that arrived. Its sums are merged
along one fixed bracketing, aligned to absolute time (a tree of nodes of 1, 2, 4, ... seconds, each merged when it is
first asked for), so that two monitors, or one before and after a restart, agree to the last bit. The settled part of a
window, everything but its last slide, is merged once; each new version of the live pane then costs one merge a window.
A pane that comes late drops the nodes above it, and all windows that end after it are yielded anew.

What is known by the second (last prices, last spreads, and the sums that the trailing hour is compared by) stands in
arrays, so that a baseline is a slice.
"""

import math
from bisect import bisect_left, insort
from collections.abc import Sequence
from decimal import Decimal

import msgspec
import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from fulltape.decimals import shortest_decimal
from fulltape.feed.duration import Duration
from fulltape.measures.baseline import BASELINE_SECONDS, Baseline, baseline
from fulltape.measures.sums import Sums, merge
from fulltape.measures.window import Measures, WindowContext, window_measures
from fulltape.messages import Pane, Window

SECOND_US = 1_000_000
LEAP_SECONDS = 3600
"""Where the clock leaps further than this at once, windows on the way that hold no trade are not published."""

STEP_SECONDS = 64
"""Between two calls of `ProductWindows.collect` no more than this may pass, leaps apart."""

_SLACK_SECONDS = 1024
_LEVELS = 12
_NEVER = 2**62
_CLOSE, _SPREAD, _TRADES, _CHANGES, _RETURN_SQUARES, _VOLUME, _BUY_VOLUME, _COMPARED = range(8)
_CARRIED = slice(_CLOSE, _SPREAD + 1)
_SUMMED = slice(_TRADES, _BUY_VOLUME + 1)
_COMPARED_NAMES = ("realizedVolatility", "tradeRate", "orderFlowImbalance")
"""The measures of a window that are compared with those of the trailing hour, in the order of their rows."""

Floats = NDArray[np.float64]


def horizon_seconds(windows: Sequence[Duration], slide: Duration, watermark: Duration) -> int:
    """Return how far behind the newest pane a pane can lie and still count in a window that may yet be published.

    The earliest window that may be corrected ends at the watermark; the hour before it holds the ends of the windows
    that it is compared with.
    """
    longest = max(window.us for window in windows)
    return BASELINE_SECONDS + (2 * longest + watermark.us + slide.us) // SECOND_US + STEP_SECONDS + 2


class _Leaf:
    """The newest version of a pane."""

    __slots__ = ("pane_us", "sums")

    def __init__(self, sums: Sums, pane_us: int) -> None:
        self.sums = sums
        self.pane_us = pane_us


class ProductWindows:
    """The windows of one product, of every size.

    `add_pane`, `add_spread` and `advance` take what is new, in any order; `collect` gives the windows that changed.
    """

    def __init__(self, product: str, windows: Sequence[Duration], slide: Duration, watermark: Duration) -> None:
        self.product = product
        self.newest: int | None = None
        """The second of the newest pane; None before the first."""
        self.frontier = -1
        """The newest second for which windows are due: that of the newest pane, or the clock's."""
        self.late = 0
        """Panes ignored because they came later than the watermark."""
        self._sizes = [(window.text, window.us // SECOND_US) for window in windows]
        self._longest = max(seconds for _, seconds in self._sizes)
        self._slide = slide.us // SECOND_US
        self._watermark = watermark.us // SECOND_US
        self._leaves: dict[int, _Leaf] = {}
        self._seconds: list[int] = []
        """The keys of `_leaves`, ascending."""
        self._first = _NEVER
        self._tree = _Tree(self._leaves)
        span = horizon_seconds(windows, slide, watermark)
        self._timeline = _Timeline(_COMPARED + len(_COMPARED_NAMES) * len(self._sizes), span)
        self._correctable = span - BASELINE_SECONDS - self._longest
        """How many seconds at the timeline's end have all before them that their windows look back to."""
        self._compared_to = _NEVER
        """The second up to which the rows of compared measures are right."""
        self._dirty = _NEVER
        """Windows that end after this second are to be published."""
        self._quietly_dirty = _NEVER
        """The same, but not for its own sake: along with the next that is."""
        self._overdue: list[Window] = []
        """Windows that were due before the clock leapt."""
        self._settled: list[tuple[int, Sums | None]] = [(-1, None)] * len(self._sizes)
        self._baselines: list[tuple[int, dict[str, Baseline | None]]] = [(-1, {})] * len(self._sizes)
        self._ticker_ids: dict[int, int] = {}
        self._swept = 0

    @property
    def sizes(self) -> list[str]:
        """The sizes, as the feed writes them."""
        return [text for text, _ in self._sizes]

    @property
    def newest_end(self) -> int:
        """The end of the newest windows, in seconds."""
        return self.frontier - self.frontier % self._slide + self._slide

    @property
    def changed(self) -> bool:
        """Whether `collect` has something to give."""
        return self._dirty != _NEVER

    def known_trades(self, start_us: int) -> int:
        """Return how many trades the known version of a pane has; 0 if it is not known."""
        leaf = self._leaves.get(start_us // SECOND_US)
        return leaf.sums.trades if leaf is not None else 0

    def add_pane(self, pane: Pane, pane_us: int) -> bool:
        """Take a version of a pane, written at ``pane_us``; tell whether it is news.

        Raises:
            ValueError, ArithmeticError: it holds what no pane can.

        """
        second = pane.start_us // SECOND_US
        old = self._leaves.get(second)
        if old is not None and pane.trades <= old.sums.trades:
            return False
        if self._is_late(second):
            self.late += 1
            return False
        sums = Sums.of(pane)
        if not (pane.trades > 0 and sums.low > 0):
            raise ValueError(f"a pane of {pane.product} holds {pane.trades} trades from a price of {pane.low}")
        if self.newest is None:
            self.newest = self.frontier = second
        elif second > self.newest:
            self.advance(second)
            self.newest = second
        self._leaves[second] = _Leaf(sums, pane_us)
        if old is None:
            if not self._seconds or second > self._seconds[-1]:
                self._seconds.append(second)
            else:
                insort(self._seconds, second)
            self._first = min(self._first, second)
        self._note(second, sums)
        self._dirty = min(self._dirty, second)
        self._compared_to = min(self._compared_to, second)
        if second < self.newest_end - self._slide:
            self._settled = [(-1, None)] * len(self._sizes)
            self._baselines = [(-1, {})] * len(self._sizes)
        self._tree.changed(second)
        return True

    def add_spread(self, time_us: int, trade_id: int, spread: float) -> None:
        """Take the spread, as a fraction of the middle, that was left by a trade; of one second's the last counts.

        ``trade_id`` is 0 where only the spread at the second's end is known.
        """
        second = time_us // SECOND_US
        line = self._timeline
        if second < (line.end - self._correctable if trade_id else line.base) or trade_id < self._ticker_ids.get(
            second, 0
        ):
            return
        self._ticker_ids[second] = trade_id
        line.extend(second + 1)
        at = second - line.base
        if line.rows[_SPREAD, at] == spread:
            return
        end = at + 1
        stop = line.end - line.base
        # It stands until the next; what was read back (id 0) may itself be no more than what stood then.
        own = min(trade_id, 1)
        while end < stop and self._ticker_ids.get(end + line.base, -1) < own:
            end += 1
        line.rows[_SPREAD, at:end] = spread
        # Of windows that ended before the watermark the panes may be forgotten: they stay as they are.
        oldest = second if self.newest is None else max(second, self.newest - self._watermark)
        self._quietly_dirty = min(self._quietly_dirty, oldest)
        if second < self.newest_end - self._slide:
            self._baselines = [(-1, {})] * len(self._sizes)

    def advance(self, second: int) -> None:
        """Make windows due up to the one that ``second`` lies in the last slide of."""
        if self.newest is None or second <= self.frontier:
            return
        end = self.newest_end
        if second - self.frontier > LEAP_SECONDS:
            self.frontier = end - 1 + self._longest
            self._dirty = min(self._dirty, end)
            self._overdue += self.collect(0)
            end = second - second % self._slide
        self.frontier = second
        if self.newest_end > end:
            self._dirty = min(self._dirty, end)
        if second >= self._swept + 64:
            self._sweep()

    def skip(self) -> None:
        """Take all that is known for published already."""
        self._dirty = self._quietly_dirty = _NEVER
        self._overdue.clear()

    def collect(self, published_us: int, *, everything: bool = False) -> list[Window]:
        """Return every window that changed, in order of their ends; the newest come last.

        Where only spreads changed, they wait for what comes next unless ``everything`` is asked for.
        """
        if self._dirty == _NEVER and not (everything and self._quietly_dirty != _NEVER):
            return []
        dirty = min(self._dirty, self._quietly_dirty)
        self._dirty = self._quietly_dirty = _NEVER
        self._timeline.extend(self.newest_end)
        self._compare()
        dirty = max(dirty, self._timeline.end - self._correctable)
        first_end = dirty - dirty % self._slide + self._slide
        overdue, self._overdue = self._overdue, []
        return [msgspec.structs.replace(window, published_us=published_us) for window in overdue] + [
            window
            for end in range(first_end, self.newest_end + 1, self._slide)
            for number in range(len(self._sizes))
            if (window := self._window(number, end, published_us)) is not None
        ]

    def _window(self, number: int, end: int, published_us: int) -> Window | None:
        """Compute the window of one size that ends at ``end``; None before the first trade."""
        position = bisect_left(self._seconds, end)
        if not position:
            return None
        last = self._leaves[self._seconds[position - 1]]
        text, seconds = self._sizes[number]
        start = end - seconds
        sums = self._sums(number, start, end)
        line = self._timeline
        spread = float(line.rows[_SPREAD, end - 1 - line.base])
        newest = last.sums
        context = WindowContext(
            start_us=start * SECOND_US,
            end_us=end * SECOND_US,
            closes=line.rows[_CLOSE, start - line.base : end - line.base],
            baselines=self._baseline(number, end),
            spread=None if math.isnan(spread) else spread,
            last_trade_us=newest.trade_us,
            last_price=newest.close,
        )
        return _message(
            (self.product, text, start * SECOND_US, end * SECOND_US),
            sums,
            last,
            window_measures(sums, context),
            published_us,
        )

    def _sums(self, number: int, start: int, end: int) -> Sums | None:
        """Merge the panes of [start, end): the settled part, then the last slide."""
        settled_end, settled = self._settled[number]
        if settled_end != end:
            settled = self._tree.over(start, end - self._slide)
            if end == self.newest_end:
                self._settled[number] = (end, settled)
        recent = self._tree.over(end - self._slide, end)
        if settled is None:
            return recent
        return settled if recent is None else merge(settled, recent)

    def _baseline(self, number: int, end: int) -> dict[str, Baseline | None]:
        """Return mean and standard deviation of what the window is compared with; None where too little is known."""
        known_end, known = self._baselines[number]
        if known_end == end:
            return known
        line = self._timeline
        stop = end - self._sizes[number][1] - line.base
        hour = slice(stop - BASELINE_SECONDS, stop)
        row = _COMPARED + len(_COMPARED_NAMES) * number
        known = {name: baseline(line.rows[row + index, hour]) for index, name in enumerate(_COMPARED_NAMES)}
        known["spread"] = baseline(line.rows[_SPREAD, hour])
        if end == self.newest_end:
            self._baselines[number] = (end, known)
        return known

    def _is_late(self, second: int) -> bool:
        if self.newest is None:
            return False
        return second < max(self.newest - self._watermark, self._timeline.end - self._correctable)

    def _note(self, second: int, sums: Sums) -> None:
        """Write a pane into the rows."""
        line = self._timeline
        line.extend(second + 1)
        rows, at = line.rows, second - line.base
        following = bisect_left(self._seconds, second + 1)
        next_at = (self._seconds[following] if following < len(self._seconds) else line.end) - line.base
        rows[_CLOSE, at:next_at] = float(sums.close)
        rows[_TRADES, at] = sums.trades
        rows[_CHANGES, at] = sums.changes
        rows[_RETURN_SQUARES, at] = sums.return_squares
        rows[_VOLUME, at] = float(sums.volume)
        rows[_BUY_VOLUME, at] = float(sums.buy_volume)

    def _compare(self) -> None:
        """Bring the rows of the compared measures up to the frontier: a column for each window that ends with it."""
        first, stop = self._compared_to, self.frontier
        if first >= stop:
            return
        self._compared_to = stop
        line = self._timeline
        first = max(first, line.base + self._longest)
        columns = slice(first - line.base, stop - line.base)
        for number, (_, seconds) in enumerate(self._sizes):
            block = line.rows[_SUMMED, first - seconds + 1 - line.base : stop - line.base]
            trades, changes, squares, volume, bought = (
                block.sum(axis=1, keepdims=True)
                if stop - first == 1
                else sliding_window_view(block, seconds, axis=1).sum(axis=-1)
            )
            row = _COMPARED + len(_COMPARED_NAMES) * number
            line.rows[row, columns] = np.where(changes > 0, np.sqrt(squares), np.nan)
            line.rows[row + 1, columns] = trades / seconds
            line.rows[row + 2, columns] = (2 * bought - volume) / np.where(volume > 0, volume, np.nan)
            unknown = min(max(self._first + seconds - 1, first), stop) - line.base
            line.rows[row : row + len(_COMPARED_NAMES), columns.start : unknown] = np.nan

    def _sweep(self) -> None:
        """Forget what no window can need any more; the last pane before that lives on as the last price."""
        self._swept = self.frontier
        assert self.newest is not None
        oldest = self.newest - self._watermark - self._longest - self._slide
        keep = max(0, bisect_left(self._seconds, oldest) - 1)
        for second in self._seconds[:keep]:
            del self._leaves[second]
        del self._seconds[:keep]
        first = self._timeline.end - self._correctable
        self._ticker_ids = {second: number for second, number in self._ticker_ids.items() if second >= first}
        self._tree.forget(self.newest_end - self._longest - self._slide)


class _Tree:
    """Sums over aligned spans of 2^level seconds, merged when first asked for.

    Which merges make up a span depends on its place in time alone.
    """

    def __init__(self, leaves: dict[int, _Leaf]) -> None:
        self._leaves = leaves
        self._nodes: list[dict[int, Sums | None]] = [{} for _ in range(_LEVELS + 1)]

    def over(self, start: int, end: int) -> Sums | None:
        """Merge [start, end) by the fewest nodes, from left to right; None where it holds no pane."""
        total: Sums | None = None
        while start < end:
            # The largest aligned node that begins here and does not reach beyond the end.
            level = min((start & -start).bit_length() - 1, (end - start).bit_length() - 1, _LEVELS)
            node = self._node(level, start >> level)
            if node is not None:
                total = node if total is None else merge(total, node)
            start += 1 << level
        return total

    def changed(self, second: int) -> None:
        """Drop every node over a second."""
        for level in range(1, _LEVELS + 1):
            self._nodes[level].pop(second >> level, None)

    def forget(self, before: int) -> None:
        """Drop every node that ends before a second; it is merged anew should it be asked for."""
        for level in range(1, _LEVELS + 1):
            nodes = self._nodes[level]
            oldest = before >> level
            self._nodes[level] = {index: node for index, node in nodes.items() if index >= oldest}

    def _node(self, level: int, index: int) -> Sums | None:
        if level == 0:
            leaf = self._leaves.get(index)
            return leaf.sums if leaf is not None else None
        nodes = self._nodes[level]
        if index in nodes:
            return nodes[index]
        earlier, later = self._node(level - 1, 2 * index), self._node(level - 1, 2 * index + 1)
        node = later if earlier is None else earlier if later is None else merge(earlier, later)
        nodes[index] = node
        return node


class _Timeline:
    """Rows of one value a second, over a stretch that moves with time."""

    def __init__(self, rows: int, span_seconds: int) -> None:
        self.rows: Floats = np.full((rows, span_seconds + _SLACK_SECONDS), np.nan)
        self.rows[_SUMMED] = 0.0
        self.base = 0
        """The second of the first column."""
        self.end = 0
        """The second after the last column in use; 0 before the first."""
        self._span = span_seconds

    def extend(self, end: int) -> None:
        """Bring columns up to ``end`` into use: last values stand, sums begin at zero."""
        if end <= self.end:
            return
        if not self.end:
            self.base, self.end = end - 1 - self._span, end
            return
        last = self.rows[_CARRIED, self.end - 1 - self.base, None].copy()
        used = self.end - self.base
        if end - self.base > self.rows.shape[1]:
            self.base = end - self._span
            kept = max(0, self.end - self.base)
            self.rows[:, :kept] = self.rows[:, used - kept : used]
            used = kept
        columns = slice(used, end - self.base)
        self.rows[:, columns] = np.nan
        self.rows[_CARRIED, columns] = last
        self.rows[_SUMMED, columns] = 0.0
        self.end = end


def _message(
    where: tuple[str, str, int, int],
    sums: Sums | None,
    last: _Leaf,
    measures: Measures,
    published_us: int,
) -> Window:
    """Write a window down; by position, since it is done several times for every trade."""
    product, text, start_us, end_us = where
    newest = last.sums
    return Window(
        product,
        text,
        start_us,
        end_us,
        sums.trades if sums else 0,
        sums.last_id - sums.first_id + 1 - sums.trades if sums else 0,
        _plain(sums.volume) if sums else "0",
        _plain(sums.notional) if sums else "0",
        _plain(sums.buy_volume) if sums else "0",
        _plain(sums.open) if sums else None,
        _plain(sums.high) if sums else None,
        _plain(sums.low) if sums else None,
        _plain(sums.close) if sums else None,
        _plain(newest.close),
        newest.last_id,
        _plain(sums.largest_size) if sums else None,
        measures,
        newest.trade_us,
        newest.received_us,
        newest.tape_us,
        last.pane_us,
        published_us,
    )


def _plain(value: Decimal) -> str:
    return shortest_decimal(format(value, "f"))
