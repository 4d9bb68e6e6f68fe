"""What tickers say beyond their trade, and where they stand between the matches."""

from copy import copy

import numpy as np

from fulltape.sandbox.faults import Frame
from fulltape.sandbox.frames import Bytes, Statistics, encode_tickers
from fulltape.sandbox.products import Product
from fulltape.sandbox.trades import SIZE_DECIMALS, Trades


class RunningStatistics:
    """Open, low, high and volume of each product since the start; a ticker shows them as those of 24 hours."""

    def __init__(self, products: tuple[Product, ...]) -> None:
        count = len(products)
        self.open = np.zeros(count, dtype=np.int64)
        self.low = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
        self.high = np.zeros(count, dtype=np.int64)
        self.volume = np.zeros(count)
        self.ticks = np.array([product.tick for product in products], dtype=np.int64)

    def follow(self, trades: Trades) -> "tuple[Statistics, RunningStatistics]":
        """Return the statistics right after each trade, and those after all of them; leave these as they are."""
        after = copy(self)
        after.open, after.low = self.open.copy(), self.low.copy()
        after.high, after.volume = self.high.copy(), self.volume.copy()
        product = trades.product
        low, high = np.empty_like(trades.price), np.empty_like(trades.price)
        volume = np.empty(len(trades))
        for number in np.unique(product).tolist():
            rows = np.flatnonzero(product == number)
            prices = trades.price[rows]
            after.open[number] = self.open[number] or prices[0]
            low[rows] = np.minimum(np.minimum.accumulate(prices), self.low[number])
            high[rows] = np.maximum(np.maximum.accumulate(prices), self.high[number])
            volume[rows] = np.cumsum(trades.size[rows] / 10**SIZE_DECIMALS) + self.volume[number]
            newest = rows[-1]
            after.low[number], after.high[number], after.volume[number] = low[newest], high[newest], volume[newest]
        return Statistics(after.open[product], low, high, volume, self.ticks[product]), after

    def of(self, trades: Trades) -> Statistics:
        """Return the statistics as they are, a row for each trade."""
        product = trades.product
        return Statistics(
            self.open[product], self.low[product], self.high[product], self.volume[product], self.ticks[product]
        )


class BlockTickers:
    """The tickers of one block, one after each taker order; encoded when somebody wants them."""

    def __init__(self, trades: Trades, statistics: Statistics, names: Bytes) -> None:
        self._marked = trades.last_of_orders()
        self._number = np.cumsum(self._marked) - 1
        ordered = Statistics(*(getattr(statistics, name)[self._marked] for name in Statistics.__slots__))
        self._frames = encode_tickers(trades.take(self._marked), ordered, names)

    def weave(self, first: int, matches: list[Frame]) -> list[Frame]:
        """Return the matches, of which the first is trade ``first`` of the block, with the tickers in between."""
        here = slice(first, first + len(matches))
        numbers = self._number[here][self._marked[here]]
        if not len(numbers):
            return matches
        tickers = iter(self._frames.each(int(numbers[0]), int(numbers[-1]) + 1))
        woven: list[Frame] = []
        for match, ends_order in zip(matches, self._marked[here].tolist(), strict=True):
            woven.append(match)
            if ends_order:
                woven.append(Frame(match.product, next(tickers), is_match=False))
        return woven
