"""Runs programs of Fulltape's image in a pod, beside Kafka by default, and gives what they print."""

import time
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import uuid4

import yaml
from kubernetes import client, config
from urllib3.exceptions import HTTPError

from tests.cluster.demo import DATA_NAMESPACE
from tests.cluster.images import TAG
from tests.control_plane.plane import Cluster

BOOTSTRAP_SERVERS = "kafka.data.svc:9092"
FILES = "/files"
"""Where the programs find the files that they are given."""

_LOOK_SECONDS = 0.5
_LEAST = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}


def run_job(
    cluster: Cluster,
    programs: Mapping[str, Sequence[str]],
    patience_seconds: float,
    files: Mapping[str, str] | None = None,
    *,
    namespace: str = DATA_NAMESPACE,
    secrets: Mapping[str, str] | None = None,
    cpu: str = "0",
) -> dict[str, str]:
    """Run programs side by side and return what each printed, whether or not it failed.

    Args:
        cluster: its nodes have the image.
        programs: the command of each, by a name.
        patience_seconds: after which the job is no longer waited for.
        files: what the programs find in `FILES`, by name.
        namespace: the pod's.
        secrets: names of Secrets that the programs find in folders, by the folder's path.
        cpu: what each program asks for: by nothing it gets what others leave.

    Raises:
        AssertionError: it did not end in time.

    """
    name = f"job-{uuid4().hex[:8]}"
    metadata = {"name": name, "namespace": namespace}
    given_secrets = [(f"secret-{number}", *one) for number, one in enumerate((secrets or {}).items())]
    volumes: list[dict[str, Any]] = [
        {"name": "files", "configMap": {"name": name}},
        {"name": "scratch", "emptyDir": {}},
        *({"name": volume, "secret": {"secretName": secret}} for volume, _, secret in given_secrets),
    ]
    mounts = [
        {"name": "files", "mountPath": FILES},
        {"name": "scratch", "mountPath": "/tmp"},
        *({"name": volume, "mountPath": folder} for volume, folder, _ in given_secrets),
    ]
    containers: list[dict[str, Any]] = [
        {
            "name": program,
            "image": f"localhost/fulltape:{TAG}",
            "command": list(command),
            "resources": {"requests": {"cpu": cpu}},
            "securityContext": _LEAST,
            "volumeMounts": mounts,
        }
        for program, command in programs.items()
    ]
    pod = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": containers,
        "volumes": volumes,
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata,
        "spec": {"backoffLimit": 0, "template": {"spec": pod}},
    }
    given = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(files or {})}
    cluster.kubectl("create", "--filename=-", input=yaml.safe_dump_all([given, job]))
    _wait_until_ended(cluster, name, namespace, patience_seconds)
    said = {
        program: cluster.kubectl("logs", f"job/{name}", f"--container={program}", f"--namespace={namespace}")
        for program in programs
    }
    cluster.kubectl("delete", f"job/{name}", f"configmap/{name}", f"--namespace={namespace}", "--wait=false")
    return said


def _wait_until_ended(cluster: Cluster, name: str, namespace: str, patience_seconds: float) -> None:
    # Each kubectl would take half a second of CPU from what is measured or disturbed.
    jobs = client.BatchV1Api(config.new_client_from_config(str(cluster.kubeconfig)))
    deadline = time.monotonic() + patience_seconds
    while time.monotonic() < deadline:
        try:
            status = jobs.read_namespaced_job_status(name, namespace).status
        except (client.ApiException, HTTPError):  # the API server may be away
            status = None
        if status is not None and (status.succeeded or status.failed):
            return
        time.sleep(_LOOK_SECONDS)
    pods = cluster.kubectl("describe", "pods", f"--selector=job-name={name}", f"--namespace={namespace}")
    raise AssertionError(f"{name} did not end in {patience_seconds:g} s\n{pods}")
