"""REST: pages, limits and failures, against a real HTTP server on loopback that misbehaves as told."""

from collections.abc import AsyncIterator

import pytest
from aiohttp import web

from fulltape.coinbase.rest import RestClient, RestUnavailableError, TokenBucket, backoff_seconds
from fulltape.errors import ExchangeError


def trade(trade_id: int, **changes: object) -> dict[str, object]:
    return {"trade_id": trade_id, "price": "1.5", "size": "2", "side": "buy", "time": "2026-01-01T00:00:00Z"} | changes


class Exchange:
    """Answers from a script: each request takes the next answer; the last one stays."""

    def __init__(self) -> None:
        self.script: list[web.Response] = []
        self.queries: list[dict[str, str]] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.queries.append(dict(request.query))
        return self.script.pop(0)


@pytest.fixture
async def exchange() -> AsyncIterator[Exchange]:
    scripted = Exchange()
    application = web.Application()
    application.router.add_get("/{path:.*}", scripted.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    host, port = runner.addresses[0][:2]
    scripted.url = f"http://{host}:{port}"
    yield scripted
    await runner.cleanup()


async def test_a_page_is_ascending_and_asked_for_by_the_id_above_it(exchange: Exchange) -> None:
    exchange.script = [web.json_response([trade(12), trade(11), trade(10)])]
    async with RestClient(exchange.url) as rest:
        page = await rest.trades("BTC-USD", after=13, limit=3)
    assert [item.trade_id for item in page.trades] == [10, 11, 12]
    assert exchange.queries == [{"limit": "3", "after": "13"}]


async def test_decimals_are_spelled_as_the_websocket_feed_spells_them(exchange: Exchange) -> None:
    exchange.script = [web.json_response([trade(1, price="63514.60000000", size="2.00000000")])]
    async with RestClient(exchange.url) as rest:
        (item,) = (await rest.trades("BTC-USD")).trades
    assert (item.price, item.size) == ("63514.6", "2")


async def test_a_trade_that_is_malformed_is_set_aside_and_the_others_are_kept(exchange: Exchange) -> None:
    broken = [trade(9, price="-1"), trade(8, size=...), trade(7, time="noon"), {"trade_id": "6"}]
    broken[1]["size"] = None
    exchange.script = [web.json_response([trade(10), *broken, trade(5)])]
    async with RestClient(exchange.url) as rest:
        page = await rest.trades("BTC-USD")
    assert [item.trade_id for item in page.trades] == [5, 10]
    assert len(page.rejected) == 4
    assert any("price '-1'" in reason for _, reason in page.rejected)


async def test_429_and_5xx_are_tried_again(exchange: Exchange) -> None:
    exchange.script = [
        web.json_response({"message": "Public rate limit exceeded"}, status=429),
        web.Response(status=503),
        web.json_response([trade(1)]),
    ]
    async with RestClient(exchange.url) as rest:
        page = await rest.trades("BTC-USD")
    assert [item.trade_id for item in page.trades] == [1]
    assert len(exchange.queries) == 3


async def test_an_unknown_product_is_final(exchange: Exchange) -> None:
    exchange.script = [web.json_response({"message": "NotFound"}, status=404)]
    async with RestClient(exchange.url) as rest:
        with pytest.raises(ExchangeError, match="NotFound"):
            await rest.trades("NO-SUCH")


async def test_an_exchange_that_stays_away_is_said_with_what_it_answered(exchange: Exchange) -> None:
    exchange.script = [web.json_response({"message": "maintenance"}, status=503) for _ in range(100)]
    async with RestClient(exchange.url) as rest:
        with pytest.raises(RestUnavailableError, match="503 maintenance"):
            await rest.trades("BTC-USD", within_seconds=0.5)


async def test_nobody_listening_is_said() -> None:
    async with RestClient("http://127.0.0.1:1") as rest:
        with pytest.raises(RestUnavailableError, match=r"127\.0\.0\.1"):
            await rest.products(within_seconds=0.3)


@pytest.mark.parametrize("body", [b"<html>", b'{"a": 1}', b'[{"trade_id": 1', b"[" * 100_000])
async def test_an_answer_that_is_none_is_tried_again(exchange: Exchange, body: bytes) -> None:
    exchange.script = [web.Response(body=body), web.json_response([trade(1)])]
    async with RestClient(exchange.url) as rest:
        page = await rest.trades("BTC-USD")
    assert [item.trade_id for item in page.trades] == [1]


async def test_bytes_that_are_no_utf8_spoil_one_trade_and_not_the_page(exchange: Exchange) -> None:
    good = b'{"trade_id":%d,"price":"1.5","size":"2","side":"buy","time":"2026-01-01T00:00:00Z"}'
    bad = b'{"trade_id":2,"price":"1\xff5","size":"2","side":"buy","time":"2026-01-01T00:00:00Z"}'
    exchange.script = [web.Response(body=b"[" + b",".join([good % 3, bad, good % 1]) + b"]")]
    async with RestClient(exchange.url) as rest:
        page = await rest.trades("BTC-USD")
    assert [item.trade_id for item in page.trades] == [1, 3]
    assert len(page.rejected) == 1


def test_the_bucket_holds_requests_to_the_rate_after_a_burst() -> None:
    bucket = TokenBucket(10.0, 5)
    assert [bucket.reserve(0.0) for _ in range(5)] == [0.0] * 5
    assert [bucket.reserve(0.0) for _ in range(3)] == pytest.approx([0.1, 0.2, 0.3])
    assert bucket.reserve(0.3) == pytest.approx(0.1)  # those three are served, this one is next
    assert bucket.reserve(100.0) == 0.0


def test_back_off_grows_to_its_cap_and_is_never_nothing() -> None:
    waits = [[backoff_seconds(attempt, first=0.1, most=5.0) for _ in range(50)] for attempt in range(12)]
    assert all(0.05 <= wait <= 0.1 for wait in waits[0])
    assert all(2.5 <= wait <= 5.0 for wait in waits[11])
