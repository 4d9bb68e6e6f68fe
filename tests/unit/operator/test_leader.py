"""One operator works at a time, whatever becomes of requests and of processes; and one does within seconds."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import Any, Literal, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape_operator import leader as leader_module
from fulltape_operator.cluster import ApiError, Cluster
from fulltape_operator.leader import Leader
from tests.unit.operator.fake_time import in_fake_time

Fate = Literal["answered", "not sent", "not answered"]
Course = tuple[float, float, Fate]
"""Of one request: seconds until the API server acts on it, seconds until its answer is there, and whether they come."""

AT_ONCE: Course = (0.0, 0.0, "answered")
FAILOVER_SECONDS = 15
_LOOK_SECONDS = 0.1


class Lease:
    """The API server's one object, with its refusal of a change of what has changed since it was read."""

    def __init__(self) -> None:
        self.object: dict[str, Any] | None = None
        self._version = 0

    def create(self, body: dict[str, Any]) -> dict[str, Any]:
        if self.object is not None:
            raise ApiError(409, "AlreadyExists", "it exists")
        return self._store(body)

    def replace(self, body: dict[str, Any]) -> dict[str, Any]:
        if body["metadata"]["resourceVersion"] != str(self._version):
            raise ApiError(409, "Conflict", "it has changed")
        return self._store(body)

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self._version += 1
        self.object = {**body, "metadata": {**body["metadata"], "resourceVersion": str(self._version)}}
        return self.object


class Connection:
    """One operator's way to the API server: each request takes its course, the next in turn."""

    def __init__(self, lease: Lease, courses: Sequence[Course] = (AT_ONCE,)) -> None:
        self._lease = lease
        self._courses = cycle(courses)
        self.cut = False

    async def get(self, _: str) -> dict[str, Any] | None:
        async with self._way():
            return self._lease.object

    async def create(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._way():
            return self._lease.create(body)

    async def replace(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        async with self._way():
            return self._lease.replace(body)

    @asynccontextmanager
    async def _way(self) -> AsyncIterator[None]:
        there_seconds, back_seconds, fate = next(self._courses)
        await asyncio.sleep(there_seconds)
        if self.cut or fate == "not sent":
            raise ApiError(0, "Unreachable", "no answer")
        refused: ApiError | None = None
        try:
            yield
        except ApiError as problem:
            refused = problem
        await asyncio.sleep(back_seconds)
        if fate == "not answered":
            raise ApiError(0, "Unreachable", "no answer")
        if refused is not None:
            raise refused


def candidate(connection: Connection, name: str) -> Leader:
    return Leader(cast("Cluster", connection), "markets", "lease", name)


async def watch(candidates: Sequence[Leader], seconds: float) -> set[int]:
    """Look on for a time; return who worked. Two at once fail the test."""
    worked = set()
    for _ in range(round(seconds / _LOOK_SECONDS)):
        leading = {number for number, one in enumerate(candidates) if one.leads()}
        assert len(leading) <= 1
        worked |= leading
        await asyncio.sleep(_LOOK_SECONDS)
    return worked


async def until_leads(one: Leader, others: Sequence[Leader] = ()) -> float:
    """Wait until one works, and look on for a while; return after how many seconds it did."""
    began = asyncio.get_running_loop().time()
    while not one.leads():
        await watch([one, *others], _LOOK_SECONDS)
        assert asyncio.get_running_loop().time() - began < 600, "it never works"
    took = asyncio.get_running_loop().time() - began
    await watch([one, *others], 2)
    return took


@asynccontextmanager
async def running(*candidates: Leader) -> AsyncIterator[list[asyncio.Task[None]]]:
    tasks = [asyncio.create_task(one.run()) for one in candidates]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger=leader_module.__name__)


delays = st.sampled_from([0.0, 0.0, 0.1, 1.0, 2.0, 3.0, 4.0, 4.9, 9.0])
courses = st.lists(
    st.tuples(delays, delays, st.sampled_from(["answered", "answered", "not sent", "not answered"])),
    min_size=1,
    max_size=20,
)


@settings(max_examples=20, deadline=None)
@given(st.lists(courses, min_size=2, max_size=3), st.lists(st.floats(0, 60), max_size=3))
def test_two_never_work_at_the_same_time_however_long_requests_take_and_whichever_are_lost(
    ways: list[list[Course]], ends: list[float]
) -> None:
    """Some are told to end at a moment of their own, and give the Lease back on the same bad way."""

    async def drill() -> None:
        lease = Lease()
        candidates = [candidate(Connection(lease, way), str(number)) for number, way in enumerate(ways)]

        async def end(task: asyncio.Task[None], when: float) -> None:
            await asyncio.sleep(when)
            task.cancel()

        async with running(*candidates) as tasks:
            endings = [asyncio.create_task(end(task, when)) for task, when in zip(tasks, ends, strict=False)]
            await watch(candidates, 90)
            await asyncio.gather(*endings)

    in_fake_time(drill())


def test_a_renewal_that_is_seen_late_still_counts_in_full() -> None:
    """The other's read is on its way for seconds, and sees a renewal that was made meanwhile."""

    async def drill() -> None:
        lease = Lease()
        holder_way = Connection(lease)
        holder = candidate(holder_way, "holder")
        slow: list[Course] = [(4.5, 0.0, "answered"), *[AT_ONCE] * 1000]
        other = candidate(Connection(lease, slow), "other")
        async with running(holder, other):
            await watch([holder, other], 4.3)
            holder_way.cut = True
            assert await watch([holder, other], 30) == {0, 1}

    in_fake_time(drill())


def test_a_holder_whose_requests_hang_stops_before_the_other_works() -> None:
    """It learns of no refusal: its own clock alone tells it that its time is up."""

    async def drill() -> None:
        lease = Lease()
        never: Course = (1000.0, 0.0, "answered")
        hanging = [*[AT_ONCE] * 6, *[never] * 100]
        holder, other = candidate(Connection(lease, hanging), "holder"), candidate(Connection(lease), "other")
        async with running(holder):
            await watch([holder, other], 0.5)  # so that it does not look at the moments of the renewals
            async with running(other):
                assert await watch([holder, other], 30) == {0, 1}

    in_fake_time(drill())


def test_the_other_goes_on_within_seconds_after_the_holder_fell_silent() -> None:
    async def drill() -> None:
        for silent_after in (1.0, 2.0, 2.5, 3.9, 11.3):
            lease = Lease()
            way = Connection(lease)
            holder, other = candidate(way, "holder"), candidate(Connection(lease), "other")
            async with running(holder, other):
                assert await watch([holder, other], silent_after) == {0}
                way.cut = True
                assert await until_leads(other, [holder]) < FAILOVER_SECONDS
                way.cut = False
                assert await watch([holder, other], 60) == {1}

    in_fake_time(drill())


def test_who_ends_in_good_order_stops_and_gives_the_lease_back_at_once() -> None:
    async def drill() -> None:
        for moment in (20.0, 20.5, 21.0, 21.5):
            lease = Lease()
            slow: list[Course] = [(0.0, 1.0, "answered")]
            holder, other = candidate(Connection(lease, slow), "holder"), candidate(Connection(lease), "other")
            async with running(holder) as [task]:
                await until_leads(holder)
                async with running(other):
                    assert await watch([holder, other], moment) == {0}
                    task.cancel()
                    assert await until_leads(other, [holder]) < 4

    in_fake_time(drill())


@pytest.mark.parametrize("others", [4, 5], ids=["reads", "writes"])
def test_the_holder_works_on_while_single_renewals_fail(others: int) -> None:
    """Each renewal is a read and a write, and of every third one of the two is lost."""

    async def drill() -> None:
        lease = Lease()
        lost: list[Course] = [*[AT_ONCE] * others, (0.0, 0.0, "not sent")]
        holder, other = candidate(Connection(lease, lost), "holder"), candidate(Connection(lease), "other")
        async with running(holder, other):
            await until_leads(holder, [other])
            for _ in range(600):
                assert holder.leads()
                await watch([holder, other], _LOOK_SECONDS)

    in_fake_time(drill())


def test_a_holder_that_is_cut_off_knows_it_before_another_works() -> None:
    async def drill() -> None:
        lease = Lease()
        way = Connection(lease)
        holder = candidate(way, "holder")
        async with running(holder):
            await until_leads(holder)
            way.cut = True
            assert await watch([holder], 10) == {0}
            assert not holder.leads()
            waiting = asyncio.create_task(holder.wait())
            await watch([holder], 20)
            assert not waiting.done()
            way.cut = False
            await waiting
            assert holder.leads()

    in_fake_time(drill())


def test_the_lease_tells_who_holds_it_and_how_often_it_changed_hands() -> None:
    async def drill() -> None:
        lease = Lease()
        one, other = candidate(Connection(lease), "one"), candidate(Connection(lease), "other")
        async with running(one) as [task]:
            await until_leads(one)
            assert lease.object is not None
            first = lease.object["spec"]
            await watch([one], 10)
            later = lease.object["spec"]
            assert (later["holderIdentity"], later["leaseTransitions"]) == ("one", 0)
            assert later["acquireTime"] == first["acquireTime"]
            assert later["renewTime"] > first["renewTime"]
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert not lease.object["spec"].get("holderIdentity")
        async with running(other):
            await until_leads(other, [one])
            assert lease.object["spec"]["holderIdentity"] == "other"
            assert lease.object["spec"]["leaseTransitions"] == 1

    in_fake_time(drill())
