"""Fetches from REST what the gate of a product finds missing, and writes off what the exchange does not have.

One `Backfill` serves one product: it sleeps until a hole shows, closes it page by page in ascending order, and sleeps
again. The exchange's REST lists the newest trades below a given id, so the page that begins at the hole is the one
asked for with ``after`` = first + page size.

REST may lag behind the feed, so that an answer lacks an id proves nothing by itself. Ids are written off when several
answers over some time lacked them while REST listed a higher one; or when it gave no usable answer for long, and then
only up to a trade that was seen. If REST lists nothing above the hole for long, then nothing is there: whatever told of
it was wrong, and is taken back.
"""

import asyncio
import logging
import time
from dataclasses import dataclass

from fulltape.coinbase.rest import PAGE_LIMIT, RestClient, RestUnavailableError, TradePage, backoff_seconds
from fulltape.errors import ExchangeError
from fulltape.producer.gate import Hole
from fulltape.producer.intake import Intake, Lane

LOG = logging.getLogger(__name__)

ABSENT_SECONDS = 2.0
ABSENT_ANSWERS = 3
"""For how long, and how often, REST must lack an id of which it lists a successor, before the id is written off."""
PATIENCE_SECONDS = 120.0
"""How long REST may be away, or list nothing above a hole, before what is held goes on without it."""
_REQUEST_SECONDS = 10.0
_PROGRESS_SECONDS = 5.0


@dataclass(slots=True)
class Evidence:
    """What REST has said, so far, of the hole that begins at ``first``."""

    first: int
    since: float
    """Monotonic seconds of the first answer, or failure, about it."""
    answers: int = 0
    """Answers that proved ids absent."""
    absent_to: int = 0
    """The last id that each of those answers proved absent."""


def absent_to(hole: Hole, page: TradePage, newest_id: int | None) -> int | None:
    """Return the last of the hole's leading ids that an answer proves absent, or None where it proves nothing.

    ``page`` was asked for with ``after`` = min(first + page size, last + 1), so it holds the newest ids below that;
    ``newest_id`` is the newest trade that REST lists, None where it was not asked.
    """
    asked_last = min(hole.first + PAGE_LIMIT - 1, hole.last)
    present = [trade.trade_id for trade in page.trades if hole.first <= trade.trade_id <= asked_last]
    if present:
        return min(present) - 1 if min(present) > hole.first else None
    return asked_last if newest_id is not None and newest_id > asked_last else None


class Backfill:
    """Closes the holes of one lane.

    ``grace_seconds`` is how long a hole may close by itself first; nothing is fetched while ``room`` is not set.
    """

    def __init__(
        self, lane: Lane, intake: Intake, rest: RestClient, *, room: asyncio.Event, grace_seconds: float
    ) -> None:
        self._lane = lane
        self._intake = intake
        self._rest = rest
        self._room = room
        self._grace_seconds = grace_seconds
        self._hole_shown = asyncio.Event()
        self._nothing_above_since: float | None = None
        self.open_since: float | None = None
        """Monotonic seconds since when a hole has been open."""
        self.durations_seconds: list[float] = []
        """How long each closed hole was open; taken, and emptied, by the metrics."""

    def wake(self) -> None:
        """Tell that the lane has a hole."""
        if self.open_since is None:
            self.open_since = time.monotonic()
            self._hole_shown.set()

    async def run(self) -> None:
        """Close holes until cancelled."""
        while True:
            await self._hole_shown.wait()
            self._hole_shown.clear()
            if self._grace_seconds:
                await asyncio.sleep(self._grace_seconds)
            await self._close_all()
            assert self.open_since is not None
            self.durations_seconds.append(time.monotonic() - self.open_since)
            self.open_since = None

    async def _close_all(self) -> None:
        gate, product = self._lane.gate, self._lane.product
        evidence: Evidence | None = None
        tries = 0
        shown = time.monotonic()
        while (hole := gate.hole()) is not None:
            if time.monotonic() - shown > _PROGRESS_SECONDS:
                shown = time.monotonic()
                LOG.info("backfilling %s: at %d of %d, %d held", product, hole.first, gate.highest_id, gate.held)
            await self._room.wait()
            if evidence is None or evidence.first != hole.first:
                evidence, tries = Evidence(hole.first, time.monotonic()), 0
            try:
                if await self._fetch(hole, evidence):
                    continue
            except (RestUnavailableError, ExchangeError) as problem:
                LOG.warning("%s: can't fetch trades from %d on: %s", product, hole.first, problem)
                if time.monotonic() - evidence.since > PATIENCE_SECONDS and gate.first_held is not None:
                    self._write_off(hole.first, gate.first_held - 1, f"REST was of no use: {problem}")
                    continue
            tries += 1
            await asyncio.sleep(backoff_seconds(tries, first=0.1, most=1.0))

    async def _fetch(self, hole: Hole, evidence: Evidence) -> bool:
        """Ask for the beginning of a hole, and weigh the answer; return whether that moved the gate."""
        gate = self._lane.gate
        page = await self._rest.trades(
            self._lane.product,
            after=min(hole.first + PAGE_LIMIT, hole.last + 1),
            limit=min(PAGE_LIMIT, hole.last - hole.first + 1),
            within_seconds=_REQUEST_SECONDS,
        )
        for raw, reason in page.rejected:
            self._intake.reject(raw, reason, page.received_us, "backfill")
        self._intake.backfill(self._lane, page.trades, page.received_us)
        if gate.next_id != hole.first:
            self._nothing_above_since = None
            return True
        newest_id: int | None = None
        if all(trade.trade_id < hole.first for trade in page.trades):
            newest = await self._rest.trades(self._lane.product, limit=1, within_seconds=_REQUEST_SECONDS)
            newest_id = newest.trades[-1].trade_id if newest.trades else None
        return self._weigh(hole, evidence, absent_to(hole, page, newest_id), newest_id)

    def _weigh(self, hole: Hole, evidence: Evidence, absent: int | None, newest_id: int | None) -> bool:
        """Add an answer to the evidence, and act where it suffices; return whether it did."""
        waited_seconds = time.monotonic() - evidence.since
        if absent is not None:
            evidence.absent_to = min(absent, evidence.absent_to) if evidence.answers else absent
            evidence.answers += 1
            if evidence.answers >= ABSENT_ANSWERS and waited_seconds >= ABSENT_SECONDS:
                said = f"absent from {evidence.answers} REST answers over {waited_seconds:.1f} s that list later trades"
                self._write_off(hole.first, evidence.absent_to, said)
                return True
            return False
        if newest_id is None or newest_id >= hole.first:
            self._nothing_above_since = None
            return False
        if self._nothing_above_since is None:
            self._nothing_above_since = time.monotonic()
        silent_seconds = time.monotonic() - self._nothing_above_since
        if silent_seconds > PATIENCE_SECONDS:
            self._nothing_above_since = None
            forgotten = self._lane.gate.disbelieve(newest_id)
            LOG.error(
                "%s: trades from %d on were told of, but for %.0f s REST has listed none after %d: the feed was wrong,"
                " or REST is far behind. %d held trades are dropped; should they exist, they will be told of again",
                self._lane.product,
                hole.first,
                silent_seconds,
                newest_id,
                forgotten,
            )
            return True
        return False

    def _write_off(self, first_id: int, last_id: int, reason: str) -> None:
        if self._lane.gate.next_id != first_id:  # another connection brought it meanwhile
            return
        LOG.error("%s: trades %d to %d are lost: %s", self._lane.product, first_id, last_id, reason)
        self._intake.give_up(self._lane, last_id, reason, time.time_ns() // 1000)
