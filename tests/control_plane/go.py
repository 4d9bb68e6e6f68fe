"""Compiles Go programs once, as a set that is kept whole in the cache.

Which modules a program is made of, and the checksums of all that is compiled, stand in a folder's go.mod and go.sum.
Programs that are compiled alike are one call of Go's, which links some while it compiles others.
"""

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from rich.console import Console

from fulltape.errors import ConfigurationError
from tests.control_plane.cache import digest, made_once, say


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What is compiled, and how."""

    name: str
    package: str
    module: str = ""
    """Whose version is the program's; empty where the package is in the folder itself."""
    version: Mapping[str, str] = field(default_factory=dict)
    """Variables that a release sets: {version}, {major} and {minor} are filled in. Of programs that are compiled alike
    all get those of each."""
    tags: str = ""
    uses_c: bool = False

    @property
    def way(self) -> tuple[bool, str]:
        """How it is compiled: with C or without, and by which tags."""
        return self.uses_c, self.tags


_ENVIRONMENT = {"GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}
_COMPILER = ("-gcflags=all=-dwarf=false",)
"""Nobody debugs these programs, and what a debugger needs is a quarter of the time."""


def ensure_built(name: str, module: Path, programs: Sequence[Program], duration: str) -> Path:
    """Return the folder of a set of programs, after compiling them where they are absent.

    Args:
        name: begins the folder's name.
        module: the folder of the go.mod.
        programs: the set.
        duration: how long it takes the first time, for a person who waits.

    Raises:
        ConfigurationError: no Go, or one that is too old, no network, no room.

    """
    toolchain = run_go("env", "GOVERSION", "GOOS", "GOARCH", folder=module)
    sources = [path.read_bytes() for path in sorted(module.glob("**/*")) if path.is_file()]
    recipe = repr((toolchain, programs, _ENVIRONMENT, _COMPILER))
    key = digest(*sources, recipe.encode())
    return made_once(f"{name}-{key}", lambda folder: _build_all(module, programs, folder, duration))


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


def _build_all(module: Path, programs: Sequence[Program], folder: Path, duration: str) -> None:
    say(f"building {len(programs)} programs from source (once, about {duration} on two cores)")
    versions = {
        name: run_go("list", "-m", "-f", "{{.Version}}", name, folder=module).strip()
        for name in sorted({program.module for program in programs if program.module})
    }
    for way, group in groupby(sorted(programs, key=lambda program: program.way), key=lambda program: program.way):
        together = list(group)
        title = ", ".join(f"{program.name} {versions.get(program.module, '')}".strip() for program in together)
        started = time.monotonic()
        _build(module, together, versions, way, folder, title)
        say(f"built {title} in {time.monotonic() - started:.0f} s")


def _build(
    module: Path,
    programs: Sequence[Program],
    versions: Mapping[str, str],
    way: tuple[bool, str],
    folder: Path,
    title: str,
) -> None:
    """Compile programs; at a terminal, with the number of packages that are done."""
    uses_c, tags = way
    settings = sorted(
        {
            f"-X {variable}={_filled_in(value, versions[program.module])}"
            for program in programs
            for variable, value in program.version.items()
        }
    )
    command = [
        _go_executable(),
        "build",
        "-v",
        "-trimpath",
        *_COMPILER,
        f"-tags={tags}",
        f"-ldflags={' '.join(['-s', '-w', *settings])}",
    ]
    if not Console(stderr=True).is_terminal:
        say(f"building {title}")
    with tempfile.TemporaryDirectory(dir=folder) as made:  # where each has the name that Go gives it
        _run_with_progress(
            [*command, f"-o={made}/", *(program.package for program in programs)],
            module,
            {"CGO_ENABLED": "1" if uses_c else "0"},
            title,
        )
        for program in programs:
            Path(made, _name_by_go(program.package)).rename(folder / program.name)


def _run_with_progress(command: Sequence[str], module: Path, environment: Mapping[str, str], title: str) -> None:
    said: deque[str] = deque(maxlen=5)
    with (
        Console(stderr=True, soft_wrap=True).status(title) as status,  # shows nothing where there is no terminal
        subprocess.Popen(
            command, cwd=module, stdout=subprocess.DEVNULL, env=os.environ | _ENVIRONMENT | environment,
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


def _filled_in(value: str, version: str) -> str:
    major, minor = version.removeprefix("v").split(".")[:2]
    return value.format(version=version, major=major, minor=minor)


def _name_by_go(package: str) -> str:
    """Return the name that Go gives a program: the last part of the package's path that is no version."""
    last, before, *_ = [*reversed(package.split("/")), ""]
    return before if re.fullmatch(r"v[0-9]+", last) else last
