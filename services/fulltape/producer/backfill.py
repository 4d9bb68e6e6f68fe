"""Fetches from REST what the gate of a product finds missing, and writes off what the exchange does not have.

One `Backfill` serves one product: it sleeps until a hole shows, closes it page by page in ascending order, and sleeps
again. The exchange's REST lists the newest trades below a given id, so the page that begins at the hole is the one
asked for with ``after`` = first + page size.
"""

import asyncio
import logging
import time

from fulltape.coinbase.rest import PAGE_LIMIT, RestClient, RestUnavailableError, TradePage, backoff_seconds
from fulltape.errors import ExchangeError
from fulltape.producer.gate import Hole
from fulltape.producer.intake import Intake, Lane

LOG = logging.getLogger(__name__)

ABSENT_SECONDS = 2.0
"""How long the exchange's REST may answer without an id before the id is written off: it is seconds behind at worst."""
ABSENT_ANSWERS = 3
UNREACHABLE_SECONDS = 120.0
"""How long REST may give no usable answer before what is missing is written off, so that live trades can go on."""
_PROGRESS_SECONDS = 5.0


def written_off(hole: Hole, page: TradePage) -> int | None:
    """Return the last of the hole's leading ids that ``page`` proves absent, or None where it has the first.

    ``page`` was asked for with ``after`` = min(first + page size, last + 1), so it holds the newest ids below that.
    A page that holds nothing at or above the hole's first id proves all that was asked for absent.
    """
    asked_last = min(hole.first + PAGE_LIMIT - 1, hole.last)
    present = [trade.trade_id for trade in page.trades if hole.first <= trade.trade_id <= asked_last]
    if not present:
        return asked_last
    first_present = min(present)
    return first_present - 1 if first_present > hole.first else None


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
        absent_since: float | None = None
        absent_answers = 0
        shown = time.monotonic()
        while (hole := gate.hole()) is not None:
            if time.monotonic() - shown > _PROGRESS_SECONDS:
                shown = time.monotonic()
                LOG.info("backfilling %s: at %d of %d, %d held", product, hole.first, gate.highest_id, gate.held)
            await self._room.wait()
            try:
                page = await self._rest.trades(
                    product,
                    after=min(hole.first + PAGE_LIMIT, hole.last + 1),
                    limit=min(PAGE_LIMIT, hole.last - hole.first + 1),
                    within_seconds=UNREACHABLE_SECONDS,
                )
            except (RestUnavailableError, ExchangeError) as problem:
                self._write_off(hole.last, str(problem))
                continue
            for raw, reason in page.rejected:
                self._intake.reject(raw, reason, page.received_us, "backfill")
            self._intake.backfill(self._lane, page.trades, page.received_us)
            if gate.next_id != hole.first:
                absent_since, absent_answers = None, 0
                continue
            absent_since = absent_since or time.monotonic()
            absent_answers += 1
            last_absent = written_off(hole, page)
            waited = time.monotonic() - absent_since
            if last_absent is not None and waited >= ABSENT_SECONDS and absent_answers >= ABSENT_ANSWERS:
                self._write_off(last_absent, f"absent from {absent_answers} REST answers over {waited:.1f} s")
                absent_since, absent_answers = None, 0
            else:
                await asyncio.sleep(backoff_seconds(absent_answers, first=0.1, most=1.0))

    def _write_off(self, last_id: int, reason: str) -> None:
        first_id = self._lane.gate.next_id
        LOG.error("%s: trades %s to %s are lost: %s", self._lane.product, first_id, last_id, reason)
        self._intake.give_up(self._lane, last_id, reason, time.time_ns() // 1000)
