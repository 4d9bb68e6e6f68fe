"""What tells the operator that something changed: kopf's watches, and now and then a list of everything.

A handler here never acts. It takes note of what it is shown and asks for a look at the feed: a missed, doubled or late
event then does no harm. kopf keeps the watches alive, over dropped connections and expired versions.
"""

import asyncio
import logging
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import kopf

from fulltape_operator.cluster import CHILDREN, FEEDS, PODS, Cluster, Resource
from fulltape_operator.desired.child import FEED_LABEL, Key, Manifest
from fulltape_operator.observed import FeedKey, Observed, feed_of_labels
from fulltape_operator.queue import WorkQueue

_SETTLE_SECONDS = 0.1
"""A change of a child is seldom alone."""
_RELIST_SECONDS = 1.0
_BACKOFF_SECONDS = (0.2, 0.5, 1.0)

_log = logging.getLogger(__name__)


class _Backoff:
    """Waits between tries that never end: an operator outlives its API server."""

    def __iter__(self) -> Iterator[float]:
        yield from _BACKOFF_SECONDS
        while True:
            yield _BACKOFF_SECONDS[-1]


class _NoDifferences(kopf.DiffBaseStorage):
    """Leaves out what kopf does to tell its handlers what changed: ours ask for no more than that something did.

    It copies each object several times over, which was half of all that the operator did.
    """

    def build(self, **_: Any) -> kopf.BodyEssence:
        """Return nothing of an object."""
        return kopf.BodyEssence()

    def fetch(self, **_: Any) -> kopf.BodyEssence | None:
        """Return nothing that was stored."""
        return None

    def store(self, **_: Any) -> None:
        """Store nothing."""


class Watches:
    """Watches feeds and their children; `namespaces` is empty for the whole cluster."""

    def __init__(
        self, cluster: Cluster, observed: Observed, queue: WorkQueue[FeedKey], namespaces: Sequence[str]
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._queue = queue
        self._namespaces = namespaces
        self._scopes: Sequence[str | None] = namespaces or [None]
        self._children: Sequence[Resource] = [*CHILDREN.values(), PODS]
        self._stale: set[str] = set()
        self._became_stale = asyncio.Event()
        self.ready = asyncio.Event()
        """Set once all that there is has been listed and is being watched."""

    async def list_everything(self) -> None:
        """Take note of all feeds and children as they are now, and ask for a look at each feed.

        Raises:
            ApiError: the API server does not answer, or does not let us.

        """
        present: set[FeedKey] = set()
        for namespace in self._scopes:
            async for page in self._cluster.pages(FEEDS, namespace):
                for live in page:
                    key = _key(live)
                    present.add(key)
                    self._observed.see_feed(key, live)
        for key in [key for key in self._observed.feeds if key not in present]:
            self._observed.lose_feed(key)
            self._queue.add(key)
        for resource in self._children:
            await self._list(resource)
        for key in present:
            self._queue.add(key)

    async def mend(self) -> None:
        """List again whatever kopf had to list again, for what was deleted meanwhile; until cancelled."""
        while True:
            await self._became_stale.wait()
            await asyncio.sleep(_RELIST_SECONDS)
            self._became_stale.clear()
            stale, self._stale = self._stale, set()
            for resource in self._children:
                if resource.kind in stale:
                    await self._list(resource)

    async def run(self) -> None:
        """Watch until the process is told to end."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(kopf.login_via_client)
        kopf.on.event(FEEDS.group, FEEDS.version, FEEDS.plural, registry=registry)(self._on_feed)
        settings = _settings(self._children)
        for resource in self._children:
            kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)(self._on_child)
        await kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            ready_flag=self.ready,
        )

    async def _list(self, resource: Resource) -> None:
        present: set[tuple[FeedKey, Key]] = set()
        for namespace in self._scopes:
            async for page in self._cluster.pages(resource, namespace, FEED_LABEL):
                for live in page:
                    if (feed := feed_of_labels(live)) is not None:
                        present.add((feed, _child_key(live)))
                        self._note(feed, live)
        for feed, seen in self._observed.missing(resource.kind, present):
            # It may have been made since the list was; then its watch, or the next list, brings it back.
            if self._observed.lose(feed, seen.key, seen.uid):
                self._queue.add(feed, _SETTLE_SECONDS)

    async def _on_feed(self, event: Any, **_: Any) -> None:
        live: Manifest = event["object"]
        key = _key(live)
        if event["type"] == "DELETED":
            self._observed.lose_feed(key)
        else:
            self._observed.see_feed(key, live)
        self._queue.add(key)

    async def _on_child(self, event: Any, **_: Any) -> None:
        live: Manifest = event["object"]
        feed = feed_of_labels(live)
        if event["type"] is None and self.ready.is_set() and live["kind"] not in self._stale:
            self._stale.add(live["kind"])
            self._became_stale.set()
        if feed is None:
            return
        if event["type"] == "DELETED":
            if self._observed.lose(feed, _child_key(live), live["metadata"]["uid"]):
                self._queue.add(feed)
        else:
            self._note(feed, live)

    def _note(self, feed: FeedKey, live: Manifest) -> None:
        if self._observed.see(feed, live):
            self._queue.add(feed, _SETTLE_SECONDS)


def _settings(children: Collection[Resource]) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    for resource in children:
        settings.watching.label_selectors[resource.group, resource.version, resource.plural] = FEED_LABEL
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    settings.networking.error_backoffs = _Backoff()
    settings.networking.request_timeout = 30
    settings.posting.enabled = False
    settings.persistence.diffbase_storage = _NoDifferences()
    # A handler takes microseconds: no task waits for an object's next event.
    settings.queueing.idle_timeout = 0.01
    return settings


def _key(live: Manifest) -> FeedKey:
    return FeedKey(live["metadata"]["namespace"], live["metadata"]["name"])


def _child_key(live: Manifest) -> Key:
    return Key(live["kind"], live["metadata"]["namespace"], live["metadata"]["name"])
