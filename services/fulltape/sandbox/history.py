"""The trades that REST can list: the newest of each product, in columns of fixed length.

Memory is 37 bytes a trade and never more than the capacity, which the operating system hands out only as it fills.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence

import numpy as np

from fulltape.sandbox.trades import COLUMNS, Trades


class _Ring:
    """The newest trades of one product, ids ascending."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._columns = {name: np.empty(capacity, dtype=kind) for name, kind in COLUMNS.items()}
        self._ids = self._columns["trade_id"]
        self._written = 0

    def append(self, trades: Trades) -> None:
        newest = trades.take(slice(-self._capacity, None))
        at = (self._written + len(trades) - len(newest)) % self._capacity
        head = min(len(newest), self._capacity - at)
        for name, column in self._columns.items():
            values = getattr(newest, name)
            column[at : at + head] = values[:head]
            column[: len(newest) - head] = values[head:]
        self._written += len(trades)

    def page(self, newest_id: int, limit: int, after: int | None, before: int | None) -> Trades:
        oldest = max(0, self._written - self._capacity)
        held = range(oldest, self._written)
        end = bisect_right(held, newest_id, key=self._id_at)
        if after is not None:
            end = min(end, bisect_left(held, after, key=self._id_at))
        start = 0 if before is None else bisect_right(held, before, key=self._id_at)
        rows = np.arange(oldest + end - 1, oldest + max(start, end - limit) - 1, -1) % self._capacity
        return Trades(**{name: column[rows] for name, column in self._columns.items()})

    def _id_at(self, position: int) -> int:
        return int(self._ids[position % self._capacity])


class History:
    """A ring of trades per product.

    Args:
        capacities: how many trades to keep of each product, at least 1.

    """

    def __init__(self, capacities: Sequence[int]) -> None:
        self._rings = [_Ring(capacity) for capacity in capacities]

    def append(self, trades: Trades) -> None:
        """Add trades of any products, of each in ascending order of id."""
        for product in np.unique(trades.product).tolist():
            self._rings[product].append(trades.take(trades.product == product))

    def page(
        self, product: int, newest_id: int, *, limit: int, after: int | None = None, before: int | None = None
    ) -> Trades:
        """Return up to ``limit`` trades of a product, newest first.

        Args:
            product: index of the product.
            newest_id: trades beyond this id have not happened yet.
            limit: the most trades to return.
            after: only trades with a lower id: the next, older page.
            before: only trades with a higher id; of those the newest.

        """
        return self._rings[product].page(newest_id, limit, after, before)
