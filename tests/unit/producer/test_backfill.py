"""Backfill: what REST's answers prove, and how a hole ends whatever REST does; against a scripted exchange."""

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape.coinbase.messages import RestTrade
from fulltape.coinbase.rest import PAGE_LIMIT, RestUnavailableError, TradePage
from fulltape.messages import Gap, Trade
from fulltape.producer import backfill
from fulltape.producer.backfill import Backfill, absent_to
from fulltape.producer.gate import Hole
from fulltape.producer.intake import Intake, Lane
from fulltape.producer.writer import Entry


def rest_trade(trade_id: int) -> RestTrade:
    return RestTrade(trade_id, "1", "1", "buy", "2026-01-01T00:00:00.000000Z")


def page(ids: list[int]) -> TradePage:
    return TradePage([rest_trade(trade_id) for trade_id in sorted(ids)], [], 0)


@given(st.integers(1, 5000), st.integers(0, 3000), st.sets(st.integers(1, 9000), max_size=400), st.integers(0, 9000))
def test_only_ids_that_rest_lacks_though_it_lists_later_ones_count_as_absent(
    first: int, more: int, exist: set[int], rest_is_at: int
) -> None:
    hole = Hole(first, first + more)
    listed = {trade_id for trade_id in exist if trade_id <= rest_is_at}  # REST lags behind what exists
    after = min(hole.first + PAGE_LIMIT, hole.last + 1)
    limit = min(PAGE_LIMIT, hole.last - hole.first + 1)
    answer = sorted((trade_id for trade_id in listed if trade_id < after), reverse=True)[:limit]
    last = absent_to(hole, page(answer), max(listed, default=None))
    if last is not None:
        assert hole.first <= last <= hole.last
        assert not exist & set(range(hole.first, last + 1))
    elif first not in listed:
        assert not any(trade_id > min(hole.first + PAGE_LIMIT - 1, hole.last) for trade_id in listed)


class Exchange:
    """REST that lists what it is told to, and fails when told to."""

    def __init__(self) -> None:
        self.listed: set[int] = set()
        self.failure: Exception | None = None
        self.asked = 0

    async def trades(
        self, _product: str, *, after: int | None = None, limit: int = PAGE_LIMIT, within_seconds: float = 30.0
    ) -> TradePage:
        assert within_seconds > 0
        self.asked += 1
        await asyncio.sleep(0)
        if self.failure is not None:
            raise self.failure
        ids = sorted((trade_id for trade_id in self.listed if after is None or trade_id < after), reverse=True)[:limit]
        return page(ids)


class Scene:
    """One product at id 100, its backfill, and what reaches the tape."""

    def __init__(self) -> None:
        self.exchange = Exchange()
        self.lane = Lane("A-B", 100, None, 10_000)
        self.tape: list[Trade | Gap] = []
        self.intake = Intake({"A-B": self.lane}, to_tape=self._to_tape, aside=lambda _: None, opened=lambda _: None)
        self.room = asyncio.Event()
        self.room.set()
        self.backfill = Backfill(self.lane, self.intake, self.exchange, room=self.room, grace_seconds=0.0)  # type: ignore[arg-type]

    def _to_tape(self, entries: list[Entry]) -> None:
        self.tape += [record for record, _ in entries]

    def arrive(self, *ids: int) -> None:
        self.intake.backfill(self.lane, [rest_trade(trade_id) for trade_id in ids], 0)
        if self.lane.gate.hole() is not None:
            self.backfill.wake()

    def hear(self, last_id: int) -> None:
        self.lane.hear(last_id)
        if self.lane.gate.hole() is not None:
            self.backfill.wake()

    async def until_closed(self) -> None:
        running = asyncio.create_task(self.backfill.run())
        async with asyncio.timeout(20):
            while self.backfill.open_since is not None and not running.done():
                await asyncio.sleep(0.01)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running

    @property
    def ids(self) -> list[int | tuple[int, int]]:
        return [r.trade_id if isinstance(r, Trade) else (r.first_id, r.last_id) for r in self.tape]


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten what is waited for; what is waited for stays."""
    monkeypatch.setattr(backfill, "ABSENT_SECONDS", 0.05)
    monkeypatch.setattr(backfill, "PATIENCE_SECONDS", 0.4)


async def test_a_hole_of_many_pages_is_closed_in_order() -> None:
    scene = Scene()
    scene.exchange.listed = set(range(1, 3500))
    scene.arrive(3499)
    await scene.until_closed()
    assert scene.ids == list(range(100, 3500))


@pytest.mark.usefixtures("_hurried")
async def test_ids_that_rest_never_lists_become_gaps_and_the_others_trades() -> None:
    scene = Scene()
    scene.exchange.listed = set(range(1, 120)) - {101, 102, 110}
    scene.arrive(119)
    await scene.until_closed()
    assert scene.ids == [100, (101, 102), *range(103, 110), (110, 110), *range(111, 120)]


@pytest.mark.usefixtures("_hurried")
async def test_ids_that_rest_lists_late_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backfill, "PATIENCE_SECONDS", 60.0)
    scene = Scene()
    scene.exchange.listed = set(range(1, 100))  # REST is behind the live edge
    scene.hear(104)

    async def catch_up() -> None:
        while scene.exchange.asked < 9:  # more often than it takes to write off what REST proves absent
            await asyncio.sleep(0.01)
        scene.exchange.listed |= set(range(100, 105))

    await asyncio.gather(scene.until_closed(), catch_up())
    assert scene.ids == [100, 101, 102, 103, 104]


@pytest.mark.usefixtures("_hurried")
async def test_a_heartbeat_that_told_of_nothing_is_disbelieved_and_costs_no_trade() -> None:
    scene = Scene()
    scene.exchange.listed = set(range(1, 100))
    scene.hear(5000)
    await scene.until_closed()
    scene.arrive(100, 101)
    assert scene.ids == [100, 101]


@pytest.mark.usefixtures("_hurried")
async def test_rest_that_is_of_no_use_costs_only_what_lies_before_a_trade_that_was_seen() -> None:
    scene = Scene()
    scene.exchange.failure = RestUnavailableError("503 for ever")
    scene.arrive(103, 104)
    await scene.until_closed()
    assert scene.ids == [(100, 102), 103, 104]
    assert "503 for ever" in next(record.reason for record in scene.tape if isinstance(record, Gap))


@pytest.mark.usefixtures("_hurried")
async def test_a_hole_that_closes_by_itself_while_rest_fails_leaves_no_gap() -> None:
    scene = Scene()
    scene.exchange.failure = RestUnavailableError("503")
    scene.arrive(102)

    async def other_connection() -> None:
        while scene.exchange.asked < 2:
            await asyncio.sleep(0.01)
        scene.arrive(100, 101)

    await asyncio.gather(scene.until_closed(), other_connection())
    assert scene.ids == [100, 101, 102]
