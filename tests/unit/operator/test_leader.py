"""One operator works at a time, whatever becomes of requests and of processes."""

import asyncio
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape_operator import leader as leader_module
from fulltape_operator.cluster import ApiError, Cluster
from fulltape_operator.leader import LEASE_SECONDS, Leader


class Clock:
    """A time that the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        return self.now


class Leases:
    """The API server's Lease, with its refusal of a change of what has changed since it was read."""

    def __init__(self) -> None:
        self.lease: dict[str, Any] | None = None
        self.version = 0
        self.lost = False

    async def get(self, _: str) -> dict[str, Any] | None:
        self._may_fail()
        return None if self.lease is None else {**self.lease, "spec": dict(self.lease["spec"])}

    async def create(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        self._may_fail()
        if self.lease is not None:
            raise ApiError(409, "AlreadyExists", "it exists")
        return self._store(body)

    async def replace(self, _: str, body: dict[str, Any]) -> dict[str, Any]:
        self._may_fail()
        if body["metadata"]["resourceVersion"] != self.version:
            raise ApiError(409, "Conflict", "it has changed")
        return self._store(body)

    def _store(self, body: dict[str, Any]) -> dict[str, Any]:
        self.version += 1
        self.lease = {**body, "metadata": {**body["metadata"], "resourceVersion": self.version}}
        return self.lease

    def _may_fail(self) -> None:
        if self.lost:
            raise ApiError(0, "Unreachable", "no answer")


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("CRITICAL", logger=leader_module.__name__)


def candidates(leases: Leases, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> list[Leader]:
    monkeypatch.setattr("fulltape_operator.leader._now", clock.time)
    return [Leader(cast("Cluster", leases), "n", "lease", name) for name in ("one", "other")]


steps = st.lists(
    st.tuples(st.integers(0, 1), st.floats(0, 6), st.booleans()),  # who asks, after how long, whether it is lost
    min_size=1,
    max_size=60,
)


@settings(max_examples=200, deadline=None)
@given(steps)
def test_two_never_work_at_the_same_time(taken: list[tuple[int, float, bool]]) -> None:
    async def drill() -> None:
        leases, clock = Leases(), Clock()
        with pytest.MonkeyPatch.context() as monkeypatch:
            both = candidates(leases, clock, monkeypatch)
            for who, pause_seconds, lost in taken:
                clock.now += pause_seconds
                assert not all(one.leads() for one in both)
                leases.lost = lost
                await both[who]._ask()
                assert not all(one.leads() for one in both)

    asyncio.run(drill())


async def test_the_other_goes_on_once_the_lease_has_run_out(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, clock = Leases(), Clock()
    one, other = candidates(leases, clock, monkeypatch)
    await one._ask()
    await other._ask()
    assert (one.leads(), other.leads()) == (True, False)
    clock.now += LEASE_SECONDS
    assert not one.leads()
    await other._ask()
    assert other.leads()


async def test_who_ends_in_good_order_gives_the_lease_back(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, clock = Leases(), Clock()
    one, other = candidates(leases, clock, monkeypatch)
    running = asyncio.create_task(one.run())
    while not one.leads():
        await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await other._ask()
    assert (one.leads(), other.leads()) == (False, True)


async def test_who_loses_a_request_works_on_while_its_time_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    leases, clock = Leases(), Clock()
    one, _ = candidates(leases, clock, monkeypatch)
    await one._ask()
    leases.lost = True
    clock.now += 2
    await one._ask()
    assert one.leads()
    clock.now += LEASE_SECONDS
    await one._ask()
    assert not one.leads()
