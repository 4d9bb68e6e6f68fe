"""`fulltape run`: a feed on one machine, a part that dies comes back, and Ctrl-C leaves nothing behind."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fulltape.audit.tape import audit_tape
from fulltape.bench.stage import FeedOptions, make_feed, wait_until
from fulltape.errors import FulltapeError

pytestmark = pytest.mark.integration


class Run:
    """A `fulltape run` of a feed on the sandbox, and what it prints."""

    def __init__(self, folder: Path) -> None:
        self.feed = folder / "feed.yaml"
        self.feed.write_text(
            make_feed("run", FeedOptions(["BTC-USD", "ETH-USD"])).model_dump_json(by_alias=True, exclude_none=True)
        )
        self._output = folder / "output"
        # A shell's background jobs ignore Ctrl-C, and so would what they start: this test may run in one.
        command = [
            "/usr/bin/env",
            "--default-signal=INT",
            sys.executable,
            "-m",
            "fulltape.cli",
            "run",
            str(self.feed),
            "--exchange",
            "sandbox",
        ]
        with self._output.open("w") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)

    @property
    def said(self) -> str:
        return self._output.read_text()

    def trades(self) -> int:
        found = re.search(r"--bootstrap-servers\s+(\S+)", self.said)
        if found is None:
            return 0
        try:
            audit = audit_tape({"bootstrap.servers": found[1]}, "run.trades", lambda *_: None)
        except FulltapeError:
            return 0
        assert audit.kept or not audit.records
        return audit.records

    def children(self) -> dict[int, str]:
        """Return pid and command of every process that this one started."""
        listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
        return {int(pid): command for pid, parent, command in rows if int(parent) == self.process.pid}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    running = Run(tmp_path)
    yield running
    if running.process.poll() is None:
        os.killpg(running.process.pid, signal.SIGKILL)
        running.process.wait()


def test_a_feed_runs_a_killed_part_comes_back_and_ctrl_c_leaves_nothing(run: Run) -> None:
    wait_until(lambda: run.trades() > 100, f"trades flow: {run.said}")
    children = run.children()
    assert len(children) == 3, children  # Kafka, the sandbox, the producer
    (producer,) = [pid for pid, command in children.items() if " producer " in command]
    os.kill(producer, signal.SIGKILL)
    wait_until(lambda: "producer 0 ended with -9" in run.said, "the death is said")
    before = run.trades()
    wait_until(lambda: run.trades() > before + 100, f"trades flow again: {run.said}")
    children = run.children()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(30) == 0, run.said
    deadline = time.monotonic() + 5
    while (left := [pid for pid in children if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not left
