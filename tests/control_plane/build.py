"""Builds the programs of the control plane once: kube-apiserver, kube-controller-manager, kubectl, etcd and helm.

They are compiled from Go modules, about 10 minutes on two cores the first time. Their versions stand in
``kubernetes/go.mod`` and ``tools/go.mod``, the checksums of all that is compiled in the go.sum beside each.
``python -m tests.control_plane.build`` builds what is absent and prints the folder.
"""

import os
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from fulltape.errors import ConfigurationError
from tests.control_plane.cache import digest, made_once, say

_FOLDER = Path(__file__).parent
_COMPONENT = "k8s.io/component-base/version"


@dataclass(frozen=True, slots=True)
class _Program:
    name: str
    folder: str
    """Where its go.mod is."""
    package: str
    module: str
    """Whose version is the program's."""
    version: Mapping[str, str]
    """Variables of the program that a release sets: {version}, {major} and {minor} are filled in."""


_KUBERNETES_VERSION = {
    f"{_COMPONENT}.gitVersion": "{version}",
    f"{_COMPONENT}.gitMajor": "{major}",
    f"{_COMPONENT}.gitMinor": "{minor}",
}
_PROGRAMS = (
    _Program("etcd", "tools", "go.etcd.io/etcd/server/v3", "go.etcd.io/etcd/server/v3", {}),
    _Program(
        "helm",
        "tools",
        "helm.sh/helm/v4/cmd/helm",
        "helm.sh/helm/v4",
        {"helm.sh/helm/v4/internal/version.version": "{version}"},
    ),
    *(
        _Program(name, "kubernetes", f"k8s.io/kubernetes/cmd/{name}", "k8s.io/kubernetes", _KUBERNETES_VERSION)
        for name in ("kubectl", "kube-apiserver", "kube-controller-manager")
    ),
)
_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly -buildvcs=false", "GOWORK": "off"}


def ensure_programs() -> Path:
    """Return the folder of the programs, after building them where they are absent.

    Raises:
        ConfigurationError: no Go, or one that is too old, no network, no room.

    """
    toolchains = [_go("env", "GOVERSION", "GOOS", "GOARCH", folder=folder) for folder in ("kubernetes", "tools")]
    sums = [_FOLDER / folder / name for folder in ("kubernetes", "tools") for name in ("go.mod", "go.sum")]
    key = digest(*(path.read_bytes() for path in sums), repr((toolchains, _PROGRAMS, _ENVIRONMENT)).encode())
    return made_once(f"control-plane-{key}", _build_all)


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


def _go(*arguments: str, folder: str) -> str:
    return run_go(*arguments, folder=_FOLDER / folder)


def _go_executable() -> str:
    go = shutil.which("go")
    if go is None:
        raise ConfigurationError(
            "the control plane for tests is built with Go 1.26 or later, and no go is on PATH; install it "
            "(https://go.dev/doc/install) and start again"
        )
    return go


def _build_all(folder: Path) -> None:
    say(f"building {len(_PROGRAMS)} programs from source (once, about 10 minutes on two cores)")
    for number, program in enumerate(_PROGRAMS, 1):
        version = _go("list", "-m", "-f", "{{.Version}}", program.module, folder=program.folder).strip()
        started = time.monotonic()
        _build(program, version, folder / program.name, f"{program.name} {version} ({number} of {len(_PROGRAMS)})")
        say(f"built {program.name} {version} in {time.monotonic() - started:.0f} s")


def _build(program: _Program, version: str, target: Path, title: str) -> None:
    """Compile a program; at a terminal, with the number of packages that are done."""
    major, minor = version.removeprefix("v").split(".")[:2]
    flags = [
        f"-X {name}={value.format(version=version, major=major, minor=minor)}"
        for name, value in program.version.items()
    ]
    command = [_go_executable(), "build", "-v", "-trimpath", "-ldflags", " ".join(["-s", "-w", *flags])]
    console = Console(stderr=True, soft_wrap=True)
    if not console.is_terminal:
        say(f"building {title}")
    said: deque[str] = deque(maxlen=5)
    with (
        console.status(title) as status,  # shows nothing where there is no terminal
        subprocess.Popen(
            [*command, "-o", target, program.package],
            cwd=_FOLDER / program.folder, env=os.environ | _ENVIRONMENT, stdout=subprocess.DEVNULL,
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


@click.command()
def main() -> None:
    """Build what is absent and print the folder of the programs."""
    try:
        click.echo(ensure_programs())
    except ConfigurationError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
