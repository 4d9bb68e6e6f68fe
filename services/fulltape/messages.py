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

    The last seven fields are known only to whoever sees the tape in order, so the producer writes them: returns, runs
    of ticks and drawdowns then are sums and maxima over trades, in whatever order a later stage sees those.
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
    pane_high: str
    """Highest price of the product in this trade's second of exchange time, up to and with this trade."""
    pane_low: str
    """Lowest price of the product in this trade's second of exchange time, up to and with this trade."""


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


class Pane(msgspec.Struct, tag="pane", tag_field="type", frozen=True, gc=False):
    """One second of one product's trades, as sums from which every measure of a window follows by merging.

    It is published anew with every trade that it gains, keyed by product and start: of two versions the one with more
    trades counts. A pane is never taken back, so versions may come twice and from several writers.

    Decimals are written with all the places of their kind: prices with 10, sizes with 8, the notional with 15.
    """

    product: str
    start_us: int
    """Start of the second, inclusive; exchange time."""
    trades: int
    """How many trades."""
    volume: str
    """Sum of the sizes: exact decimal, base currency."""
    notional: str
    """Sum of price times size, quote currency; each product rounded to 15 places."""
    buy_volume: str
    """Sum of the sizes whose taker bought; the rest was sold."""
    price_mean: float
    """Mean of the trades' prices."""
    price_square_deviations: float
    """Sum over trades of the square of the price's deviation from `price_mean`."""
    changes: int
    """How many trades have a trade before them on the tape."""
    change_sum: float
    """Sum of the price changes from the trade before."""
    change_squares: float
    """Sum of their squares."""
    return_squares: float
    """Sum of the squares of the log returns r from the trade before."""
    return_fourths: float
    """Sum of r to the fourth power."""
    return_pairs: int
    """How many trades have two trades before them on the tape."""
    bipower: float
    """Sum over those of |r| times |r of the trade before|."""
    largest_return: float
    """Greatest |r|; 0 without changes."""
    open: str
    """Price of the trade with the lowest id."""
    high: str
    low: str
    close: str
    """Price of the trade with the highest id."""
    open_us: int
    """Time of the first trade."""
    high_us: int
    """Time of the last trade at the highest price."""
    low_us: int
    """Time of the last trade at the lowest price."""
    close_us: int
    """Time of the last trade."""
    previous_price: str | None
    """Price of the trade before the first one; null at the beginning of a tape."""
    drawdown_peak: str
    """Price from which it fell most within the second, as a fraction of that price."""
    drawdown_trough: str
    """Price to which it fell."""
    run_up: float
    """Greatest rise from a trough within the second, as a fraction of the trough."""
    mini_crash: float
    """Greatest fraction that the price moved in a run of at least 10 ticks one way within 1.5 s that ends in this
    second; 0 without such a run."""
    largest_size: str
    """Size of the largest trade."""
    first_id: int
    last_id: int
    first_digits: tuple[int, int, int, int, int, int, int, int, int]
    """How many sizes begin with the significant digit 1, 2, ... 9."""
    round_sizes: int
    """How many sizes have one significant digit only."""
    received_us: int
    """Latest of the trades' `received_us`."""
    tape_us: int
    """Latest of the times at which the trades were written to the tape; whole milliseconds."""


class Window(msgspec.Struct, tag="window", tag_field="type", frozen=True, gc=False):
    """A sliding window of one product and all its measures.

    Published anew whenever it changes, keyed by product, window and end; the newest version counts. A window without
    any trade of the product before its end is not published.
    """

    product: str
    window: str
    """Its length, as the feed writes it: ``1m``."""
    start_us: int
    """Inclusive; exchange time."""
    end_us: int
    """Exclusive; a multiple of the feed's slide."""
    trades: int
    missing: int
    """Trade ids between the window's first and last trade that are not in it: ids that the tape holds as a gap."""
    volume: str
    notional: str
    buy_volume: str
    open: str | None
    """Prices of trades within the window, exact; null where it holds none."""
    high: str | None
    low: str | None
    close: str | None
    last_price: str
    """Price of the last trade before the window's end, within it or earlier."""
    last_id: int
    """Its id."""
    largest_size: str | None
    measures: dict[str, float | None]
    """Each measure by its name in a feed; null where the window does not determine it."""
    trade_us: int
    """Exchange time of the newest trade that the window reflects, and below when that trade passed each stage."""
    received_us: int
    tape_us: int
    """When it was written to the tape; whole milliseconds."""
    pane_us: int
    """When its pane was written; whole milliseconds."""
    published_us: int
    """When this version of the window was published."""


class Alert(msgspec.Struct, tag="alert", tag_field="type", frozen=True, gc=False):
    """A change of an alert's state. All its history has one `fingerprint`; each firing has its own `starts_us`."""

    name: str
    """The rule's name."""
    fingerprint: str
    """Names the alert: rule, product and window."""
    state: Literal["pending", "inactive", "firing", "resolved"]
    """pending: the condition holds, but not yet for long enough; inactive: it ceased before it fired."""
    product: str | None
    """Null for an alert on the whole feed."""
    window: str | None
    severity: Literal["info", "warning", "critical"]
    summary: str
    """One sentence with the numbers."""
    values: dict[str, float]
    """The measures that the rule watches, as they were at this change."""
    labels: dict[str, str]
    """All labels as Alertmanager gets them."""
    annotations: dict[str, str]
    since_us: int
    """Exchange time at which the condition began to hold."""
    starts_us: int | None
    """Exchange time at which it fired; null before."""
    ends_us: int | None
    """Exchange time at which it resolved; null before."""
    trade_us: int | None
    """Exchange time of the trade that brought the change, if a trade did."""
    changed_us: int
    """When the monitor made this change, by its machine's clock."""


UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding bytes that anybody may have written can raise: no JSON, no UTF-8, or nested without end."""

TapeRecord = Trade | Gap
"""What stands on ``<feed>.trades``."""
