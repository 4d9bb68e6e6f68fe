"""Which feeds need a look, and when: each stands in the queue once, and what fails waits longer each time.

Source of the design: the rate-limited work queue of client-go.
"""

import asyncio
import heapq
import random
from contextlib import suppress
from typing import Generic, TypeVar

Key = TypeVar("Key")

_FIRST_SECONDS = 0.5
_MOST_SECONDS = 120.0


class WorkQueue(Generic[Key]):
    """Hands out each key to one worker at a time; one that is added meanwhile is handed out again afterwards."""

    def __init__(self) -> None:
        self._due: dict[Key, float] = {}
        self._heap: list[tuple[float, int, Key]] = []
        self._working: dict[Key, float] = {}
        self._again: dict[Key, float] = {}
        self._failures: dict[Key, int] = {}
        self._order = 0
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._due) + len(self._again)

    def waiting(self) -> int:
        """Return how many are due and not handed out yet."""
        now = _now()
        return sum(due <= now for due in self._due.values())

    def longest_seconds(self) -> float:
        """Return for how long the oldest of those handed out has been worked on."""
        return _now() - min(self._working.values()) if self._working else 0.0

    def add(self, key: Key, delay_seconds: float = 0.0) -> None:
        """Ask for a look, at once or later; the sooner of two wishes counts."""
        due = _now() + delay_seconds
        if key in self._working:
            self._again[key] = min(due, self._again.get(key, due))
        elif due < self._due.get(key, float("inf")):
            self._due[key] = due
            self._order += 1
            heapq.heappush(self._heap, (due, self._order, key))
            self._changed.set()

    async def get(self) -> Key:
        """Wait for a key that is due; `done` must follow."""
        while True:
            while self._heap and self._due.get(self._heap[0][2]) != self._heap[0][0]:
                heapq.heappop(self._heap)  # an earlier wish for the same key has taken its place
            left = self._heap[0][0] - _now() if self._heap else None
            if left is not None and left <= 0:
                _, _, key = heapq.heappop(self._heap)
                del self._due[key]
                self._working[key] = _now()
                return key
            self._changed.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def done(self, key: Key, *, failed: bool = False, at_least_seconds: float = 0.0) -> None:
        """Give a key back; one that failed comes again later, and later each time, with some chance in it.

        One that was added meanwhile does not wait for that: what it failed of may have changed.
        """
        del self._working[key]
        if (again := self._again.pop(key, None)) is not None:
            self.add(key, max(0.0, again - _now(), at_least_seconds))
        if not failed:
            self._failures.pop(key, None)
            return
        failures = self._failures[key] = self._failures.get(key, 0) + 1
        wait = min(_FIRST_SECONDS * 2 ** min(failures - 1, 16), _MOST_SECONDS) * random.uniform(0.8, 1.2)  # noqa: S311
        self.add(key, max(wait, at_least_seconds))


def _now() -> float:
    return asyncio.get_running_loop().time()
