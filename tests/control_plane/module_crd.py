"""Fetches the CRDs that are files in Go modules, once: of HTTPRoutes, and of Kubeflow's SparkApplications."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.control_plane.cache import digest, made_once, say
from tests.control_plane.go import run_go

_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class ModuleCrd:
    """A CRD, and the module that it is in."""

    name: str
    """Of the folder with the go.mod that names the module's version, and the go.sum that holds its checksum."""
    module: str
    file: str


GATEWAY = ModuleCrd(
    "gateway", "sigs.k8s.io/gateway-api", "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"
)
SPARK = ModuleCrd(
    "kubeflow",
    "github.com/kubeflow/spark-operator/v2",
    "config/crd/bases/sparkoperator.k8s.io_sparkapplications.yaml",
)


def ensure_module_crd(crd: ModuleCrd) -> Path:
    """Return the file of a CRD, after fetching it where it is absent.

    Raises:
        ConfigurationError: no Go, no network, no room, or what was fetched is not what is locked.

    """
    folder, file = _FOLDER / crd.name, Path(crd.file)

    def make(made: Path) -> None:
        say(f"fetching the CRD of {crd.module} (once)")
        answer = json.loads(run_go("mod", "download", "-json", crd.module, folder=folder))
        shutil.copyfile(Path(answer["Dir"]) / file, made / file.name)

    key = digest(crd.file.encode(), *((folder / name).read_bytes() for name in ("go.mod", "go.sum")))
    return made_once(f"{crd.name}-crd-{key}", make) / file.name
