"""What a pass does: from what a feed wants and what is there to what is applied, deleted or left for later. Pure.

Objects are created at once, in the order of stages. A change of a Spark program that runs waits until the producers do
as they should: a change that does not work then stops at the first program that it breaks.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from fulltape_operator.desired.child import Child, Key
from fulltape_operator.observed import Seen

WORKLOADS = {"Deployment", "StatefulSet"}
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
    waiting: dict[Key, str] = field(default_factory=dict)
    """Changes that wait, and what for."""


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
        (one.child.component, key)
        for one in wanted
        if (key := one.child.key).kind in WORKLOADS and (key not in there or there[key].health.rolling)
    ]
    for one in wanted:
        key, component = one.child.key, one.child.component
        seen = there.get(key)
        if seen is not None and (seen.digest == one.digest or settled.get(key) == (one.digest, seen.digest)):
            continue
        others = (other for of, other in rolling if of in _WAITS_FOR.get(component, ()) and other != key)
        before = next(others, None)
        if seen is not None and seen.deleting:
            found.waiting[key] = "it is being deleted"
        elif seen is not None and key.kind in WORKLOADS and seen.health.ready and before is not None:
            found.waiting[key] = f"{before} is not ready yet"
        else:
            found.apply.append(one)
            if seen is not None and key.kind in WORKLOADS:
                rolling.append((component, key))
    keys = {*kept, *(one.child.key for one in wanted)}
    for key, seen in there.items():
        if key in keys or seen.deleting or key.kind in _NEVER_PRUNED or seen.digest is None:
            continue
        # Pods that are on their way out may still be started again with the settings that they had.
        if key.kind == "ConfigMap" and (rolling or found.waiting):
            continue
        found.delete.append(seen)
    return found
