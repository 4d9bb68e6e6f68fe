"""Starts a process that does not outlive this one, even where this one is killed with no chance to clean up.

On Linux the kernel kills the child when its parent dies (PR_SET_PDEATHSIG). That, and CPU affinity, a process must set
for itself before it becomes the wanted program, so this file is also run as a script, between fork and exec: a
`preexec_fn` would run Python in a forked copy of a threaded process, which can deadlock.
"""

import ctypes
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def start_child(
    command: Sequence[str | Path],
    *,
    output: Path,
    environment: Mapping[str, str] | None = None,
    cpus: Collection[int] = (),
    inherit: Collection[int] = (),
) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own, so that a terminal's Ctrl-C reaches only its parent.

    Args:
        command: the program, by its full path, and its arguments.
        output: file to which stdout and stderr are appended.
        environment: variables beside, or in place of, those of this process.
        cpus: CPUs that it may run on; empty for all. Linux only, ignored elsewhere.
        inherit: file descriptors that stay open in it.

    Raises:
        OSError: the process can't be started.

    """
    started: Future[subprocess.Popen[bytes]] = Future()

    def run() -> None:
        # "The parent" whose death the kernel watches is the thread that forked, so this one lives as long as the child.
        try:
            with output.open("ab") as log:
                process = subprocess.Popen(
                    [
                        sys.executable,
                        "-IS",
                        __file__,
                        str(os.getpid()),
                        ",".join(map(str, cpus)),
                        *map(str, command),
                    ],
                    stdin=subprocess.DEVNULL,
                    env={**os.environ, **(environment or {})},
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=tuple(inherit),
                )
        except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
            started.set_exception(error)
            return
        started.set_result(process)
        process.wait()

    threading.Thread(target=run, name=f"parent of {Path(command[0]).name}", daemon=True).start()
    return started.result()


def _become(parent: int, cpus: str, command: list[str]) -> None:
    """Turn this process into the command, bound to its parent's life and to CPUs."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died before the kernel was told to watch
            sys.exit(1)
        if cpus:
            os.sched_setaffinity(0, [int(cpu) for cpu in cpus.split(",")])
    os.execv(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
