"""The REST side of the exchange: products, and pages of past trades for what the WebSocket did not show."""

import asyncio
import random
import time
from typing import Any, Self, TypeVar

import aiohttp
import msgspec

from fulltape.coinbase.messages import MalformedMessageError, Product, RestTrade, check_trade, parse_time_us
from fulltape.decimals import shortest_decimal
from fulltape.errors import ExchangeError
from fulltape.messages import UNDECODABLE

PAGE_LIMIT = 1000
"""Trades in one answer at most."""

Answer = TypeVar("Answer")

_REQUESTS_PER_SECOND = 10.0
_BURST = 15
_MESSAGE_CHARACTERS = 200
_BACKOFF_SECONDS = (0.1, 5.0)
_products_decoder: msgspec.json.Decoder[list[Product]] = msgspec.json.Decoder(list[Product])
_trades_decoder: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])
_decode_trade = msgspec.json.Decoder(RestTrade).decode


class RestUnavailableError(Exception):
    """The exchange's REST API did not give a usable answer within the time allowed; the text says what it did."""


class TokenBucket:
    """Lets ``rate`` requests a second pass on average and ``burst`` at once; others wait their turn, in order."""

    def __init__(self, rate_per_second: float, burst: int) -> None:
        self._rate = rate_per_second
        self._burst = burst
        self._level = float(burst)
        self._updated: float | None = None

    def reserve(self, now: float) -> float:
        """Take a place in the queue at ``now`` (monotonic seconds); return how many seconds to wait for it."""
        passed = now - self._updated if self._updated is not None else 0.0
        self._level = min(self._burst, self._level + passed * self._rate) - 1
        self._updated = now
        return max(0.0, -self._level / self._rate)

    async def take(self) -> None:
        """Return once a request may be sent."""
        await asyncio.sleep(self.reserve(time.monotonic()))


def backoff_seconds(attempt: int, *, first: float, most: float) -> float:
    """Return how long to wait before try number ``attempt`` (from 0): doubling, capped, with full jitter.

    Source: M. Brooker, "Exponential Backoff And Jitter" (2015), "full jitter"; half of the span is kept as a floor so
    that no retry is immediate.
    """
    span = min(most, first * 2.0 ** min(attempt, 30))
    return span * (0.5 + 0.5 * random.random())  # noqa: S311 - jitter is no secret


class TradePage(msgspec.Struct):
    """The trades of one answer, ascending by id, and those in it that could not be used.

    Their decimals are spelled as the WebSocket feed spells them, so that a trade is the same whichever way it came.
    """

    trades: list[RestTrade]
    rejected: list[tuple[bytes, str]]
    """Raw bytes and reason."""
    received_us: int


class RestClient:
    """The endpoints that Fulltape needs, within the exchange's limits. Use as an async context manager."""

    def __init__(
        self, base_url: str, *, requests_per_second: float = _REQUESTS_PER_SECOND, burst: int = _BURST
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._bucket = TokenBucket(requests_per_second, burst)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=10),
            headers={"User-Agent": "fulltape"},  # Coinbase refuses requests that name no client
            trust_env=True,  # proxies, as other tools
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()

    async def products(self, *, within_seconds: float = 30.0) -> list[Product]:
        """List every product.

        Raises:
            RestUnavailableError: no usable answer in time.

        """
        return (await self._get("/products", {}, within_seconds, _products_decoder))[0]

    async def trades(
        self, product: str, *, after: int | None = None, limit: int = PAGE_LIMIT, within_seconds: float = 30.0
    ) -> TradePage:
        """Return up to ``limit`` trades with the highest ids below ``after`` (the newest of all without it).

        Raises:
            ExchangeError: the exchange does not know the product.
            RestUnavailableError: no usable answer in time.

        """
        query = {"limit": str(limit)} | ({"after": str(after)} if after is not None else {})
        items, received_us = await self._get(f"/products/{product}/trades", query, within_seconds, _trades_decoder)
        page = TradePage([], [], received_us)
        for item in reversed(items):  # the exchange lists the newest first
            try:
                trade = _decode_trade(item)
                check_trade(trade)
                parse_time_us(trade.time)
            except (*UNDECODABLE, MalformedMessageError) as problem:
                page.rejected.append((bytes(item), str(problem)))
            else:
                trade.price, trade.size = shortest_decimal(trade.price), shortest_decimal(trade.size)
                page.trades.append(trade)
        return page

    async def _get(
        self, path: str, query: dict[str, str], within_seconds: float, decoder: msgspec.json.Decoder[Answer]
    ) -> tuple[Answer, int]:
        """Get an answer and the time it was read. Only 400 and 404 are final; all else is tried again in time.

        That is 429, 5xx, lost connections, a 403 of the exchange's shield against floods, and a body that is no answer.
        No try is sooner than an answer's Retry-After asks for.
        """
        assert self._session is not None, "use RestClient as an async context manager"
        deadline = time.monotonic() + within_seconds
        attempt = 0
        while True:
            await self._bucket.take()
            asked_seconds = 0.0
            try:
                async with self._session.get(self._base_url + path, params=query) as answer:
                    body = await answer.read()
                    if answer.status == 200:
                        return decoder.decode(body), time.time_ns() // 1000
                    problem = f"{answer.status} {_message(body)}"
                    asked_seconds = _retry_after_seconds(answer.headers.get("Retry-After", ""))
                    if answer.status in (400, 404):
                        raise ExchangeError(f"the exchange refuses GET {path}: {problem}")
            except (aiohttp.ClientError, TimeoutError, OSError) as lost:
                problem = str(lost) or type(lost).__name__
            except UNDECODABLE as unusable:
                problem = f"the answer can't be read: {unusable}"
            pause = max(asked_seconds, backoff_seconds(attempt, first=_BACKOFF_SECONDS[0], most=_BACKOFF_SECONDS[1]))
            if time.monotonic() + pause > deadline:
                raise RestUnavailableError(f"GET {path}: {problem} (after {attempt + 1} tries)")
            attempt += 1
            await asyncio.sleep(pause)


def _retry_after_seconds(text: str) -> float:
    """Return the seconds of a Retry-After; 0 without them, as where it names a date."""
    return float(text) if text.isascii() and text.isdigit() else 0.0


def _message(body: bytes) -> str:
    """Return the ``message`` of an error body, or the start of whatever it is."""
    try:
        answer: Any = msgspec.json.decode(body)
        return str(answer["message"])[:_MESSAGE_CHARACTERS]
    except (*UNDECODABLE, KeyError, TypeError):
        return body[:_MESSAGE_CHARACTERS].decode(errors="replace")
