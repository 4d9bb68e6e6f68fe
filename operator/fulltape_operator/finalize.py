"""The end of a feed: deletes what Kubernetes' garbage collector does not reach, then lets the feed go.

Objects in the feed's namespace have it as their owner and go by themselves. What is left are Strimzi's objects in
another namespace, and topics on a Kafka without Strimzi. A feed is let go in any case: what could not be deleted is
told.
"""

from datetime import UTC, datetime

from fulltape.errors import FeedError
from fulltape.feed.load import feed_of
from fulltape.feed.model import CryptoFeed
from fulltape_operator.cluster import CHILDREN, FEEDS, ApiError, Cluster
from fulltape_operator.desired.child import PREFIX, Key, Manifest, child_name
from fulltape_operator.desired.deletion import COMPONENT, deletion
from fulltape_operator.desired.kafka import makes_user, strimzi_namespace
from fulltape_operator.events import Events
from fulltape_operator.observed import FeedKey, Observed, Seen
from fulltape_operator.ownership import belonging_to, is_foreign, name_taken
from fulltape_operator.plan import WORKLOADS
from fulltape_operator.platform import Platform

FINALIZER = f"{PREFIX}/cleanup"
_GIVE_UP_SECONDS = 300
_LOOK_SECONDS = 5.0


def has_outside(feed: CryptoFeed) -> bool:
    """Tell whether deleting a feed leaves something that no owner reference reaches."""
    kafka, deletes = feed.spec.kafka, feed.spec.retain == "Delete"
    if kafka.topics_managed_by == "Admin" and deletes:
        return True
    elsewhere = kafka.strimzi_cluster is not None and strimzi_namespace(feed) != feed.metadata.namespace
    return elsewhere and (makes_user(feed) or (deletes and kafka.topics_managed_by == "Strimzi"))


class Finalizer:
    """Marks feeds that need an end in good order, and brings it about."""

    def __init__(self, cluster: Cluster, observed: Observed, platform: Platform, events: Events) -> None:
        self._cluster = cluster
        self._observed = observed
        self._platform = platform
        self._events = events

    async def mark(self, key: FeedKey, live: Manifest, feed: CryptoFeed) -> None:
        """Put our finalizer on a feed, or take it off, as is needed by what it wants and by what it still has.

        Raises:
            ApiError: also where the feed is gone: what it wants must not be made any more.

        """
        needed = has_outside(feed) or bool(self._elsewhere(key, feed.spec.retain))
        if needed != (FINALIZER in live["metadata"].get("finalizers", ())):
            await self._set(key, live, needed=needed)

    async def look(self, key: FeedKey, live: Manifest) -> float | None:
        """Bring a feed that is being deleted nearer to its end; return when to look again, if so."""
        if FINALIZER not in live["metadata"].get("finalizers", ()):
            return None
        try:
            feed = feed_of(live)
        except FeedError:
            feed = None
        if feed is not None and feed.spec.kafka.topics_managed_by == "Admin" and feed.spec.retain == "Delete":
            left = await self._delete_topics(key, live, feed)
            if left is not None and _seconds_since(live["metadata"]["deletionTimestamp"]) < _GIVE_UP_SECONDS:
                return left
        # Only now: the user whose credentials the topics were deleted with is among these.
        for seen in self._elsewhere(key, live.get("spec", {}).get("retain")):
            if not seen.deleting:
                await self._cluster.delete(seen.key, seen.uid)
        try:
            await self._set(key, live, needed=False)
        except ApiError as problem:
            if problem.status != 404:  # let go already
                raise
        return None

    def _elsewhere(self, key: FeedKey, retain: str | None) -> list[Seen]:
        """Return what a feed has in other namespaces and does not leave there."""
        return [
            seen
            for seen in self._observed.children(key).values()
            if seen.key.namespace != key.namespace and not (retain == "Retain" and seen.key.kind == "KafkaTopic")
        ]

    async def _delete_topics(self, key: FeedKey, live: Manifest, feed: CryptoFeed) -> float | None:
        """Have the topics deleted once nothing runs that would make them anew; return when to look again, if so."""
        children = self._observed.children(key)
        job = children.get(Key("Job", key.namespace, child_name(feed, COMPONENT)))
        if job is not None and live["metadata"]["uid"] in job.owners:
            return await self._watch_deletion(live, feed, job)
        if job is not None and job.digest is None:
            await self._left(live, feed, name_taken(job.key))
            return None
        if job is not None:  # of a feed that had this name before: it tells nothing of these topics
            if not job.deleting:
                await self._cluster.delete(job.key, job.uid)
            return _LOOK_SECONDS
        running = [seen for seen in children.values() if seen.key.kind in WORKLOADS]
        if running or any(child.kind == "Pod" for child in children):
            for seen in running:
                if not seen.deleting:
                    await self._cluster.delete(seen.key, seen.uid, foreground=True)
            return _LOOK_SECONDS
        return await self._start_deletion(key, live, feed)

    async def _start_deletion(self, key: FeedKey, live: Manifest, feed: CryptoFeed) -> float | None:
        try:
            for child in deletion(feed, self._platform):
                found = await self._cluster.glance(CHILDREN[child.key.kind].path(key.namespace, child.key.name))
                if found is not None and is_foreign(found, key, live["metadata"]["uid"]):
                    await self._left(live, feed, name_taken(child.key))
                    return None
                self._observed.see(await self._cluster.apply(belonging_to(live, child).manifest))
        except ApiError as problem:
            if problem.passes:
                raise
            await self._left(live, feed, problem.message)
            return None
        return _LOOK_SECONDS

    async def _watch_deletion(self, live: Manifest, feed: CryptoFeed, job: Seen) -> float | None:
        if job.health.failed:
            await self._left(live, feed, job.health.problem)
            return None
        if job.health.ready:
            return None
        return _LOOK_SECONDS

    async def _left(self, live: Manifest, feed: CryptoFeed, why: str) -> None:
        await self._events.post(
            live,
            "Warning",
            "TopicsLeft",
            f"the topics {feed.topics.prefix}.* could not be deleted and stay: {why}; delete them by hand",
        )

    async def _set(self, key: FeedKey, live: Manifest, *, needed: bool) -> None:
        metadata = live["metadata"]
        others = [name for name in metadata.get("finalizers", ()) if name != FINALIZER]
        # The version keeps us from taking off what another controller has put on since.
        body = {
            "metadata": {
                "finalizers": [*others, FINALIZER] if needed else others,
                "resourceVersion": metadata["resourceVersion"],
            }
        }
        self._observed.see_feed(key, await self._cluster.patch(FEEDS.path(key.namespace, key.name), body))


def _seconds_since(time: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(time)).total_seconds()
