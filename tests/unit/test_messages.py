"""The messages' wire form is fixed, grows only by addition, and is what docs/messages.md says."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.feed.cli import schema_command
from fulltape.messages import Alert, Cursor, Gap, Pane, Rejected, Ticker, Trade, Window
from fulltape.schema import message_reader, message_types, messages_json_schema, messages_markdown

DOCS = Path(__file__).parents[2] / "docs" / "messages.md"

TRADE = Trade(
    product="BTC-USD",
    trade_id=1001,
    price="64000.01",
    size="0.00000001",
    taker_side="buy",
    time_us=1_780_000_000_000_000,
    sequence=5,
    received_us=1_780_000_000_020_000,
    source="stream",
    previous_price="64000.00",
    second_previous_price="64000.00",
    run_ticks=1,
    run_start_us=1_779_999_999_000_000,
    run_start_price="64000.00",
    pane_high="64000.01",
    pane_low="64000.00",
)
TRADE_JSON = (
    b'{"type":"trade","product":"BTC-USD","trade_id":1001,"price":"64000.01","size":"0.00000001","taker_side":"buy",'
    b'"time_us":1780000000000000,"sequence":5,"received_us":1780000000020000,"source":"stream",'
    b'"previous_price":"64000.00","second_previous_price":"64000.00","run_ticks":1,"run_start_us":1779999999000000,'
    b'"run_start_price":"64000.00","pane_high":"64000.01","pane_low":"64000.00"}'
)
GOLDEN: list[tuple[msgspec.Struct, bytes]] = [
    (TRADE, TRADE_JSON),
    (
        Gap(product="BTC-USD", first_id=7, last_id=9, reason="REST: 404", detected_us=1),
        b'{"type":"gap","product":"BTC-USD","first_id":7,"last_id":9,"reason":"REST: 404","detected_us":1}',
    ),
    (
        Ticker(
            product="BTC-USD",
            trade_id=1001,
            price="64000.01",
            size="0.5",
            taker_side="sell",
            best_bid="64000.00",
            best_bid_size="1",
            best_ask="64000.01",
            best_ask_size="2",
            time_us=1,
            sequence=2,
            received_us=3,
        ),
        (
            b'{"type":"ticker","product":"BTC-USD","trade_id":1001,"price":"64000.01","size":"0.5",'
            b'"taker_side":"sell","best_bid":"64000.00","best_bid_size":"1","best_ask":"64000.01","best_ask_size":"2",'
            b'"time_us":1,"sequence":2,"received_us":3}'
        ),
    ),
    (
        Rejected(reason="price is 0", raw=b"\x00{", received_us=1, source="backfill"),
        b'{"type":"rejected","reason":"price is 0","raw":"AHs=","received_us":1,"source":"backfill"}',
    ),
    (
        Cursor(
            product="BTC-USD",
            owner="0-of-1",
            incarnation="f00d",
            partitions=6,
            partition=2,
            offset=17,
            next_id=1002,
            last=TRADE,
        ),
        b'{"type":"cursor","product":"BTC-USD","owner":"0-of-1","incarnation":"f00d","partitions":6,"partition":2,'
        b'"offset":17,"next_id":1002,"last":' + TRADE_JSON + b"}",
    ),
    (
        Pane(
            product="BTC-USD",
            start_us=1_780_000_000_000_000,
            trades=2,
            volume="0.3",
            notional="19200.0015",
            buy_volume="0.2",
            price_mean=64000.005,
            price_square_deviations=5e-05,
            changes=2,
            change_sum=0.01,
            change_squares=0.0001,
            return_squares=2.25e-14,
            return_fourths=5e-28,
            return_pairs=1,
            bipower=0.0,
            largest_return=1.5e-07,
            open="64000.00",
            high="64000.01",
            low="64000.00",
            close="64000.01",
            open_us=1_780_000_000_000_000,
            high_us=1_780_000_000_500_000,
            low_us=1_780_000_000_000_000,
            close_us=1_780_000_000_500_000,
            previous_price=None,
            drawdown_peak="64000.00",
            drawdown_trough="64000.00",
            run_up=1.5e-07,
            mini_crash=0.0,
            largest_size="0.2",
            first_id=1001,
            last_id=1002,
            first_digits=(1, 1, 0, 0, 0, 0, 0, 0, 0),
            round_sizes=2,
            received_us=1_780_000_000_520_000,
            tape_us=1_780_000_000_524_000,
        ),
        (
            b'{"type":"pane","product":"BTC-USD","start_us":1780000000000000,"trades":2,"volume":"0.3",'
            b'"notional":"19200.0015","buy_volume":"0.2","price_mean":64000.005,'
            b'"price_square_deviations":0.00005,"changes":2,"change_sum":0.01,"change_squares":0.0001,'
            b'"return_squares":2.25e-14,"return_fourths":5e-28,"return_pairs":1,'
            b'"bipower":0.0,"largest_return":1.5e-7,"open":"64000.00","high":"64000.01","low":"64000.00",'
            b'"close":"64000.01","open_us":1780000000000000,"high_us":1780000000500000,'
            b'"low_us":1780000000000000,"close_us":1780000000500000,"previous_price":null,'
            b'"drawdown_peak":"64000.00","drawdown_trough":"64000.00","run_up":1.5e-7,"mini_crash":0.0,'
            b'"largest_size":"0.2","first_id":1001,"last_id":1002,"first_digits":[1,1,0,0,0,0,0,0,0],'
            b'"round_sizes":2,"received_us":1780000000520000,"tape_us":1780000000524000}'
        ),
    ),
    (
        Window(
            product="BTC-USD",
            window="1m",
            start_us=1_779_999_941_000_000,
            end_us=1_780_000_001_000_000,
            trades=2,
            missing=0,
            volume="0.3",
            notional="19200.0015",
            buy_volume="0.2",
            open="64000.00",
            high="64000.01",
            low="64000.00",
            close="64000.01",
            last_price="64000.01",
            last_id=1002,
            largest_size="0.2",
            measures={"vwap": 64000.005, "spread": None},
            trade_us=1_780_000_000_500_000,
            received_us=1_780_000_000_520_000,
            tape_us=1_780_000_000_524_000,
            pane_us=1_780_000_000_530_000,
            published_us=1_780_000_000_532_100,
        ),
        (
            b'{"type":"window","product":"BTC-USD","window":"1m","start_us":1779999941000000,'
            b'"end_us":1780000001000000,"trades":2,"missing":0,"volume":"0.3","notional":"19200.0015",'
            b'"buy_volume":"0.2","open":"64000.00","high":"64000.01","low":"64000.00","close":"64000.01",'
            b'"last_price":"64000.01","last_id":1002,"largest_size":"0.2","measures":{"vwap":64000.005,'
            b'"spread":null},"trade_us":1780000000500000,"received_us":1780000000520000,'
            b'"tape_us":1780000000524000,"pane_us":1780000000530000,"published_us":1780000000532100}'
        ),
    ),
    (
        Alert(
            name="FlashCrash",
            fingerprint="FlashCrash/BTC-USD/5m",
            state="firing",
            product="BTC-USD",
            window="5m",
            severity="critical",
            summary="drawdown over 5m is 6.2 %, above 5 %",
            values={"drawdown": 0.062},
            labels={"alertname": "FlashCrash"},
            annotations={},
            since_us=1,
            starts_us=2,
            ends_us=None,
            trade_us=2,
            changed_us=3,
        ),
        (
            b'{"type":"alert","name":"FlashCrash","fingerprint":"FlashCrash/BTC-USD/5m","state":"firing",'
            b'"product":"BTC-USD","window":"5m","severity":"critical",'
            b'"summary":"drawdown over 5m is 6.2 %, above 5 %","values":{"drawdown":0.062},'
            b'"labels":{"alertname":"FlashCrash"},"annotations":{},"since_us":1,"starts_us":2,"ends_us":null,'
            b'"trade_us":2,"changed_us":3}'
        ),
    ),
]

read: Callable[[bytes], Any] = message_reader(*message_types())


def test_every_message_has_a_golden_form() -> None:
    assert [type(message) for message, _ in GOLDEN] == message_types()


@pytest.mark.parametrize(("message", "wire"), GOLDEN, ids=lambda value: type(value).__name__)
def test_the_wire_form_of_a_message_does_not_change(message: msgspec.Struct, wire: bytes) -> None:
    assert msgspec.json.encode(message) == wire
    assert read(wire) == message


@pytest.mark.parametrize(("message", "wire"), GOLDEN, ids=lambda value: type(value).__name__)
def test_a_field_that_a_reader_does_not_know_is_ignored(message: msgspec.Struct, wire: bytes) -> None:
    assert read(wire[:-1] + b',"added_later":{"deep":[1]}}') == message


@pytest.mark.parametrize("wire", [b'{"type":"added_later","product":5}', b'{"product":"BTC-USD"}', b'{"type":null}'])
def test_a_type_that_a_reader_does_not_know_is_ignored(wire: bytes) -> None:
    assert read(wire) is None


def test_a_reader_ignores_types_that_it_did_not_ask_for() -> None:
    only_gaps = message_reader(Gap)
    assert only_gaps(GOLDEN[1][1]) == GOLDEN[1][0]
    assert only_gaps(TRADE_JSON) is None


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\xff",
        b'{"type":"trade"',
        b'{"type":"trade"}',
        TRADE_JSON.replace(b"1001", b'"1001"'),
        b"[]",
        b'{"type":5}',
    ],
)
def test_a_broken_message_is_no_unknown_one(wire: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        read(wire)


decimals = st.decimals(min_value=0, allow_nan=False, allow_infinity=False).map("{:f}".format)
micros = st.integers(0, 2**53)


@settings(deadline=None)
@given(
    st.builds(
        Trade,
        product=st.text(),
        trade_id=st.integers(1, 2**63 - 1),
        price=decimals,
        size=decimals,
        taker_side=st.sampled_from(["buy", "sell"]),
        time_us=micros,
        sequence=st.none() | micros,
        received_us=micros,
        source=st.sampled_from(["stream", "backfill"]),
        previous_price=st.none() | decimals,
        second_previous_price=st.none() | decimals,
        run_ticks=st.integers(-(2**31), 2**31),
        run_start_us=st.none() | micros,
        run_start_price=st.none() | decimals,
        pane_high=decimals,
        pane_low=decimals,
    )
)
def test_any_trade_survives_the_wire(trade: Trade) -> None:
    assert read(msgspec.json.encode(trade)) == trade


@settings(deadline=None)
@given(st.binary())
def test_rejected_bytes_survive_the_wire(raw: bytes) -> None:
    rejected = Rejected(reason="x", raw=raw, received_us=1, source="stream")
    assert read(msgspec.json.encode(rejected)) == rejected


def test_docs_describe_the_messages() -> None:
    assert DOCS.read_text() == messages_markdown(), (
        "docs/messages.md differs from the code; run: fulltape schema --markdown > docs/messages.md"
    )


def test_the_json_schema_lists_the_fields_of_the_wire() -> None:
    definitions = messages_json_schema()["$defs"]
    for message, wire in GOLDEN:
        assert list(definitions[type(message).__name__]["properties"]) == list(json.loads(wire))
    assert definitions["Trade"]["properties"]["trade_id"]["description"].startswith("The exchange's number")


def test_the_command_prints_the_docs_and_the_schema() -> None:
    runner = CliRunner()
    assert runner.invoke(schema_command, ["--markdown"]).output == messages_markdown()
    assert json.loads(runner.invoke(schema_command).output) == messages_json_schema()
