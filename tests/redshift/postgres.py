"""A PostgreSQL server of its own for a test: started, killed as a crash would, and started again."""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Self

from fulltape.local.kafka import free_port
from tests.lacking import lacking

_START_SECONDS = 60.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",  # what is tested is the death of processes, not of the machine
    "full_page_writes": "off",
    "max_connections": "50",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "password_encryption": "md5",  # as Redshift asks for passwords
    "timezone": "UTC",
    "log_min_messages": "fatal",
}


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's programs."""
    folders = [*Path("/usr/lib/postgresql").glob("*/bin"), *map(Path, os.environ.get("PATH", "").split(os.pathsep))]
    programs = ("initdb", "postgres", "psql")
    found = next((folder for folder in folders if all((folder / program).exists() for program in programs)), None)
    if found is None:
        lacking("needs PostgreSQL (apt-get install postgresql)")
    return found


class Postgres:
    """One server with its data in a temporary folder; a context manager."""

    user = "admin"
    password = "s3cret'pass"
    database = "dev"

    def __init__(self) -> None:
        self._programs = find_postgres()
        self._folder = Path(tempfile.mkdtemp(prefix="fulltape-postgres-"))
        self._data = self._folder / "data"
        # A server refuses to run as root.
        self._user: dict[str, object] = (
            {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        )
        if self._user:
            shutil.chown(self._folder, "postgres", "postgres")
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()

    def __enter__(self) -> Self:
        password = self._folder / "password"
        password.write_text(self.password)
        if self._user:
            shutil.chown(password, "postgres", "postgres")
        subprocess.run(
            [
                self._programs / "initdb", "--pgdata", self._data, "--username", self.user, "--pwfile", password,
                "--auth", "md5", "--encoding", "UTF8", "--no-locale", "--no-sync",
            ],
            check=True, capture_output=True, cwd=self._folder, **self._user,
        )  # type: ignore[call-overload]  # fmt: skip
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start it and wait until it answers."""
        settings = [word for name, value in _SETTINGS.items() for word in ("-c", f"{name}={value}")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._programs / "postgres", "-D", self._data, "-p", str(self.port),
                    "-c", f"unix_socket_directories={self._folder}", *settings,
                ],
                cwd=self._folder, stdout=log, stderr=log, **self._user,
            )  # type: ignore[call-overload]  # fmt: skip
        deadline = time.monotonic() + _START_SECONDS
        environment = {**os.environ, "PGPASSWORD": self.password}
        asked = ["-h", "127.0.0.1", "-p", str(self.port), "-U", self.user]
        while True:
            found = subprocess.run(
                [self._programs / "psql", *asked, "-d", "postgres", "-Atc", f"CREATE DATABASE {self.database}"],
                env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            if found.returncode == 0 or "already exists" in found.stderr:
                return
            assert time.monotonic() < deadline, f"{found.stderr}\n{(self._folder / 'log').read_text()}"
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill the server and every session of it, as a crash does."""
        assert self._process is not None
        pid = self._process.pid
        children = _children(pid)
        for victim in (pid, *children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self._process.wait(30)
        self._process = None
        for child in children:
            while Path(f"/proc/{child}").exists():
                time.sleep(0.01)


def _children(parent: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(path.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found
