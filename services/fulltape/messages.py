"""The messages that cross Kafka: JSON objects, told apart by ``type``, each documented field by field.

Evolution is additive: a field is never renamed, removed or given another meaning; a reader ignores fields and types
that it does not know; a field added later has a default. `docs/messages.md` is generated from this file and a test
holds the two together.

Prices and sizes are the exchange's own decimal strings, exact to the last digit. Times are microseconds since the Unix
epoch, UTC.
"""

from typing import Literal

import msgspec

TakerSide = Literal["buy", "sell"]
"""The side of the order that took liquidity; the Coinbase feed's ``side`` on a match is the maker's, its opposite."""

Source = Literal["stream", "backfill"]
"""How a trade reached the tape: over the WebSocket, or from REST because the WebSocket never showed it."""


class Trade(msgspec.Struct, tag="trade", tag_field="type", frozen=True, gc=False):
    """One trade of one product. On the tape ``trade_id`` ascends by one from record to record of a product.

    The last five fields are known only to whoever sees the tape in order, so the producer writes them: returns and runs
    of ticks then are sums over trades, in whatever order a later stage sees those.
    """

    product: str
    """Coinbase's product, such as ``BTC-USD``; also the Kafka key."""
    trade_id: int
    """The exchange's number of the trade: contiguous within a product."""
    price: str
    """Exact decimal, in the quote currency."""
    size: str
    """Exact decimal, in the base currency."""
    taker_side: TakerSide
    """``buy`` lifted an offer, ``sell`` hit a bid."""
    time_us: int
    """The exchange's time of the trade."""
    sequence: int | None
    """The exchange's order-book sequence; null for a backfilled trade. Sparse: it proves nothing about completeness."""
    received_us: int
    """When the frame (or the REST answer) that held the trade was read from the socket, by this machine's clock."""
    source: Source
    """``stream`` or ``backfill``."""
    previous_price: str | None
    """Price of the trade before this one on the tape; null on the first."""
    second_previous_price: str | None
    """Price of the trade before that; null on the first two."""
    run_ticks: int
    """Price changes in one direction without one in the other, up to and with this trade: positive up, negative down.
    An unchanged price is no tick and ends no run."""
    run_start_us: int | None
    """Time of the trade from whose price the run departed; null before the first tick."""
    run_start_price: str | None
    """Price from which the run departed; null before the first tick."""


class Gap(msgspec.Struct, tag="gap", tag_field="type", frozen=True, gc=False):
    """Trade ids that exist at the exchange but could not be had. Stands on the tape where those trades would."""

    product: str
    first_id: int
    """First missing id."""
    last_id: int
    """Last missing id, inclusive."""
    reason: str
    """Why: what was asked, and what the exchange answered."""
    detected_us: int
    """When the producer gave the ids up."""


class Ticker(msgspec.Struct, tag="ticker", tag_field="type", frozen=True, gc=False):
    """The best bid and offer after a trade (a cascade of trades by one taker order is one ticker)."""

    product: str
    trade_id: int
    price: str
    size: str
    """Size of the last trade."""
    taker_side: TakerSide
    best_bid: str
    best_bid_size: str
    best_ask: str
    best_ask_size: str
    time_us: int
    sequence: int
    received_us: int


class Rejected(msgspec.Struct, tag="rejected", tag_field="type", frozen=True, gc=False):
    """A message from the exchange that could not be used, kept whole with the reason."""

    reason: str
    """What is wrong with it and where in it."""
    raw: bytes
    """The bytes as received; base64 in JSON."""
    received_us: int
    source: Source


class Cursor(msgspec.Struct, tag="cursor", tag_field="type", frozen=True, gc=False):
    """A producer's claim on a product, and a recent point of its tape from which to look for the end.

    Lives on a compacted topic, keyed by product and owner. A claim is written before the first trade of whoever makes
    it; later ones when all that they tell of has been committed, so none is ahead of the tape.
    """

    product: str
    owner: str
    """The shard that claims the product, such as ``0-of-1``; its transactional ids begin with this."""
    incarnation: str
    """Random, new for every process: tells a shard from its successor of the same name."""
    partitions: int
    """How many partitions the tape had."""
    partition: int | None
    """The tape's partition that held the product; null before its first record."""
    offset: int
    """The offset in that partition from which to read on; all records of the product before it are reflected here."""
    next_id: int | None
    """The id that the next record of the product begins with; null before the first."""
    last: Trade | None
    """The last trade of the product before ``offset``."""


UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding bytes that anybody may have written can raise: no JSON, no UTF-8, or nested without end."""

TapeRecord = Trade | Gap
"""What stands on ``<feed>.trades``."""
