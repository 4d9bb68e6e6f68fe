"""Parts come back after any death, ever later, with their last words; a stop is in order and leaves nothing behind."""

import asyncio
import os
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.local import parts
from fulltape.local.kafka import free_port
from fulltape.local.parts import Answer, Backoff, Keeper, Part, Process, State, last_words, next_state
from tests.unit.local.test_child import wait_until_gone

LIVES = "import time; print('I live', flush=True); time.sleep(600)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('set', flush=True); time.sleep(600)"
)
PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print(child.pid, flush=True)
time.sleep(600)
"""
SERVER = """
import http.server, sys
from pathlib import Path
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        problem = Path(sys.argv[2] + self.path[1:]).read_text()
        self.send_response(503 if problem else 200)
        self.end_headers()
        self.wfile.write(problem.encode())
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let parts be looked at, and come back, sooner than a user's."""
    monkeypatch.setattr(parts, "_FIRST_PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(parts, "_WATCH_SECONDS", 0.02)
    monkeypatch.setattr(parts, "_READY_WATCH_SECONDS", 0.02)


def process(folder: Path, code: str, *arguments: str, name: str = "part", stop_seconds: float = 10) -> Process:
    return Process([sys.executable, "-c", code, *arguments], folder / f"{name}.log", stop_seconds=stop_seconds)


async def until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.01)


@asynccontextmanager
async def kept(*groups: list[Part]) -> AsyncIterator[list[str]]:
    """Keep parts running and give the phases that they go through; stop them at the end."""
    changes: list[str] = []
    keeper = Keeper(groups, lambda part, _: changes.append(f"{part.name} {part.state.phase}"))
    task = asyncio.create_task(keeper.run())
    try:
        yield changes
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await keeper.stop()


def test_pauses_double_up_to_half_a_minute_and_begin_anew_after_a_life_that_lasted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.undo()
    backoff = Backoff()
    assert [backoff.pause_seconds(1) for _ in range(8)] == [0.5, 1, 2, 4, 8, 16, 30, 30]
    assert backoff.pause_seconds(3600) == 0.5
    assert backoff.pause_seconds(1) == 1


@pytest.mark.parametrize(
    ("phase", "answer", "then"),
    [
        ("starting", None, State("starting")),
        ("starting", Answer("takes over"), State("starting", "takes over")),
        ("starting", Answer(None), State("ready")),
        ("ready", Answer("no connection"), State("hindered", "no connection")),
        ("ready", None, State("hindered", "does not answer")),
        ("hindered", None, State("hindered", "does not answer")),
        ("hindered", Answer(None), State("ready")),
    ],
)
def test_a_part_is_what_its_probe_says(phase: str, answer: Answer | None, then: State) -> None:
    assert next_state(State(phase), answer) == then  # type: ignore[arg-type]


async def test_a_part_that_ends_says_its_last_words_and_comes_back_ever_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    part = Part("fails", process(tmp_path, "import sys; print('oh no'); print(); sys.exit(3)"))
    pauses = []
    async with kept([part]) as changes:
        for attempt in range(1, 3):
            await until(lambda: changes.count("fails restarting") >= attempt, str(changes))  # noqa: B023 - awaited here
            assert part.state.detail == "ended with code 3: oh no"
            pauses.append(part.state.until - time.monotonic())
    assert pauses[0] < 0.5 < pauses[1] < 1


async def test_a_part_that_was_killed_comes_back_and_what_it_had_started_is_gone(tmp_path: Path) -> None:
    body = process(tmp_path, PARENT, name="parent")
    part = Part("parent", body)
    async with kept([part]) as changes:
        await until(lambda: bool(last_words(tmp_path / "parent.log")), "it has a child")
        first, grandchild = body.pid, int(last_words(tmp_path / "parent.log"))
        assert first is not None
        os.kill(grandchild, 0)
        os.kill(first, signal.SIGKILL)
        await until(lambda: changes.count("parent ready") == 2, "it is back")
        wait_until_gone(grandchild)
        assert body.pid != first
        assert "parent restarting" in changes


async def test_what_is_said_of_a_part_is_what_its_probe_answers(tmp_path: Path) -> None:
    port = free_port()
    problem = tmp_path / "readyz"
    problem.write_text("warms up")
    url = f"http://127.0.0.1:{port}/readyz"
    part = Part("server", process(tmp_path, SERVER, str(port), f"{tmp_path}/"), probe=url)
    async with kept([part]):
        await until(lambda: part.state == State("starting", "warms up"), "its reason is known")
        problem.write_text("")
        await until(lambda: part.state.phase == "ready", "it is ready")
        problem.write_text("lost its connection")
        await until(lambda: part.state == State("hindered", "lost its connection"), "it is hindered")


async def test_a_part_that_only_a_restart_helps_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_SICK_SECONDS", 0.1)
    port = free_port()
    for name in ("readyz", "healthz"):
        (tmp_path / name).write_text("")
    url, body = f"http://127.0.0.1:{port}", process(tmp_path, SERVER, str(port), f"{tmp_path}/")
    part = Part("server", body, probe=f"{url}/readyz", health=f"{url}/healthz")
    async with kept([part]) as changes:
        await until(lambda: part.state.phase == "ready", "it is ready")
        first = body.pid
        (tmp_path / "healthz").write_text("its thread has ended")
        await until(lambda: "server restarting" in changes, "its illness is seen")
        assert "not healthy" in part.state.detail
        (tmp_path / "healthz").write_text("")
        await until(lambda: part.state.phase == "ready", "it is back")
        assert body.pid != first


async def test_a_part_waits_for_the_one_that_it_needs(tmp_path: Path) -> None:
    gate = threading.Event()

    class Slow(Process):
        def start(self) -> None:
            gate.wait(20)
            super().start()

    slow = Part("slow", Slow([sys.executable, "-c", LIVES], tmp_path / "slow.log", stop_seconds=5))
    needy = Part("needy", process(tmp_path, LIVES, name="needy"), after=slow)
    async with kept([needy], [slow]) as changes:
        await until(lambda: slow.state.phase == "starting", "the first one starts")
        assert needy.state.phase == "waiting"
        gate.set()
        await until(lambda: needy.state.phase == "ready", "both are there")
    assert changes.index("slow ready") < changes.index("needy starting")


async def test_groups_stop_one_after_the_other_and_nothing_of_them_is_left(tmp_path: Path) -> None:
    bodies = {name: process(tmp_path, PARENT, name=name) for name in ("first", "second", "third")}
    first, second, third = (Part(name, body) for name, body in bodies.items())
    async with kept([first, second], [third]) as changes:
        await until(lambda: all(last_words(tmp_path / f"{name}.log") for name in bodies), "all run")
    stops = [change for change in changes if "stop" in change]
    assert stops[:2] == ["first stopping", "second stopping"]
    assert set(stops[2:4]) == {"first stopped", "second stopped"}
    assert stops[4:] == ["third stopping", "third stopped"]
    for name, body in bodies.items():
        assert body.pid is not None
        wait_until_gone(body.pid)
        wait_until_gone(int(last_words(tmp_path / f"{name}.log")))


async def test_one_that_does_not_end_when_told_is_killed(tmp_path: Path) -> None:
    body = process(tmp_path, STUBBORN, name="stubborn", stop_seconds=0.2)
    async with kept([Part("stubborn", body)]):
        await until(lambda: last_words(tmp_path / "stubborn.log") == "set", "it ignores SIGTERM")
    assert body.ended() == "killed by SIGKILL"


async def test_a_kill_ends_a_stop_that_waits(tmp_path: Path) -> None:
    body = process(tmp_path, STUBBORN, name="stubborn", stop_seconds=600)
    keeper = Keeper([[Part("stubborn", body)]], lambda *_: None)
    task = asyncio.create_task(keeper.run())
    await until(lambda: last_words(tmp_path / "stubborn.log") == "set", "it ignores SIGTERM")
    task.cancel()
    stopping = asyncio.create_task(keeper.stop())
    await asyncio.sleep(0)
    keeper.kill()
    await asyncio.wait_for(stopping, 20)
    assert body.ended() == "killed by SIGKILL"


async def test_a_part_that_is_just_being_started_is_stopped_too(tmp_path: Path) -> None:
    starting = threading.Event()
    killed = threading.Event()

    class Starting(Process):
        """Takes long to start, and fails when it is killed at that, as a broker does."""

        def start(self) -> None:
            starting.set()
            killed.wait(20)
            raise FulltapeError("killed")

        def kill(self) -> None:
            killed.set()
            super().kill()

    part = Part("slow", Starting([sys.executable], tmp_path / "slow.log", stop_seconds=5))
    async with kept([part]):
        await until(starting.is_set, "it is being started")
    assert killed.is_set()
    assert part.state.phase == "stopped"


async def test_the_first_start_that_fails_ends_the_run_and_a_later_one_is_tried_again(tmp_path: Path) -> None:
    class Refuses(Process):
        starts = 0

        def start(self) -> None:
            self.starts += 1
            if self.starts != 1:
                raise ConfigurationError("no room")
            super().start()

    body = Refuses([sys.executable, "-c", ""], tmp_path / "log", stop_seconds=5)
    part = Part("refuses", body)
    async with kept([part]):
        await until(lambda: part.state.detail == "no room", "the reason is said")
        await until(lambda: body.starts > 2, "it is tried again")
    body = Refuses([sys.executable, "-c", ""], tmp_path / "log", stop_seconds=5)
    body.starts = 1
    with pytest.raises(ConfigurationError, match="no room"):
        await Keeper([[Part("refuses", body)]], lambda *_: None).run()


def test_last_words_are_of_this_life_and_of_the_end_of_a_long_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == ""
    log.write_text("before\n")
    assert last_words(log, log.stat().st_size) == ""
    with log.open("a") as file:
        file.write("x\n" * 100_000 + "the end \n\n")
    assert last_words(log, 7) == "the end"


@pytest.mark.parametrize(
    ("log", "words"),
    [
        ("one\ntwo\n", "two"),
        ("error: no broker answered\nstopped\n", "error: no broker answered"),
        ("Traceback:\n  File x\nValueError: bad\n\nINFO connection closed\n", "ValueError: bad"),
        ("org.apache.X$YException: lost\n\tat org.Z(Z.java:1)\n", "org.apache.X$YException: lost"),
        ("INFO no error: here\nlast\n", "last"),
    ],
)
def test_last_words_are_the_reason_where_one_is_given(tmp_path: Path, log: str, words: str) -> None:
    (tmp_path / "log").write_text(log)
    assert last_words(tmp_path / "log") == words
