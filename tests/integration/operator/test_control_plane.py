"""The control plane of the tests is a real one, and its stand-in for nodes does as nodes do."""

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fulltape.errors import ConfigurationError
from tests.control_plane import crds as neighbours
from tests.control_plane.build import ensure_programs
from tests.control_plane.cache import made_once
from tests.control_plane.go import run_go
from tests.control_plane.kubelet import Fate, Kubelet
from tests.control_plane.plane import Cluster, ControlPlane, KubectlError

pytestmark = pytest.mark.integration

_ROOT = Path(__file__).parents[3]
_RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
_CONTAINER = {"name": "main", "image": "registry.example/main:1", "securityContext": _RESTRICTED}


def test_the_kinds_of_a_feeds_neighbours_are_known(plane: Cluster) -> None:
    known = plane.kubectl("api-resources", "--output=name").split()
    assert {
        "kafkas.kafka.strimzi.io",
        "kafkatopics.kafka.strimzi.io",
        "kafkausers.kafka.strimzi.io",
        "podmonitors.monitoring.coreos.com",
        "prometheusrules.monitoring.coreos.com",
    } <= set(known)


def test_an_unknown_field_of_a_kafka_topic_is_refused(plane: Cluster, namespace: str) -> None:
    topic = _topic(partitions=6)
    _apply(plane, namespace, topic)
    topic["spec"]["partitons"] = 7
    with pytest.raises(KubectlError, match=r'unknown field "spec\.partitons"'):
        _apply(plane, namespace, topic)


def test_a_value_that_a_neighbours_schema_does_not_allow_is_refused(plane: Cluster, namespace: str) -> None:
    with pytest.raises(KubectlError, match=r"spec\.partitions.* greater than or equal to 1"):
        _apply(plane, namespace, _topic(partitions=0))


@pytest.mark.parametrize("owner", ["ConfigMap", "KafkaTopic"])
def test_a_child_goes_with_its_owner(plane: Cluster, namespace: str, owner: str) -> None:
    parent = _topic(partitions=1) if owner == "KafkaTopic" else _config_map("trades")
    _apply(plane, namespace, parent)
    uid = plane.get(owner, "trades", f"--namespace={namespace}")["metadata"]["uid"]
    child = _config_map("child")
    reference = {"apiVersion": parent["apiVersion"], "kind": owner, "name": "trades", "uid": uid}
    child["metadata"]["ownerReferences"] = [reference]
    _apply(plane, namespace, child)
    plane.kubectl("delete", owner, "trades", f"--namespace={namespace}")
    plane.kubectl("wait", "--for=delete", "configmap/child", f"--namespace={namespace}", "--timeout=60s")


def test_a_privileged_pod_is_refused(plane: Cluster, namespace: str) -> None:
    pod = _pod(restartPolicy="Always")
    pod["spec"]["containers"] = [_CONTAINER | {"securityContext": {"privileged": True}}]
    with pytest.raises(KubectlError, match=r'violates PodSecurity "restricted:latest": privileged'):
        _apply(plane, namespace, pod)


def test_a_service_account_may_do_what_its_role_says_and_no_more(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", f"--namespace={namespace}")
    control_plane.kubectl("create", "role", "r", "--verb=get", "--resource=configmaps", f"--namespace={namespace}")
    control_plane.kubectl(
        "create", "rolebinding", "r", "--role=r", f"--serviceaccount={namespace}:reader", f"--namespace={namespace}"
    )
    _apply(control_plane, namespace, _config_map("seen"))
    as_reader = f"--kubeconfig={control_plane.kubeconfig_for('reader', namespace)}"

    control_plane.kubectl("get", "configmap", "seen", as_reader)
    with pytest.raises(KubectlError, match=r'"system:serviceaccount:.*:reader" cannot delete resource "configmaps"'):
        control_plane.kubectl("delete", "configmap", "seen", "--wait=false", as_reader)

    asked = {
        (event["verb"], event["responseStatus"]["code"])
        for event in control_plane.requests_of("reader", namespace)
        if event.get("objectRef", {}).get("resource") == "configmaps"
    }
    assert asked == {("get", 200), ("delete", 403)}


def test_who_does_not_say_who_he_is_gets_nothing(control_plane: ControlPlane) -> None:
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{control_plane.url}/version", context=control_plane.ssl_context, timeout=10)


def test_the_api_server_comes_back_where_it_was_with_its_data(control_plane: ControlPlane, namespace: str) -> None:
    _apply(control_plane, namespace, _config_map("kept"))
    before = control_plane.get("configmap", "kept", f"--namespace={namespace}")
    control_plane.stop_api_server()
    with pytest.raises(KubectlError, match="refused"):
        control_plane.kubectl("get", "configmaps")
    control_plane.start_api_server()
    assert control_plane.get("configmap", "kept", f"--namespace={namespace}") == before


def test_controllers_and_nodes_go_on_after_the_api_server_was_away(
    control_plane: ControlPlane, kubelet: Kubelet, namespace: str
) -> None:
    assert kubelet is not None
    control_plane.stop_api_server()
    control_plane.start_api_server()
    _apply(control_plane, namespace, _deployment())
    control_plane.kubectl("rollout", "status", "deployment/main", f"--namespace={namespace}", "--timeout=60s")


def test_a_deployment_becomes_available_and_its_pods_go_when_it_is_deleted(plane: Cluster, namespace: str) -> None:
    _apply(plane, namespace, _deployment())
    plane.kubectl("rollout", "status", "deployment/main", f"--namespace={namespace}", "--timeout=60s")
    plane.kubectl("delete", "deployment", "main", f"--namespace={namespace}")
    plane.kubectl("wait", "--for=delete", "pod", "--selector=app=main", f"--namespace={namespace}", "--timeout=60s")


def test_a_stateful_set_gets_its_volumes_one_pod_after_another(
    plane: Cluster, kubelet: Kubelet, namespace: str
) -> None:
    kubelet.treat(f"{namespace}/data-main-1", Fate.PENDING)
    claims = [
        {
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
        }
    ]
    spec = {"replicas": 2, "serviceName": "main", "volumeClaimTemplates": claims}
    _apply(plane, namespace, _workload("apps/v1", "StatefulSet", spec))
    plane.kubectl("wait", "--for=create", "pod/main-1", f"--namespace={namespace}", "--timeout=60s")
    plane.kubectl(
        "wait", "--for=jsonpath={.status.conditions[0].message}=persistentvolumeclaim data-main-1 is not bound",
        "pod/main-1", f"--namespace={namespace}", "--timeout=60s",
    )  # fmt: skip
    kubelet.treat(f"{namespace}/data-main-1", Fate.WELL)
    plane.kubectl("rollout", "status", "statefulset/main", f"--namespace={namespace}", "--timeout=60s")


def test_a_volume_goes_with_its_claim(plane: Cluster, kubelet: Kubelet, namespace: str) -> None:
    assert kubelet is not None
    _apply(
        plane,
        namespace,
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "5Gi"}}},
        },
    )
    here = f"--namespace={namespace}"
    plane.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/data", here, "--timeout=60s")
    volume = plane.get("pvc", "data", here)["spec"]["volumeName"]
    plane.kubectl("delete", "pvc", "data", here)
    plane.kubectl("wait", "--for=delete", f"pv/{volume}", "--timeout=60s")


def test_a_job_completes_or_fails_as_a_test_wants(plane: Cluster, kubelet: Kubelet, namespace: str) -> None:
    kubelet.treat(f"{namespace}/bad-*", Fate.CRASHING)
    for name in ("good", "bad"):
        job = _workload("batch/v1", "Job", {"backoffLimit": 0}, name=name, restarts="Never")
        del job["spec"]["selector"]
        _apply(plane, namespace, job)
    plane.kubectl("wait", "--for=condition=Complete", "job/good", f"--namespace={namespace}", "--timeout=60s")
    plane.kubectl("wait", "--for=condition=Failed", "job/bad", f"--namespace={namespace}", "--timeout=60s")


def test_a_pod_may_find_no_node_then_crash_then_not_be_ready_and_then_be_well(
    plane: Cluster, kubelet: Kubelet, namespace: str
) -> None:
    def wait(path: str, value: str) -> None:
        condition = f"--for=jsonpath={{.status.{path}}}={value}"
        plane.kubectl("wait", condition, "pod/main", f"--namespace={namespace}", "--timeout=60s")

    kubelet.treat(f"{namespace}/main", Fate.PENDING)
    _apply(plane, namespace, _pod(restartPolicy="Always"))
    wait("conditions[?(@.type=='PodScheduled')].reason", "Unschedulable")
    kubelet.treat(f"{namespace}/*", Fate.CRASHING)
    wait("containerStatuses[0].state.waiting.reason", "CrashLoopBackOff")
    kubelet.treat(f"{namespace}/main", Fate.UNREADY)
    wait("conditions[?(@.type=='Ready')].reason", "ContainersNotReady")
    wait("containerStatuses[0].started", "true")
    kubelet.treat(f"{namespace}/main", Fate.WELL)
    wait("conditions[?(@.type=='Ready')].status", "True")


def test_a_command_runs_with_a_control_plane_of_its_own_and_its_code_is_given_back(programs: Path) -> None:
    script = 'kubectl get crd kafkatopics.kafka.strimzi.io >&2 && test "$(command -v helm)" = "$0/helm" && exit 7'
    with _module("--", "sh", "-c", script, str(programs)) as process:
        assert process.wait(120) == 7


def test_nothing_of_a_control_plane_outlives_its_killed_owner(programs: Path) -> None:
    assert programs
    owner = _module()
    assert owner.stdout is not None
    folder = Path(owner.stdout.readline().removeprefix("export KUBECONFIG=").strip()).parent
    try:
        assert {name for name, _ in _processes(folder)} == {"etcd", "kube-apiserver", "kube-controller"}
    finally:
        owner.kill()
        owner.communicate()
        _until(lambda: not _processes(folder))
        shutil.rmtree(folder)


def test_without_go_it_is_said_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ConfigurationError, match="no go is on PATH; install it"):
        ensure_programs()


def test_a_download_that_is_not_what_is_locked_is_refused(tmp_path: Path, programs: Path) -> None:
    assert programs
    shutil.copytree(neighbours._PROMETHEUS, tmp_path, dirs_exist_ok=True)
    sums = (tmp_path / "go.sum").read_text()
    (tmp_path / "go.sum").write_text(sums.replace("h1:M5x", "h1:N5x"))
    with pytest.raises(ConfigurationError, match="checksum mismatch"):
        run_go("mod", "download", "-json", neighbours._PROMETHEUS_MODULE, folder=tmp_path)


def test_what_fails_or_is_killed_halfway_leaves_nothing_that_is_taken_for_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise ConfigurationError("no network")

    with pytest.raises(ConfigurationError, match="no network"):
        made_once("thing", fail)
    (tmp_path / "fulltape" / "thing.making").mkdir()  # as a killed process leaves it
    (tmp_path / "fulltape" / "thing.making" / "half").touch()
    folder = made_once("thing", lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]


def test_many_that_want_the_same_at_a_time_make_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made: list[Path] = []
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: made_once("thing", made.append), range(8)))
    assert len(made) == 1
    assert set(folders) == {tmp_path / "fulltape" / "thing"}


def _apply(plane: Cluster, namespace: str, *objects: Mapping[str, Any]) -> None:
    for item in objects:
        plane.kubectl("apply", "--filename=-", f"--namespace={namespace}", input=json.dumps(item))


def _config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "b"}}


def _topic(partitions: int) -> dict[str, Any]:
    spec = {"partitions": partitions, "replicas": 1}
    return {"apiVersion": "kafka.strimzi.io/v1", "kind": "KafkaTopic", "metadata": {"name": "trades"}, "spec": spec}


def _pod(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "main", "labels": {"app": "main"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [_CONTAINER], **spec}}


def _workload(
    version: str, kind: str, spec: Mapping[str, Any], *, name: str = "main", restarts: str = "Always"
) -> dict[str, Any]:
    template = _pod(restartPolicy=restarts)
    return {
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": "main"}},
            "template": {"metadata": {"labels": {"app": "main"}}, "spec": template["spec"]},
            **spec,
        },
    }


def _deployment() -> dict[str, Any]:
    return _workload("apps/v1", "Deployment", {"replicas": 2})


def _module(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.control_plane", *arguments], cwd=_ROOT, stdout=subprocess.PIPE, text=True
    )


def _processes(folder: Path) -> list[tuple[str, int]]:
    """Give name and id of each process whose command line names a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(folder).encode() in (path / "cmdline").read_bytes():
                found.append(((path / "comm").read_text().strip(), int(path.name)))
    return found


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)
