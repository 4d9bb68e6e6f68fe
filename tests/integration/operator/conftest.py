"""The cluster of the operator's tests: the one that FULLTAPE_TEST_KUBECONFIG opens, or a control plane of their own.

Both hold Fulltape's own CRD and those of its neighbours.
"""

import os
from collections.abc import Callable, Generator, Iterator
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
import yaml

from fulltape.errors import ConfigurationError
from tests.control_plane.build import ensure_programs
from tests.control_plane.crds import ensure_crds
from tests.control_plane.kubelet import Kubelet
from tests.control_plane.module_crd import GATEWAY, SPARK, ensure_module_crd
from tests.control_plane.plane import Cluster, ControlPlane, KubectlError
from tests.lacking import lacking

_OWN_CRD = Path(__file__).parents[3] / "charts" / "fulltape" / "crds" / "cryptofeeds.yaml"


@pytest.fixture(scope="package")
def programs(pytestconfig: pytest.Config) -> Path:
    """Give the folder of kubectl, helm and the servers."""
    return _aloud(pytestconfig, ensure_programs)


@pytest.fixture(scope="package")
def crds(pytestconfig: pytest.Config) -> list[Path]:
    """Give all CRDs that a feed needs, a file for each."""
    own = [_OWN_CRD] if _OWN_CRD.exists() else []
    of_modules = [_aloud(pytestconfig, partial(ensure_module_crd, crd)) for crd in (GATEWAY, SPARK)]
    return [*sorted(_aloud(pytestconfig, ensure_crds).iterdir()), *of_modules, *own]


@pytest.fixture(scope="package")
def _cluster(
    programs: Path, crds: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Cluster, Kubelet | None]]:
    if named := os.environ.get("FULLTAPE_TEST_KUBECONFIG"):
        cluster = Cluster(Path(named), programs / "kubectl", tmp_path_factory.mktemp("cluster"))
        _install_absent(cluster, crds)
        yield cluster, None
    else:
        with ControlPlane(programs, crds) as plane, Kubelet(plane) as kubelet:
            yield plane, kubelet


@pytest.fixture(scope="package")
def plane(_cluster: tuple[Cluster, Kubelet | None]) -> Cluster:
    """Give the tests' cluster, whose pods run or seem to."""
    return _cluster[0]


@pytest.fixture(scope="package")
def kubelet(_cluster: tuple[Cluster, Kubelet | None]) -> Kubelet:
    """Give what decides on the fate of pods; skip the calling test where real nodes do."""
    if _cluster[1] is None:
        pytest.skip("a cluster with nodes decides itself what becomes of pods")
    return _cluster[1]


@pytest.fixture
def namespace(plane: Cluster) -> Iterator[str]:
    """Give a new namespace, which admits only pods of the restricted Pod Security Standard."""
    name = f"test-{uuid4().hex[:12]}"
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    plane.kubectl(
        "create",
        "--filename=-",
        input=yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}),
    )
    # Pods are refused until the controllers have made it.
    plane.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={name}", "--timeout=60s")
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def control_plane(plane: Cluster, namespace: str) -> Iterator[ControlPlane]:
    """Give the control plane to a test that takes its API server down; skip it where the cluster is another's."""
    if not isinstance(plane, ControlPlane):
        pytest.skip("the API server of another's cluster is not taken down")
    yield plane
    if not plane.is_ready():
        plane.start_api_server()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the ends of the servers' logs with a test that failed."""
    report = yield
    plane = getattr(item, "funcargs", {}).get("plane")
    if report.failed and isinstance(plane, ControlPlane):
        report.sections.append(("control plane", plane.ends_of_logs()))
    return report


def _aloud(config: pytest.Config, make: Callable[[], Path]) -> Path:
    """Make what takes minutes the first time, with its progress shown; skip the calling test where that can't be."""
    capture = config.pluginmanager.getplugin("capturemanager")
    assert capture is not None
    try:
        with capture.global_and_fixture_disabled():
            return make()
    except ConfigurationError as error:
        lacking(str(error))


def _install_absent(cluster: Cluster, crds: list[Path]) -> None:
    """Install the CRDs that a cluster lacks: those of neighbours that it has are its own business."""
    for path in crds:
        if path != _OWN_CRD:
            try:
                cluster.kubectl("get", f"--filename={path}")
            except KubectlError:
                pass
            else:
                continue
        cluster.install_crds([path])
