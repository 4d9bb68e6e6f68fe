"""The cluster of this machine where Docker is: kind's, made as ``kind-config.yaml`` says."""

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from fulltape.errors import ConfigurationError
from fulltape.local.jars import cache_folder
from images.build import ROOT, Builder
from tests.control_plane.go import Program, ensure_built

_CONFIG = ROOT / "kind-config.yaml"
_PROGRAM = Program(name="kind", package="sigs.k8s.io/kind", module="sigs.k8s.io/kind")


def ensure_kind() -> Path:
    """Return the program kind, after building it where it is absent.

    Raises:
        ConfigurationError: no Go, or one that is too old, no network, no room.

    """
    return ensure_built("kind", Path(__file__).parent, [_PROGRAM], "1 minute") / "kind"


class Kind:
    """The cluster that ``kind-config.yaml`` names.

    Args:
        program: kind.

    """

    kubeconfig = cache_folder() / "kind.kubeconfig"
    """Opens it."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def start(self) -> None:
        """Start it where it does not run, and return once its node is ready.

        Raises:
            ConfigurationError: kind failed; it has said why.

        """
        self.kubeconfig.parent.mkdir(parents=True, exist_ok=True)
        if self.runs():
            self._run("export", "kubeconfig")
        else:
            self._run("create", "cluster", f"--config={_CONFIG}", "--wait=120s")

    def runs(self) -> bool:
        """Tell whether there is such a cluster."""
        command = [self._program, "get", "clusters", "--quiet"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return _name() in done.stdout.split()

    def load_images(self, names: Iterable[str]) -> None:
        """Give its node images of Docker's.

        Raises:
            ConfigurationError: kind failed; it has said why.

        """
        with tempfile.TemporaryDirectory(prefix="fulltape-images-") as folder:
            archive = Path(folder) / "images.tar"
            Builder().save_together(names, archive)
            self._run("load", "image-archive", str(archive))

    def delete(self) -> None:
        """Delete it with all that is in it.

        Raises:
            ConfigurationError: kind failed; it has said why.

        """
        self._run("delete", "cluster")
        self.kubeconfig.unlink(missing_ok=True)

    def _run(self, *arguments: str) -> None:
        # Images are loaded without a kubeconfig.
        opens = [] if arguments[0] == "load" else [f"--kubeconfig={self.kubeconfig}"]
        if subprocess.run([self._program, *arguments, f"--name={_name()}", *opens], check=False).returncode:
            raise ConfigurationError(f"kind {' '.join(arguments[:2])} failed; what it said is above")


def _name() -> str:
    """Return the cluster's name, which kind's file has."""
    lines = _CONFIG.read_text().splitlines()
    return next(line.removeprefix("name:").strip() for line in lines if line.startswith("name:"))
