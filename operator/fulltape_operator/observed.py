"""What is known of the cluster: the feeds and their children, each as little as a pass needs.

Watches feed it, and so do the answers to our own requests, so that a pass never acts on what it itself changed since.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
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
        version=_version(live),
        digest=None if ours is None else digest(ours),
        owners=tuple(owner["uid"] for owner in metadata.get("ownerReferences", ())),
        deleting="deletionTimestamp" in metadata,
        health=_HEALTH.get(live["kind"], _present)(live),
        address=live.get("status", {}).get("podIP", "") if live["kind"] == "Pod" else "",
    )


class Observed:
    """All that is known of feeds and their children."""

    def __init__(self) -> None:
        self._feeds: dict[FeedKey, Manifest] = {}
        self._children: dict[FeedKey, dict[Key, Seen]] = defaultdict(dict)
        self._gone: dict[str, None] = {}

    @property
    def feeds(self) -> Mapping[FeedKey, Manifest]:
        """The feeds as the API server has them."""
        return self._feeds

    def see_feed(self, key: FeedKey, live: Manifest) -> None:
        """Take note of a feed, unless newer is known of it."""
        known = self._feeds.get(key)
        if live["metadata"]["uid"] not in self._gone and (known is None or _version(live) >= _version(known)):
            self._feeds[key] = live

    def lose_feed(self, key: FeedKey) -> None:
        """Take note that a feed is gone."""
        known = self._feeds.pop(key, None)
        if known is not None:
            self._remember_gone(known["metadata"]["uid"])

    def children(self, feed: FeedKey) -> Mapping[Key, Seen]:
        """Return the objects that carry a feed's labels."""
        return self._children.get(feed, {})

    def see(self, feed: FeedKey, live: Manifest) -> bool:
        """Take note of a child; return whether anything changed that matters to a pass."""
        found = seen(live)
        known = self._children[feed].get(found.key)
        if found.uid in self._gone or (known is not None and known.version > found.version):
            return False
        self._children[feed][found.key] = found
        return known is None or (
            known.uid,
            known.digest,
            known.owners,
            known.deleting,
            known.health,
            known.address,
        ) != (
            found.uid,
            found.digest,
            found.owners,
            found.deleting,
            found.health,
            found.address,
        )

    def lose(self, feed: FeedKey, key: Key, uid: str) -> bool:
        """Take note that a child is gone; return whether it was known."""
        self._remember_gone(uid)
        known = self._children.get(feed, {}).get(key)
        if known is None or known.uid != uid:
            return False
        del self._children[feed][key]
        if not self._children[feed]:
            del self._children[feed]
        return True

    def _remember_gone(self, uid: str) -> None:
        """Remember what is gone for a while: an answer to an older request of ours may still come in."""
        self._gone[uid] = None
        while len(self._gone) > _REMEMBERED:
            del self._gone[next(iter(self._gone))]

    def missing(self, kind: str, present: Collection[tuple[FeedKey, Key]]) -> list[tuple[FeedKey, Seen]]:
        """Return the children of a kind that are known and were not among those listed.

        A watch that was broken off may have missed deletions.
        """
        return [
            (feed, seen)
            for feed, children in self._children.items()
            for key, seen in children.items()
            if key.kind == kind and (feed, key) not in present
        ]


_REMEMBERED = 5000


def _version(live: Manifest) -> int:
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
    ready = next((condition for condition in conditions if condition["type"] in ("Ready", "NotReady")), None)
    if ready is None:
        return Health(ready=0)
    well = ready["type"] == "Ready" and ready["status"] == "True"
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
            problem = f"{waiting['reason']}: {waiting.get('message', '')}".rstrip(": ")
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
