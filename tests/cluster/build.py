"""Builds what makes this machine a Kubernetes node: kubelet, kube-proxy, kube-scheduler, containerd, runc and CoreDNS.

About 2 minutes on two cores the first time, after the control plane's, with which they share most of what is compiled.
Versions stand beside those of the control plane.
``python -m tests.cluster.build`` builds what is absent and prints the folder.
"""

import sys
from pathlib import Path

import click

from fulltape.errors import ConfigurationError
from tests.control_plane.build import PROGRAMS, kubernetes_program
from tests.control_plane.go import Program, ensure_built

_CONTAINERD = "github.com/containerd/containerd/v2"
_RUNC = "github.com/opencontainers/runc"


def _containerd_program(name: str) -> Program:
    return Program(
        name=name,
        package=f"{_CONTAINERD}/cmd/{name}",
        module=_CONTAINERD,
        version={f"{_CONTAINERD}/version.Version": "{version}"},
        tags="no_btrfs no_devmapper no_zfs",
    )


_PROGRAMS = (
    *(kubernetes_program(name) for name in ("kube-scheduler", "kube-proxy", "kubelet")),
    *(_containerd_program(name) for name in ("containerd", "containerd-shim-runc-v2", "ctr")),
    # Debian's runc is too old; the filter of system calls needs the C library libseccomp.
    Program(
        name="runc", package=_RUNC, module=_RUNC, version={"main.version": "{version}"},
        tags="seccomp", uses_c=True,
    ),
    Program(name="coredns", package="./coredns"),
    Program(name="pause", package="./pause"),
)  # fmt: skip


def ensure_node_programs() -> Path:
    """Return the folder of the node's programs, after building them where they are absent.

    Raises:
        ConfigurationError: no Go, or one that is too old, no network, no room, no headers of libseccomp.

    """
    return ensure_built("node", PROGRAMS, _PROGRAMS, "2 minutes")


@click.command()
def main() -> None:
    """Build what is absent and print the folder of the programs."""
    try:
        click.echo(ensure_node_programs())
    except ConfigurationError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
