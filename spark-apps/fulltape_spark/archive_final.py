"""The final windows of one product, from its seconds in order, each as it will ever be. Pure.

The mathematics is the monitor's own: `ProductWindows`, taken through the seconds as it would be by a tape on which
nothing is late. What of it lives on from batch to batch is written as bytes.
"""

import pickle
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import msgspec

from fulltape.feed.duration import Duration
from fulltape.feed.model import Analytics
from fulltape.messages import Pane, Window
from fulltape.monitor.windows import LEAP_SECONDS, SECOND_US, STEP_SECONDS, ProductWindows, horizon_seconds
from fulltape_spark.archive_rows import FinalWindow

STATE_VERSION = 1
"""To be raised with every change of what `FinalWindows`, `ProductWindows` and a `Pane` consist of."""

Quote = tuple[int, float]
"""The last trade's id of a second, and the spread that it left, as a fraction of the middle."""


@dataclass(frozen=True, slots=True)
class Second:
    """What is known of one second of a product: something of both, or of one."""

    second: int
    """Since the epoch, exchange time."""
    pane: Pane | None
    quote: Quote | None


@dataclass(slots=True)
class FinalWindows:
    """The windows of one product on their way to be final."""

    windows: ProductWindows
    slide: int
    """Seconds."""
    longest: int
    """The longest window; seconds."""
    final: int = 0
    """All windows that end up to here were yielded; seconds."""
    early: dict[int, Quote] = field(default_factory=dict)
    """Spreads before the first pane."""

    @classmethod
    def of(cls, product: str, analytics: Analytics) -> "FinalWindows":
        """Return those of a product of which nothing is known yet."""
        return cls(
            ProductWindows(product, analytics.windows, analytics.slide, analytics.watermark),
            analytics.slide.us // SECOND_US,
            max(window.us for window in analytics.windows) // SECOND_US,
        )

    @classmethod
    def restored(cls, content: bytes) -> "FinalWindows":
        """Return what `content` was written from."""
        restored: FinalWindows = pickle.loads(zlib.decompress(content))  # noqa: S301 - of the application's own state
        return restored

    def content(self) -> bytes:
        """Write all of it."""
        return zlib.compress(pickle.dumps(self, protocol=pickle.HIGHEST_PROTOCOL), 1)

    @property
    def outstanding(self) -> bool:
        """Whether windows that hold its trades are still to come."""
        return self.windows.newest is not None and self.final < self.windows.newest + 1 + self.longest

    def take(self, seconds: Iterable[Second], end: int, horizon: int) -> Iterator[tuple[FinalWindow, int]]:
        """Take what came of seconds before ``end``, all of whose trades have come, and yield the windows now final.

        With each comes the time at which its newest trade was written to the tape; microseconds.

        Args:
            seconds: in order; none before the ``end`` of the call before.
            end: a multiple of the slide.
            horizon: how many seconds of spreads before the first pane can still count.

        """
        for one in seconds:
            yield from self._reach(one.second)
            if one.pane is not None:
                self.windows.add_pane(one.pane, one.pane.tape_us)
                self._add_early()
            if one.quote is None:
                continue
            if self.windows.newest is None:
                self.early[one.second] = one.quote
                self.early.pop(min(self.early) if len(self.early) > horizon else -1, None)
            else:
                self.windows.advance(one.second)
                self.windows.add_spread(one.second * SECOND_US, *one.quote)
        yield from self._reach(end)

    def _add_early(self) -> None:
        for second in sorted(self.early, reverse=True):
            self.windows.add_spread(second * SECOND_US, *self.early[second])
        self.early.clear()

    def _reach(self, end: int) -> Iterator[tuple[FinalWindow, int]]:
        """Yield the windows that end up to ``end``, before which all is known."""
        windows = self.windows
        end -= end % self.slide
        if windows.newest is None or end < windows.newest_end:
            return
        while STEP_SECONDS < end - 1 - windows.frontier <= LEAP_SECONDS:
            yield from self._collect(windows.newest_end)
            windows.advance(windows.frontier + STEP_SECONDS)
        yield from self._collect(end)
        windows.advance(end - 1)
        yield from self._collect(end)

    def _collect(self, end: int) -> Iterator[tuple[FinalWindow, int]]:
        """Yield what is new up to ``end``; windows without trades are not stored."""
        for window in self.windows.collect(0, everything=True):
            if window.trades and self.final * SECOND_US < window.end_us <= end * SECOND_US:
                yield _stored(window), window.tape_us
        self.final = max(self.final, min(end, self.windows.newest_end))


def final_end(watermark_us: int, slide: Duration) -> int:
    """Return the second up to which windows are final: seconds up to the watermark's own take no more trades.

    >>> final_end(1_000_000, Duration("1s")), final_end(8_999_999, Duration("5s"))
    (2, 5)
    """
    end = watermark_us // SECOND_US + 1
    return end - end % (slide.us // SECOND_US)


def quotes_horizon(analytics: Analytics) -> int:
    """Return for how many seconds spreads before the first pane are kept: as the monitor does."""
    return horizon_seconds(analytics.windows, analytics.slide, analytics.watermark)


def _stored(window: Window) -> FinalWindow:
    """Return a window that holds trades as it is stored."""
    return FinalWindow(
        product=window.product,
        window_seconds=(window.end_us - window.start_us) // SECOND_US,
        window_start=window.start_us,
        window_end=window.end_us,
        trades=window.trades,
        volume=window.volume,
        notional=window.notional,
        buy_volume=window.buy_volume,
        open_price=window.open,
        high_price=window.high,
        low_price=window.low,
        close_price=window.close,
        first_id=window.last_id - window.missing - window.trades + 1,
        last_id=window.last_id,
        measures=window.measures,
    )


def encoded(window: FinalWindow) -> bytes:
    """Write a window down."""
    return msgspec.json.encode(window)
