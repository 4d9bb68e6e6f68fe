"""A real Alertmanager for one machine: found, started, waited for, stopped, killed and started again by one class.

It is the system's own program; where none is installed, alerts are seen on the dashboard and in Kafka. It tells of each
alert by itself and at once.
"""

import atexit
import http.client
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fulltape.errors import ConfigurationError
from fulltape.local.child import start_child
from fulltape.local.kafka import free_port, is_free

_HOST = "127.0.0.1"
_STOP_SECONDS = 10.0
_PROGRAMS = ("prometheus-alertmanager", "alertmanager")
"""As Debian's package calls it, and as everybody else does."""


def find_alertmanager() -> Path | None:
    """Return the path of the installed Alertmanager; None where there is none."""
    return next((Path(path) for name in _PROGRAMS if (path := shutil.which(name))), None)


class EmbeddedAlertmanager:
    """One Alertmanager. A context manager that starts and stops it; every method blocks (from async code: to_thread).

    Args:
        webhook: address that it posts notifications to; None: they are seen on its page only.
        port: its port; 0 takes a free one, which then stays the same for all starts of this object.
        start_seconds: how long a start may take.

    """

    def __init__(self, webhook: str | None = None, *, port: int = 0, start_seconds: float = 20.0) -> None:
        self._webhook = webhook
        self._port = port
        self._start_seconds = start_seconds
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Its address, for clients and browsers; known once started."""
        return f"http://{_HOST}:{self._port}"

    @property
    def data(self) -> Path:
        """The folder with its settings, log and memory; it exists from `start` to `stop`."""
        if self._folder is None:
            raise RuntimeError("an embedded Alertmanager has a data folder only while it is started")
        return self._folder

    @property
    def pid(self) -> int | None:
        """Its process id; None where it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return once it takes alerts; after `kill` it has its memory of that time.

        Raises:
            ConfigurationError: it is not installed, its port is in use, or it did not become ready; holds the end of
                its log.

        """
        if self.pid is not None:
            raise RuntimeError("the Alertmanager is started already")
        program = find_alertmanager()
        if program is None:
            raise ConfigurationError(
                "no Alertmanager is installed; install it (Debian and Ubuntu: apt-get install prometheus-alertmanager)"
            )
        if self._port == 0:
            self._port = free_port()
        elif not is_free(self._port):
            raise ConfigurationError(f"port {self._port} is in use; stop its user or choose another (0: any free port)")
        try:
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="fulltape-alertmanager-"))
                atexit.register(self.stop)
            self._launch(program, self._folder)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop it, by force where that takes too long, and delete its folder. Idempotent."""
        atexit.unregister(self.stop)
        if self._process is not None:
            try:
                self._process.terminate()
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:
                self.kill()
                self._process = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def kill(self) -> None:
        """End it as a crash would (SIGKILL). Its folder stays; `start` brings it back, `stop` cleans up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _launch(self, program: Path, folder: Path) -> None:
        settings, log = folder / "alertmanager.yml", folder / "alertmanager.log"
        settings.write_text(json.dumps(configuration(self._webhook), indent=2))
        log.write_bytes(b"")
        self._process = start_child(
            [
                program,
                f"--config.file={settings}",
                f"--storage.path={folder / 'data'}",
                # It notes on disk whom it has told what, so that it tells nobody twice after a crash; every 15 minutes
                # unless told otherwise.
                "--data.maintenance-interval=1s",
                f"--web.listen-address={_HOST}:{self._port}",
                "--cluster.listen-address=",
                "--log.level=warn",
            ],
            output=log,
        )
        deadline = time.monotonic() + self._start_seconds
        while not self._is_ready():
            if self._process.poll() is not None or time.monotonic() > deadline:
                tail = "\n".join(log.read_text(errors="replace").splitlines()[-10:]) or "(empty)"
                raise ConfigurationError(f"Alertmanager ({program}) did not become ready; the end of its log:\n{tail}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=1)
        try:
            connection.request("GET", "/-/ready")
            return connection.getresponse().status == http.client.OK
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


def configuration(webhook: str | None) -> dict[str, Any]:
    """Return the settings (YAML takes JSON): each alert is a group of its own and told at once."""
    receiver: dict[str, Any] = {"name": "fulltape"}
    if webhook is not None:
        receiver["webhook_configs"] = [{"url": webhook, "send_resolved": True}]
    return {
        "route": {
            "receiver": "fulltape",
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "100ms",  # how soon a change of a known alert is told
            "repeat_interval": "4h",
        },
        "receivers": [receiver],
    }
