"""Runs a command with a control plane of its own: ``python -m tests.control_plane -- COMMAND...``.

Without a command it stays until Ctrl-C and prints the lines that open it to another terminal. Fulltape's CRD and
the neighbours' are there, and pods seem to run.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from fulltape.errors import ConfigurationError
from tests.control_plane.build import ensure_programs
from tests.control_plane.crds import ensure_crds
from tests.control_plane.kubelet import Kubelet
from tests.control_plane.plane import ControlPlane, ControlPlaneError

_CHART_CRDS = Path(__file__).parents[2] / "charts" / "fulltape" / "crds"


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def main(command: tuple[str, ...]) -> None:
    """Start a control plane, run COMMAND with KUBECONFIG set, and end with its exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that all is stopped and deleted
    try:
        with ControlPlane(ensure_programs(), [ensure_crds(), _CHART_CRDS]) as plane, Kubelet(plane):
            path = f"{plane.programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
            if not command:
                click.echo(f"export KUBECONFIG={plane.kubeconfig}\nexport PATH={plane.programs}{os.pathsep}$PATH")
                signal.pause()
            environment = os.environ | {"KUBECONFIG": str(plane.kubeconfig), "PATH": path}
            code = subprocess.run(command, env=environment, check=False).returncode
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except (ConfigurationError, ControlPlaneError, FileNotFoundError) as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(2)
    sys.exit(code if code >= 0 else 128 - code)  # as a shell says that a signal ended it


if __name__ == "__main__":
    main()
