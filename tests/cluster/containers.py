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
    _ctr(programs, "images", "import", "--local", str(archive))


def tag_image(programs: Path, name: str, other: str) -> None:
    """Give an image of the node another name too.

    Args:
        programs: folder of ctr.
        name: one that it has.
        other: the new one.

    Raises:
        ConfigurationError: there is no such image, or no node runs.

    """
    _ctr(programs, "images", "tag", "--force", name, other)


def _ctr(programs: Path, *arguments: str) -> None:
    command = [programs / "ctr", "--address", SOCKET, "--namespace=k8s.io", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ConfigurationError(f"the node's containerd: {' '.join(arguments)}: {done.stderr.strip()}")
