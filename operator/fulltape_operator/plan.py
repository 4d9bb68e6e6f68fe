"""What a pass does: from what a feed wants and what is there to what is applied, deleted or left for later. Pure.

Objects are created at once, in the order of stages. A change of a Spark program that runs waits until the producers do
as they should: a change that does not work then stops at the first program that it breaks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from fulltape_operator.desired.child import Child, Key
from fulltape_operator.desired.spark_application import driver_pod
from fulltape_operator.health import Health
from fulltape_operator.observed import Seen

WORKLOADS = {"Deployment", "SparkApplication", "StatefulSet"}
_WAITS_FOR = {"panes": ("producer", "panes"), "archive": ("producer",)}
"""The components whose programs must run before a change of this one's: Spark after the producers, and one stream after
the other, so that the feed always has the windows of one."""
_NEVER_PRUNED = {"Pod"}
"""Pods belong to their workloads."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A child with the digest of its manifest, computed once for each change of its feed."""

    child: Child
    digest: str


@dataclass(slots=True)
class Plan:
    """What to do, and why not more."""

    apply: list[Wanted] = field(default_factory=list)
    """In the order of stages."""
    delete: list[Seen] = field(default_factory=list)
    rehearse: list[Wanted] = field(default_factory=list)
    """What is to follow a program that runs so far: that may end only where the API server would take this."""
    waiting: dict[Key, str] = field(default_factory=dict)
    """Changes that wait, and what for."""


def program_health(key: Key, there: Mapping[Key, Seen]) -> Health:
    """Return how a program that is there does, as its workload says.

    A SparkApplication tells neither whether its driver is ready nor whether its last change was noticed: the pod of the
    driver does.
    """
    app = there[key]
    if key.kind != "SparkApplication" or not app.health.wanted:
        return app.health
    pod = there.get(Key("Pod", key.namespace, driver_pod(key.name)))
    if pod is None or pod.deleting:
        return replace(app.health, ready=0, rolling=True)
    if pod.revision != app.revision:
        old = f"{pod.key} is of before the last change; if the Spark operator leaves it so, delete it"
        return replace(app.health, ready=pod.health.ready, rolling=True, problem=app.health.problem or old)
    ready = min(app.health.ready, pod.health.ready)
    return replace(app.health, ready=ready, rolling=app.health.rolling or not ready)


def plan(
    wanted: Sequence[Wanted],
    there: Mapping[Key, Seen],
    settled: Mapping[Key, tuple[str, str | None]],
    kept: Collection[Key] = (),
) -> Plan:
    """Return what brings the objects that are there to those that are wanted.

    Args:
        wanted: in the order of stages.
        there: the objects that carry the feed's labels.
        settled: for objects whose server changed what we applied, the digests of both: that is no drift.
        kept: objects that stay although they are not wanted now.

    """
    found = Plan()
    rolling = [
        (one.child.component, key) for one in wanted if (key := one.child.key).kind in WORKLOADS and _rolls(key, there)
    ]
    formers: set[Key] = set()
    for one in wanted:
        key, component = one.child.key, one.child.component
        seen = there.get(key)
        if seen is not None and (seen.digest == one.digest or settled.get(key) == (one.digest, seen.digest)):
            continue
        others = (other for of, other in rolling if of in _WAITS_FOR.get(component, ()) and other != key)
        before = next(others, None)
        former = _former(key, there)
        if seen is not None and seen.deleting:
            found.waiting[key] = "it is being deleted"
        elif former is not None and before is not None and program_health(former, there).ready:
            found.waiting[key] = f"{before} is not ready yet"
            formers.add(former)
        elif former is not None:
            found.waiting[key] = f"{former} is to end first"
            found.rehearse.append(one)
            rolling.append((component, key))
        elif seen is not None and key.kind in WORKLOADS and program_health(key, there).ready and before is not None:
            found.waiting[key] = f"{before} is not ready yet"
        else:
            found.apply.append(one)
            if seen is not None and key.kind in WORKLOADS:
                rolling.append((component, key))
    keys = {*kept, *formers, *(one.child.key for one in wanted)}
    # Pods that are on their way out may still be started again with the settings that they had.
    spared = {*_NEVER_PRUNED, "ConfigMap"} if rolling or found.waiting else _NEVER_PRUNED
    found.delete = [
        seen
        for key, seen in there.items()
        if key not in keys and key.kind not in spared and not seen.deleting and seen.digest is not None
    ]
    return found


def _rolls(key: Key, there: Mapping[Key, Seen]) -> bool:
    """Tell whether a program is not there, or not as it should be; it may still run as a workload of another kind."""
    runs = key if key in there else _former(key, there)
    return runs is None or program_health(runs, there).rolling or (runs != key and there[runs].deleting)


def _former(key: Key, there: Mapping[Key, Seen]) -> Key | None:
    """Return the workload of another kind that runs a program so far: of one stream never two drivers run."""
    if key in there or key.kind not in WORKLOADS:
        return None
    return next((other for other in there if other.kind in WORKLOADS - {key.kind} and other.name == key.name), None)
