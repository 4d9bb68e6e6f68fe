"""The real operator as a process, for tests that apply feeds, break things and kill it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

_SECONDS = 60.0
_POLL_SECONDS = 0.05


def eventually(condition: Callable[[], object], what: str, seconds: float = _SECONDS) -> None:
    """Wait until a condition holds; fail with ``what`` where it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(_POLL_SECONDS)


class OperatorProcess:
    """An operator of the cluster that a kubeconfig opens; a context manager that ends it."""

    def __init__(
        self,
        kubeconfig: Path,
        folder: Path,
        *,
        name: str = "operator",
        lease_namespace: str,
        arguments: Sequence[str] = (),
    ) -> None:
        self._command = [sys.executable, "-m", "fulltape.cli", "operator", *arguments]
        self._environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "POD_NAME": name,
            "POD_NAMESPACE": lease_namespace,
        }
        self._log = folder / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it; it works some seconds later."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stderr=log)

    def kill(self) -> None:
        """End it as a machine that fails does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it as Kubernetes does."""
        self._end(signal.SIGTERM)

    def freeze(self) -> None:
        """Let it stand still, as a machine that is out of memory or is being moved does."""
        self._send(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._send(signal.SIGCONT)

    def is_running(self) -> bool:
        """Tell whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def log(self) -> str:
        """Return all that it said."""
        return self._log.read_text() if self._log.exists() else ""

    def _send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _end(self, number: signal.Signals) -> None:
        if self._process is not None:
            self._send(number)
            self._process.wait(30)
            self._process = None
