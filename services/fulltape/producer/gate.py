"""The sequence gate: whatever arrives, in whatever order and however often, leaves it contiguous and once.

Pure: no clock, no I/O. One gate per product.
"""

from collections.abc import Iterator
from heapq import heappop, heappush
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Hole(NamedTuple):
    """Ids that are known to exist and have not arrived: ``first`` to ``last``, both inclusive."""

    first: int
    last: int


class Gate(Generic[Item]):
    """Emits items by strictly ascending, contiguous id, starting at ``next_id``.

    Items beyond a hole are held, at most ``capacity`` of them; what does not fit is forgotten, but its id is not: it
    becomes part of a later hole. While ``next_id`` is None the gate holds everything, until `start_at`.
    """

    __slots__ = ("_capacity", "_held", "_held_ids", "duplicates", "highest_id", "next_id", "overflowed")

    def __init__(self, next_id: int | None, capacity: int) -> None:
        self.next_id = next_id
        self.highest_id = next_id - 1 if next_id is not None else 0
        """Highest id known to exist at the exchange."""
        self.duplicates = 0
        self.overflowed = 0
        self._capacity = capacity
        self._held: dict[int, Item] = {}
        self._held_ids: list[int] = []  # a heap of the keys of _held

    def offer(self, item_id: int, item: Item) -> list[Item]:
        """Take one item; return those that can now be emitted, in order."""
        if item_id == self.next_id and not self._held:
            self.next_id = item_id + 1
            if item_id > self.highest_id:  # noqa: PLR1730 - max() costs more than all the rest of this path
                self.highest_id = item_id
            return [item]
        if (self.next_id is not None and item_id < self.next_id) or item_id in self._held:
            self.duplicates += 1
            return []
        self.highest_id = max(self.highest_id, item_id)
        if len(self._held) >= self._capacity and item_id != self.next_id:
            self.overflowed += 1
            return []
        self._held[item_id] = item
        heappush(self._held_ids, item_id)
        return list(self._release())

    def knows_of(self, item_id: int) -> None:
        """Learn from elsewhere, such as a heartbeat, that ``item_id`` exists."""
        self.highest_id = max(self.highest_id, item_id)

    def start_at(self, item_id: int) -> list[Item]:
        """Set the first id to be emitted; return what can be emitted at once. Held items before it are dropped."""
        assert self.next_id is None, "a gate starts once"
        self.next_id = item_id
        self.highest_id = max(self.highest_id, item_id - 1)
        return self._continue_at(item_id)

    def give_up(self, last: int) -> list[Item]:
        """Go on behind ``last``: the ids from ``next_id`` to it are lost. Return what can be emitted at once."""
        assert self.next_id is not None, "nothing is lost before the start"
        return self._continue_at(max(last + 1, self.next_id))

    def hole(self) -> Hole | None:
        """Return the first hole, or None while all that is known to exist has been emitted."""
        if self.next_id is None:
            return None
        if self._held_ids:
            return Hole(self.next_id, self._held_ids[0] - 1)
        if self.highest_id >= self.next_id:
            return Hole(self.next_id, self.highest_id)
        return None

    def disbelieve(self, above: int) -> int:
        """Take back that ids above ``above`` exist; forget what is held of them, and return how many those were."""
        assert self.next_id is not None, "nothing is believed before the start"
        self.highest_id = min(self.highest_id, max(above, self.next_id - 1))
        false = [item_id for item_id in self._held_ids if item_id > self.highest_id]
        for item_id in false:
            del self._held[item_id]
        self._held_ids = sorted(self._held)  # a sorted list is a heap
        return len(false)

    @property
    def first_held(self) -> int | None:
        """The lowest id that waits, or None."""
        return self._held_ids[0] if self._held_ids else None

    @property
    def held(self) -> int:
        """How many items wait behind a hole."""
        return len(self._held)

    def _continue_at(self, item_id: int) -> list[Item]:
        self.next_id = item_id
        while self._held_ids and self._held_ids[0] < item_id:
            del self._held[heappop(self._held_ids)]
        return list(self._release())

    def _release(self) -> Iterator[Item]:
        while self._held_ids and self._held_ids[0] == self.next_id:
            item_id = heappop(self._held_ids)
            self.next_id = item_id + 1
            yield self._held.pop(item_id)
