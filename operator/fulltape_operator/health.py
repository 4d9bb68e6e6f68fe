"""How each kind of object does, as its own controller reports it in the object's status. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fulltape_operator.desired.child import Manifest


@dataclass(frozen=True, slots=True)
class Health:
    """How a child does, as its own controller reports it."""

    ready: int = 1
    wanted: int = 1
    rolling: bool = False
    """Whether a change of a workload has not reached all its pods."""
    failed: bool = False
    """Whether it will not get ready by itself."""
    problem: str = ""
    """What its controller says is wrong."""


def health_of(live: Manifest) -> Health:
    """Read how an object does; what has no status is well once it is there."""
    return _OF_KIND.get(live["kind"], lambda _: Health())(live)


def _of_workload(live: Manifest) -> Health:
    spec, status = live["spec"], live.get("status", {})
    wanted = spec.get("replicas", 1)
    ready = status.get("readyReplicas", 0)
    updated = status.get("updatedReplicas", 0)
    lost = status.get("replicas", 0) - updated
    noticed = status.get("observedGeneration", 0) >= live["metadata"]["generation"]
    problems = [
        condition.get("message", "")
        for condition in status.get("conditions", ())
        if (condition["type"] == "ReplicaFailure" and condition["status"] == "True")
        or (condition["type"] == "Progressing" and condition["status"] == "False")
    ]
    return Health(
        ready=ready,
        wanted=wanted,
        rolling=not noticed or updated < wanted or lost > 0 or ready < wanted,
        problem="; ".join(problems),
    )


def _of_strimzi(live: Manifest) -> Health:
    """Read the Ready condition that Strimzi's operators set; without one they have not looked at it yet."""
    conditions = live.get("status", {}).get("conditions", ())
    ready = next((condition for condition in conditions if condition.get("type") in ("Ready", "NotReady")), None)
    if ready is None:
        return Health(ready=0)
    well = ready["type"] == "Ready" and ready.get("status") == "True"
    problem = "" if well else ready.get("message") or ready.get("reason") or "is not ready"
    return Health(ready=int(well), failed=not well, problem=problem)


def _of_job(live: Manifest) -> Health:
    conditions = {
        condition["type"]: condition
        for condition in live.get("status", {}).get("conditions", ())
        if condition["status"] == "True"
    }
    failure = conditions.get("Failed", {})
    return Health(
        ready=int("Complete" in conditions), failed="Failed" in conditions, problem=failure.get("message", "")
    )


def _of_pod(live: Manifest) -> Health:
    status = live.get("status", {})
    conditions = {condition["type"]: condition for condition in status.get("conditions", ())}
    ready = conditions.get("Ready", {}).get("status") == "True"
    problem = ""
    scheduled = conditions.get("PodScheduled", {})
    if scheduled.get("status") == "False":
        problem = scheduled.get("message", "")
    for container in status.get("containerStatuses", ()):
        waiting = container.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            problem = f"{waiting.get('reason', '')}: {waiting.get('message', '')}".strip(": ")
        terminated = container.get("lastState", {}).get("terminated")
        if terminated and not ready and terminated.get("exitCode"):
            last = terminated.get("message", "").strip().splitlines()
            problem = f"ended with code {terminated['exitCode']}{': ' + last[-1] if last else ''}"
    return Health(ready=int(ready), problem=problem)


def _of_spark_application(live: Manifest) -> Health:
    """Read what Kubeflow's operator says: no more than whether a driver's pod runs."""
    state = live.get("status", {}).get("applicationState", {})
    name, suspended = state.get("state", ""), live["spec"].get("suspend", False)
    settled = name in _STOPPED if suspended else name == "RUNNING"
    problem = state.get("errorMessage", "")
    if not name:
        problem = "the Spark operator has not looked at it yet; look whether one serves this namespace"
    return Health(
        ready=int(name == "RUNNING"),
        wanted=int(not suspended),
        rolling=not settled,
        failed=name == "FAILED",
        problem="" if settled else problem or name,
    )


_STOPPED = {"SUSPENDED", "COMPLETED", "FAILED"}


def _of_ingress(live: Manifest) -> Health:
    if live.get("status", {}).get("loadBalancer", {}).get("ingress"):
        return Health()
    spec = live["spec"]
    named = f"the class {spec['ingressClassName']}" if "ingressClassName" in spec else "no class"
    return Health(
        ready=0,
        problem=f"has {named} and no address yet: look whether a controller of its class runs (kubectl get "
        "ingressclasses), and correct spec.dashboard.ingress.className",
    )


def _of_http_route(live: Manifest) -> Health:
    """Read what each Gateway says of a route to it: whether it takes the route, and finds what the route leads to."""
    namespace, generation = live["metadata"]["namespace"], live["metadata"]["generation"]
    said = live.get("status", {}).get("parents", ())
    silent = []
    for wanted in live["spec"]["parentRefs"]:
        gateway = _gateway(wanted, namespace)
        conditions = [
            condition
            for parent in said
            if _gateway(parent["parentRef"], namespace) == gateway
            for condition in parent.get("conditions", ())
            if condition.get("observedGeneration", generation) >= generation
        ]
        for condition in conditions:
            if condition["type"] in ("Accepted", "ResolvedRefs") and condition["status"] == "False":
                return Health(ready=0, failed=True, problem=_refusal(gateway, condition))
        if not any(condition["type"] == "Accepted" and condition["status"] == "True" for condition in conditions):
            silent.append(str(gateway))
    if not silent:
        return Health()
    return Health(
        ready=0,
        problem=f"{' and '.join(silent)} did not answer yet: look whether it exists and its controller runs "
        "(kubectl get gateways --all-namespaces), and correct spec.dashboard.httpRoute.parentRefs",
    )


@dataclass(frozen=True, slots=True)
class _Gateway:
    """What a route's parentRef names, with its defaults."""

    kind: str
    namespace: str
    name: str
    section: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}{f' ({self.section})' if self.section else ''}"


def _gateway(parent: Mapping[str, Any], namespace: str) -> _Gateway:
    return _Gateway(
        parent.get("kind", "Gateway"),
        parent.get("namespace", namespace),
        parent["name"],
        parent.get("sectionName", ""),
    )


def _refusal(gateway: _Gateway, condition: Mapping[str, Any]) -> str:
    reason = condition.get("reason", "")
    said = ": ".join(part for part in (reason, condition.get("message", "")) if part)
    return f"{gateway} says {condition['type']} is False ({said}); {_MENDS.get(reason, _ANY_MEND)}"


_MENDS = {
    "NotAllowedByListeners": "let its listeners take routes of this namespace (allowedRoutes)",
    "NoMatchingListenerHostname": "give a listener of it this name, or correct spec.dashboard.httpRoute.host",
    "NoMatchingParent": "correct sectionName in spec.dashboard.httpRoute.parentRefs",
    "RefNotPermitted": "allow the reference by a ReferenceGrant",
}
"""By the reasons of the Gateway API, for routes."""
_ANY_MEND = "mend that, or name another Gateway in spec.dashboard.httpRoute.parentRefs"


_OF_KIND = {
    "Deployment": _of_workload,
    "StatefulSet": _of_workload,
    "SparkApplication": _of_spark_application,
    "KafkaTopic": _of_strimzi,
    "KafkaUser": _of_strimzi,
    "Ingress": _of_ingress,
    "HTTPRoute": _of_http_route,
    "Job": _of_job,
    "Pod": _of_pod,
}
