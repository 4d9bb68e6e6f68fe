"""What a person sees of a run: a table that changes in place at a terminal, a line for each change elsewhere."""

import contextlib
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fulltape.local.parts import Part, State
from fulltape.messages import Alert
from fulltape.readings import Figures

_ALERTS_SHOWN = 5
_STYLES = {
    "waiting": "dim",
    "starting": "yellow",
    "ready": "green",
    "hindered": "yellow",
    "restarting": "red",
    "stopping": "dim",
    "stopped": "dim",
}
_SEVERITIES = {"info": "cyan", "warning": "yellow", "critical": "red"}


class RunConsole(Console):
    """A console whose reader may go away: what runs must still be stopped in order then, and not in mid-sentence."""

    def on_broken_pipe(self) -> None:
        """Say no more."""
        self.quiet = True


class View:
    """Shows a run on ``console`` while the context lasts.

    Args:
        console: where to.
        title: the feed, the exchange and the page, as one line.
        footer: what to know besides, a line each.
        parts: the parts, in order.
        figures: returns how the feed does now.

    """

    def __init__(
        self,
        console: Console,
        *,
        title: str,
        footer: Sequence[str],
        parts: Sequence[Part],
        figures: Callable[[], Figures],
    ) -> None:
        self._console = console
        self._title = title
        self._footer = footer
        self._parts = parts
        self._figures = figures
        self._began = time.monotonic()
        self._alerts: deque[Alert] = deque(maxlen=_ALERTS_SHOWN)
        self._live = Live(console=console, get_renderable=self._render, refresh_per_second=4, transient=True)

    def __enter__(self) -> Self:
        for line in (self._title, *self._footer):
            self.say(Text(line))
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._live.stop()
        self.say(Text("stopped"))

    def say(self, text: Text) -> None:
        """Print a line that stays."""
        with contextlib.suppress(OSError):  # a terminal that was closed
            self._console.print(text, soft_wrap=True)

    def part_changed(self, part: Part, before: State) -> None:
        """Say that a part's phase has changed; at a terminal only what must not scroll by unseen."""
        if self._console.is_terminal and part.state.phase != "restarting" and before.phase != "restarting":
            return
        self.say(Text.assemble(f"{part.name}: ", described(part.state, time.monotonic())))

    def alert(self, alert: Alert) -> None:
        """Show an alert's change."""
        self._alerts.append(alert)
        if not self._console.is_terminal:
            self.say(alert_line(alert))

    def _render(self) -> RenderableType:
        now = time.monotonic()
        table = Table.grid(padding=(0, 2))
        for part in self._parts:
            table.add_row(part.name, described(part.state, now))
        figures = self._figures()
        numbers = Text.assemble(
            ("up ", "dim"),
            uptime(now - self._began),
            ("   trades/s ", "dim"),
            "-" if figures.trades_per_second is None else f"{figures.trades_per_second:,.0f}",
            (f"   {figures.way} p50 ", "dim"),
            milliseconds(figures.p50_seconds),
            (" p99 ", "dim"),
            milliseconds(figures.p99_seconds),
        )
        alerts = [alert_line(alert) for alert in reversed(self._alerts)]
        return Group("", table, "", numbers, *alerts, Text("Ctrl-C stops all of it", style="dim"))


def described(state: State, now: float) -> Text:
    """Return a state in words; ``now`` by the monotonic clock, to count down to a restart."""
    words = {"hindered": "not ready", "waiting": "waits for Kafka"}.get(state.phase, state.phase)
    if state.phase == "restarting":
        words = f"restarting in {max(0.0, state.until - now):.1f} s"
    return Text.assemble((words, _STYLES[state.phase]), (f": {state.detail}" if state.detail else "", "dim"))


def alert_line(alert: Alert) -> Text:
    """Return an alert's change as one line."""
    style = _SEVERITIES[alert.severity] if alert.state == "firing" else "dim"
    when = datetime.fromtimestamp(alert.changed_us / 1e6, UTC).astimezone()
    about = " ".join(filter(None, (alert.name, alert.product, alert.window)))
    return Text.assemble(f"{when:%H:%M:%S} ", (alert.state, style), f" {about}: {alert.summary}")


def milliseconds(seconds: float | None) -> str:
    """Return a latency for people; a dash where there is none."""
    return "-" if seconds is None else f"{seconds * 1000:,.1f} ms"


def uptime(seconds: float) -> str:
    """Return a duration as ``H:MM:SS``."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"
