"""What tells the operator that something changed: kopf's watches, and now and then a list of everything.

A handler here never acts. It takes note of what it is shown and asks for a look at the feed: a missed, doubled or late
event then does no harm. kopf keeps the watches alive, over dropped connections and expired versions.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

import kopf

from fulltape.errors import FulltapeError
from fulltape_operator.cluster import CHILDREN, FEEDS, PODS, ApiError, Cluster, Resource
from fulltape_operator.desired.child import FEED_LABEL, Key, Manifest
from fulltape_operator.echoes import Echoes
from fulltape_operator.observed import FeedKey, Observed, version_of
from fulltape_operator.queue import WorkQueue

_SETTLE_SECONDS = 0.1
"""A change of a child is seldom alone."""
_LIST_SECONDS = 600.0
"""The safety net: everything is listed, and every feed looked at, this often."""
_RELIST_SECONDS = 2.0
"""After kopf had to list something anew: longer than it waits between its tries, so that it is done with all else."""
_RETRY_SECONDS = 2.0
_ECHO_SECONDS = 5.0
"""It is looked this often whether what was written is told of."""
_BACKOFF_SECONDS = (0.2, 0.5, 1.0)

_log = logging.getLogger(__name__)


class _Backoff:
    """Waits between tries that never end: an operator outlives its API server. Each request iterates over it anew."""

    def __init__(self) -> None:
        self.failing = 0
        """Requests that failed and are tried again."""

    def __iter__(self) -> Iterator[float]:
        yield _BACKOFF_SECONDS[0]  # taken before the first try
        self.failing += 1
        try:
            yield from _BACKOFF_SECONDS[1:]
            while True:
                yield _BACKOFF_SECONDS[-1]
        finally:
            self.failing -= 1


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


class WatchMissingError(FulltapeError):
    """A kind is not watched, and nothing but a start of the process mends that."""


class Watches:
    """Watches feeds and their children; `namespaces` is empty for the whole cluster."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Observed,
        echoes: Echoes,
        queue: WorkQueue[FeedKey],
        namespaces: Sequence[str],
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._echoes = echoes
        self._queue = queue
        self._namespaces = namespaces
        self._scopes: Sequence[str | None] = namespaces or [None]
        self._children: Sequence[Resource] = [*CHILDREN.values(), PODS]
        self._watching = asyncio.Event()
        self._relisted = asyncio.Event()
        self._hindrance: str | None = None
        self._backoff = _Backoff()
        self.listed = asyncio.Event()
        """Set once all that there is has been listed."""

    def ready(self) -> str | None:
        """Return why not everything is known; None where it is."""
        if self._hindrance is not None:
            return self._hindrance
        if self._backoff.failing:
            return f"{self._backoff.failing} watches fail and are tried again; the log says why"
        return None if self.listed.is_set() and self._watching.is_set() else "feeds and their objects are being listed"

    async def list_now_and_then(self) -> None:
        """List everything, and ask for a look at each feed: at the start, and as a safety net; until cancelled.

        Also after kopf had to list anything anew. Its watch was broken off, and so were others; what was deleted
        meanwhile, it tells nobody.
        """
        while True:
            self._relisted.clear()
            try:
                await self._list_everything()
            except ApiError as problem:
                self._hindrance = f"feeds and their objects can't be listed: {problem}"
                _log.warning(self._hindrance)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._hindrance = None
            self.listed.set()
            with suppress(TimeoutError):
                async with asyncio.timeout(_LIST_SECONDS):
                    await self._relisted.wait()
                    await asyncio.sleep(_RELIST_SECONDS)

    async def run(self) -> None:
        """Watch until the process is told to end."""
        registry = kopf.OperatorRegistry()
        kopf.on.login(registry=registry)(kopf.login_via_client)
        kopf.on.event(FEEDS.group, FEEDS.version, FEEDS.plural, registry=registry)(self._on_feed)
        settings = _settings(self._children, self._backoff)
        for resource in self._children:
            kopf.on.event(resource.group, resource.version, resource.plural, registry=registry)(self._on_child)
        await kopf.operator(
            registry=registry,
            settings=settings,
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=self._namespaces,
            ready_flag=self._watching,
        )

    async def listen(self) -> None:
        """See that the watches tell of what is written, until cancelled.

        Raises:
            WatchMissingError: one does not. kopf looks for kinds only once a CRD has changed; a new process looks anew.

        """
        before: Collection[str] = ()
        while True:
            await asyncio.sleep(_ECHO_SECONDS)
            # While requests fail, kopf knows that it sees nothing, and goes on by itself. What came meanwhile, as after
            # a standstill of this process, it tells before the next look.
            silent = set() if self._backoff.failing else self._echoes.silent()
            if missing := silent.intersection(before):
                raise WatchMissingError(f"no watch tells of what was written of {', '.join(sorted(missing))}")
            before = silent

    async def _list_everything(self) -> None:
        # Only what was known before a list was asked for, and is not in it, is gone: it may have been made since.
        feeds = {key: version_of(live) for key, live in self._observed.feeds.items()}
        async for live in self._all(FEEDS):
            feeds.pop(_key(live), None)
            self._observed.see_feed(_key(live), live)
        for key, version in feeds.items():
            self._observed.lose_feed(key, version)
            self._queue.add(key)
        for resource in self._children:
            children = {seen.key: seen.version for seen in self._observed.of_kind(resource.kind)}
            async for live in self._all(resource, FEED_LABEL):
                children.pop(_child_key(live), None)
                self._observed.see(live)
            for child, version in children.items():
                self._observed.lose(child, version)
                self._echoes.forget(child)
        for key in self._observed.feeds:
            self._queue.add(key)

    async def _all(self, resource: Resource, selector: str = "") -> AsyncIterator[Manifest]:
        for namespace in self._scopes:
            async for page in self._cluster.pages(resource, namespace, selector):
                for live in page:
                    yield live

    async def _on_feed(self, event: Any, **_: Any) -> None:
        live: Manifest = event["object"]
        if event["type"] is None:
            self._relisted.set()
        if event["type"] == "DELETED":
            self._observed.lose_feed(_key(live), version_of(live))
        else:
            self._observed.see_feed(_key(live), live)
        self._queue.add(_key(live))

    async def _on_child(self, event: Any, **_: Any) -> None:
        live: Manifest = event["object"]
        self._echoes.hear(_child_key(live), version_of(live))
        if event["type"] is None:
            self._relisted.set()
        if event["type"] != "DELETED":
            for feed in self._observed.see(live):
                self._queue.add(feed, _SETTLE_SECONDS)
        elif (holder := self._observed.lose(_child_key(live), version_of(live))) is not None:
            self._queue.add(holder)


def _settings(children: Collection[Resource], backoff: _Backoff) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    for resource in children:
        settings.watching.label_selectors[resource.group, resource.version, resource.plural] = FEED_LABEL
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    settings.networking.error_backoffs = backoff
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
