"""What is known of the cluster: the feeds and their children, each as little as a pass needs.

Watches feed it, and so do the answers to our own requests, so that a pass never acts on what it itself changed since.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, REVISION_LABEL, Key, Manifest
from fulltape_operator.health import Health, health_of
from fulltape_operator.owned import digest, owned


@dataclass(frozen=True, slots=True)
class FeedKey:
    """What names a feed."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


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
    revision: str = ""
    """What Spark's driver was started with, or shall be: of a pod, or of a SparkApplication."""


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
        health=health_of(live),
        address=live.get("status", {}).get("podIP", "") if live["kind"] == "Pod" else "",
        revision=_revision(live),
    )


def _revision(live: Manifest) -> str:
    carrier = live["spec"]["driver"] if live["kind"] == "SparkApplication" else live["metadata"]
    found: str = carrier.get("labels", {}).get(REVISION_LABEL, "")
    return found


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
