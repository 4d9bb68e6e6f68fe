"""When each child of a feed was seen: watches of their own, beside the operator's, on the same API server."""

import asyncio
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import msgspec
from kubernetes.aio.client import ApiClient

from fulltape.errors import FulltapeError
from fulltape_operator.cluster import CHILDREN, Resource
from fulltape_operator.desired.child import FEED_LABEL, Key, Manifest
from fulltape_operator.observed import seen


class NotInTimeError(FulltapeError):
    """What was waited for did not come."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """A child as it was last seen."""

    at_us: int
    uid: str
    digest: str | None


class Sightings:
    """Watches all kinds of children; an asynchronous context manager."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.there: dict[Key, Sighting] = {}
        self._news = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._watch(resource)) for resource in CHILDREN.values()]
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until what was seen fulfils a condition.

        Raises:
            NotInTimeError: it did not in time.

        """
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise NotInTimeError(f"{what}: not within {seconds:g} s") from None

    def all_of(self, keys: Collection[Key]) -> bool:
        """Tell whether all of these are there."""
        return all(key in self.there for key in keys)

    async def _watch(self, resource: Resource) -> None:
        version = ""
        while True:
            with suppress(OSError, TimeoutError):
                version = await self._follow(resource, version)

    async def _follow(self, resource: Resource, version: str) -> str:
        query = {"watch": "true", "labelSelector": FEED_LABEL, "resourceVersion": version}
        _, url, headers, _, _ = await self._client.param_serialize(
            "GET",
            resource.path(None),
            query_params=[(key, value) for key, value in query.items() if value],
            auth_settings=["BearerToken"],
        )
        answer = await self._client.call_api("GET", url, headers, _request_timeout=3600)
        async for line in answer.response.content:
            event = msgspec.json.decode(line)
            if event["type"] == "ERROR":
                return ""
            live: Manifest = event["object"]
            version = live["metadata"]["resourceVersion"]
            self._note(event["type"], live)
        return version

    def _note(self, kind: str, live: Manifest) -> None:
        now = time.perf_counter_ns() // 1000
        found = seen(live)
        if kind == "DELETED":
            known = self.there.get(found.key)
            if known is not None and known.uid == found.uid:
                del self.there[found.key]
        else:
            known = self.there.get(found.key)
            if known is None or (known.uid, known.digest) != (found.uid, found.digest):
                self.there[found.key] = Sighting(now, found.uid, found.digest)
        self._news.set()
