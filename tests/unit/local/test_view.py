"""What a person reads of a run."""

import io
import re
import time

import pytest
from rich.console import Console

from fulltape.local.parts import Part, State
from fulltape.local.view import RunConsole, View, alert_line, described, milliseconds, uptime
from fulltape.messages import Alert
from fulltape.readings import Figures


class Idle:
    """A body that nobody starts."""

    def start(self) -> None: ...
    def ended(self) -> str | None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...


ALERT = Alert(
    name="FlashCrash",
    fingerprint="f",
    state="firing",
    product="BTC-USD",
    window="5m",
    severity="critical",
    summary="drawdown is 0.061, above 0.05 [5m]",
    values={"drawdown": 0.061},
    labels={},
    annotations={},
    since_us=1,
    starts_us=1,
    ends_us=None,
    trade_us=1,
    changed_us=1_760_129_460_000_000,
)


def show(*, terminal: bool) -> str:
    """Return what a console was given of a short run."""
    output = io.StringIO()
    console = Console(file=output, force_terminal=terminal, width=100, legacy_windows=False, color_system=None)
    part = Part("producer-0", Idle())
    view = View(
        console,
        title="Fulltape runs majors",
        footer=["logs are in /logs"],
        parts=[part],
        figures=lambda: Figures(198.4, "trade to window", 0.0123, 0.034),
    )
    with view:
        for state in (State("starting"), State("ready"), State("restarting", "ended with code 1: oh [no]", 0)):
            before, part.state = part.state, state
            view.part_changed(part, before)
        view.alert(ALERT)
    return output.getvalue()


def test_in_a_pipe_each_change_is_one_line_and_nothing_else() -> None:
    lines = show(terminal=False).splitlines()
    assert lines[:5] == [
        "Fulltape runs majors",
        "logs are in /logs",
        "producer-0: starting",
        "producer-0: ready",
        "producer-0: restarting in 0.0 s: ended with code 1: oh [no]",
    ]
    assert len(lines) == 7
    assert lines[5].endswith("firing FlashCrash BTC-USD 5m: drawdown is 0.061, above 0.05 [5m]")


def test_a_terminal_shows_states_figures_and_alerts_in_place_and_keeps_what_must_not_be_missed() -> None:
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", show(terminal=True))
    assert "producer-0: restarting" in shown  # scrolls, and so stays
    assert "producer-0: ready" not in shown
    for words in ("trades/s 198", "trade to window p50 12.3 ms p99 34.0 ms", "firing FlashCrash", "up 0:00:0"):
        assert words in shown, shown


@pytest.mark.parametrize("problem", [BrokenPipeError(), OSError("the terminal was closed")])
def test_a_reader_that_has_gone_disturbs_nobody(problem: OSError) -> None:
    class Gone(io.StringIO):
        def write(self, _: str) -> int:
            raise problem

    part = Part("producer-0", Idle(), state=State("stopped"))
    console = RunConsole(file=Gone())
    with View(console, title="-", footer=[], parts=[part], figures=Figures) as view:
        view.part_changed(part, State("stopping"))


def test_a_restart_is_counted_down() -> None:
    now = time.monotonic()
    assert described(State("restarting", "ended", now + 2.04), now).plain == "restarting in 2.0 s: ended"
    assert described(State("hindered", "no connection"), now).plain == "not ready: no connection"


def test_an_alert_of_the_whole_feed_names_no_product() -> None:
    line = alert_line(
        Alert(**{**{name: getattr(ALERT, name) for name in ALERT.__struct_fields__}, "product": None, "window": None})
    )
    assert "firing FlashCrash: drawdown" in line.plain


def test_figures_are_written_for_people() -> None:
    assert (milliseconds(None), milliseconds(1.2345)) == ("-", "1,234.5 ms")
    assert (uptime(0), uptime(59.9), uptime(3600 * 30 + 61)) == ("0:00:00", "0:00:59", "30:01:01")
