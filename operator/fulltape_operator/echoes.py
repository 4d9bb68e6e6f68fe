"""Whether the watches tell of what the operator itself wrote: what shows that they see at all.

A watch may be missing without an error: kopf looks for a kind when its CRD changes, and the API server may say only
later that it knows the kind. Who waits for news alone would never learn of it.
"""

import time
from collections.abc import Callable

from fulltape_operator.desired.child import Key

_PATIENCE_SECONDS = 15.0
"""An event takes milliseconds, on a busy machine a few seconds."""


class Echoes:
    """What was written, and has not been told of yet.

    Args:
        now: a clock that never goes back, in seconds.

    """

    def __init__(self, now: Callable[[], float] = time.monotonic) -> None:
        self._now = now
        self._awaited: dict[Key, tuple[int, float]] = {}
        self._heard: dict[str, float] = {}

    def await_one(self, key: Key, version: int) -> None:
        """Expect to be told of an object at a version, or at a later one."""
        self._awaited[key] = (version, self._now())

    def hear(self, key: Key, version: int) -> None:
        """Take note that a watch told of an object, or of its end."""
        self._heard[key.kind] = self._now()
        if key in self._awaited and self._awaited[key][0] <= version:
            del self._awaited[key]

    def silent(self) -> set[str]:
        """Return the kinds of which an echo is overdue, and nothing else was told since: a watch that lags is none."""
        longest = self._now() - _PATIENCE_SECONDS
        return {
            key.kind
            for key, (_, since) in self._awaited.items()
            if max(since, self._heard.get(key.kind, since)) <= longest
        }

    def forget(self) -> None:
        """Expect nothing any more: the watches begin anew, with a list of all that there is."""
        self._awaited.clear()
