"""Compiles Go programs once, as a set that is kept whole in the cache.

Which modules a program is made of, and the checksums of all that is compiled, stand in a folder's go.mod and go.sum.
"""

import os
import shutil
import subprocess
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console

from fulltape.errors import ConfigurationError
from tests.control_plane.cache import digest, made_once, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is compiled, and how."""

    name: str
    folder: Path
    """Where its go.mod is."""
    package: str
    module: str = ""
    """Whose version is the program's; empty where the package is in the folder itself."""
    version: Mapping[str, str] = field(default_factory=dict)
    """Variables of the program that a release sets: {version}, {major} and {minor} are filled in."""
    tags: str = ""
    uses_c: bool = False


_ENVIRONMENT = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


def ensure_built(name: str, programs: Sequence[Program], duration: str) -> Path:
    """Return the folder of a set of programs, after compiling them where they are absent.

    Args:
        name: begins the folder's name.
        programs: the set.
        duration: how long it takes the first time, for a person who waits.

    Raises:
        ConfigurationError: no Go, or one that is too old, no network, no room.

    """
    folders = sorted({program.folder for program in programs})
    toolchains = [run_go("env", "GOVERSION", "GOOS", "GOARCH", folder=folder) for folder in folders]
    sources = [path.read_bytes() for folder in folders for path in sorted(folder.glob("**/*")) if path.is_file()]
    recipe = [(program.name, program.package, program.version, program.tags) for program in programs]
    key = digest(*sources, repr((toolchains, recipe, _ENVIRONMENT)).encode())
    return made_once(f"{name}-{key}", lambda folder: _build_all(programs, folder, duration))


def run_go(*arguments: str, folder: Path) -> str:
    """Run the go command in a module's folder and return what it prints.

    Raises:
        ConfigurationError: no Go, or it failed; holds the beginning of what it said.

    """
    found = subprocess.run(
        [_go_executable(), *arguments], cwd=folder, env=os.environ | _ENVIRONMENT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    if found.returncode:
        lines = [line.strip() for line in (found.stderr or found.stdout).splitlines() if "go: downloading" not in line]
        raise ConfigurationError(f"go {' '.join(arguments)} failed in {folder}: {'; '.join(filter(None, lines[:4]))}")
    return found.stdout


def _go_executable() -> str:
    go = shutil.which("go")
    if go is None:
        raise ConfigurationError(
            "the cluster for tests is built with Go 1.26 or later, and no go is on PATH; install it "
            "(https://go.dev/doc/install) and start again"
        )
    return go


def _build_all(programs: Sequence[Program], folder: Path, duration: str) -> None:
    say(f"building {len(programs)} programs from source (once, about {duration} on two cores)")
    for number, program in enumerate(programs, 1):
        version = _version(program)
        started = time.monotonic()
        _build(program, version, folder / program.name, f"{program.name} {version} ({number} of {len(programs)})")
        say(f"built {program.name} {version} in {time.monotonic() - started:.0f} s")


def _version(program: Program) -> str:
    return (
        run_go("list", "-m", "-f", "{{.Version}}", program.module, folder=program.folder).strip()
        if program.module
        else ""
    )


def _build(program: Program, version: str, target: Path, title: str) -> None:
    """Compile a program; at a terminal, with the number of packages that are done."""
    major, minor = [*version.removeprefix("v").split("."), ""][:2]
    flags = [
        f"-X {name}={value.format(version=version, major=major, minor=minor)}"
        for name, value in program.version.items()
    ]
    command = [
        _go_executable(),
        "build",
        "-v",
        "-trimpath",
        "-tags",
        program.tags,
        "-ldflags",
        " ".join(["-s", "-w", *flags]),
    ]
    console = Console(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        say(f"building {title}")
    said: deque[str] = deque(maxlen=5)
    with (
        console.status(title) as status,  # shows nothing where there is no terminal
        subprocess.Popen(
            [*command, "-o", target, program.package],
            cwd=program.folder, stdout=subprocess.DEVNULL,
            env=os.environ | _ENVIRONMENT | {"CGO_ENABLED": "1" if program.uses_c else "0"},
            stderr=subprocess.PIPE, text=True,
        ) as process,
    ):  # fmt: skip
        assert process.stderr is not None
        try:
            for done, line in enumerate(process.stderr, 1):  # a package a line, then what is wrong
                said.append(line.strip())
                status.update(f"building {title}: {done} packages compiled")
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ConfigurationError(
            f"{title} can't be built: {'; '.join(said)}; check the network (Go takes modules from GOPROXY) and "
            "the disk (about 4 GB for Go's own caches), and start again"
        )
