"""Checks all that a run needs of this machine before anything is started, so that nothing fails half-way."""

import contextlib
import http.client
import importlib.util
import os
import shutil
import sys
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from urllib.parse import urlsplit

from fulltape.errors import ConfigurationError
from fulltape.local.kafka import is_free

_ANSWER_SECONDS = 3.0
_MEMINFO = Path("/proc/meminfo")


def check_packages(names: Mapping[str, str]) -> None:
    """Check that Python packages are installed.

    Args:
        names: import names, and what each is needed for.

    Raises:
        ConfigurationError: one is missing.

    """
    for name, purpose in names.items():
        if importlib.util.find_spec(name) is None:
            raise ConfigurationError(
                f"{purpose} needs the Python package {name}, which is not installed; run pip install "
                "'fulltape[spark]', or in the repository: make setup"
            )


def check_room(folder: Path, needed_mib: int, purpose: str) -> None:
    """Check the free room of the disk that holds ``folder``, or will hold it.

    Raises:
        ConfigurationError: there is less than ``needed_mib``.

    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    free_mib = shutil.disk_usage(existing).free // 2**20
    if free_mib < needed_mib:
        raise ConfigurationError(
            f"the disk that holds {folder} has {free_mib:,} MiB left, and {purpose} needs {needed_mib:,}; free "
            "some room"
        )


def check_memory(needed_mib: int, available_mib: int | None) -> None:
    """Check that there is enough memory; ``available_mib`` None where the system does not say.

    Raises:
        ConfigurationError: there is less.

    """
    if available_mib is not None and available_mib < needed_mib:
        raise ConfigurationError(
            f"{available_mib:,} MiB of memory are available and this feed needs about {needed_mib:,} on one machine; "
            "close other programs, or give it fewer parts (spec.analytics.replicas, spec.producer.replicas)"
        )


def available_memory_mib() -> int | None:
    """Return the memory that programs can have without swapping: on Linux what is available, elsewhere all there is."""
    with contextlib.suppress(OSError, ValueError):
        for line in _MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    with contextlib.suppress(OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2**20
    return None


def check_page_port(port: int) -> None:
    """Check that the page's port is free.

    Raises:
        ConfigurationError: somebody listens on it.

    """
    if not is_free(port):
        raise ConfigurationError(
            f"port {port} of 127.0.0.1, where the page would be, is in use or reserved; stop its user (does this feed "
            "run already?) or choose another with --port"
        )


def exchange_answers(rest_url: str) -> bool:
    """Tell whether an exchange's REST API can be reached and serves this machine: some regions it turns away."""
    parts = urlsplit(rest_url)
    connect = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = connect(parts.hostname or "", parts.port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("GET", f"{parts.path.rstrip('/')}/time", headers={"User-Agent": "fulltape"})
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def has_desktop(environment: Mapping[str, str], platform: str = sys.platform) -> bool:
    """Tell whether a browser that is opened here appears before a person's eyes."""
    if "SSH_CONNECTION" in environment:
        return False
    return platform == "darwin" or bool(environment.get("DISPLAY") or environment.get("WAYLAND_DISPLAY"))
