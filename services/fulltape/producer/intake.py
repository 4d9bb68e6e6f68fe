"""From the exchange's bytes to tape records: decode, check, put in order, and count.

Pure but for the sinks that it is given. This is the hot path: a trade passes through once, with no lock and no await.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence

import msgspec

from fulltape.coinbase.messages import (
    Error,
    Heartbeat,
    MalformedMessageError,
    Match,
    RestTrade,
    Subscriptions,
    check_ticker,
    check_trade,
    decode,
    parse_time_us,
)
from fulltape.coinbase.messages import Ticker as ExchangeTicker
from fulltape.messages import Gap, Rejected, Source, Ticker, Trade
from fulltape.producer.gate import Gate
from fulltape.producer.tail import Tail
from fulltape.producer.writer import Entry

LAG_BUCKETS_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0)
_LAG_BUCKETS_US = [int(seconds * 1_000_000) for seconds in LAG_BUCKETS_SECONDS]
_encode = msgspec.json.Encoder().encode

MOST_NEW_IDS = 100_000_000
"""An id that is further than this ahead of all that is known is a corrupt one: no product trades so much in a year."""

_Arrival = tuple[Match | RestTrade, int, int, Source]  # trade, its time, when it was received, how


class Lane:
    """All that the producer knows of one product."""

    __slots__ = (
        "backfilled",
        "emitted",
        "gaps",
        "gate",
        "heard_id",
        "lag_buckets",
        "lag_sum_us",
        "last_ticker_sequence",
        "last_time_us",
        "missing",
        "product",
        "tail",
    )

    def __init__(self, product: str, next_id: int | None, last: Trade | None, held_capacity: int) -> None:
        self.product = product
        self.gate: Gate[_Arrival] = Gate(next_id, held_capacity)
        self.tail = Tail(product, last)
        self.last_time_us = last.time_us if last else 0
        self.heard_id: int | None = None
        """The highest id that a heartbeat told of."""
        self.last_ticker_sequence = 0
        self.emitted = 0
        self.backfilled = 0
        self.missing = 0
        self.gaps = 0
        self.lag_buckets = [0] * (len(_LAG_BUCKETS_US) + 1)
        self.lag_sum_us = 0

    def offer(self, trade: Match | RestTrade, received_us: int, source: Source) -> list[Entry]:
        """Take a trade; return the records that can now go to the tape.

        Raises:
            MalformedMessageError: a field holds what no trade can have.

        """
        check_trade(trade)
        self._check_plausible(trade.trade_id)
        time_us = parse_time_us(trade.time)
        return self._records(self.gate.offer(trade.trade_id, (trade, time_us, received_us, source)))

    def hear(self, last_trade_id: int) -> None:
        """Learn from a heartbeat how far the exchange is.

        Raises:
            MalformedMessageError: further than can be.

        """
        self._check_plausible(last_trade_id)
        self.gate.knows_of(last_trade_id)
        self.heard_id = max(self.heard_id or 0, last_trade_id)

    def start_at(self, trade_id: int) -> list[Entry]:
        """Begin the tape at ``trade_id``; return the records that can now go to it."""
        return self._records(self.gate.start_at(trade_id))

    def give_up(self, last_id: int, reason: str, now_us: int) -> list[Entry]:
        """Write the ids from the next one to ``last_id`` off; return the gap record and what can follow it."""
        assert self.gate.next_id is not None
        assert self.gate.next_id <= last_id, "only ids that the tape still lacks can be written off"
        gap = Gap(self.product, self.gate.next_id, last_id, reason, now_us)
        self.gaps += 1
        self.missing += last_id - gap.first_id + 1
        return [(gap, _encode(gap)), *self._records(self.gate.give_up(last_id))]

    def _check_plausible(self, trade_id: int) -> None:
        if trade_id > self.gate.highest_id + MOST_NEW_IDS and self.gate.highest_id:
            raise MalformedMessageError(
                f"trade id {trade_id} is more than {MOST_NEW_IDS} ahead of {self.gate.highest_id} - at `$.trade_id`"
            )

    def _records(self, arrivals: Iterable[_Arrival]) -> list[Entry]:
        records: list[Entry] = []
        for trade, time_us, received_us, source in arrivals:
            record = self.tail.append(trade, time_us, received_us, source)
            records.append((record, _encode(record)))
            self.emitted += 1
            self.last_time_us = time_us
            if source == "backfill":
                self.backfilled += 1
            else:
                lag_us = received_us - time_us
                self.lag_sum_us += lag_us
                self.lag_buckets[bisect_left(_LAG_BUCKETS_US, lag_us)] += 1
        return records


class Intake:
    """Sorts what connections and backfills bring onto the lanes, and hands on what comes out.

    ``to_tape`` gets records for the tape; ``aside`` gets tickers and rejections, which the tape does not wait for;
    ``opened`` is told of a lane with a hole, or one that has no start yet, at every message that shows it.
    """

    def __init__(
        self,
        lanes: dict[str, Lane],
        *,
        to_tape: Callable[[list[Entry]], None],
        aside: Callable[[Ticker | Rejected], None],
        opened: Callable[[Lane], None],
    ) -> None:
        self.lanes = lanes
        self.rejected = 0
        self.ignored = 0
        """Messages of types that Fulltape does not read."""
        self._to_tape = to_tape
        self._aside = aside
        self._opened = opened

    def receive(self, messages: Sequence[bytes | bytearray], received_us: int) -> list[Subscriptions | Error]:
        """Take the messages of one read from a socket; return those that concern the connection itself."""
        records: list[Entry] = []
        control: list[Subscriptions | Error] = []
        try:
            for raw in messages:
                try:
                    message = decode(raw)
                    if isinstance(message, Match):
                        lane = self._lane(message.product_id)
                        records += lane.offer(message, received_us, "stream")
                        if lane.gate.held:
                            self._opened(lane)
                    elif isinstance(message, Subscriptions | Error):
                        control.append(message)
                    else:
                        self._receive_other(message, received_us)
                except MalformedMessageError as problem:
                    self.reject(bytes(raw), str(problem), received_us, "stream")
        finally:  # a gate that has let a trade pass will not do so again, so what passed goes on whatever comes
            if records:
                self._to_tape(records)
        return control

    def _lane(self, product: str) -> Lane:
        lane = self.lanes.get(product)
        if lane is None:
            raise MalformedMessageError(f"product {product!r} was not subscribed to - at `$.product_id`")
        return lane

    def _receive_other(self, message: ExchangeTicker | Heartbeat | None, received_us: int) -> None:
        if isinstance(message, ExchangeTicker):
            check_ticker(message)
            lane = self._lane(message.product_id)
            if message.sequence > lane.last_ticker_sequence:  # another connection may have brought it, or a later one
                lane.last_ticker_sequence = message.sequence
                self._aside(_ticker(message, received_us))
        elif isinstance(message, Heartbeat):
            lane = self._lane(message.product_id)
            lane.hear(message.last_trade_id)
            if lane.gate.hole() is not None:
                self._opened(lane)
        else:
            self.ignored += 1

    def backfill(self, lane: Lane, trades: Iterable[RestTrade], received_us: int) -> None:
        """Take trades that REST gave, which it has checked."""
        records: list[Entry] = []
        for trade in trades:
            records += lane.offer(trade, received_us, "backfill")
        if records:
            self._to_tape(records)

    def start_at(self, lane: Lane, trade_id: int) -> None:
        """Begin the tape of a product that has none."""
        self._to_tape(lane.start_at(trade_id))

    def give_up(self, lane: Lane, last_id: int, reason: str, now_us: int) -> None:
        """Write ids off."""
        self._to_tape(lane.give_up(last_id, reason, now_us))

    def reject(self, raw: bytes, reason: str, received_us: int, source: Source) -> None:
        """Count a message that can't be used and keep it with the reason."""
        self.rejected += 1
        self._aside(Rejected(reason, raw, received_us, source))


def _ticker(message: ExchangeTicker, received_us: int) -> Ticker:
    return Ticker(
        message.product_id,
        message.trade_id,
        message.price,
        message.last_size,
        message.side,
        message.best_bid,
        message.best_bid_size,
        message.best_ask,
        message.best_ask_size,
        parse_time_us(message.time),
        message.sequence,
        received_us,
    )
