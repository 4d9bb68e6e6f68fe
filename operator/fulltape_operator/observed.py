"""What is known of the cluster: the feeds and their children, each as little as a pass needs.

Watches feed it, and so do the answers to our own requests, so that a pass never acts on what it itself changed since.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Key, Manifest
from fulltape_operator.owned import digest, owned


@dataclass(frozen=True, slots=True)
class FeedKey:
    """What names a feed."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


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


@dataclass(frozen=True, slots=True)
class Seen:
    """An object as it was last seen."""

    key: Key
    uid: str
    version: int
    digest: str | None
    """Of what we applied of it; None where we applied nothing."""
    owners: tuple[str, ...]
    deleting: bool
    health: Health
    address: str = ""
    """A pod's."""


def feed_of_labels(live: Mapping[str, Any]) -> FeedKey | None:
    """Return the feed whose labels an object carries."""
    labels = live["metadata"].get("labels", {})
    if FEED_LABEL not in labels or FEED_NAMESPACE_LABEL not in labels:
        return None
    return FeedKey(labels[FEED_NAMESPACE_LABEL], labels[FEED_LABEL])


def seen(live: Manifest) -> Seen:
    """Sum an object up."""
    metadata = live["metadata"]
    ours = owned(live)
    return Seen(
        key=Key(live["kind"], metadata["namespace"], metadata["name"]),
        uid=metadata["uid"],
        version=version_of(live),
        digest=None if ours is None else digest(ours),
        owners=tuple(owner["uid"] for owner in metadata.get("ownerReferences", ())),
        deleting="deletionTimestamp" in metadata,
        health=_HEALTH.get(live["kind"], _present)(live),
        address=live.get("status", {}).get("podIP", "") if live["kind"] == "Pod" else "",
    )


class Observed:
    """All that is known of feeds and their children; older news never replace newer."""

    def __init__(self) -> None:
        self._feeds: dict[FeedKey, Manifest] = {}
        self._children: dict[FeedKey, dict[Key, Seen]] = defaultdict(dict)
        self._holders: dict[Key, FeedKey] = {}
        self._gone: dict[FeedKey | Key, int] = {}

    @property
    def feeds(self) -> Mapping[FeedKey, Manifest]:
        """The feeds as the API server has them."""
        return self._feeds

    def see_feed(self, key: FeedKey, live: Manifest) -> None:
        """Take note of a feed."""
        known = self._feeds.get(key)
        newest = self._gone.get(key, -1) if known is None else version_of(known)
        if version_of(live) > newest:
            self._feeds[key] = live

    def lose_feed(self, key: FeedKey, version: int) -> None:
        """Take note that a feed was gone at a version."""
        known = self._feeds.get(key)
        if known is None or version_of(known) <= version:
            self._feeds.pop(key, None)
            self._remember_gone(key, version)

    def children(self, feed: FeedKey) -> Mapping[Key, Seen]:
        """Return the objects that carry a feed's labels."""
        return self._children.get(feed, {})

    def of_kind(self, kind: str) -> list[Seen]:
        """Return the children of a kind, of all feeds."""
        return [seen for children in self._children.values() for key, seen in children.items() if key.kind == kind]

    def see(self, live: Manifest) -> set[FeedKey]:
        """Take note of an object; return the feeds to whose passes it matters what changed.

        It is the child of the feed whose labels it carries: somebody may change these.
        """
        found, feed = seen(live), feed_of_labels(live)
        holder = self._holders.get(found.key)
        known = None if holder is None else self._children[holder][found.key]
        newest = self._gone.get(found.key, -1) if known is None else known.version
        if found.version <= newest:
            return set()
        if feed is None:
            left = self.lose(found.key, found.version)
            return set() if left is None else {left}
        if holder not in (None, feed):
            self._drop(found.key)
        self._children[feed][found.key] = found
        self._holders[found.key] = feed
        if holder == feed and known is not None and replace(found, version=known.version) == known:
            return set()
        return {feed} if holder is None else {feed, holder}

    def lose(self, key: Key, version: int) -> FeedKey | None:
        """Take note that an object was no feed's at a version; return the feed that it was thought to be of, if any.

        It is deleted, or its labels are; with these it may come back, at a later version.
        """
        holder = self._holders.get(key)
        if holder is not None and self._children[holder][key].version > version:
            return None
        self._remember_gone(key, version)
        if holder is not None:
            self._drop(key)
        return holder

    def _drop(self, key: Key) -> None:
        holder = self._holders.pop(key)
        del self._children[holder][key]
        if not self._children[holder]:
            del self._children[holder]

    def _remember_gone(self, key: FeedKey | Key, version: int) -> None:
        """Remember what is gone for a while: an answer to an older request of ours may still come in."""
        self._gone.pop(key, None)
        self._gone[key] = version
        while len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]


_REMEMBERED = 5000


def version_of(live: Manifest) -> int:
    """Return the version of an object; those of all objects of a kind are in the order of their writing."""
    return int(live["metadata"]["resourceVersion"])


def _present(live: Manifest) -> Health:  # noqa: ARG001 - what has no status is there or not
    return Health()


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


_HEALTH = {
    "Deployment": _of_workload,
    "StatefulSet": _of_workload,
    "KafkaTopic": _of_strimzi,
    "KafkaUser": _of_strimzi,
    "Job": _of_job,
    "Pod": _of_pod,
}
