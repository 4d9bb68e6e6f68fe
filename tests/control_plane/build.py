"""Builds the programs of the control plane once: kube-apiserver, kube-controller-manager, kubectl, etcd and helm.

They are compiled from Go modules, about 9 minutes on two cores the first time. Their versions stand in
``programs/go.mod``.
``python -m tests.control_plane.build`` builds what is absent and prints the folder.
"""

import sys
from pathlib import Path

import click

from fulltape.errors import ConfigurationError
from tests.control_plane.go import Program, ensure_built

PROGRAMS = Path(__file__).with_name("programs")
"""The Go module of all programs of a cluster for tests."""
_COMPONENT = "k8s.io/component-base/version"


def kubernetes_program(name: str) -> Program:
    """Return one of the programs that Kubernetes itself is made of."""
    return Program(
        name=name,
        package=f"k8s.io/kubernetes/cmd/{name}",
        module="k8s.io/kubernetes",
        version={
            f"{_COMPONENT}.gitVersion": "{version}",
            f"{_COMPONENT}.gitMajor": "{major}",
            f"{_COMPONENT}.gitMinor": "{minor}",
        },
    )


_PROGRAMS = (
    Program(name="etcd", package="go.etcd.io/etcd/server/v3", module="go.etcd.io/etcd/server/v3"),
    Program(
        name="helm",
        package="helm.sh/helm/v4/cmd/helm",
        module="helm.sh/helm/v4",
        version={"helm.sh/helm/v4/internal/version.version": "{version}"},
    ),
    *(kubernetes_program(name) for name in ("kubectl", "kube-apiserver", "kube-controller-manager")),
)


def ensure_programs() -> Path:
    """Return the folder of the programs, after building them where they are absent.

    Raises:
        ConfigurationError: no Go, or one that is too old, no network, no room.

    """
    return ensure_built("control-plane", PROGRAMS, _PROGRAMS, "9 minutes")


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
