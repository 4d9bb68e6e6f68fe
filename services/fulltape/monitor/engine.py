"""All products of a feed and the clock that they share: from messages to windows, with no I/O of its own.

Of the versions of a pane that come between two publications only the one with the most trades is decoded. Under load
more come between two, and so less is published of what changes often; every window is published once its time has
passed.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import msgspec

from fulltape.errors import ConfigurationError
from fulltape.feed.model import CryptoFeed
from fulltape.measures.flow import relative_spread
from fulltape.messages import UNDECODABLE, Pane, Window
from fulltape.monitor.windows import LEAP_SECONDS, SECOND_US, STEP_SECONDS, ProductWindows, horizon_seconds

PACE_US = 16_000
"""What changed is published at multiples of this, so that the windows of all products go to Kafka together; the first
change after a pause at once."""
_PACE_COST = 20
"""Nor sooner than so many times what the last time cost: a product whose whole past changes does not hold up others."""
_SILENCE_US = 1_000_000
_AHEAD_US = 600_000_000
"""Nothing from further in the future is believed: it would move the clock, and all the rest would be late."""

STAGES = ("exchange_to_tape", "tape_to_pane", "pane_to_window", "received_to_window")
STAGE_BUCKETS_SECONDS = tuple(round(0.001 * 10 ** (step / 10), 7) for step in range(48))
"""Upper bounds, ten to a decade from 1 ms."""
_MINUTE = 60


class _Head(msgspec.Struct, tag="pane", tag_field="type", frozen=True, gc=False):
    """What tells a pane's versions apart."""

    product: str
    start_us: int
    trades: int
    close_us: int
    received_us: int


class _Quote(msgspec.Struct, tag="ticker", tag_field="type", frozen=True, gc=False):
    """What is read of a `Ticker`."""

    product: str
    trade_id: int
    best_bid: str
    best_ask: str
    time_us: int


class Update(NamedTuple):
    """A window to publish."""

    window: Window
    newest: bool
    """Whether it is its product's newest of that size, or was when it was last told so: rules look at these alone."""


class Latency:
    """Counts durations in buckets: since the start, and by second for a percentile of the last minute."""

    def __init__(self) -> None:
        self.counts = [0] * (len(STAGE_BUCKETS_SECONDS) + 1)
        self.sum_seconds = 0.0
        self._seconds: dict[int, list[int]] = {}

    def add(self, duration_us: int) -> int:
        """Count a duration and return its bucket."""
        seconds = duration_us / 1e6
        bucket = bisect_left(STAGE_BUCKETS_SECONDS, seconds)
        self.counts[bucket] += 1
        self.sum_seconds += seconds
        return bucket

    def add_at(self, duration_us: int, second: int) -> None:
        """Count a duration that ended in a second."""
        counts = self._seconds.get(second)
        if counts is None:
            counts = self._seconds[second] = [0] * len(self.counts)
            for old in [known for known in self._seconds if known <= second - _MINUTE]:
                del self._seconds[old]
        counts[self.add(duration_us)] += 1

    def p99_us(self, second: int) -> int | None:
        """Return the 99th percentile of the last minute, as the upper bound of its bucket; None where it is empty."""
        minute = [counts for known, counts in self._seconds.items() if second - _MINUTE < known <= second]
        counts = [sum(column) for column in zip(*minute, strict=True)]
        wanted = 0.99 * sum(counts)
        if not wanted:
            return None
        total = 0
        for bound, count in zip(STAGE_BUCKETS_SECONDS, counts, strict=False):
            total += count
            if total >= wanted:
                return int(bound * 1e6)
        return int(STAGE_BUCKETS_SECONDS[-1] * 1e6)


class Engine:
    """Takes messages, and gives the windows that they change; ``time_us`` is the machine's clock.

    Raises:
        ConfigurationError: the feed asks for no windows.

    """

    def __init__(self, feed: CryptoFeed, time_us: Callable[[], int]) -> None:
        analytics = feed.spec.analytics
        if analytics is None:
            raise ConfigurationError(f"{feed.metadata.name} has no windows to watch; add spec.analytics: {{}}")
        self._time_us = time_us
        self.products = {
            product: ProductWindows(product, analytics.windows, analytics.slide, analytics.watermark)
            for product in feed.spec.products
        }
        self.horizon_seconds = horizon_seconds(analytics.windows, analytics.slide, analytics.watermark)
        """How far back panes matter."""
        self._silence_most_us = max(analytics.watermark.us, *(window.us for window in analytics.windows))
        self.latest: dict[tuple[str, str], Window] = {}
        """The newest window of each product and size, as last published."""
        self.clock = 0
        """The feed's second: that of its newest pane, and on at the machine's pace while none comes."""
        self.received_us = 0
        """When the newest trade was received."""
        self.panes = 0
        self.decoded = 0
        self.tickers = 0
        self.garbage = 0
        """Messages that were no panes or tickers of this feed."""
        self.windows = 0
        self.corrections = 0
        """Of these, those that correct a window whose time had passed."""
        self.trades = dict.fromkeys(feed.spec.products, 0)
        self.stages = {stage: Latency() for stage in STAGES}
        self._fresh: dict[str, dict[int, tuple[int, bytes, int]]] = {product: {} for product in feed.spec.products}
        """Of each product and second the version with the most trades that came since the last publication: trades,
        value, and when it was written."""
        self._quotes: dict[str, dict[int, tuple[int, float]]] = {product: {} for product in feed.spec.products}
        """Of each product and second the spread that its last trade left, and that trade's id, where fresh."""
        self._newest_us = 0
        """Time of the newest trade."""
        self._heard_us = 0
        """When the last pane was written."""
        self._pending: dict[str, int] = {}
        """Products with changes to publish, and when they are due."""
        self._due: dict[str, int] = {}
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        """The end and the newest trade of the last window of each size that rules were told of."""

    def take_panes(self, records: Iterable[tuple[bytes | None, int]]) -> None:
        """Take what stood on the topic of panes: values, and the times at which they were written (us)."""
        newest_us = self._time_us() + _AHEAD_US
        decode, fresh = _decode_head, self._fresh
        for value, pane_us in records:
            self.panes += 1
            try:
                product, start_us, trades, close_us, received_us = msgspec.structs.astuple(decode(value or b""))
            except UNDECODABLE:
                self.garbage += 1
                continue
            versions = fresh.get(product)
            if versions is None or start_us % SECOND_US or not 0 <= start_us <= close_us <= newest_us:
                self.garbage += 1
                continue
            known = versions.get(start_us)
            if known is None or trades > known[0]:
                versions[start_us] = (trades, value or b"", pane_us)
                self._newest_us = max(self._newest_us, close_us)
                self.received_us = max(self.received_us, received_us)
            self._heard_us = max(self._heard_us, pane_us)
            if product not in self._pending:
                self._pending[product] = self._due.get(product, 0)

    def _bring(self, product: str, *, everything: bool) -> Iterator[list[Window]]:
        """Bring what is fresh of a product, second by second, into its windows; yield those that change.

        Much may have come together after a standstill, so it goes in steps, each of which windows can look back over.
        """
        windows = self.products[product]
        collected = windows.frontier
        for start_us in sorted(self._fresh[product]):
            second = start_us // SECOND_US
            if second > collected + STEP_SECONDS:
                yield from self._reach(product, second)
                collected = windows.frontier
            _, value, pane_us = self._fresh[product].pop(start_us)
            self._add_pane(product, start_us, value, pane_us)
        yield from self._reach(product, self.clock - 1)
        yield self._collect(product, everything=everything)

    def _reach(self, product: str, second: int) -> Iterator[list[Window]]:
        """Go on to a second that may lie more than a step ahead."""
        windows = self.products[product]
        if windows.newest is None:
            return
        while STEP_SECONDS < second - windows.frontier <= LEAP_SECONDS:
            yield self._collect(product)
            windows.advance(windows.frontier + STEP_SECONDS)
        yield self._collect(product)
        windows.advance(second)

    def _collect(self, product: str, *, everything: bool = False) -> list[Window]:
        self._add_spreads(product)
        return self.products[product].collect(self._time_us(), everything=everything)

    def _add_pane(self, product: str, start_us: int, value: bytes, pane_us: int) -> None:
        windows = self.products[product]
        before = windows.known_trades(start_us)
        try:
            pane = _decode_pane(value)
            news = windows.add_pane(pane, pane_us)
        except (*UNDECODABLE, ValueError, ArithmeticError):
            self.garbage += 1
            return
        self.decoded += 1
        if news:
            self.trades[product] += pane.trades - before

    def _add_spreads(self, product: str) -> None:
        """Bring spreads into the windows, but none ahead of their newest: tickers may be far ahead of panes."""
        quotes, windows = self._quotes[product], self.products[product]
        if windows.newest is not None:
            # The latest first, so that each need not be carried on beyond the next.
            for second in sorted((known for known in quotes if known < windows.newest_end), reverse=True):
                trade_id, spread = quotes.pop(second)
                windows.add_spread(second * SECOND_US, trade_id, spread)
        for second in sorted(quotes)[: -self.horizon_seconds]:
            del quotes[second]

    def take_tickers(self, values: Iterable[bytes | None]) -> None:
        """Take what stood on the topic of tickers."""
        newest_us = self._time_us() + _AHEAD_US
        for value in values:
            self.tickers += 1
            try:
                quote = _decode_quote(value or b"")
                bid, ask = float(quote.best_bid), float(quote.best_ask)
            except (*UNDECODABLE, ValueError):
                self.garbage += 1
                continue
            windows = self.products.get(quote.product)
            if windows is None or not 0 <= quote.time_us <= newest_us:
                self.garbage += 1
            elif bid > 0 and ask > 0:  # a side of the book may be empty, which leaves the spread unknown
                self._note_spread(quote.product, quote.time_us // SECOND_US, quote.trade_id, relative_spread(bid, ask))

    def restore_spread(self, product: str, end_us: int, spread: float) -> None:
        """Take back the spread at the end of a window that was published earlier."""
        if product in self.products:
            self._note_spread(product, end_us // SECOND_US - 1, 0, spread)

    def _note_spread(self, product: str, second: int, trade_id: int, spread: float) -> None:
        """Of one second the spread that the last trade left counts."""
        quotes = self._quotes[product]
        if trade_id >= quotes.get(second, (0, 0.0))[0]:
            quotes[second] = (trade_id, spread)

    def run_clock(self, *, alone: bool) -> None:
        """Move the clock on to the newest pane, or, where it may go on ``alone`` and none comes, with the machine's.

        It does not go on alone for longer than the watermark and the longest window: then all windows are empty, and
        what comes after a standstill of the pipeline would else find its windows passed.
        """
        newest_us = self._newest_us
        silence_us = self._time_us() - self._heard_us
        if alone and newest_us and silence_us > _SILENCE_US:
            newest_us += min(silence_us, self._silence_most_us)
        if newest_us // SECOND_US > self.clock:
            self.set_clock(newest_us // SECOND_US)

    def set_clock(self, second: int) -> None:
        """Move the clock on. A product without trades follows a second later, as its panes may be on their way."""
        self.clock = max(self.clock, second)
        for product, windows in self.products.items():
            if windows.newest is not None and self.clock > windows.newest_end:
                self._pending.setdefault(product, self._due.get(product, 0))

    def skip(self) -> None:
        """Take all windows for published and for seen by the rules: the state in which an earlier monitor ended."""
        self._pending.clear()
        for product, windows in self.products.items():
            for start_us, (_, value, pane_us) in sorted(self._fresh[product].items()):
                self._add_pane(product, start_us, value, pane_us)
            self._fresh[product].clear()
            windows.advance(self.clock - 1)
            self._add_spreads(product)
            windows.skip()
            if windows.newest is not None:
                for size in windows.sizes:
                    self._told[product, size] = (windows.newest_end * SECOND_US, 0)

    def due_us(self) -> int | None:
        """Return when the next change is to be published; None where there is none."""
        return min(self._pending.values(), default=None)

    def collect(self, *, everything: bool = False) -> Iterator[Update]:
        """Yield the windows to publish: those that are due, or everything that changed in any way."""
        for product in self.products if everything else list(self._pending):
            now_us = self._time_us()
            due_us = self._pending.get(product, 0)
            if not everything and now_us < due_us <= now_us + SECOND_US:  # further ahead: the machine's clock was set
                continue
            self._pending.pop(product, None)
            published = self.windows
            for changed in self._bring(product, everything=everything):
                for window in changed:
                    yield Update(window, self._account(window))
            if self.windows == published:
                continue
            ended_us = self._time_us()
            free_us = ended_us + min(_PACE_COST * (ended_us - now_us), SECOND_US)
            self._due[product] = free_us - free_us % PACE_US + PACE_US

    def _account(self, window: Window) -> bool:
        """Count a window, and tell whether rules are to see it."""
        self.windows += 1
        key = (window.product, window.window)
        told_end_us, told_trade_us = self._told.get(key, (0, 0))
        if window.end_us < told_end_us:
            self.corrections += 1
            return False
        self._told[key] = (window.end_us, window.trade_us)
        self.latest[key] = window
        if window.trade_us > told_trade_us:
            stages = self.stages
            stages["exchange_to_tape"].add(window.tape_us - window.trade_us)
            stages["tape_to_pane"].add(window.pane_us - window.tape_us)
            stages["pane_to_window"].add(window.published_us - window.pane_us)
            stages["received_to_window"].add_at(
                window.published_us - window.received_us, window.published_us // SECOND_US
            )
        return True


_decode_head = msgspec.json.Decoder(_Head).decode
_decode_pane = msgspec.json.Decoder(Pane).decode
_decode_quote = msgspec.json.Decoder(_Quote).decode
