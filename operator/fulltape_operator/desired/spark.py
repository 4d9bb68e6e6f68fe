"""Spark on Kubernetes without an operator of its own: the driver is the program's pod, and makes its executors itself.

Spark calls this client mode. The driver reads its settings from a ConfigMap, and from it the template of its executors'
pods; they belong to the driver's pod, and go with it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.workloads import Workload
from fulltape_operator.desired.access import programs_account
from fulltape_operator.desired.child import Child, child_name, labels, selector
from fulltape_operator.desired.pods import STATE_FOLDER, container_security, cpu, kafka_volumes, placement, pod_security
from fulltape_operator.desired.s3 import s3_parts
from fulltape_operator.desired.settings import settings
from fulltape_operator.platform import Platform

_CONF_FOLDER = "/etc/fulltape/spark"
_SETTINGS_FILE = "settings.json"
_TEMPLATE_FILE = "executor.json"
_EXECUTOR_MIB = 1024
_EXECUTOR_OVERHEAD_MIB = 512
PORTS = {"spark.driver.port": "7078", "spark.blockManager.port": "7079"}
"""Where a driver listens to its executors."""
_API_SERVER = "k8s://https://kubernetes.default.svc"


@dataclass(frozen=True, slots=True, kw_only=True)
class Executors:
    """What the executors of a stream ask for, in Spark's words."""

    instances: int
    cores: int
    """Tasks at a time."""
    cpu: str
    """Of the node: tasks wait most of the time, and need their slots, not a core each."""
    memory: str = f"{_EXECUTOR_MIB}m"
    memory_overhead: str = f"{_EXECUTOR_OVERHEAD_MIB}m"


def executors_of(feed: CryptoFeed) -> Executors:
    """Return the executors of each of a feed's streams."""
    analytics = feed.spec.analytics
    assert analytics is not None  # its streams alone ask
    # Of a batch every task runs all the time: those that read a partition, and as many that keep the sums.
    slots = 2 * feed.spec.kafka.topics.partitions
    cores = -(-slots // analytics.executors)
    return Executors(instances=analytics.executors, cores=cores, cpu=cpu(250 * -(-cores // 2)))


def driver_settings(feed: CryptoFeed, workload: Workload, platform: Platform) -> Child:
    """Return the ConfigMap with Spark's settings and the template of executors for one stream."""
    properties = _properties(feed, workload, platform)
    files = {_SETTINGS_FILE: properties, _TEMPLATE_FILE: executor_template(feed, workload, platform)}
    content = {name: json.dumps(value, indent=1, sort_keys=True) for name, value in files.items()}
    return settings(feed, "panes", f"{workload.name}-spark", content)


def driver_environment() -> list[Mapping[str, Any]]:
    """Return what tells the program to be a driver in a cluster, at its pod's address."""

    def own(path: str) -> Mapping[str, Any]:
        return {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}

    return [
        {"name": "FULLTAPE_SPARK_MASTER", "value": _API_SERVER},
        {"name": "FULLTAPE_SPARK_ADDRESS", "valueFrom": own("status.podIP")},
        {"name": "FULLTAPE_POD_NAME", "valueFrom": own("metadata.name")},
        {"name": "FULLTAPE_SPARK_SETTINGS", "value": f"{_CONF_FOLDER}/{_SETTINGS_FILE}"},
    ]


def driver_volumes(
    feed: CryptoFeed, workload: Workload, conf: str
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the driver's volumes and mounts: its settings, and its checkpoint where that is on a volume."""
    volumes, mounts = checkpoint_volume(feed, workload)
    volumes.insert(0, {"name": "spark", "configMap": {"name": conf}})
    mounts.insert(0, {"name": "spark", "mountPath": _CONF_FOLDER, "readOnly": True})
    return volumes, mounts


def checkpoint_volume(feed: CryptoFeed, workload: Workload) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the volume with a stream's checkpoint and its mount; none where that is on S3."""
    volumes: list[Mapping[str, Any]] = []
    mounts: list[Mapping[str, Any]] = []
    if (claim := _claim(feed, workload)) is not None:
        volumes.append({"name": "state", "persistentVolumeClaim": {"claimName": claim}})
        mounts.append({"name": "state", "mountPath": STATE_FOLDER})
    return volumes, mounts


def _claim(feed: CryptoFeed, workload: Workload) -> str | None:
    analytics = feed.spec.analytics
    assert analytics is not None  # its streams alone ask
    return None if analytics.checkpoint.uri is not None else child_name(feed, workload.name)


def _properties(feed: CryptoFeed, workload: Workload, platform: Platform) -> dict[str, str]:
    executors = executors_of(feed)
    found = {
        "spark.kubernetes.namespace": feed.metadata.namespace,
        "spark.kubernetes.container.image": platform.images.spark,
        "spark.kubernetes.container.image.pullPolicy": platform.image_pull_policy,
        "spark.kubernetes.executor.podTemplateFile": f"{_CONF_FOLDER}/{_TEMPLATE_FILE}",
        "spark.kubernetes.executor.podTemplateContainerName": "executor",
        "spark.kubernetes.executor.podNamePrefix": child_name(feed, workload.name),
        "spark.kubernetes.executor.deleteOnTermination": "true",
        "spark.kubernetes.authenticate.oauthTokenFile": "/var/run/secrets/kubernetes.io/serviceaccount/token",
        "spark.kubernetes.authenticate.caCertFile": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        "spark.executor.instances": str(executors.instances),
        "spark.executor.cores": str(executors.cores),
        "spark.kubernetes.executor.request.cores": executors.cpu,
        "spark.executor.memory": executors.memory,
        "spark.executor.memoryOverhead": executors.memory_overhead,
        **PORTS,
    }
    if platform.image_pull_secrets:
        found["spark.kubernetes.container.image.pullSecrets"] = ",".join(platform.image_pull_secrets)
    return found


def executor_template(
    feed: CryptoFeed, workload: Workload, platform: Platform, container_name: str = "executor"
) -> dict[str, Any]:
    """Return the pod that Spark completes to an executor.

    It reads and writes Kafka by what the driver's options name: files, which must be at the same place. A volume can be
    mounted on one node alone: with one, executors run on their driver's node.
    """
    s3 = s3_parts(feed, workload, platform)
    kafka, kafka_mounts = kafka_volumes(feed)
    container: dict[str, Any] = {
        "name": container_name,
        "env": s3.environment,
        "securityContext": container_security(),
        "volumeMounts": [
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108 - a volume of its own
            *kafka_mounts,
            *s3.mounts,
        ],
    }
    spec: dict[str, Any] = {
        # Has no rights in the cluster, and the role on AWS that other programs have.
        "serviceAccountName": programs_account(feed),
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": pod_security(),
        "containers": [container],
        "volumes": [{"name": "scratch", "emptyDir": {"sizeLimit": "2Gi"}}, *kafka, *s3.volumes],
        **placement(platform),
    }
    if (claim := _claim(feed, workload)) is not None:
        spec["volumes"].append({"name": "state", "persistentVolumeClaim": {"claimName": claim}})
        container["volumeMounts"].append({"name": "state", "mountPath": STATE_FOLDER})
        driver = {**selector(feed, "panes"), "fulltape.dev/program": workload.name}
        beside = {"labelSelector": {"matchLabels": driver}, "topologyKey": "kubernetes.io/hostname"}
        spec["affinity"] = {
            **spec.get("affinity", {}),
            "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [beside]},
        }
    executor_labels = {**labels(feed, "executor"), "fulltape.dev/program": f"{workload.name}-executor"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": executor_labels}, "spec": spec}
