"""Trades as columns: how the sandbox holds many of them, exactly and compactly, on their way to bytes."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

PRICE_DECIMALS = 12
"""Prices are integers of 1e-12 quote units: exact for every tick Coinbase lists, and up to 9.2 million."""

SIZE_DECIMALS = 8
"""Sizes are integers of 1e-8 base units, Coinbase's finest increment, up to 92 billion."""

MAX_ORDER_TRADES = 32
"""The most trades one taker order makes here; all of them share one microsecond."""

Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]
Selection = slice | Flags | Integers

COLUMNS: dict[str, type[np.generic]] = {
    "product": np.int16,
    "trade_id": np.int64,
    "price": np.int64,
    "size": np.int64,
    "maker_buys": np.bool_,
    "time_us": np.int64,
    "sequence": np.int64,
    "fill": np.uint8,
}
"""Name and type of each column of `Trades`."""


@dataclass(frozen=True, slots=True)
class Trades:
    """Trades in the order of the exchange, one array per field, all of the same length."""

    product: npt.NDArray[np.int16]
    """Index into the sandbox's list of products."""
    trade_id: Integers
    price: Integers
    """In units of 10**-PRICE_DECIMALS."""
    size: Integers
    """In units of 10**-SIZE_DECIMALS."""
    maker_buys: Flags
    """The maker's side: true for buy."""
    time_us: Integers
    """Exchange time since the Unix epoch."""
    sequence: Integers
    fill: npt.NDArray[np.uint8]
    """How many trades its taker order made before this one; 0 begins an order."""

    @classmethod
    def of(cls, **columns: Any) -> Self:
        """Build from array-likes, each brought to its column's type."""
        return cls(**{name: np.asarray(columns[name], dtype=kind) for name, kind in COLUMNS.items()})

    @classmethod
    def concatenate(cls, parts: "Sequence[Trades]") -> Self:
        """Join tables end to end."""
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})

    def __len__(self) -> int:
        return len(self.trade_id)

    def take(self, rows: Selection) -> "Trades":
        """Return the chosen rows."""
        return Trades(**{name: getattr(self, name)[rows] for name in COLUMNS})

    def last_of_orders(self) -> Flags:
        """Mark the last trade of each taker order: where a ticker follows. A table's last row always ends its order."""
        return np.append(self.fill[1:] == 0, [True]) if len(self) else np.zeros(0, dtype=np.bool_)


@dataclass(frozen=True, slots=True)
class Block:
    """The next stretch of a source, in order of time: trades and the moment when each is to be sent."""

    trades: Trades
    due_us: Integers
    """Ascending, by this machine's clock."""
    until_us: int
    """The next block begins here: nothing else is due before."""
