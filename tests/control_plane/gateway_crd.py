"""Fetches the CRD of HTTPRoutes, once: a file in the Go module of the Gateway API, as released."""

import json
import shutil
from pathlib import Path

from tests.control_plane.cache import digest, made_once, say
from tests.control_plane.go import run_go

_FOLDER = Path(__file__).parent / "gateway"
_MODULE = "sigs.k8s.io/gateway-api"
_FILE = "gateway.networking.k8s.io_httproutes.yaml"


def ensure_gateway_crd() -> Path:
    """Return the file of the CRD, after fetching it where it is absent.

    Raises:
        ConfigurationError: no Go, no network, no room, or what was fetched is not what is locked.

    """
    key = digest(*((_FOLDER / name).read_bytes() for name in ("go.mod", "go.sum")))
    return made_once(f"gateway-crd-{key}", _make) / _FILE


def _make(folder: Path) -> None:
    say("fetching the CRD of the Gateway API (once)")
    answer = json.loads(run_go("mod", "download", "-json", _MODULE, folder=_FOLDER))
    shutil.copyfile(Path(answer["Dir"]) / "config" / "crd" / "standard" / _FILE, folder / _FILE)
