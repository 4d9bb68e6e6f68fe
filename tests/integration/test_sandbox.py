"""The sandbox exchange over real sockets: a client sees what Coinbase would show it, and every fault it can be told."""

import asyncio
import gzip
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from fulltape.errors import ConfigurationError
from fulltape.sandbox import Sandbox, SandboxConfig
from fulltape.sandbox.faults import Close, Drop, Garbage, Malformed, RefuseRest, Reorder, Repeat, SlowRest, Stall
from fulltape.sandbox.rest import FlashCrashOrder, RateOrder, SpikeOrder
from tests.data import shared_data

pytestmark = pytest.mark.integration

PATIENCE_SECONDS = 20.0
Message = dict[str, Any]
HEADER = "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\n"


@asynccontextmanager
async def client(
    sandbox: Sandbox, *channels: str, products: tuple[str, ...] = (), **options: Any
) -> AsyncIterator[ClientConnection]:
    """Connect and subscribe to the channels, if any; of all products unless some are named."""
    async with asyncio.timeout(PATIENCE_SECONDS), connect(sandbox.websocket_url, **options) as connection:
        if channels:
            await subscribe(connection, *channels, products=products or tuple(sandbox.exchange.index))
        yield connection
        connection.transport.abort()  # a closing handshake would wait for all that has not been read


async def subscribe(connection: ClientConnection, *channels: str, products: tuple[str, ...]) -> None:
    await connection.send(json.dumps({"type": "subscribe", "product_ids": products, "channels": channels}))


async def receive(connection: ClientConnection) -> Message:
    message: Message = json.loads(await connection.recv())
    return message


async def until(connection: ClientConnection, kind: str, count: int) -> list[Message]:
    """Return all messages up to and with the given number of one kind."""
    messages: list[Message] = []
    while count:
        messages.append(await receive(connection))
        count -= messages[-1]["type"] == kind
    return messages


def of(kind: str, messages: list[Message], product: str | None = None) -> list[Message]:
    return [one for one in messages if one["type"] == kind and product in {None, one.get("product_id")}]


def ids(messages: list[Message], product: str) -> list[int]:
    return [one["trade_id"] for one in of("match", messages, product)]


async def until_state(sandbox: Sandbox, name: str, least: int) -> None:
    """Wait until a number of the sandbox's state has grown to the least wanted."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while sandbox.state()[name] < least:
            await asyncio.sleep(0.01)


async def until_closed(connection: ClientConnection) -> None:
    """Read to the end of a connection; raise what ended it."""
    while True:
        await connection.recv()


async def get(sandbox: Sandbox, path: str, **parameters: int) -> tuple[int, Any, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(sandbox.rest_url + path, params=parameters) as answer,
    ):
        return answer.status, await answer.json(), answer.headers


async def post(sandbox: Sandbox, path: str, body: object) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as session, session.post(sandbox.rest_url + path, json=body) as answer:
        return answer.status, await answer.json()


# Subscribing


async def test_the_greeting_is_subscriptions_then_last_match_then_contiguous_matches() -> None:
    async with Sandbox(SandboxConfig(rate=5_000)) as sandbox, client(sandbox, "matches") as connection:
        messages = await until(connection, "match", 3_000)
    kinds = [message["type"] for message in messages]
    count = len(sandbox.exchange.index)
    assert kinds[: count + 1] == ["subscriptions"] + ["last_match"] * count
    assert set(kinds[count + 1 :]) == {"match"}
    assert messages[0]["channels"] == [
        {"name": "matches", "product_ids": sorted(sandbox.exchange.index), "account_ids": None}
    ]
    for product in sandbox.exchange.index:
        (last,) = of("last_match", messages, product)
        expected = last["trade_id"] + 1
        found = ids(messages, product)
        assert found == list(range(expected, expected + len(found)))


async def test_several_trades_of_an_order_share_microsecond_side_and_taker() -> None:
    async with Sandbox(SandboxConfig(rate=20_000)) as sandbox, client(sandbox, "matches") as connection:
        messages = of("match", await until(connection, "match", 5_000))
    orders: dict[tuple[str, str], list[Message]] = {}
    for message in messages:
        orders.setdefault((message["product_id"], message["time"]), []).append(message)
    assert max(map(len, orders.values())) > 5
    assert max(map(len, orders.values())) <= 32
    for trades in orders.values():
        assert len({trade["taker_order_id"] for trade in trades}) == 1
        assert len({trade["side"] for trade in trades}) == 1
        assert len({trade["sequence"] for trade in trades}) == len(trades)


async def test_a_later_subscriber_gets_the_last_match_that_the_feed_has_sent() -> None:
    async with (
        Sandbox(SandboxConfig(rate=2_000, products=("BTC-USD",))) as sandbox,
        client(sandbox, "matches") as first,
        client(sandbox) as second,
    ):
        before = {message["trade_id"]: message for message in of("match", await until(first, "match", 100))}
        await subscribe(second, "matches", products=("BTC-USD",))
        last = (await until(second, "last_match", 1))[-1]
        following = (await until(second, "match", 1))[-1]
        while last["trade_id"] not in before:
            message = await receive(first)
            before[message["trade_id"]] = message
    assert last | {"type": "match"} == before[last["trade_id"]]
    assert following["trade_id"] == last["trade_id"] + 1


async def test_products_and_channels_are_only_those_asked_for() -> None:
    async with Sandbox(SandboxConfig(rate=3_000)) as sandbox, client(sandbox) as connection:
        await subscribe(connection, "matches", products=("BTC-USD", "SOL-USD"))
        await subscribe(connection, "ticker", products=("ETH-USD",))
        messages = await until(connection, "match", 300) + await until(connection, "ticker", 50)
    assert {message["product_id"] for message in of("match", messages)} == {"BTC-USD", "SOL-USD"}
    assert {message["product_id"] for message in of("ticker", messages)} == {"ETH-USD"}
    for product in ("BTC-USD", "SOL-USD"):
        found = ids(messages, product)
        assert found == list(range(found[0], found[0] + len(found)))
    channels = of("subscriptions", messages)[-1]["channels"]
    assert [(channel["name"], channel["product_ids"]) for channel in channels] == [
        ("matches", ["BTC-USD", "SOL-USD"]),
        ("ticker", ["ETH-USD"]),
    ]


async def test_a_cascade_is_one_ticker_with_the_takers_side() -> None:
    async with (
        Sandbox(SandboxConfig(rate=2_000, products=("ETH-USD",))) as sandbox,
        client(sandbox, "matches", "ticker") as connection,
    ):
        messages = await until(connection, "ticker", 400)
    trades = of("match", messages)
    ends = [
        one for one, other in zip(trades, [*trades[1:], None], strict=True) if not other or other["time"] != one["time"]
    ]
    tickers = of("ticker", messages)[1:]  # the first greets
    assert len(ends) < len(trades)
    for ticker, match in zip(tickers, ends, strict=False):
        assert (ticker["trade_id"], ticker["price"], ticker["last_size"], ticker["time"], ticker["sequence"]) == (
            match["trade_id"],
            match["price"],
            match["size"],
            match["time"],
            match["sequence"],
        )
        assert {ticker["side"], match["side"]} == {"buy", "sell"}
        touch = ticker["best_ask"] if ticker["side"] == "buy" else ticker["best_bid"]
        assert touch == match["price"]
        assert float(ticker["low_24h"]) <= float(ticker["price"]) <= float(ticker["high_24h"])
    volumes = [float(ticker["volume_24h"]) for ticker in of("ticker", messages)]
    assert volumes == sorted(volumes)


async def test_heartbeats_come_every_second_with_the_last_trade_of_the_product() -> None:
    async with (
        Sandbox(SandboxConfig(rate=500, products=("BTC-USD", "ETH-USD"), count=50)) as sandbox,
        client(sandbox, "matches", "heartbeat") as connection,
    ):
        messages = await until(connection, "heartbeat", 6)
    for product in ("BTC-USD", "ETH-USD"):
        beats = of("heartbeat", messages, product)
        newest = (of("last_match", messages, product) + of("match", messages, product))[-1]
        assert beats[-1]["last_trade_id"] == newest["trade_id"]
        assert beats[-1]["sequence"] == newest["sequence"]
        times = [datetime.fromisoformat(beat["time"]) for beat in beats]
        assert [round((late - early).total_seconds()) for early, late in pairwise(times)] == [1, 1]


async def test_unsubscribing_ends_a_channel_and_says_what_is_left() -> None:
    async with (
        Sandbox(SandboxConfig(rate=1_000, products=("BTC-USD",))) as sandbox,
        client(sandbox, "matches", "heartbeat") as connection,
    ):
        await until(connection, "match", 5)
        await connection.send('{"type":"unsubscribe","channels":["matches"]}')
        left = (await until(connection, "subscriptions", 1))[-1]
        assert [channel["name"] for channel in left["channels"]] == ["heartbeat"]
        after = await until(connection, "heartbeat", 2)
        assert not of("match", after)


@pytest.mark.parametrize(
    ("request_text", "message", "reason"),
    [
        ("{", "Malformed JSON", ""),
        (
            '{"type":"subscribe","channels":["matches"],"product_ids":["NOPE-USD"]}',
            "Failed to subscribe",
            "NOPE-USD is not a valid product",
        ),
        (
            '{"type":"subscribe","channels":["trades"],"product_ids":["BTC-USD"]}',
            "Failed to subscribe",
            "trades is not a valid channel",
        ),
        ('{"type":"subscribe"}', "Failed to subscribe", "No channels provided"),
    ],
)
async def test_a_wrong_request_is_answered_with_an_error_and_the_connection_stays(
    request_text: str, message: str, reason: str
) -> None:
    async with Sandbox() as sandbox, client(sandbox) as connection:
        await connection.send(request_text)
        error = await receive(connection)
        assert (error["type"], error["message"]) == ("error", message)
        assert error["reason"].startswith(reason)
        await subscribe(connection, "heartbeat", products=("BTC-USD",))
        assert (await receive(connection))["type"] == "subscriptions"


async def test_the_valid_products_of_a_request_are_subscribed_beside_an_error_for_each_other() -> None:
    async with Sandbox() as sandbox, client(sandbox) as connection:
        await subscribe(connection, "heartbeat", products=("BTC-USD", "NOPE-USD"))
        assert (await receive(connection))["reason"] == "NOPE-USD is not a valid product"
        assert (await receive(connection))["channels"][0]["product_ids"] == ["BTC-USD"]


async def test_who_does_not_subscribe_in_time_is_disconnected() -> None:
    async with Sandbox(SandboxConfig(subscribe_within_seconds=0.3)) as sandbox, client(sandbox) as silent:
        await silent.send('{"type":"subscribe","channels":["matches"],"product_ids":["NOPE-USD"]}')
        assert (await receive(silent))["type"] == "error"
        with pytest.raises(ConnectionClosed):
            await silent.recv()


async def test_who_has_subscribed_in_time_stays() -> None:
    async with (
        Sandbox(SandboxConfig(subscribe_within_seconds=2.0, products=("BTC-USD",))) as sandbox,
        client(sandbox, "heartbeat") as connection,
    ):
        await until(connection, "heartbeat", 4)


# Limits


async def test_more_than_a_hundred_messages_a_second_end_the_connection() -> None:
    async with Sandbox() as sandbox, client(sandbox, "heartbeat") as connection:
        for _ in range(200):
            await connection.send('{"type":"unsubscribe","channels":["ticker"]}')
        with pytest.raises(ConnectionClosed):
            await until_closed(connection)
        assert connection.close_code == 1008


async def test_the_eleventh_subscription_to_a_channel_of_a_product_is_rejected() -> None:
    async with Sandbox() as sandbox, asyncio.timeout(PATIENCE_SECONDS):
        open_connections = [await connect(sandbox.websocket_url) for _ in range(11)]
        for connection in open_connections[:10]:
            await subscribe(connection, "heartbeat", products=("BTC-USD",))
            assert (await receive(connection))["type"] == "subscriptions"
        last = open_connections[-1]
        await subscribe(last, "heartbeat", products=("BTC-USD",))
        assert (await receive(last))["message"] == "Failed to subscribe"
        await open_connections[0].close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while sandbox.state()["clients"] > 10:
                await asyncio.sleep(0.01)
        await subscribe(last, "heartbeat", products=("BTC-USD",))
        assert (await receive(last))["type"] == "subscriptions"
        for connection in open_connections:
            await connection.close()


async def test_more_connection_attempts_than_coinbase_allows_are_refused_and_no_limits_lifts_it() -> None:
    async def attempts(sandbox: Sandbox) -> int:
        for number in range(100):
            try:
                async with connect(sandbox.websocket_url):
                    pass
            except InvalidStatus as refused:
                return number if refused.response.status_code == 429 else -1
        return 100

    async with Sandbox() as sandbox:
        assert 20 <= await attempts(sandbox) < 100
    async with Sandbox(SandboxConfig(limits=False)) as sandbox:
        assert await attempts(sandbox) == 100


async def test_a_client_that_does_not_read_is_dropped() -> None:
    config = SandboxConfig(rate=100_000, slow_client_bytes=200_000)
    async with Sandbox(config) as sandbox, asyncio.timeout(PATIENCE_SECONDS):
        with socket.create_connection(("127.0.0.1", int(sandbox.websocket_url.rsplit(":", 1)[1]))) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.settimeout(0)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(
                raw,
                b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            await loop.sock_recv(raw, 4096)
            request = b'{"type":"subscribe","product_ids":["BTC-USD"],"channels":["matches"]}'
            await loop.sock_sendall(raw, bytes((0x81, 0x80 | len(request), 0, 0, 0, 0)) + request)
            await until_state(sandbox, "slow_clients_dropped", 1)
            assert sandbox.state()["clients"] == 0


# Compression


@pytest.mark.parametrize("accepted", [True, False])
async def test_compression_is_accepted_unless_it_is_off(*, accepted: bool) -> None:
    async with (
        Sandbox(SandboxConfig(rate=2_000, compression=accepted)) as sandbox,
        client(sandbox, "matches", "heartbeat", compression="deflate") as compressed,
        client(sandbox, "matches", compression=None) as plain,
    ):
        assert bool(compressed.protocol.extensions) is accepted
        for connection in (compressed, plain):
            messages = await until(connection, "match", 500)
            found = ids(messages, "BTC-USD")
            assert found == list(range(found[0], found[0] + len(found)))


# REST


async def test_the_trades_of_the_feed_are_in_rest_page_by_page() -> None:
    config = SandboxConfig(rate=20_000, products=("BTC-USD",), count=2_500, limits=False)
    async with Sandbox(config) as sandbox, client(sandbox, "matches", compression=None) as connection:
        sent = of("match", await until(connection, "match", 1_000))
        await until_state(sandbox, "trades", 2_500)
        status, page, headers = await get(sandbox, "/products/BTC-USD/trades")
        assert status == 200
        assert len(page) == 1000
        newest = sandbox.state()["products"]["BTC-USD"]
        listed = list(page)
        assert (headers["CB-BEFORE"], headers["CB-AFTER"]) == (str(page[0]["trade_id"]), str(page[-1]["trade_id"]))
        assert page[0]["trade_id"] == newest
        while page:
            _, page, headers = (
                await get(sandbox, "/products/BTC-USD/trades", after=int(headers["CB-AFTER"]), limit=700)
                if page
                else (0, [], {})
            )
            listed += page
            if not page:
                assert "CB-AFTER" not in headers
        assert [trade["trade_id"] for trade in listed] == list(range(newest, newest - 2_501, -1))
        by_id = {trade["trade_id"]: trade for trade in listed}
        for match in sent:
            trade = by_id[match["trade_id"]]
            assert (trade["side"], trade["time"]) == (match["side"], match["time"])
            assert float(trade["price"]) == float(match["price"])
            assert float(trade["size"]) == float(match["size"])
        _, newer, _ = await get(sandbox, "/products/BTC-USD/trades", before=newest - 5, limit=3)
        assert [trade["trade_id"] for trade in newer] == [newest, newest - 1, newest - 2]
        status, problem, _ = await get(sandbox, "/products/BTC-USD/trades?after=x")
        assert (status, problem["message"]) == (400, "limit, after and before have to be numbers")


async def test_rest_lists_products_and_time_and_knows_what_it_has_not() -> None:
    async with Sandbox(SandboxConfig(products=("BTC-USD", "SHIB-USD"))) as sandbox:
        _, products, _ = await get(sandbox, "/products")
        assert [(one["id"], one["quote_increment"], one["status"]) for one in products] == [
            ("BTC-USD", "0.01", "online"),
            ("SHIB-USD", "0.00000001", "online"),
        ]
        assert (await get(sandbox, "/products/SHIB-USD"))[1] == products[1]
        assert {"iso", "epoch"} == set((await get(sandbox, "/time"))[1])
        for path in ("/products/NOPE-USD", "/products/NOPE-USD/trades", "/nope"):
            status, problem, _ = await get(sandbox, path)
            assert (status, problem) == (404, {"message": "NotFound"})


async def test_rest_allows_a_burst_of_fifteen_and_admin_is_free() -> None:
    async with Sandbox() as sandbox:
        answers = [await get(sandbox, "/time") for _ in range(60)]
        assert [status for status, _, _ in answers[:15]] == [200] * 15
        refused = [problem for status, problem, _ in answers if status == 429]
        assert refused[0] == {"message": "Public rate limit exceeded"}
        assert (await get(sandbox, "/admin/state"))[0] == 200


# Faults


async def test_a_dropped_trade_is_missing_from_the_feed_and_present_in_rest() -> None:
    async with (
        Sandbox(SandboxConfig(rate=1_000, products=("BTC-USD",))) as sandbox,
        client(sandbox, "matches") as first,
        client(sandbox, "matches") as second,
    ):
        await until(first, "match", 10)
        await until(second, "match", 10)
        status, state = await post(sandbox, "/admin/faults", {"fault": "drop", "next": 2})
        assert status == 200
        assert state["faults"] == [{"fault": "drop", "next": 2, "probability": None, "product": None, "scope": "feed"}]
        missing = []
        for connection in (first, second):
            found = ids(await until(connection, "match", 300), "BTC-USD")
            missing.append(sorted(set(range(found[0], found[-1])) - set(found)))
        assert len(missing[0]) == 2
        assert missing[0] == missing[1]
        _, page, _ = await get(sandbox, "/products/BTC-USD/trades", after=missing[0][1] + 1, limit=2)
        assert [trade["trade_id"] for trade in page] == missing[0][::-1]
        assert sandbox.state()["struck"] == {"drop": 2}


async def test_a_drop_of_connections_leaves_the_trade_to_the_other_connection() -> None:
    config = SandboxConfig(rate=2_000, products=("BTC-USD",), faults=(Drop(probability=0.2, scope="connection"),))
    async with Sandbox(config) as sandbox, client(sandbox, "matches") as first, client(sandbox, "matches") as second:
        one, other = [set(ids(await until(each, "match", 1_000), "BTC-USD")) for each in (first, second)]
        span = set(range(max(min(one), min(other)), min(max(one), max(other))))
        assert span - one != span - other
        assert len(span - one - other) < len(span - one)


async def test_repeated_and_reordered_frames_are_the_same_trades() -> None:
    config = SandboxConfig(
        rate=3_000, products=("BTC-USD",), faults=(Repeat(probability=0.05), Reorder(probability=0.05))
    )
    async with Sandbox(config) as sandbox, client(sandbox, "matches") as connection:
        found = ids(await until(connection, "match", 2_000), "BTC-USD")
    assert len(set(found)) < len(found)
    assert found != sorted(found)
    missing = set(range(min(found), max(found) - 10)) - set(found)
    assert not missing


async def test_spoiled_frames_come_between_good_ones() -> None:
    config = SandboxConfig(rate=1_000, products=("BTC-USD",))
    async with Sandbox(config) as sandbox, client(sandbox, "matches") as connection:
        await until(connection, "match", 5)
        sandbox.inject(Garbage(next=3))
        sandbox.inject(Malformed(next=3))
        garbage = malformed = good = 0
        while good < 500:
            raw = await connection.recv()
            try:
                message = json.loads(raw)
            except json.JSONDecodeError:
                garbage += 1
                continue
            whole = isinstance(message.get("trade_id"), int) and message["trade_id"] > 0
            whole = whole and all(
                isinstance(message.get(name), str) and message[name] for name in ("price", "size", "time")
            )
            whole = whole and message.get("side") in ("buy", "sell") and message.get("product_id") == "BTC-USD"
            good += whole
            malformed += not whole
    assert (garbage, malformed) == (3, 3)


async def test_close_breaks_the_oldest_connection_without_a_close_frame() -> None:
    async with Sandbox() as sandbox, client(sandbox, "heartbeat") as first, client(sandbox, "heartbeat") as second:
        await until(first, "subscriptions", 1)
        await until(second, "subscriptions", 1)
        sandbox.inject(Close(connections=1))
        with pytest.raises(ConnectionClosedError):
            await until_closed(first)
        assert first.close_code == 1006
        await until(second, "heartbeat", 1)


async def test_a_stalled_connection_is_silent_then_goes_on_beyond_what_it_missed() -> None:
    async with (
        Sandbox(SandboxConfig(rate=2_000, products=("BTC-USD",))) as sandbox,
        client(sandbox, "matches", compression=None, ping_interval=None) as connection,
    ):
        before = ids(await until(connection, "match", 20), "BTC-USD")
        sandbox.inject(Stall(seconds=1.0))
        pong = await connection.ping()
        found = list(before)
        while found[-1] - found[-2] == 1:
            found += ids([await receive(connection)], "BTC-USD")
        assert found[-1] - found[-2] > 1_000
        await pong


async def test_rest_is_refused_or_slow_on_command_until_cleared() -> None:
    async with Sandbox(SandboxConfig(limits=False)) as sandbox:
        sandbox.inject(RefuseRest())
        assert (await get(sandbox, "/products"))[0] == 503
        async with aiohttp.ClientSession() as session:
            await session.delete(f"{sandbox.rest_url}/admin/faults")
        assert (await get(sandbox, "/products"))[0] == 200
        sandbox.inject(SlowRest(delay_seconds=0.3, seconds=60))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        assert (await get(sandbox, "/products"))[0] == 200
        assert loop.time() - begun >= 0.29


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/admin/faults", {"fault": "burn"}, "not a fault"),
        ("/admin/faults", {"fault": "drop", "next": 1, "product": "NOPE-USD"}, "no product NOPE-USD"),
        ("/admin/scenario", {"scenario": "boom"}, "not an order"),
        ("/admin/scenario", {"scenario": "flash_crash", "depth": 7}, "depth 7"),
        ("/admin/rate", {"rate": 0}, "rate of 0"),
    ],
)
async def test_a_wrong_order_is_refused_with_its_reason(path: str, body: object, problem: str) -> None:
    async with Sandbox() as sandbox:
        status, answer = await post(sandbox, path, body)
        assert status == 400
        assert problem in answer["message"]


# Sources


async def test_scenarios_and_the_rate_change_the_market_on_command() -> None:
    async with (
        Sandbox(SandboxConfig(rate=200, products=("BTC-USD",), limits=False)) as sandbox,
        client(sandbox, "matches", compression=None) as connection,
    ):
        await until(connection, "match", 1)
        sandbox.direct(RateOrder(rate=1_000))
        sandbox.direct(FlashCrashOrder(depth=0.3, fall_seconds=0.5, recovery_seconds=10))
        crash = of("match", await until(connection, "match", 4_000))
        assert min(float(one["price"]) for one in crash) < 0.75 * float(crash[0]["price"])
        assert (await post(sandbox, "/admin/scenario", {"scenario": "spike", "rate": 20_000, "seconds": 2}))[0] == 200
        spike = of("match", await until(connection, "match", 20_000))
        seconds = datetime.fromisoformat(spike[-1]["time"]) - datetime.fromisoformat(spike[5_000]["time"])
        assert 15_000 / seconds.total_seconds() > 8_000


async def test_a_market_can_begin_with_a_spike() -> None:
    config = SandboxConfig(rate=100, scenario="spike", products=("BTC-USD",))
    async with Sandbox(config) as sandbox, asyncio.timeout(PATIENCE_SECONDS):
        sandbox.direct(SpikeOrder(rate=5_000, seconds=5))
        await until_state(sandbox, "trades", 2_000)


async def test_nothing_happens_before_a_subscriber_is_waited_for_and_the_count_is_exact() -> None:
    config = SandboxConfig(rate=50_000, wait_for_subscriber=True, count=3_000)
    async with Sandbox(config) as sandbox:
        async with client(sandbox, "heartbeat") as other:
            beats = await until(other, "heartbeat", 1)
            assert beats[-1]["last_trade_id"] == 0
            assert sandbox.state()["begun"] is False
        async with client(sandbox, "matches", "heartbeat", compression=None) as connection:
            messages = await until(connection, "match", 3_000)
            await until(connection, "heartbeat", 1)
        assert not of("last_match", messages)
        assert sandbox.state()["trades"] == 3_000
        assert sandbox.state()["ended"] is True


@pytest.mark.parametrize("channels", [("matches",), ("matches", "ticker")])
async def test_at_full_speed_the_client_sets_the_pace_and_loses_nothing(channels: tuple[str, ...]) -> None:
    config = SandboxConfig(rate=None, count=30_000, wait_for_subscriber=True, slow_client_bytes=4 * 2**20)
    async with Sandbox(config) as sandbox, client(sandbox, *channels, compression=None) as connection:
        messages = await until(connection, "match", 30_000)
    assert sandbox.state()["slow_clients_dropped"] == 0
    for product in sandbox.exchange.index:
        found = ids(messages, product)
        assert found == list(range(found[0], found[0] + len(found)))
    times = [one["time"] for one in of("match", messages)]
    assert times == sorted(times)


def recorded(folder: Path) -> Path:
    """Write a recording of two products; A-USD lacks the ids 4 and 5."""
    path = folder / "day.csv.gz"
    rows = [f"c,A-USD,{1_700_000_000_000_000 + number},0,{number},sell,1.50,1e-08\n" for number in (1, 2, 3, 6, 7)]
    rows.insert(2, "c,B-USD,1700000000000002,0,900,buy,0.00001,250\n")
    with gzip.open(path, "wt") as file:
        file.write(HEADER + "".join(rows))
    return path


async def test_a_replay_sends_what_was_recorded_with_its_own_clock_and_rest_lacks_what_it_lacks(tmp_path: Path) -> None:
    config = SandboxConfig(replay=(recorded(tmp_path),), speed=None, clock="recorded", wait_for_subscriber=True)
    async with Sandbox(config) as sandbox, client(sandbox, "matches") as connection:
        messages = of("match", await until(connection, "match", 6))
        assert ids(messages, "A-USD") == [1, 2, 3, 6, 7]
        first = of("match", messages, "A-USD")[0]
        assert (first["price"], first["size"], first["side"]) == ("1.5", "0.00000001", "buy")
        assert first["time"] == "2023-11-14T22:13:20.000001Z"
        _, page, _ = await get(sandbox, "/products/A-USD/trades")
        assert [trade["trade_id"] for trade in page] == [7, 6, 3, 2, 1]
        _, products, _ = await get(sandbox, "/products")
        assert [(one["id"], one["quote_increment"]) for one in products] == [("A-USD", "0.1"), ("B-USD", "0.00001")]
        status, problem = await post(sandbox, "/admin/rate", {"rate": 5})
        assert (status, "takes no scenarios" in problem["message"]) == (400, True)


async def test_a_replay_at_a_speed_bears_the_time_of_now(tmp_path: Path) -> None:
    config = SandboxConfig(replay=(recorded(tmp_path),), speed=1.0, wait_for_subscriber=True)
    async with Sandbox(config) as sandbox, client(sandbox, "matches") as connection:
        messages = of("match", await until(connection, "match", 6))
    times = [datetime.fromisoformat(one["time"]) for one in messages]
    assert times == sorted(times)
    assert times[0].year > 2023
    assert (times[-1] - times[0]).microseconds == 6


async def test_the_crash_day_of_a_product_is_replayed_whole() -> None:
    path = shared_data("coinbase_trades_2025-10-10_ATOM-USD.csv.gz")
    config = SandboxConfig(replay=(path,), speed=None, clock="recorded", wait_for_subscriber=True)
    async with Sandbox(config) as sandbox, client(sandbox, "matches", compression=None) as connection:
        found = ids(await until(connection, "match", 33_166), "ATOM-USD")
    assert len(set(found)) == 33_166
    assert found == sorted(found)
    assert found[-1] - found[0] + 1 - len(found) == 22


# Running


async def test_a_port_in_use_is_named_with_the_mend() -> None:
    async with Sandbox() as sandbox:
        port = int(sandbox.websocket_url.rsplit(":", 1)[1])
        for config in (SandboxConfig(port=port), SandboxConfig(rest_port=port)):
            with pytest.raises(ConfigurationError, match=r"can't listen .* in use; .*--port"):
                async with Sandbox(config):
                    pass


async def test_scenarios_for_a_replay_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="a replay takes no scenarios"):
        Sandbox(SandboxConfig(replay=(recorded(tmp_path),), scenario="spike"))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_the_command_says_where_it_listens_and_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        "from fulltape.sandbox.cli import sandbox_command; sandbox_command()",
        *("--json", "--port", "0", "--rest-port", "0", "--fault", "drop,probability=1", "--rate", "max"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )
    assert process.stdout
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = json.loads(await process.stdout.readline())
            assert set(line) == {"websocket", "rest"}
            async with aiohttp.ClientSession() as session, session.get(f"{line['rest']}/admin/state") as answer:
                assert (await answer.json())["faults"][0]["fault"] == "drop"
            async with connect(line["websocket"]) as connection:
                await subscribe(connection, "heartbeat", products=("BTC-USD",))
                assert (await receive(connection))["type"] == "subscriptions"
                process.send_signal(number)
                rest, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert (process.returncode, rest, errors) == (0, b"", b"")
