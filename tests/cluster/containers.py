"""The node's containerd, as its own client sees it."""

import subprocess
from pathlib import Path

from fulltape.errors import ConfigurationError
from tests.cluster.settings import SOCKET


def import_archive(programs: Path, archive: Path) -> None:
    """Give the node the images of an archive.

    Args:
        programs: folder of ctr.
        archive: as ``docker save`` writes it.

    Raises:
        ConfigurationError: it can't be read, or no node runs.

    """
    command = [programs / "ctr", "--address", SOCKET, "--namespace=k8s.io", "images", "import", "--local", archive]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"{archive} can't be given to the node: {done.stderr.strip()}")
