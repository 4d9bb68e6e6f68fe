"""The books of an audit: which ids of a product were seen, exactly. Pure."""

from bisect import bisect_right
from collections.abc import Iterable

import msgspec


class ProductAudit(msgspec.Struct, kw_only=True):
    """What a tape holds of one product."""

    product: str
    first_id: int
    last_id: int
    trades: int
    missing: int
    """Ids between first and last that neither a trade nor a gap record accounts for."""
    duplicates: int
    """Records of ids that had been seen before."""
    out_of_order: int
    """Trades that stand behind one with a higher id."""
    gap_records: int
    gap_ids: int
    """Ids that gap records account for."""
    first_time_us: int | None
    last_time_us: int | None
    """Exchange times of the first and last trade."""

    @property
    def kept(self) -> bool:
        """Whether the promise holds: contiguous, ascending, once each."""
        return not (self.missing or self.duplicates or self.out_of_order)


class Account:
    """Follows one product through one partition."""

    __slots__ = (
        "_holes",
        "duplicates",
        "first_id",
        "first_time_us",
        "gap_ids",
        "gap_records",
        "last_time_us",
        "next_id",
        "out_of_order",
        "product",
        "trades",
    )

    def __init__(self, product: str, first_id: int) -> None:
        self.product = product
        self.first_id = self.next_id = first_id
        self.trades = self.duplicates = self.out_of_order = self.gap_records = self.gap_ids = 0
        self.first_time_us: int | None = None
        self.last_time_us: int | None = None
        self._holes: list[tuple[int, int]] = []  # inclusive ranges below next_id that were not seen, ascending

    def trade(self, trade_id: int, time_us: int) -> None:
        """Book a trade."""
        if self.first_time_us is None:
            self.first_time_us = time_us
        self.last_time_us = time_us
        self.trades += 1
        if trade_id == self.next_id:
            self.next_id = trade_id + 1
        elif self._book(trade_id, trade_id):
            self.out_of_order += 1

    def gap(self, first_id: int, last_id: int) -> None:
        """Book a gap record; one that is turned around is nonsense, and counts as out of order."""
        self.gap_records += 1
        if first_id > last_id:
            self.out_of_order += 1
            return
        self.gap_ids += last_id - first_id + 1
        if first_id == self.next_id:
            self.next_id = last_id + 1
        elif self._book(first_id, last_id):
            self.out_of_order += 1

    @property
    def missing(self) -> int:
        """Ids that were not seen, though higher ones were."""
        return sum(last - first + 1 for first, last in self._holes)

    def _book(self, first_id: int, last_id: int) -> bool:
        """Book ids that do not follow; return whether they fill a hole, and so are late rather than twice."""
        if first_id > self.next_id:
            self._holes.append((self.next_id, first_id - 1))
            self.next_id = last_id + 1
            return False
        if first_id < self.first_id:
            if last_id + 1 < self.first_id:
                self._holes.insert(0, (last_id + 1, self.first_id - 1))
            self.first_id = first_id
            return True
        place = bisect_right(self._holes, (first_id, self.next_id)) - 1
        if place >= 0 and self._holes[place][0] <= first_id and last_id <= self._holes[place][1]:
            hole_first, hole_last = self._holes[place]
            rest = [(hole_first, first_id - 1), (last_id + 1, hole_last)]
            self._holes[place : place + 1] = [(low, high) for low, high in rest if low <= high]
            return True
        self.duplicates += 1
        self.next_id = max(self.next_id, last_id + 1)
        return False


def summarize(accounts: Iterable[Account]) -> list[ProductAudit]:
    """Put the accounts of all partitions together, by product.

    A product moves to another partition when a topic gets more of them; then one partition's ids must continue the
    other's.
    """
    by_product: dict[str, list[Account]] = {}
    for account in accounts:
        by_product.setdefault(account.product, []).append(account)
    return [_join(product, by_product[product]) for product in sorted(by_product)]


def _join(product: str, parts: list[Account]) -> ProductAudit:
    parts.sort(key=lambda part: part.first_id)
    between = twice = 0
    next_id = parts[0].first_id
    for part in parts:
        between += max(0, part.first_id - next_id)
        twice += max(0, min(next_id, part.next_id) - part.first_id)
        next_id = max(next_id, part.next_id)
    first_times = [part.first_time_us for part in parts if part.first_time_us is not None]
    last_times = [part.last_time_us for part in parts if part.last_time_us is not None]
    return ProductAudit(
        product=product,
        first_id=parts[0].first_id,
        last_id=next_id - 1,
        trades=sum(part.trades for part in parts),
        missing=between + sum(part.missing for part in parts),
        duplicates=twice + sum(part.duplicates for part in parts),
        out_of_order=sum(part.out_of_order for part in parts),
        gap_records=sum(part.gap_records for part in parts),
        gap_ids=sum(part.gap_ids for part in parts),
        first_time_us=min(first_times, default=None),
        last_time_us=max(last_times, default=None),
    )
