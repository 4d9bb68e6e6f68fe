"""An event loop whose time is its own: where it would wait, it goes on at once to the moment that it waited for.

What takes minutes then takes milliseconds, and always takes the same course.
"""

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _NoWaiting(selectors.SelectSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise RuntimeError("everything waits, and nothing will ever happen")
        self.now += max(0.0, timeout)
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._clock = _NoWaiting()
        super().__init__(self._clock)

    def time(self) -> float:
        return self._clock.now


def in_fake_time(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end; the loop's time begins at 0.

    Raises:
        RuntimeError: it waits for what will never happen.

    """
    with asyncio.Runner(loop_factory=_Loop) as runner:
        return runner.run(coroutine)
