"""The pods of a feed: one template for every program, as strict as the *restricted* Pod Security Standard asks.

Source of the bounds: Kubernetes, "Pod Security Standards", restricted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.kafka import CREDENTIALS as KAFKA_CREDENTIALS
from fulltape.warehouse.credentials import CREDENTIALS as WAREHOUSE_CREDENTIALS
from fulltape.workloads import HEALTHY, METRICS, PROBES, READY, Workload
from fulltape_operator.desired.child import PREFIX, labels
from fulltape_operator.desired.kafka import kafka_secrets
from fulltape_operator.desired.settings import FEED_FILE
from fulltape_operator.platform import Platform

USER = 10001
"""User and group of every process."""

FEED_FOLDER = "/etc/fulltape/feed"
STATE_FOLDER = "/var/lib/fulltape"
_SCRATCH_FOLDER = "/tmp"  # noqa: S108 - a volume of the pod's own

_SPARK_COMPONENTS = {"panes", "archive"}
_CPU_MILLIS = {"producer": 150, "panes": 500, "monitor": 100, "dashboard": 25, "archive": 500, "warehouse": 50}
"""Of a core: what a thousand trades a second take, most of which are of a few products. It is also the share that a
program is left with where there are not cores enough for all, and trades wait for the one that has too little."""
_PRODUCT_CPU_MILLIS = {"producer": 5, "monitor": 7, "dashboard": 4, "warehouse": 2}
"""More of it for each product that a program reads. Spark's programs do not read which products there are, and are not
restarted for one more."""
_SCRATCH_MIB = {"panes": 2048, "archive": 2048}
_START_SECONDS = {"panes": 300, "archive": 300}
"""Spark takes a minute or more until it answers on a busy machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PodParts:
    """What a program's pod has beside what all have."""

    service_account: str
    mounts_token: bool = False
    """Whether it talks to the API server."""
    settings: str
    """Name of the ConfigMap with its feed."""
    arguments: Sequence[str]
    environment: Sequence[Mapping[str, Any]] = ()
    volumes: Sequence[Mapping[str, Any]] = ()
    mounts: Sequence[Mapping[str, Any]] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)


def pod_template(feed: CryptoFeed, workload: Workload, parts: PodParts, platform: Platform) -> dict[str, Any]:
    """Return the template of a program's pods."""
    volumes, mounts = _volumes(feed, workload, parts)
    spec: dict[str, Any] = {
        "serviceAccountName": parts.service_account,
        "automountServiceAccountToken": parts.mounts_token,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": workload.stop_seconds + 5,
        "securityContext": pod_security(),
        "containers": [
            {
                "name": workload.component,
                "image": image_of(workload, platform),
                "imagePullPolicy": platform.image_pull_policy,
                "command": ["python3"],
                "args": list(parts.arguments),
                "env": [{"name": "PYTHONUNBUFFERED", "value": "1"}, *parts.environment],
                "ports": [
                    {"name": name, "containerPort": number, "protocol": "TCP"}
                    for name, number in workload.ports.items()
                ],
                "startupProbe": {
                    **_probe(HEALTHY),
                    "periodSeconds": 2,
                    "failureThreshold": _START_SECONDS.get(workload.component, 60) // 2,
                },
                "livenessProbe": {**_probe(HEALTHY), "periodSeconds": 10, "failureThreshold": 3, "timeoutSeconds": 5},
                "readinessProbe": {**_probe(READY), "periodSeconds": 2, "failureThreshold": 2, "timeoutSeconds": 2},
                "resources": resources(feed, workload),
                "securityContext": container_security(),
                # What a program says as it ends is then in the feed's condition.
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
        **placement(platform),
    }
    metadata: dict[str, Any] = {
        "labels": labels(feed, workload.component) | {f"{PREFIX}/program": workload.name},
        # The container's name, so that `kubectl logs` needs none.
        "annotations": {"kubectl.kubernetes.io/default-container": workload.component, **parts.annotations},
    }
    return {"metadata": metadata, "spec": spec}


def image_of(workload: Workload, platform: Platform) -> str:
    """Return the image that a program is in."""
    return platform.images.spark if workload.component in _SPARK_COMPONENTS else platform.images.services


def pod_security() -> dict[str, Any]:
    """Return the security context of a pod: a user of no rights, and the runtime's own filter of system calls."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """Return the security context of a container: nothing of root's, and a file system that can't be written."""
    return {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def placement(platform: Platform) -> dict[str, Any]:
    """Return where pods may run and with what priority, as the cluster's administrator decided."""
    found: dict[str, Any] = {}
    if platform.image_pull_secrets:
        found["imagePullSecrets"] = [{"name": name} for name in platform.image_pull_secrets]
    if platform.node_selector:
        found["nodeSelector"] = dict(platform.node_selector)
    if platform.tolerations:
        found["tolerations"] = [dict(toleration) for toleration in platform.tolerations]
    if platform.affinity:
        found["affinity"] = dict(platform.affinity)
    if platform.priority_class_name:
        found["priorityClassName"] = platform.priority_class_name
    return found


def resources(feed: CryptoFeed, workload: Workload) -> dict[str, Any]:
    """Return what a program asks for: memory as measured, CPU by the products that it has to do with.

    CPU has no limit: one would add its throttling to the latency of every trade.
    """
    products = len(feed.spec.products)
    if workload.component == "producer":
        products = -(-products // feed.spec.producer.replicas)
    millis = _CPU_MILLIS[workload.component] + products * _PRODUCT_CPU_MILLIS.get(workload.component, 0)
    # The JVM's heap is bounded by itself; a Python program may hold a backlog for a while.
    limit_mib = workload.memory_mib * (1 if workload.component in _SPARK_COMPONENTS else 2)
    return {
        "requests": {"cpu": cpu(millis), "memory": mebibytes(workload.memory_mib)},
        "limits": {"memory": mebibytes(limit_mib)},
    }


def cpu(millis: int) -> str:
    """Write a share of cores in its shortest form, as the API server does: ``250m``, ``2``."""
    return f"{millis}m" if millis % 1000 else str(millis // 1000)


def mebibytes(mib: int) -> str:
    """Write an amount of memory in its shortest form, as the API server does: ``320Mi``, ``2Gi``."""
    return shortest(f"{mib}Mi")


def shortest(size: str) -> str:
    """Write a size in whole Mi, Gi or Ti in its shortest form, as the API server does: ``1024Mi`` is ``1Gi``."""
    units = ["Mi", "Gi", "Ti", "Pi"]
    number, unit = int(size[:-2]), units.index(size[-2:])
    while number % 1024 == 0 and unit + 1 < len(units):
        number, unit = number // 1024, unit + 1
    return f"{number}{units[unit]}"


def kafka_volumes(feed: CryptoFeed) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the volumes, and the mounts, of what lets a program into the feed's Kafka: none where it lets all in."""
    secrets = kafka_secrets(feed)
    volumes: list[Mapping[str, Any]] = [
        {"name": f"kafka-{folder}", "secret": {"secretName": secret, "defaultMode": 0o440}}
        for folder, secret in secrets.items()
    ]
    mounts: list[Mapping[str, Any]] = [
        {"name": f"kafka-{folder}", "mountPath": f"{KAFKA_CREDENTIALS}/{folder}", "readOnly": True}
        for folder in secrets
    ]
    return volumes, mounts


def _probe(path: str) -> dict[str, Any]:
    return {"httpGet": {"path": path, "port": PROBES}}


def scrape_endpoint() -> dict[str, str]:
    """Return where a PodMonitor reads a program's metrics."""
    return {"port": PROBES, "path": METRICS}


def _volumes(
    feed: CryptoFeed, workload: Workload, parts: PodParts
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return a pod's volumes and where its container mounts each."""
    scratch: dict[str, Any] = {"sizeLimit": mebibytes(_SCRATCH_MIB.get(workload.component, 64))}
    volumes: list[Mapping[str, Any]] = [
        {"name": "feed", "configMap": {"name": parts.settings, "items": [{"key": FEED_FILE, "path": FEED_FILE}]}},
        {"name": "scratch", "emptyDir": scratch},
    ]
    mounts: list[Mapping[str, Any]] = [
        {"name": "feed", "mountPath": FEED_FOLDER, "readOnly": True},
        {"name": "scratch", "mountPath": _SCRATCH_FOLDER},
    ]
    kafka_parts, kafka_mounts = kafka_volumes(feed)
    volumes += kafka_parts
    mounts += kafka_mounts
    warehouse = feed.spec.warehouse
    if "warehouse" in workload.reads and warehouse is not None and warehouse.redshift is not None:
        secret = warehouse.redshift.secret_ref.name
        volumes.append({"name": "warehouse", "secret": {"secretName": secret, "defaultMode": 0o440}})
        mounts.append({"name": "warehouse", "mountPath": str(WAREHOUSE_CREDENTIALS), "readOnly": True})
    return [*volumes, *parts.volumes], [*mounts, *parts.mounts]
