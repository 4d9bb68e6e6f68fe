"""Past trades of a product, from the exchange's REST into the staging area, from where the loader takes them.

Ids are contiguous within a product, so what is wanted is a range of ids, and what REST did not list is known. They are
fetched in ascending order, in blocks that end before multiples of `BLOCK`. A batch holds one run of ids without holes:
its name says which trades it has, and its content follows from these alone, so that to write it again changes nothing.
When a block is staged, its ids are noted beside the batches; whoever was killed does one block again.

Rows that the tape brought are worth more, as they have a sequence and the time of their arrival. Of two rows with one
key the loads keep the one that is later on the tape, so a fetched row claims to have been on the tape, and to have been
received, at the time of the trade itself, before any that was streamed. When it was really fetched would be another
content every time; the ledger says when it was loaded.
"""

import asyncio
import difflib
import itertools
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa

from fulltape.coinbase.history import first_id_since
from fulltape.coinbase.messages import TAKER_OF_MAKER, RestTrade, parse_time_us
from fulltape.coinbase.rest import PAGE_LIMIT, RestClient, RestUnavailableError, backoff_seconds
from fulltape.errors import ConfigurationError, ExchangeError
from fulltape.messages import UNDECODABLE
from fulltape.warehouse.staging import Batch, Kind, Staging, backfill_name, backfill_path, batch_path
from fulltape.warehouse.tables import PRICE, SIZE, TABLES, arrow_schema, precision

LOG = logging.getLogger(__name__)

BLOCK = 50_000
"""Ids that are staged together: a file of about a megabyte, and what a killed process does again."""

ABSENT_SECONDS = 2.0
ABSENT_ANSWERS = 3
"""For how long, and how often, REST must lack an id before it is a gap."""

PATIENCE_SECONDS = 600.0
"""How long REST may be of no use before the command ends; what was fetched stays."""

_REASON_CHARACTERS = 1000


class Span(NamedTuple):
    """Ids from the first to the last, both included."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many ids these are."""
        return self.last - self.first + 1


class Hole(msgspec.Struct, frozen=True):
    """Ids that REST lacks, or of which it lists what can't be stored."""

    span: Span
    reason: str


class Backfilled(msgspec.Struct, frozen=True):
    """What a backfill came to."""

    span: Span
    """The ids that were wanted."""
    fetched: int
    """Trades that were staged this time; the others had been."""
    holes: tuple[Hole, ...]


def merged(spans: Iterable[Span]) -> list[Span]:
    """Return the same ids as ascending spans that neither overlap nor touch."""
    found: list[Span] = []
    for span in sorted(spans):
        if found and span.first <= found[-1].last + 1:
            found[-1] = Span(found[-1].first, max(found[-1].last, span.last))
        else:
            found.append(span)
    return found


def without(span: Span, done: Iterable[Span]) -> Iterator[Span]:
    """Yield, in ascending order, the ids of ``span`` that are in none of ``done``."""
    first = span.first
    for other in merged(done):
        if other.last < first:
            continue
        if other.first > span.last:
            break
        if other.first > first:
            yield Span(first, other.first - 1)
        first = other.last + 1
    if first <= span.last:
        yield Span(first, span.last)


def cut(span: Span, length: int) -> Iterator[Span]:
    """Yield the span in parts that end before multiples of ``length``: where others begin does not matter to a part."""
    for start in range(span.first - span.first % length, span.last + 1, length):
        yield Span(max(start, span.first), min(start + length - 1, span.last))


def runs(ids: Iterable[int]) -> list[Span]:
    """Return ids as the longest spans that hold no others."""
    return merged(Span(one, one) for one in ids)


class Backfill:
    """Fetches one product's past trades.

    Args:
        product: whose trades.
        rest: the exchange's REST, open.
        staging: the feed's staging area.
        observe: is told, after each page, the share of the ids that is done and how many trades were fetched.

    """

    def __init__(
        self, product: str, rest: RestClient, staging: Staging, observe: Callable[[float, int], None] = lambda *_: None
    ) -> None:
        self._product = product
        self._rest = rest
        self._staging = staging
        self._observe = observe

    async def run(self, since_us: int, until_us: int | None = None) -> Backfilled:
        """Stage all trades from the first at or after one time to the last before another; the newest without that.

        What was staged before, by whatever run, is not fetched again; ids that REST lacked are asked for again.

        Raises:
            ConfigurationError: the exchange has no such product, or no trade of it in that time.
            ExchangeError: REST refuses, or was of no use for long. What was staged stays, and the next run continues.
            StagingUnavailableError: the staging area did not answer, or is full; the same holds.

        """
        try:
            await self._check_product()
            wanted = await self._span(since_us, until_us)
            return await self._fill(wanted)
        except RestUnavailableError as problem:
            raise ExchangeError(
                f"the exchange's REST is of no use: {problem}; what was fetched is kept, so run the same again to go on"
            ) from problem

    async def _check_product(self) -> None:
        listed = {product.id for product in await self._rest.products(within_seconds=PATIENCE_SECONDS)}
        if self._product not in listed:
            like = difflib.get_close_matches(self._product, sorted(listed))
            hint = f"; it has {' and '.join(like)}" if like else "; write BASE-QUOTE in capitals, such as BTC-USD"
            raise ConfigurationError(f"the exchange has no product {self._product!r}{hint}")

    async def _span(self, since_us: int, until_us: int | None) -> Span:
        """Return the ids of the trades of a stretch of time."""
        newest = await self._rest.trades(self._product, limit=1, within_seconds=PATIENCE_SECONDS)
        first = await self._first_since(since_us)
        if first is None or not newest.trades:
            raise ConfigurationError(f"the exchange has no trade of {self._product} since then; let --since be earlier")
        end = await self._first_since(until_us) if until_us is not None else None
        last = newest.trades[0].trade_id if end is None else end - 1
        if last < first:
            raise ConfigurationError(f"{self._product} was not traded in that time; let it be longer")
        return Span(first, last)

    async def _first_since(self, moment_us: int) -> int | None:
        return await first_id_since(self._rest, self._product, moment_us, within_seconds=PATIENCE_SECONDS)

    async def _fill(self, wanted: Span) -> Backfilled:
        done = self._read_done()
        left = list(without(wanted, done))
        remaining, fetched = sum(span.length for span in left), 0
        found_holes: list[Hole] = []
        self._observe(1 - remaining / wanted.length, fetched)
        for block in itertools.chain.from_iterable(cut(span, BLOCK) for span in left):
            trades: list[RestTrade] = []
            lacking: dict[int, str] = {}
            for page in cut(block, PAGE_LIMIT):
                found, reasons = await self._page(page)
                trades += found
                lacking |= reasons
                fetched += len(found)
                remaining -= page.length
                self._observe(1 - remaining / wanted.length, fetched)
            done = merged([*done, *self._stage_trades(trades)])
            found_holes += self._stage_gaps(lacking)
            self._staging.write(backfill_path(self._product), msgspec.json.encode(done))
        return Backfilled(wanted, fetched, tuple(found_holes))

    async def _page(self, span: Span) -> tuple[list[RestTrade], dict[int, str]]:
        """Fetch a page at most; return its trades in ascending order, and of ids that can't be had why not.

        REST lists a trade above the span, or the last of it, so what its answers lack is not on its way.
        """
        found: dict[int, RestTrade] = {}
        began = time.monotonic()
        for answers in itertools.count(1):
            page = await self._rest.trades(
                self._product, after=span.last + 1, limit=span.length, within_seconds=PATIENCE_SECONDS
            )
            found |= {trade.trade_id: trade for trade in page.trades if span.first <= trade.trade_id <= span.last}
            if len(found) == span.length:
                break
            if answers >= ABSENT_ANSWERS and time.monotonic() - began >= ABSENT_SECONDS:
                break
            await asyncio.sleep(backoff_seconds(answers, first=0.2, most=1.0))
        absent = f"absent from {ABSENT_ANSWERS} REST answers or more, over {ABSENT_SECONDS:g} s"
        if page.rejected:
            absent += f"; the last lists {len(page.rejected)} malformed trades: {page.rejected[0][1]}"
        lacking = {one: absent for one in range(span.first, span.last + 1) if one not in found}
        lacking |= {one: reason for one, trade in found.items() if (reason := misfit(trade)) is not None}
        return [found[one] for one in sorted(found.keys() - lacking.keys())], lacking

    def _stage_trades(self, trades: Sequence[RestTrade]) -> list[Span]:
        """Stage trades of ascending ids, a batch for each run of these; return the runs."""
        spans = runs(trade.trade_id for trade in trades)
        rest = iter(trades)
        for span in spans:
            some = list(itertools.islice(rest, span.length))
            times_us = [parse_time_us(trade.time) for trade in some]
            self._stage("trades", span, trade_rows(self._product, some, times_us), times_us)
        return spans

    def _stage_gaps(self, lacking: Mapping[int, str]) -> list[Hole]:
        """Stage gaps; return them. One that was staged before stays as it was found then."""
        found = holes(lacking)
        now_us = time.time_ns() // 1000
        for hole in found:
            name = backfill_name(self._product, hole.span.first, hole.span.length)
            if self._staging.content(batch_path("gaps", name)) is None:
                self._stage("gaps", hole.span, gap_rows(self._product, hole, now_us), [now_us])
        return found

    def _stage(self, kind: Kind, span: Span, rows: pa.Table, times_us: Sequence[int]) -> None:
        name = backfill_name(self._product, span.first, span.length)
        file = self._staging.write_parquet(kind, name, 0, rows)
        last_us = max(times_us)
        self._staging.publish(Batch(kind, name, file.rows, file.bytes, (file,), min(times_us), last_us, last_us))

    def _read_done(self) -> list[Span]:
        """Return what is staged, or was, by whatever run; nothing where the note of it can't be read."""
        path = backfill_path(self._product)
        try:
            return msgspec.json.decode(self._staging.content(path) or b"[]", type=list[Span])
        except UNDECODABLE as problem:
            LOG.warning("%s can't be read, so that all is fetched: %s", self._staging.uri_of(path), problem)
            return []


def holes(lacking: Mapping[int, str]) -> list[Hole]:
    """Return ids, each with the reason why it can't be had, as ascending spans of one reason."""
    found = [
        Hole(span, reason[:_REASON_CHARACTERS])
        for reason in set(lacking.values())
        for span in runs(one for one, why in lacking.items() if why == reason)
    ]
    return sorted(found, key=lambda hole: hole.span)


def misfit(trade: RestTrade) -> str | None:
    """Return why the warehouse's columns can't hold a trade; None where they can."""
    for name, text, kind in (("price", trade.price, PRICE), ("size", trade.size, SIZE)):
        digits, places = precision(kind) or (0, 0)
        whole, _, fraction = text.partition(".")
        if len(whole.lstrip("0")) > digits - places or len(fraction) > places:
            return f"its {name} of {text} does not fit {kind}"
    return None


def trade_rows(product: str, trades: Sequence[RestTrade], times_us: Sequence[int]) -> pa.Table:
    """Return fetched trades, which all fit, as rows of the warehouse's trades.

    They are late, as no final window was made with them.
    """
    moments = pa.array(times_us, pa.timestamp("us"))
    return pa.Table.from_pydict(
        {
            "product": [product] * len(trades),
            "trade_id": [trade.trade_id for trade in trades],
            "traded_at": moments,
            "price": pa.array([trade.price for trade in trades]),
            "size": pa.array([trade.size for trade in trades]),
            "taker_side": [TAKER_OF_MAKER[trade.side] for trade in trades],
            "sequence": [None] * len(trades),
            "received_at": moments,
            "tape_at": moments,
            "source": ["backfill"] * len(trades),
            "late": [True] * len(trades),
        },
        arrow_schema(TABLES["trades"]),
    )


def gap_rows(product: str, hole: Hole, now_us: int) -> pa.Table:
    """Return a hole as the row of a gap, found at ``now_us``: of gaps with one first id the latest finding counts."""
    moment = pa.array([now_us], pa.timestamp("us"))
    return pa.Table.from_pydict(
        {
            "product": [product],
            "first_id": [hole.span.first],
            "last_id": [hole.span.last],
            "reason": [hole.reason],
            "detected_at": moment,
            "tape_at": moment,
        },
        arrow_schema(TABLES["gaps"]),
    )
