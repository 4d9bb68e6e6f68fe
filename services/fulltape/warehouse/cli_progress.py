"""How far a long command has come: a bar at a terminal, a line now and then elsewhere; both on stderr."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

_PLAIN_SECONDS = 5.0

Show = Callable[[float, int], None]
"""Is told the share that is done, 0 to 1, and how many rows were handled so far."""


@contextmanager
def progress(what: str) -> Iterator[Show]:
    """Yield what to tell of how far it has come; ``what`` says of what.

    Rates, and the time that is left, follow from what was done since the first call: a command that continues does not
    count what others did.
    """
    console = Console(stderr=True)
    pace = _Pace()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[pace]}"),
        )
        with Progress(*columns, console=console, transient=True) as shown:
            task = shown.add_task(what, total=1.0, pace="")
            yield lambda share, rows: shown.update(task, completed=share, pace=pace.said(share, rows))
        return
    due = time.monotonic() + _PLAIN_SECONDS

    def line(share: float, rows: int) -> None:
        nonlocal due
        said = pace.said(share, rows)
        if time.monotonic() >= due:
            due = time.monotonic() + _PLAIN_SECONDS
            console.print(f"{what}: {share:.1%}, {said}", soft_wrap=True, highlight=False, markup=False)

    yield line


class _Pace:
    """Rows a second, and how long the rest will take, since the first share that was told."""

    def __init__(self) -> None:
        self._began: tuple[float, float] | None = None

    def said(self, share: float, rows: int) -> str:
        now = time.monotonic()
        if self._began is None:
            self._began = (now, share)
        began, first_share = self._began
        passed, gained = now - began, share - first_share
        text = f"{rows:,} rows"
        if passed <= 0 or gained <= 0:
            return text
        return f"{text}, {rows / passed:,.0f}/s, {timedelta(seconds=round(passed * (1 - share) / gained))} left"
