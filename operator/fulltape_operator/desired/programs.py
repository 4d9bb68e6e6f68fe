"""The programs of a feed as Kubernetes runs them: producers as a StatefulSet, everything else as Deployments.

A StatefulSet never has two pods of one ordinal, and the ordinal is the producer's shard. What keeps state, or must not
run twice, is recreated: the old pod has ended before the new one starts.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.workloads import PAGE, PROBES, Workload, workloads
from fulltape_operator.desired.access import executors_account, programs_account
from fulltape_operator.desired.child import Child, Manifest, Stage, child_name, manifest, selector
from fulltape_operator.desired.pods import FEED_FOLDER, STATE_FOLDER, PodParts, pod_template, shortest
from fulltape_operator.desired.route import route_children
from fulltape_operator.desired.s3 import s3_parts
from fulltape_operator.desired.settings import FEED_FILE, feed_settings, name_of
from fulltape_operator.desired.spark import checkpoint_volume, driver_environment, driver_settings, driver_volumes
from fulltape_operator.desired.spark_application import spark_application
from fulltape_operator.platform import Platform

_LISTEN = "0.0.0.0"  # noqa: S104 - the pod's own addresses; who may reach them the NetworkPolicy says
_SHARD_VARIABLE = "FULLTAPE_SHARD"
_ALLOWED_HOSTS_VARIABLE = "FULLTAPE_ALLOWED_HOSTS"
_HISTORY = 3

_STAGES: Mapping[str, Stage] = {
    "producer": Stage.PRODUCERS,
    "panes": Stage.ANALYTICS,
    "archive": Stage.ANALYTICS,
    "monitor": Stage.SERVING,
    "dashboard": Stage.SERVING,
    "warehouse": Stage.SERVING,
}


def program_children(feed: CryptoFeed, platform: Platform) -> list[Child]:
    """Return the workloads of a feed with what each needs; a suspended feed has them with no pods."""
    suspended = feed.spec.suspend
    # A laptop's warehouse is a file beside the programs, which the pods of a cluster do not share.
    warehouse = feed.spec.warehouse if has_database(feed) else None
    spec = feed.spec.model_copy(update={"suspend": False, "warehouse": warehouse})
    running = feed.model_copy(update={"spec": spec})
    programs = {workload.name: workload for workload in workloads(running)}
    found = _producers(running, programs["producer-0"], platform, suspended=suspended)
    for workload in programs.values():
        if workload.component != "producer":
            found += _deployment(running, workload, platform, suspended=suspended)
    return found


def has_database(feed: CryptoFeed) -> bool:
    """Tell whether the feed has a warehouse that a cluster can load."""
    return feed.spec.warehouse is not None and feed.spec.warehouse.redshift is not None


def _producers(feed: CryptoFeed, workload: Workload, platform: Platform, *, suspended: bool) -> list[Child]:
    """Return the producers: one workload's description serves all shards."""
    settings = feed_settings(feed, workload)
    shards = feed.spec.producer.replicas
    arguments = _arguments(feed, workload)
    arguments[arguments.index("--shard") + 1] = f"$({_SHARD_VARIABLE})"
    ordinal = {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['apps.kubernetes.io/pod-index']"}}
    parts = PodParts(
        service_account=programs_account(feed),
        settings=name_of(settings),
        arguments=arguments,
        environment=[{"name": _SHARD_VARIABLE, "valueFrom": ordinal}],
    )
    stateful_set = manifest(
        "apps/v1",
        "StatefulSet",
        feed,
        "producer",
        spec={
            "replicas": 0 if suspended else shards,
            "revisionHistoryLimit": _HISTORY,
            "serviceName": child_name(feed, "producer"),
            # Shards do not wait for one another, and one that ails does not hold up the others.
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": selector(feed, "producer")},
            "template": pod_template(feed, replace(workload, name="producer"), parts, platform),
        },
    )
    found = [
        settings,
        Child(Stage.FOUNDATION, headless_service(feed, "producer", {PROBES: workload.ports[PROBES]})),
        Child(Stage.PRODUCERS, stateful_set),
    ]
    if shards > 1:
        # Evictions take one producer at a time: the others hold the products that they have.
        found.append(Child(Stage.FOUNDATION, _disruption_budget(feed, "producer")))
    return found


def _deployment(feed: CryptoFeed, workload: Workload, platform: Platform, *, suspended: bool) -> list[Child]:
    settings = feed_settings(feed, workload)
    found = [settings]
    parts = PodParts(
        service_account=programs_account(feed), settings=name_of(settings), arguments=_arguments(feed, workload)
    )
    on_spark_operator = workload.component == "panes" and platform.spark_backend == "kubeflow"
    if workload.component == "panes":
        parts = replace(parts, service_account=executors_account(feed), mounts_token=True)
    if on_spark_operator:
        volumes, mounts = checkpoint_volume(feed, workload)
        parts = replace(parts, volumes=volumes, mounts=mounts)
    elif workload.component == "panes":
        conf = driver_settings(feed, workload, platform)
        found.append(conf)
        volumes, mounts = driver_volumes(feed, workload, name_of(conf))
        parts = replace(parts, environment=driver_environment(), volumes=volumes, mounts=mounts)
    elif workload.keeps_state:
        parts = replace(parts, volumes=[_state_volume(feed, workload)], mounts=[state_mount()])
    s3 = s3_parts(feed, workload, platform)
    parts = replace(
        parts,
        environment=[*parts.environment, *s3.environment],
        volumes=[*parts.volumes, *s3.volumes],
        mounts=[*parts.mounts, *s3.mounts],
    )
    if workload.component == "dashboard":
        parts = replace(parts, environment=[*parts.environment, _allowed_hosts(feed)])
        found.append(Child(Stage.FOUNDATION, _page_service(feed, workload)))
        found += route_children(feed, workload.ports[PAGE])
    if workload.keeps_state and (claim := _claim(feed, workload)) is not None:
        found.append(Child(Stage.FOUNDATION, claim))
    if workload.component == "panes":
        found.append(Child(Stage.FOUNDATION, _driver_service(feed, workload)))
    stage = _STAGES[workload.component]
    if on_spark_operator:
        return [*found, Child(stage, spark_application(feed, workload, parts, platform, suspended=suspended))]
    name = child_name(feed, workload.name)
    spec = {
        "replicas": 0 if suspended else 1,
        "revisionHistoryLimit": _HISTORY,
        "strategy": {"type": "Recreate"} if _runs_once(workload) else _ONE_MORE,
        "selector": {"matchLabels": {**selector(feed, workload.component), "fulltape.dev/program": workload.name}},
        "template": pod_template(feed, workload, parts, platform),
    }
    found.append(Child(stage, manifest("apps/v1", "Deployment", feed, workload.component, name=name, spec=spec)))
    return found


_ONE_MORE = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def _runs_once(workload: Workload) -> bool:
    """Tell whether the old pod must end before the new one starts; the page alone may be served twice."""
    return workload.component != "dashboard"


def _arguments(feed: CryptoFeed, workload: Workload) -> list[str]:
    state = f"{STATE_FOLDER}/state"
    if workload.component == "panes" and (prefix := checkpoint_prefix(feed)) is not None:
        state = f"{prefix}/{feed.metadata.namespace}/{feed.metadata.name}/{workload.name}"
    return workload.command(feed=f"{FEED_FOLDER}/{FEED_FILE}", host=_LISTEN, ports=workload.ports, state=state)


def checkpoint_prefix(feed: CryptoFeed) -> str | None:
    """Return the S3 prefix of the feed's checkpoints; None where they are on volumes."""
    analytics = feed.spec.analytics
    return None if analytics is None or analytics.checkpoint.uri is None else analytics.checkpoint.uri.rstrip("/")


def headless_service(feed: CryptoFeed, component: str, ports: Mapping[str, int], name: str | None = None) -> Manifest:
    """Return a Service that gives pods names and no address of its own."""
    return manifest(
        "v1",
        "Service",
        feed,
        component,
        name=name,
        spec={"clusterIP": "None", "selector": selector(feed, component), "ports": _service_ports(ports)},
    )


def _driver_service(feed: CryptoFeed, workload: Workload) -> Manifest:
    service = headless_service(feed, "panes", workload.ports, name=child_name(feed, workload.name))
    service["spec"]["selector"]["fulltape.dev/program"] = workload.name
    return service


def _page_service(feed: CryptoFeed, workload: Workload) -> Manifest:
    return manifest(
        "v1",
        "Service",
        feed,
        "dashboard",
        spec={
            "type": "ClusterIP",
            "selector": selector(feed, "dashboard"),
            "ports": _service_ports({PAGE: workload.ports[PAGE]}),
        },
    )


def _service_ports(ports: Mapping[str, int]) -> list[dict[str, Any]]:
    return [
        {"name": name, "port": number, "targetPort": name, "protocol": "TCP"} for name, number in sorted(ports.items())
    ]


def _disruption_budget(feed: CryptoFeed, component: str) -> Manifest:
    return manifest(
        "policy/v1",
        "PodDisruptionBudget",
        feed,
        component,
        spec={"maxUnavailable": 1, "selector": {"matchLabels": selector(feed, component)}},
    )


def _claim(feed: CryptoFeed, workload: Workload) -> Manifest | None:
    """Return the claim of a program's volume; None where its state is on S3."""
    analytics = feed.spec.analytics
    size, storage_class = "5Gi", None
    if workload.component == "panes" and analytics is not None:
        if analytics.checkpoint.uri is not None:
            return None
        if (volume := analytics.checkpoint.volume) is not None:
            size, storage_class = shortest(volume.size), volume.storage_class_name
    spec: dict[str, Any] = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": size}},
    }
    if storage_class is not None:
        spec["storageClassName"] = storage_class
    return manifest("v1", "PersistentVolumeClaim", feed, workload.component, name=claim_name(feed, workload), spec=spec)


def claim_name(feed: CryptoFeed, workload: Workload) -> str:
    """Return the name of the claim of a program's volume."""
    return child_name(feed, workload.name)


def _state_volume(feed: CryptoFeed, workload: Workload) -> dict[str, Any]:
    return {"name": "state", "persistentVolumeClaim": {"claimName": claim_name(feed, workload)}}


def state_mount() -> dict[str, Any]:
    """Return where a program's volume is mounted."""
    return {"name": "state", "mountPath": STATE_FOLDER}


def _allowed_hosts(feed: CryptoFeed) -> Mapping[str, str]:
    """Return the names by which browsers reach the page, within the cluster and from outside."""
    name, namespace = child_name(feed, "dashboard"), feed.metadata.namespace
    outside = [] if feed.spec.dashboard is None else [feed.spec.dashboard.host]
    return {
        "name": _ALLOWED_HOSTS_VARIABLE,
        "value": " ".join([name, f"{name}.{namespace}", f"{name}.{namespace}.svc", *outside]),
    }
