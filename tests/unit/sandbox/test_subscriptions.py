"""Requests are read as Coinbase reads them: what is right is granted, each mistake is named."""

import json

import pytest

from fulltape.sandbox.subscriptions import RefusedError, error_message, parse_request, subscriptions_message

PRODUCTS = frozenset({"BTC-USD", "ETH-USD"})


def request(**fields: object) -> str:
    return json.dumps({"type": "subscribe", **fields})


def test_channels_by_name_share_the_products() -> None:
    parsed = parse_request(request(product_ids=["BTC-USD"], channels=["matches", "heartbeat"]), PRODUCTS)
    assert parsed.wanted == [("matches", "BTC-USD"), ("heartbeat", "BTC-USD")]
    assert not parsed.refusals


def test_channels_as_objects_have_products_of_their_own() -> None:
    channels = [{"name": "ticker", "product_ids": ["ETH-USD"]}, {"name": "matches"}]
    parsed = parse_request(request(product_ids=["BTC-USD"], channels=channels), PRODUCTS)
    assert parsed.wanted == [("ticker", "ETH-USD"), ("matches", "BTC-USD")]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"product_ids": ["NOPE-USD"], "channels": ["matches"]}, "NOPE-USD is not a valid product"),
        ({"product_ids": [""], "channels": ["matches"]}, " is not a valid product"),
        ({"product_ids": [7], "channels": ["matches"]}, "7 is not a valid product"),
        ({"product_ids": ["BTC-USD"], "channels": ["tickets"]}, "tickets is not a valid channel"),
        ({"product_ids": ["BTC-USD"], "channels": [{}]}, "None is not a valid channel"),
        ({"product_ids": ["BTC-USD"], "channels": [["matches"]]}, "['matches'] is not a valid channel"),
        ({"channels": ["matches"]}, "No products provided"),
        (
            {"product_ids": ["BTC-USD"], "channels": ["full"]},
            "level2, level3, and full channels now require authentication.",
        ),
    ],
)
def test_what_there_is_not_is_refused_and_the_rest_granted(fields: dict[str, object], reason: str) -> None:
    parsed = parse_request(request(**fields), PRODUCTS)
    assert parsed.refusals == [reason]
    assert not parsed.wanted
    mixed = fields | {"channels": [*fields["channels"], {"name": "heartbeat", "product_ids": ["ETH-USD"]}]}  # type: ignore[misc]
    assert parse_request(request(**mixed), PRODUCTS).wanted == [("heartbeat", "ETH-USD")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Malformed JSON"),
        (b"\xff\xfe", "Malformed JSON"),
        ("[]", "Failed to subscribe"),
        ('{"type":"snapshot"}', "Failed to subscribe"),
        ('{"type":["subscribe"]}', "Failed to subscribe"),
        ('{"type":"subscribe","channels":[]}', "Failed to subscribe"),
        ('{"type":"subscribe"}', "Failed to subscribe"),
    ],
)
def test_what_is_no_request_is_refused_whole(text: str | bytes, message: str) -> None:
    with pytest.raises(RefusedError) as refused:
        parse_request(text, PRODUCTS)
    assert refused.value.message == message
    assert refused.value.reason


def test_unsubscribing_from_a_channel_drops_all_its_products() -> None:
    parsed = parse_request('{"type":"unsubscribe","channels":["matches"]}', PRODUCTS)
    assert parsed.wanted == [("matches", "BTC-USD"), ("matches", "ETH-USD")]


def test_answers_have_coinbases_shapes() -> None:
    assert (
        error_message("Failed to subscribe", "why")
        == b'{"type":"error","message":"Failed to subscribe","reason":"why"}'
    )
    assert subscriptions_message({("matches", "ETH-USD"), ("matches", "BTC-USD")}) == (
        b'{"type":"subscriptions","channels":[{"name":"matches","product_ids":["BTC-USD","ETH-USD"],"account_ids":null}]}'
    )
    assert subscriptions_message(set()) == b'{"type":"subscriptions","channels":[]}'
