"""The intake: bytes in, tape records out; what is unusable goes aside with its reason, and nothing stops the rest."""

from collections.abc import Iterable

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape.coinbase.messages import Error, RestTrade, Subscriptions
from fulltape.messages import Gap, Rejected, Ticker, Trade
from fulltape.producer.intake import Intake, Lane


class Bench:
    """An intake of two products with everything that comes out of it."""

    def __init__(self, next_id: int | None = 1) -> None:
        self.lanes = {product: Lane(product, next_id, None, 100) for product in ("BTC-USD", "ETH-USD")}
        self.tape: list[Trade | Gap] = []
        self.wire: list[bytes] = []
        self.aside: list[Ticker | Rejected] = []
        self.opened: list[str] = []
        self.intake = Intake(
            self.lanes,
            to_tape=self._to_tape,
            aside=self.aside.append,
            opened=lambda lane: self.opened.append(lane.product),
        )

    def _to_tape(self, entries: Iterable[tuple[Trade | Gap, bytes]]) -> None:
        for record, raw in entries:
            self.tape.append(record)
            self.wire.append(raw)

    def receive(self, *messages: bytes) -> list[Subscriptions | Error]:
        return self.intake.receive(messages, 1_000_000)

    @property
    def rejected(self) -> list[Rejected]:
        return [message for message in self.aside if isinstance(message, Rejected)]


def match(trade_id: int, product: str = "BTC-USD", **changes: object) -> bytes:
    fields = {
        "type": "match",
        "trade_id": trade_id,
        "side": "sell",
        "size": "0.2",
        "price": "63514.6",
        "product_id": product,
        "sequence": trade_id * 3,
        "time": "2026-07-07T22:58:17.164892Z",
    }
    return msgspec.json.encode(fields | changes)


def heartbeat(last_trade_id: int) -> bytes:
    return msgspec.json.encode(
        {"type": "heartbeat", "product_id": "BTC-USD", "last_trade_id": last_trade_id, "sequence": 1, "time": "t"}
    )


def rest_trade(trade_id: int) -> RestTrade:
    return RestTrade(trade_id, "5", "1", "buy", "2026-07-07T22:58:17.164892Z")


def test_a_match_becomes_a_trade_with_the_takers_side_and_exact_decimals() -> None:
    bench = Bench()
    bench.receive(match(1))
    assert bench.tape == [
        Trade(
            "BTC-USD",
            1,
            "63514.6",
            "0.2",
            "buy",
            1783465097164892,
            3,
            1_000_000,
            "stream",
            None,
            None,
            0,
            None,
            None,
            "63514.6",
            "63514.6",
        )
    ]
    assert msgspec.json.decode(bench.wire[0], type=Trade) == bench.tape[0]


def test_products_do_not_wait_for_each_other() -> None:
    bench = Bench()
    bench.receive(match(2), match(1, "ETH-USD"), match(2, "ETH-USD"))
    assert [(record.product, record.trade_id) for record in bench.tape if isinstance(record, Trade)] == [
        ("ETH-USD", 1),
        ("ETH-USD", 2),
    ]
    assert bench.opened == ["BTC-USD"]


def test_a_hole_is_told_of_and_closed_by_a_backfill_in_order() -> None:
    bench = Bench()
    bench.receive(match(1), match(4))
    assert bench.opened == ["BTC-USD"]
    bench.intake.backfill(bench.lanes["BTC-USD"], [rest_trade(2), rest_trade(3)], 2_000_000)
    trades = [record for record in bench.tape if isinstance(record, Trade)]
    assert [trade.trade_id for trade in trades] == [1, 2, 3, 4]
    assert [trade.source for trade in trades] == ["stream", "backfill", "backfill", "stream"]
    assert trades[1].sequence is None
    assert trades[3].previous_price == "5"


def test_a_heartbeat_ahead_of_the_tape_opens_a_hole() -> None:
    bench = Bench()
    bench.receive(match(1), heartbeat(1))
    assert bench.opened == []
    bench.receive(heartbeat(3))
    assert bench.opened == ["BTC-USD"]


def test_the_highest_heartbeat_counts_though_a_slower_connection_is_behind() -> None:
    bench = Bench(next_id=500)
    bench.receive(heartbeat(499), heartbeat(497))
    assert bench.lanes["BTC-USD"].heard_id == 499


def test_an_id_that_can_not_be_is_refused_and_changes_nothing() -> None:
    bench = Bench(next_id=500)
    bench.receive(match(10**15), heartbeat(10**15), match(500))
    assert [record.trade_id for record in bench.tape if isinstance(record, Trade)] == [500]
    assert len(bench.rejected) == 2
    assert bench.opened == []


def test_ids_given_up_stand_on_the_tape_as_a_gap_with_the_reason() -> None:
    bench = Bench()
    bench.receive(match(1), match(4))
    bench.intake.give_up(bench.lanes["BTC-USD"], 3, "absent", 77)
    assert bench.tape[1:2] == [Gap("BTC-USD", 2, 3, "absent", 77)]
    assert isinstance(bench.tape[2], Trade)
    assert (bench.lanes["BTC-USD"].missing, bench.lanes["BTC-USD"].gaps) == (2, 1)


def test_bad_messages_are_kept_with_their_reason_and_the_feed_goes_on() -> None:
    bench = Bench()
    nested = b'{"type":"match","x":' + b"[" * 100_000
    bad = [b'{"type":"match"', match(2, price="0"), match(2, product="DOGE-USD"), b"\xff", nested]
    bench.receive(match(1), *bad, match(2))
    assert [record.trade_id for record in bench.tape if isinstance(record, Trade)] == [1, 2]
    assert [rejection.raw for rejection in bench.rejected] == bad
    assert "price '0'" in bench.rejected[1].reason
    assert "DOGE-USD" in bench.rejected[2].reason
    assert bench.intake.rejected == 5


def test_a_bad_match_leaves_a_hole_for_rest_to_fill() -> None:
    bench = Bench()
    bench.receive(match(1), match(2, price=1.5), match(3))
    assert bench.opened == ["BTC-USD"]
    bench.intake.backfill(bench.lanes["BTC-USD"], [rest_trade(2)], 0)
    assert [record.trade_id for record in bench.tape if isinstance(record, Trade)] == [1, 2, 3]


def test_control_messages_come_back_and_other_types_are_counted() -> None:
    bench = Bench()
    answers = bench.receive(
        b'{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD"]}]}',
        b'{"type":"error","message":"Failed to subscribe","reason":"no"}',
        b'{"type":"l2update"}',
    )
    assert [type(answer) for answer in answers] == [Subscriptions, Error]
    assert bench.intake.ignored == 1


def ticker(sequence: int, **changes: object) -> bytes:
    return msgspec.json.encode(
        {"type": "ticker", "product_id": "ETH-USD", "trade_id": 7, "sequence": sequence, "price": "2", "last_size": "3"}
        | {"side": "buy", "best_bid": "1", "best_bid_size": "4", "best_ask": "2", "best_ask_size": "5"}
        | {"time": "2026-07-07T22:58:17.164892Z"}
        | changes
    )


def test_a_ticker_is_checked_like_a_trade() -> None:
    bench = Bench()
    bench.receive(ticker(1, price="-1"), ticker(2, best_bid="abc"), ticker(3, best_bid="0", best_bid_size="0"))
    assert len(bench.rejected) == 2
    assert len(bench.aside) == 3


def test_what_has_passed_the_gate_goes_to_the_tape_whatever_comes_after_it() -> None:
    bench = Bench()

    def fail(_: object) -> None:
        raise RuntimeError("no memory")

    bench.intake._aside = fail
    with pytest.raises(RuntimeError):
        bench.receive(match(1), match(2), b"garbage")
    assert bench.lanes["BTC-USD"].gate.next_id == 3
    assert [record.trade_id for record in bench.tape if isinstance(record, Trade)] == [1, 2]


def test_a_ticker_goes_aside_once_though_two_connections_bring_it() -> None:
    bench = Bench()
    bench.receive(ticker(1), ticker(1))
    assert bench.aside == [Ticker("ETH-USD", 7, "2", "3", "buy", "1", "4", "2", "5", 1783465097164892, 1, 1_000_000)]


@given(
    st.lists(st.binary(max_size=60) | st.sampled_from([match(1), match(2), match(3)[:-9], heartbeat(2)]), max_size=30)
)
def test_no_bytes_can_stop_the_intake_or_break_the_order(messages: list[bytes]) -> None:
    bench = Bench()
    bench.receive(*messages)
    ids = [record.trade_id for record in bench.tape if isinstance(record, Trade)]
    assert ids == list(range(1, len(ids) + 1))
    assert bench.lanes["BTC-USD"].gate.next_id == len(ids) + 1


def test_every_streamed_trade_is_in_the_lag_histogram() -> None:
    bench = Bench()
    bench.receive(match(1), match(2))
    lane = bench.lanes["BTC-USD"]
    assert sum(lane.lag_buckets) == 2
    assert lane.emitted == 2
