"""Coinbase's messages: all of a real capture decodes, and every way of being malformed is said."""

import gzip
from datetime import UTC, datetime
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape.coinbase.messages import (
    Heartbeat,
    LastMatch,
    MalformedMessageError,
    Match,
    Subscriptions,
    Ticker,
    check_trade,
    decode,
    parse_time_us,
)
from tests.data import shared_data

MATCH = {
    "type": "match",
    "trade_id": 7,
    "maker_order_id": "m",
    "taker_order_id": "t",
    "side": "sell",
    "size": "0.2",
    "price": "63514.6",
    "product_id": "BTC-USD",
    "sequence": 9,
    "time": "2026-07-07T22:58:17.164892Z",
}


def raw(**changes: object) -> bytes:
    return msgspec.json.encode({key: value for key, value in (MATCH | changes).items() if value is not ...})


def test_a_real_capture_decodes_and_its_ids_are_contiguous() -> None:
    with gzip.open(shared_data("coinbase-exchange-ws-2026-07-07-60s.ndjson.gz")) as lines:
        messages = [decode(line) for line in lines]
    counts = {kind: sum(type(message) is kind for message in messages) for kind in (Match, LastMatch, Heartbeat)}
    assert counts == {Match: 435, LastMatch: 2, Heartbeat: 118}
    assert sum(isinstance(message, Subscriptions) for message in messages) == 1
    assert messages.count(None) == 1898 + 2  # l2update and snapshot, which are not read
    by_product: dict[str, list[int]] = {}
    for message in messages:
        if isinstance(message, Match):
            check_trade(message)
            by_product.setdefault(message.product_id, []).append(message.trade_id)
        elif isinstance(message, Heartbeat):
            assert message.last_trade_id == by_product[message.product_id][-1]
    for ids in by_product.values():
        assert all(after == before + 1 for before, after in pairwise(ids))


def test_a_ticker_decodes() -> None:
    message = decode(
        b'{"type":"ticker","sequence":1,"product_id":"BTC-USD","price":"1.5","open_24h":"1","volume_24h":"1",'
        b'"low_24h":"1","high_24h":"2","volume_30d":"9","best_bid":"1.4","best_bid_size":"3","best_ask":"1.6",'
        b'"best_ask_size":"4","side":"buy","time":"2026-07-07T22:58:17.164892Z","trade_id":7,"last_size":"0.2"}'
    )
    assert isinstance(message, Ticker)
    assert (message.best_bid, message.best_ask_size, message.side) == ("1.4", "4", "buy")


@pytest.mark.parametrize(
    ("message", "said"),
    [
        (b"", "truncated"),
        (b'{"type":"match","trade_id":1', "truncated"),
        (b"\xff\xfe garbage", "malformed"),
        (b"[1,2]", "array"),
        (b'{"trade_id":1}', "type"),
        (raw(trade_id=...), "trade_id"),
        (raw(price=...), "price"),
        (raw(price=63514.6), "$.price"),
        (raw(trade_id="7"), "$.trade_id"),
        (raw(side="bid"), "$.side"),
        (raw(sequence=None), "$.sequence"),
        (raw(product_id=7), "$.product_id"),
        (b'{"type":"match","price":"\xff"}', "UTF-8"),
        (b'{"type":"match","x":' + b"[" * 100_000, "recursion"),
        (raw(trade_id=0), "$.trade_id"),
        (raw(trade_id=10**30), "$.trade_id"),
        (raw(sequence=-1), "$.sequence"),
    ],
)
def test_what_is_malformed_is_said(message: bytes, said: str) -> None:
    with pytest.raises(MalformedMessageError) as caught:
        decode(message)
    assert said.lower() in str(caught.value).lower()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"price": "0"}, "price '0'"),
        ({"price": "-5"}, "price '-5'"),
        ({"price": "NaN"}, "price"),
        ({"price": "1e3"}, "price"),
        ({"size": "0.000"}, "size"),
        ({"size": "ten"}, "size 'ten'"),
    ],
)
def test_values_that_no_trade_can_have_are_refused(changes: dict[str, object], said: str) -> None:
    message = decode(raw(**changes))
    assert isinstance(message, Match)
    with pytest.raises(MalformedMessageError, match=said):
        check_trade(message)


def test_types_that_are_not_read_and_new_fields_are_no_errors() -> None:
    assert decode(b'{"type":"l2update","changes":[]}') is None
    assert decode(b'{"type":"tomorrows_news"}') is None
    assert isinstance(decode(raw(new_field={"a": 1})), Match)


@given(st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1)))  # noqa: DTZ001 - hypothesis adds the zone below
def test_times_are_exact_to_the_microsecond(moment: datetime) -> None:
    exact = moment.replace(tzinfo=UTC)
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    expected = (exact - epoch).days * 86_400_000_000 + (exact - epoch).seconds * 1_000_000 + exact.microsecond
    assert parse_time_us(exact.strftime("%Y-%m-%dT%H:%M:%S.%fZ")) == expected
    assert parse_time_us(exact.isoformat()) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "yesterday",
        "2026-07-07T22:58:17.164892",
        "2026-07-07T22:58:17.16489xZ",
        "2026-07-07T22:58:17.+64892Z",
        "2026-07-07T22:58:17.1_4892Z",
        "2026-13-07T22:58:17.164892Z",
    ],
)
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(MalformedMessageError, match="time"):
        parse_time_us(text)
