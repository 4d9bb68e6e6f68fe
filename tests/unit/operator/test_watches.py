"""What is known follows what the API server has, also where a watch missed something."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fulltape_operator.cluster import FEEDS, ApiError, Cluster, Resource
from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Key, Manifest
from fulltape_operator.echoes import Echoes
from fulltape_operator.observed import FeedKey, Observed
from fulltape_operator.queue import WorkQueue
from fulltape_operator.watches import Watches, WatchMissingError
from tests.unit.operator.fake_time import in_fake_time

FEED = FeedKey("markets", "majors")
SERVICE = Key("Service", "markets", "majors-page")
LABELS = {FEED_LABEL: "majors", FEED_NAMESPACE_LABEL: "markets"}


def thing(kind: str, name: str, version: int) -> Manifest:
    metadata = {"namespace": "markets", "name": name, "uid": name, "resourceVersion": str(version), "labels": LABELS}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata}


class Lists(Cluster):
    """A cluster that is only ever listed."""

    def __init__(self) -> None:
        self.has = [thing("CryptoFeed", "majors", 1), thing("Service", "majors-page", 2)]
        self.away = False
        self.meanwhile: Callable[[], object] = lambda: None
        """What happens while a list of Services is on its way."""

    async def pages(
        self, resource: Resource, namespace: str | None = None, selector: str = ""
    ) -> AsyncIterator[list[Manifest]]:
        assert namespace is None
        assert selector == ("" if resource == FEEDS else FEED_LABEL)
        if self.away:
            raise ApiError(0, "Unreachable", "the API server does not answer")
        page = [one for one in self.has if one["kind"] == resource.kind]
        if resource.kind == "Service":
            self.meanwhile()
        yield page


@asynccontextmanager
async def listing(lists: Lists) -> AsyncIterator[tuple[Observed, WorkQueue[FeedKey], Watches]]:
    """Have everything listed now and then, without kopf."""
    observed, queue = Observed(), WorkQueue[FeedKey]()
    watches = Watches(lists, observed, Echoes([]), queue, [])
    task = asyncio.create_task(watches.list_now_and_then())
    await asyncio.sleep(1)
    yield observed, queue, watches
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def looked_at(queue: WorkQueue[FeedKey], within_seconds: float) -> FeedKey | None:
    """Return the feed that is to be looked at within a time; None where none is."""
    try:
        async with asyncio.timeout(within_seconds):
            key = await queue.get()
    except TimeoutError:
        return None
    queue.done(key)
    return key


def event(live: Manifest, kind: str | None) -> Any:
    return {"type": kind, "object": live}


def test_what_is_gone_unseen_is_found_to_be_gone_and_its_feed_is_looked_at() -> None:
    async def story() -> None:
        lists = Lists()
        async with listing(lists) as (observed, queue, _):
            assert set(observed.children(FEED)) == {SERVICE}
            assert await looked_at(queue, 0) == FEED
            lists.has.pop()
            assert await looked_at(queue, 700) == FEED
            assert not observed.children(FEED)
            lists.has.clear()
            assert await looked_at(queue, 700) == FEED
            assert not observed.feeds

    in_fake_time(story())


def test_what_kopf_lists_anew_is_a_sign_to_list_everything_soon() -> None:
    async def story() -> None:
        lists = Lists()
        async with listing(lists) as (observed, queue, watches):
            assert await looked_at(queue, 0) == FEED
            feed, _ = lists.has
            lists.has.pop()
            await watches._on_feed(event(feed, None))
            assert await looked_at(queue, 0) == FEED
            assert await looked_at(queue, 10) == FEED
            assert not observed.children(FEED)
            assert await looked_at(queue, 500) is None, "and once"

    in_fake_time(story())


def test_what_is_made_while_a_list_is_on_its_way_stays_and_what_was_deleted_meanwhile_does_not_come_back() -> None:
    async def story() -> None:
        lists = Lists()
        made = thing("Service", "majors-new", 5)
        async with listing(lists) as (observed, _, _):

            def meanwhile() -> None:
                observed.see(made)
                observed.lose(SERVICE, 6)

            lists.meanwhile = meanwhile
            await asyncio.sleep(700)
            assert [key.name for key in observed.children(FEED)] == ["majors-new"]

    in_fake_time(story())


def test_what_can_t_be_listed_is_said_and_tried_again() -> None:
    async def story() -> None:
        lists = Lists()
        lists.away = True
        async with listing(lists) as (observed, _, watches):
            assert "the API server does not answer" in str(watches.ready())
            assert not watches.listed.is_set()
            lists.away = False
            await asyncio.sleep(3)
            assert watches.ready() == "feeds and their objects are being listed", "kopf does not watch yet"
            assert watches.listed.is_set()
            assert observed.feeds

    in_fake_time(story())


def test_requests_of_kopf_s_that_fail_again_and_again_are_counted_until_they_succeed() -> None:
    async def story() -> None:
        async with listing(Lists()) as (_, _, watches):
            watches._watching.set()
            first, second = iter(watches._backoff), iter(watches._backoff)
            next(first)
            next(second)
            assert watches.ready() is None, "no try has failed yet"
            waits = [next(first) for _ in range(10)]
            next(second)
            assert waits[-1] == max(waits)
            assert str(watches.ready()).startswith("2 watches fail")
            del first, second
            assert watches.ready() is None

    in_fake_time(story())


def test_a_watch_that_tells_nothing_of_what_was_written_ends_the_operator_and_no_outage_does() -> None:
    async def story() -> None:
        echoes = Echoes([], asyncio.get_running_loop().time)
        watches = Watches(Lists(), Observed(), echoes, WorkQueue(), [])
        listening = asyncio.create_task(watches.listen())
        outage = iter(watches._backoff)
        for _ in range(2):
            next(outage)
        echoes.await_one(SERVICE, 3)
        await asyncio.sleep(100)
        assert not listening.done(), "requests fail, which kopf knows"
        del outage
        await asyncio.sleep(5)
        assert not listening.done(), "what came meanwhile may still be told"
        await asyncio.sleep(6)
        with pytest.raises(WatchMissingError, match="what was written of Service"):
            await listening

    in_fake_time(story())
