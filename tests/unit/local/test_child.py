"""A child process dies with its parent, however that ends."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fulltape.local.child import start_child

PARENT = """
import sys
from pathlib import Path
from fulltape.local.child import start_child
print(start_child(["/bin/sleep", "600"], output=Path(sys.argv[1])).pid, flush=True)
sys.stdin.read()
"""


def wait_until_gone(pid: int) -> None:
    """Wait until no living process has the id (a zombie that nobody reaps counts as gone)."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":
            return
        time.sleep(0.01)
    pytest.fail(f"process {pid} still runs")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a child with its parent")
def test_a_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, tmp_path / "log"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        os.kill(child, 0)  # it runs
        parent.kill()
        wait_until_gone(child)


@pytest.mark.skipif(sys.platform != "linux", reason="CPU affinity is Linux's")
def test_a_child_runs_on_the_cpus_given_and_its_output_is_kept(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    code = "import os, sys; print(os.sched_getaffinity(0)); print('error', file=sys.stderr)"
    process = start_child([sys.executable, "-uc", code], output=tmp_path / "log", cpus=[cpu])
    assert process.wait(10) == 0
    assert (tmp_path / "log").read_text() == f"{{{cpu}}}\nerror\n"


def test_a_child_outlives_the_thread_that_asked_for_it_and_has_its_own_process_group(tmp_path: Path) -> None:
    started = []
    thread = threading.Thread(
        target=lambda: started.append(start_child(["/bin/sleep", "600"], output=tmp_path / "log"))
    )
    thread.start()
    thread.join()
    (process,) = started
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.2)
    assert os.getpgid(process.pid) == process.pid
    process.terminate()
    assert process.wait(10) == -signal.SIGTERM
