"""Keeps the parts of a run going: starts each, watches it, starts it again with back-off, and stops all in order.

What a part is made of (a child process, a broker) is its `Body`; how it does is its `State`, which `next_state` works
out from what was seen. Nothing here knows a feed.
"""

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

import aiohttp

from fulltape.errors import FulltapeError
from fulltape.local.child import start_child

Phase = Literal["waiting", "starting", "ready", "hindered", "restarting", "stopping", "stopped"]

_FIRST_PAUSE_SECONDS = 0.5
_LONGEST_PAUSE_SECONDS = 30.0
_SETTLED_SECONDS = 30.0
_WATCH_SECONDS = 0.25
_READY_WATCH_SECONDS = 1.0
_SICK_SECONDS = 30.0
_PROBE_TIMEOUT = aiohttp.ClientTimeout(total=2.0)
_LAST_WORDS_BYTES = 32 * 1024
_CAUSE = re.compile(r"error: |[\w.$]*(Error|Exception)\b: ")
"""How the line begins that says why a program ended: as a command puts it, and as Python and Java do."""


@dataclass(frozen=True, slots=True)
class State:
    """How a part does."""

    phase: Phase
    detail: str = ""
    """Why it is not ready, or how it ended."""
    until: float = 0.0
    """While restarting: when it starts again, by the monotonic clock."""


@dataclass(slots=True)
class Backoff:
    """How long to wait before the next start: twice as long each time, and short again after a life that lasted."""

    failures: int = 0

    def pause_seconds(self, lived_seconds: float) -> float:
        """Return the pause after a life of ``lived_seconds``."""
        self.failures = 0 if lived_seconds >= _SETTLED_SECONDS else self.failures
        pause = min(_LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2.0 ** min(self.failures, 16))
        self.failures += 1
        return pause


@dataclass(frozen=True, slots=True)
class Answer:
    """What a part's readiness probe said; ``problem`` is None where all is well."""

    problem: str | None


def next_state(state: State, answer: Answer | None) -> State:
    """Return the state of a part that runs after its probe answered; None where it did not.

    One that has not answered yet still starts, and one that says why it is not ready has not been ready yet either:
    only one that was ready is hindered.
    """
    if answer is not None and answer.problem is None:
        return State("ready")
    problem = answer.problem if answer is not None and answer.problem else ""
    if state.phase in {"waiting", "starting", "restarting"}:
        return State("starting", problem)
    return State("hindered", problem or "does not answer")


class Body(Protocol):
    """Something that runs, may end by itself and can be started again. Its methods may block."""

    def start(self) -> None:
        """Start it.

        Raises:
            FulltapeError: it can't be started; says why and the mend.

        """

    def ended(self) -> str | None:
        """Return how it ended, in words; None while it runs."""

    def stop(self) -> None:
        """End it in order, or by force where that takes too long; nothing of it is left. Idempotent."""

    def kill(self) -> None:
        """End it at once. May be called from another thread while it starts or stops."""


class Process:
    """A child process with all that it starts, whose output goes to a log.

    Args:
        command: the program, by its full path, and its arguments.
        log: file to which it writes.
        environment: variables beside those of this process.
        stop_seconds: how long it may take to end.

    """

    def __init__(
        self, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None, stop_seconds: float
    ) -> None:
        self._command = command
        self._log = log
        self._environment = environment
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """Its process id, which is also its group's; None before the first start."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it.

        Raises:
            FulltapeError: the system does not let it be started.

        """
        self._log_start = self._log.stat().st_size if self._log.exists() else 0
        try:
            self._process = start_child(self._command, output=self._log, environment=self._environment)
        except OSError as problem:
            raise FulltapeError(f"can't be started: {problem.strerror}") from problem

    def ended(self) -> str | None:
        """Return its exit code or signal and its last words; None while it runs."""
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return None
        self._kill_group()  # what it started must not meet its successor
        if code == -signal.SIGKILL:  # it had no time for last words
            return "killed by SIGKILL"
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        words = last_words(self._log, self._log_start)
        return f"{how}: {words}" if words else how

    def stop(self) -> None:
        """End it (SIGTERM, then SIGKILL) and all that it started."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self._stop_seconds)
            self.kill()

    def kill(self) -> None:
        """End it and all that it started at once."""
        self._kill_group()
        if self._process is not None:
            self._process.wait()

    def _kill_group(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: a group of zombies alone
                os.killpg(self._process.pid, signal.SIGKILL)


def last_words(log: Path, start: int = 0) -> str:
    """Return the line of a log that says best why its program ended; empty where it says nothing.

    That is the last line that tells of an error, else the last that is not empty. Only the end of the log is looked at,
    and nothing before byte ``start``.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, file.seek(0, os.SEEK_END) - _LAST_WORDS_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    causes = [line for line in lines if _CAUSE.match(line)]
    return next(reversed(causes or lines), "")


@dataclass(slots=True, eq=False)
class Part:
    """One part of a run and how it does."""

    name: str
    body: Body
    probe: str | None = None
    """URL that answers 200 while it does its work; a part without is ready once it has started."""
    health: str | None = None
    """URL that answers 200 unless only a restart helps."""
    metrics: str | None = None
    """URL of its metrics, if it has any."""
    after: "Part | None" = None
    """The part without which it can't start: it waits until that has been ready once."""
    state: State = State("waiting")
    been_ready: asyncio.Event = field(default_factory=asyncio.Event)
    backoff: Backoff = field(default_factory=Backoff)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopping: bool = False

    def start(self) -> None:
        """Start the body, unless `stop` was called before.

        Raises:
            FulltapeError: it can't be started.

        """
        with self._lock:
            if not self._stopping:
                self.body.start()

    def stop(self) -> None:
        """Stop the body for good, also one that is just being started in another thread."""
        self._stopping = True
        while not self._lock.acquire(timeout=_WATCH_SECONDS):
            self.body.kill()
        try:
            self.body.stop()
        finally:
            self._lock.release()


class Keeper:
    """Keeps parts running.

    Args:
        groups: the parts in the order in which they are stopped; those of a group stop together. All start at once.
        on_change: called with a part and the state it had when its phase has changed.

    """

    def __init__(self, groups: Sequence[Sequence[Part]], on_change: Callable[[Part, State], None]) -> None:
        self._groups = groups
        self._on_change = on_change

    @property
    def parts(self) -> list[Part]:
        """All parts, in order."""
        return [part for group in self._groups for part in group]

    async def run(self) -> None:
        """Keep all parts running until cancelled.

        Raises:
            FulltapeError: a part could not be started for the first time.

        """
        async with aiohttp.ClientSession(timeout=_PROBE_TIMEOUT) as session:
            tasks = [asyncio.create_task(self._keep(part, session)) for part in self.parts]
            try:
                await asyncio.gather(*tasks)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def stop(self) -> None:
        """Stop all parts, group after group; `run` must have been cancelled."""
        for group in self._groups:
            for part in group:
                self._become(part, State("stopping"))
            await asyncio.gather(*(asyncio.to_thread(part.stop) for part in group))
            for part in group:
                self._become(part, State("stopped"))

    def kill(self) -> None:
        """End all parts at once, whatever they are at; a `stop` that waits for them returns soon."""
        for part in self.parts:
            part.body.kill()

    async def _keep(self, part: Part, session: aiohttp.ClientSession) -> None:
        if part.after is not None:
            await part.after.been_ready.wait()
        first = True
        while True:
            self._become(part, State("starting"))
            began = time.monotonic()
            try:
                await asyncio.to_thread(part.start)
            except FulltapeError as problem:
                if first:
                    raise
                end = str(problem)
            else:
                end = await self._watch(part, session)
            first = False
            now = time.monotonic()
            pause = part.backoff.pause_seconds(now - began)
            self._become(part, State("restarting", end, until=now + pause))
            await asyncio.sleep(pause)

    async def _watch(self, part: Part, session: aiohttp.ClientSession) -> str:
        """Follow a part that runs until it has ended, or end it where only that helps; return how."""
        was_ready, well = False, time.monotonic()
        while True:
            answer = Answer(None) if part.probe is None else await _ask(part.probe, session)
            was_ready = was_ready or answer == Answer(None)
            # What has not been ready yet may be at long work, during which it is not heard.
            if part.health is None or not was_ready or await _ask(part.health, session) == Answer(None):
                well = time.monotonic()
            elif time.monotonic() - well > _SICK_SECONDS:
                await asyncio.to_thread(part.body.kill)
                return f"killed, as it was not healthy for {_SICK_SECONDS:g} s"
            if (end := part.body.ended()) is not None:
                return end
            self._become(part, next_state(part.state, answer))
            await asyncio.sleep(_READY_WATCH_SECONDS if part.state.phase == "ready" else _WATCH_SECONDS)

    def _become(self, part: Part, state: State) -> None:
        before, part.state = part.state, state
        if state.phase == "ready":
            part.been_ready.set()
        if state.phase != before.phase:
            self._on_change(part, before)


async def _ask(url: str, session: aiohttp.ClientSession) -> Answer | None:
    try:
        async with session.get(url) as answer:
            return Answer(None if answer.status == 200 else (await answer.text()).strip() or f"HTTP {answer.status}")
    except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
        return None
