"""The bytes that leave the sandbox say exactly what the trades say, in Coinbase's own shapes."""

import gzip
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.sandbox.frames import (
    Statistics,
    encode_matches,
    encode_rest_trades,
    encode_tickers,
    iso_time,
    payload_of,
    product_names,
    text_frame,
)
from fulltape.sandbox.trades import Trades
from tests.data import shared_data

PRODUCT_IDS = ["BTC-USD", "A-B", "LONGTOKEN1000-USDC"]
NAMES = product_names(PRODUCT_IDS)

rows = st.fixed_dictionaries(
    {
        "product": st.integers(0, 2),
        "trade_id": st.integers(100, 10**15),
        "price": st.integers(1, 9 * 10**18),
        "size": st.integers(1, 9 * 10**18),
        "maker_buys": st.booleans(),
        "time_us": st.integers(1, 4 * 10**15),
        "sequence": st.integers(1, 10**15),
        "fill": st.integers(0, 31),
    }
)


def table(drawn: list[dict[str, int]]) -> Trades:
    return Trades.of(**{name: [row[name] for row in drawn] for name in Trades.__slots__})


def written(time_us: int) -> str:
    moment = datetime.fromtimestamp(time_us // 10**6, UTC).replace(microsecond=time_us % 10**6)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@settings(max_examples=100, deadline=None)
@given(st.lists(rows, min_size=1, max_size=20))
def test_matches_hold_every_field_exactly(drawn: list[dict[str, int]]) -> None:
    frames = encode_matches(table(drawn), NAMES)
    assert len(frames) == len(drawn)
    for row, frame in zip(drawn, frames.each(0, len(drawn)), strict=True):
        payload = payload_of(frame)
        assert bytes(frame) == text_frame(payload)
        match = json.loads(payload)
        assert match["trade_id"] == row["trade_id"]
        assert match["sequence"] == row["sequence"]
        assert match["product_id"] == PRODUCT_IDS[row["product"]]
        assert match["side"] == ("buy" if row["maker_buys"] else "sell")
        assert match["time"] == written(row["time_us"]) == iso_time(row["time_us"])
        for name, decimals in (("price", 12), ("size", 8)):
            exact = Decimal(row[name]).scaleb(-decimals)
            assert match[name] == (format(exact.normalize(), "f"))


@settings(max_examples=50, deadline=None)
@given(st.lists(rows, min_size=1, max_size=20))
def test_rest_holds_the_same_trades_with_eight_decimals_or_more(drawn: list[dict[str, int]]) -> None:
    listed = json.loads(encode_rest_trades(table(drawn)))
    for row, trade in zip(drawn, listed, strict=True):
        assert list(trade) == ["trade_id", "side", "size", "price", "time"]
        assert trade["trade_id"] == row["trade_id"]
        for name, decimals in (("price", 12), ("size", 8)):
            assert Decimal(trade[name]) == Decimal(row[name]).scaleb(-decimals)
            assert len(trade[name].partition(".")[2]) >= 8


def test_an_empty_rest_page_is_an_empty_list() -> None:
    assert encode_rest_trades(table([])) == b"[]"


def test_match_and_last_match_are_shaped_as_in_a_real_capture() -> None:
    with gzip.open(shared_data("coinbase-exchange-ws-2026-07-07-60s.ndjson.gz"), "rt") as lines:
        real: dict[str, tuple[str, dict[str, Any]]] = {}
        for line in lines:
            if '"type":"match"' in line or '"type":"last_match"' in line:
                message = json.loads(line)
                real.setdefault(message["type"], (line.strip(), message))
    for kind, (line, message) in real.items():
        trades = table(
            [
                {
                    "product": 0,
                    "trade_id": message["trade_id"],
                    "price": int(Decimal(message["price"]).scaleb(12)),
                    "size": int(Decimal(message["size"]).scaleb(8)),
                    "maker_buys": message["side"] == "buy",
                    "time_us": round(datetime.fromisoformat(message["time"]).timestamp() * 1e6),
                    "sequence": message["sequence"],
                    "fill": 0,
                }
            ]
        )
        (frame,) = encode_matches(trades, product_names([message["product_id"]]), kind=kind).each(0, 1)
        made = json.loads(payload_of(frame))
        expected = message | {name: made[name] for name in ("maker_order_id", "taker_order_id")}
        assert payload_of(frame).decode() == json.dumps(expected, separators=(",", ":"))
        assert len(payload_of(frame)) == len(line)


def test_the_trades_of_one_order_share_its_taker_and_no_maker() -> None:
    row = {"product": 0, "price": 1, "size": 1, "maker_buys": 1, "time_us": 1, "sequence": 1}
    trades = table(
        [{**row, "trade_id": 100 + fill, "fill": fill} for fill in range(3)] + [{**row, "trade_id": 103, "fill": 0}]
    )
    made = [json.loads(payload_of(frame)) for frame in encode_matches(trades, NAMES).each(0, 4)]
    assert len({match["maker_order_id"] for match in made}) == 4
    takers = [match["taker_order_id"] for match in made]
    assert takers[0] == takers[1] == takers[2] != takers[3]


def test_tickers_name_the_takers_side_and_a_book_around_the_trade() -> None:
    row = {"product": 0, "price": 5 * 10**12, "size": 3 * 10**8, "time_us": 1, "sequence": 9, "fill": 0}
    trades = table([{**row, "trade_id": 1, "maker_buys": 0}, {**row, "trade_id": 2, "maker_buys": 1}])
    units = np.full(2, 10**12)
    statistics = Statistics(units * 4, units * 2, units * 7, np.array([1.5, 2.5]), units // 100)
    bought, sold = (json.loads(payload_of(frame)) for frame in encode_tickers(trades, statistics, NAMES).each(0, 2))
    assert (bought["side"], bought["best_ask"], bought["best_bid"]) == ("buy", "5", "4.99")
    assert (sold["side"], sold["best_bid"], sold["best_ask"]) == ("sell", "5", "5.01")
    assert (bought["open_24h"], bought["low_24h"], bought["high_24h"]) == ("4", "2", "7")
    assert (bought["volume_24h"], sold["volume_24h"]) == ("1.50000000", "2.50000000")
    assert list(bought) == [
        "type",
        "sequence",
        "product_id",
        "price",
        "open_24h",
        "volume_24h",
        "low_24h",
        "high_24h",
        "volume_30d",
        "best_bid",
        "best_bid_size",
        "best_ask",
        "best_ask_size",
        "side",
        "time",
        "trade_id",
        "last_size",
    ]


@pytest.mark.parametrize("length", [0, 125, 126, 65_535])
def test_a_text_frame_holds_its_payload(length: int) -> None:
    assert payload_of(text_frame(b"x" * length)) == b"x" * length


def test_chosen_frames_are_the_marked_ones() -> None:
    row = {"price": 1, "size": 1, "maker_buys": 1, "time_us": 1, "sequence": 1, "fill": 0}
    frames = encode_matches(table([{**row, "trade_id": 10**n, "product": n % 3} for n in range(9)]), NAMES)
    wanted = np.array([n % 3 == 1 for n in range(2, 8)])
    each = frames.each(0, 9)
    assert bytes(frames.chosen(2, 8, wanted)) == b"".join([each[4], each[7]])
    assert bytes(frames.span(2, 4)) == b"".join(each[2:4])
