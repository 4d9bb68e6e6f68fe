"""Whether the watches tell of what the operator itself wrote: what shows that they see at all.

A watch may be missing without an error: kopf looks for a kind when its CRD changes, and the API server may say only
later that it knows the kind. Who waits for news alone would never learn of it.
"""

import time
from collections.abc import Callable, Collection

from fulltape_operator.desired.child import Key

_PATIENCE_SECONDS = 15.0
"""An event takes milliseconds, on a busy machine a few seconds."""


class Echoes:
    """What was written, and has not been told of yet.

    Args:
        namespaces: those that are watched; none for all.
        now: a clock that never goes back, in seconds.

    """

    def __init__(self, namespaces: Collection[str], now: Callable[[], float] = time.monotonic) -> None:
        self._namespaces = namespaces
        self._now = now
        self._awaited: dict[Key, tuple[int, float]] = {}
        self._heard: dict[str, float] = {}

    def await_one(self, key: Key, version: int) -> None:
        """Expect to be told of an object at a version, or at a later one."""
        if not self._namespaces or key.namespace in self._namespaces:
            _, since = self._awaited.get(key, (0, self._now()))
            self._awaited[key] = (version, since)

    def hear(self, key: Key, version: int) -> None:
        """Take note that a watch told of an object, or of its end."""
        self._heard[key.kind] = self._now()
        if key in self._awaited and self._awaited[key][0] <= version:
            del self._awaited[key]

    def silent(self) -> set[str]:
        """Return the kinds of which an echo is overdue and nothing else was told meanwhile, as by a watch that lags."""
        longest = self._now() - _PATIENCE_SECONDS
        return {
            key.kind
            for key, (_, since) in self._awaited.items()
            if max(since, self._heard.get(key.kind, since)) <= longest
        }

    def forget(self, key: Key) -> None:
        """Expect nothing any more of an object that is gone: its end may have come while its watch was broken off."""
        self._awaited.pop(key, None)
