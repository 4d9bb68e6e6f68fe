"""Makes a folder of the cache once, whole or not at all, whatever is killed and however many want it at a time."""

import fcntl
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import click

from fulltape.errors import ConfigurationError
from fulltape.local.jars import cache_folder


def made_once(name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder of the cache, after making it where it is absent.

    Args:
        name: names the folder, and must change with all that its content depends on: see `digest`.
        make: fills an empty folder, which takes its name when this returns.

    Raises:
        ConfigurationError: the folder can't be written.

    """
    folder = cache_folder() / name
    if folder.is_dir():
        return folder
    try:
        cache_folder().mkdir(parents=True, exist_ok=True)
        with (cache_folder() / f"{name}.lock").open("w") as file:
            _lock(file.fileno(), name)
            if not folder.is_dir():  # nobody else made it meanwhile
                _make(folder, make)
    except OSError as error:
        raise ConfigurationError(
            f"{name} can't be kept in {cache_folder()}: {error.strerror}; make 500 MB of room there that this user may "
            "write, or set XDG_CACHE_HOME to another folder"
        ) from error
    return folder


def digest(*parts: bytes) -> str:
    """Return 12 characters that differ where any of the parts differs."""
    result = hashlib.sha256()
    for part in parts:
        result.update(hashlib.sha256(part).digest())
    return result.hexdigest()[:12]


def say(text: str) -> None:
    """Tell a person what takes long."""
    click.echo(f"control plane: {text}", err=True)


def _lock(descriptor: int, name: str) -> None:
    """Take a lock that is given up with the file, so also by a process that dies."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say(f"waiting for another process, which makes {name}")
        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _make(folder: Path, make: Callable[[Path], None]) -> None:
    scratch = folder.with_name(f"{folder.name}.making")
    shutil.rmtree(scratch, ignore_errors=True)  # left by a process that was killed
    scratch.mkdir()
    try:
        make(scratch)
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
