"""How each kind of object does, as its own controller reports it in the object's status. Pure."""

from dataclasses import dataclass

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


_OF_KIND = {
    "Deployment": _of_workload,
    "StatefulSet": _of_workload,
    "KafkaTopic": _of_strimzi,
    "KafkaUser": _of_strimzi,
    "Job": _of_job,
    "Pod": _of_pod,
}
