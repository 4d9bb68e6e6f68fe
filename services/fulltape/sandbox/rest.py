"""The sandbox's REST: Coinbase's products, trades and time, and an admin endpoint for scenarios and faults."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
from aiohttp import web

from fulltape.errors import ConfigurationError
from fulltape.sandbox.exchange import Exchange
from fulltape.sandbox.faults import RefuseRest, parse_faults
from fulltape.sandbox.frames import encode_rest_trades
from fulltape.sandbox.limits import REST_REQUESTS, RateLimiter
from fulltape.sandbox.products import Product

_PAGE = 1000
_ADMIN = "/admin/"

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class FlashCrashOrder(msgspec.Struct, tag="flash_crash", tag_field="scenario", forbid_unknown_fields=True):
    """Prices fall by ``depth`` and make good 70 % of it."""

    depth: float = 0.1
    fall_seconds: float = 10.0
    recovery_seconds: float = 60.0
    products: list[str] = []
    """All when empty."""


class SpikeOrder(msgspec.Struct, tag="spike", tag_field="scenario", forbid_unknown_fields=True):
    """``rate`` trades a second for so many seconds."""

    rate: float
    seconds: float = 10.0


class RateOrder(msgspec.Struct, forbid_unknown_fields=True):
    """``rate`` trades a second from now on."""

    rate: float


Order = FlashCrashOrder | SpikeOrder | RateOrder


class Director(Protocol):
    """Who carries out the orders of the admin endpoint."""

    def direct(self, order: Order) -> None:
        """Carry out an order; ConfigurationError when it can't be."""
        ...

    def state(self) -> dict[str, Any]:
        """Return what the sandbox is and does, ready for JSON."""
        ...


def application(exchange: Exchange, director: Director, *, limits: bool) -> web.Application:
    """Return the web application.

    Args:
        exchange: whose products and trades it shows.
        director: carries out orders.
        limits: hold clients to Coinbase's requests per second; the admin endpoint is free.

    """
    rest = _Rest(exchange, director)
    limiter = RateLimiter(REST_REQUESTS)

    @web.middleware
    async def as_coinbase(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_ADMIN):
            return await handler(request)
        if limits and not limiter.allows(request.remote or "", time.monotonic()):
            return _json({"message": "Public rate limit exceeded"}, status=429)
        if "User-Agent" not in request.headers:
            return _json({"message": "User-Agent header is required."}, status=400)
        fault = exchange.rest_fault(time.time_ns() // 1000)
        if isinstance(fault, RefuseRest):
            return _json({"message": "Service Unavailable"}, status=503)
        if fault:
            await asyncio.sleep(fault.delay_seconds)
        return await handler(request)

    @web.middleware
    async def explain(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except (web.HTTPNotFound, web.HTTPMethodNotAllowed):
            return _json({"message": "NotFound"}, status=404)
        except ConfigurationError as problem:
            return _json({"message": str(problem)}, status=400)

    app = web.Application(middlewares=[explain, as_coinbase])
    app.add_routes(
        [
            web.get("/products", rest.products),
            web.get("/products/{id}", rest.product),
            web.get("/products/{id}/trades", rest.trades),
            web.get("/time", rest.time),
            web.get("/admin/state", rest.state),
            web.post("/admin/faults", rest.inject),
            web.delete("/admin/faults", rest.clear_faults),
            web.post("/admin/scenario", rest.scenario),
            web.post("/admin/rate", rest.rate),
        ]
    )
    return app


class _Rest:
    def __init__(self, exchange: Exchange, director: Director) -> None:
        self._exchange = exchange
        self._director = director

    async def products(self, _: web.Request) -> web.Response:
        return _json([_described(product) for product in self._exchange.products])

    async def product(self, request: web.Request) -> web.Response:
        return _json(_described(self._exchange.products[self._exchange.index[self._product_id(request)]]))

    async def trades(self, request: web.Request) -> web.Response:
        product_id = self._product_id(request)
        try:
            numbers = {name: int(request.query[name]) for name in ("limit", "after", "before") if name in request.query}
        except ValueError:
            raise ConfigurationError("limit, after and before have to be numbers") from None
        limit = min(max(numbers.get("limit", _PAGE), 1), _PAGE)
        page = self._exchange.page(product_id, limit=limit, after=numbers.get("after"), before=numbers.get("before"))
        headers = {}
        if len(page):
            headers = {"CB-BEFORE": str(page.trade_id[0]), "CB-AFTER": str(page.trade_id[-1])}
        return web.Response(body=encode_rest_trades(page), content_type="application/json", headers=headers)

    async def time(self, _: web.Request) -> web.Response:
        now = datetime.now(UTC)
        iso = now.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"
        return _json({"iso": iso, "epoch": round(now.timestamp(), 3)})

    async def state(self, _: web.Request) -> web.Response:
        return _json(self._director.state())

    async def inject(self, request: web.Request) -> web.Response:
        for fault in parse_faults(await request.read()):
            self._exchange.inject(fault, time.time_ns() // 1000)
        return _json(self._director.state())

    async def clear_faults(self, _: web.Request) -> web.Response:
        self._exchange.clear_faults()
        return _json(self._director.state())

    async def scenario(self, request: web.Request) -> web.Response:
        self._director.direct(_decode(await request.read(), FlashCrashOrder | SpikeOrder))
        return _json(self._director.state())

    async def rate(self, request: web.Request) -> web.Response:
        self._director.direct(_decode(await request.read(), RateOrder))
        return _json(self._director.state())

    def _product_id(self, request: web.Request) -> str:
        product_id = request.match_info["id"]
        if product_id not in self._exchange.product_ids:
            raise web.HTTPNotFound
        return product_id


def _decode(raw: bytes, kind: Any) -> Order:
    try:
        order: Order = msgspec.json.decode(raw, type=kind)
    except msgspec.DecodeError as problem:
        raise ConfigurationError(f"not an order: {problem}") from None
    return order


def _described(product: Product) -> dict[str, Any]:
    base, _, quote = product.product_id.partition("-")
    return {
        "id": product.product_id,
        "base_currency": base,
        "quote_currency": quote,
        "quote_increment": format(product.quote_increment, "f"),
        "base_increment": format(product.base_increment, "f"),
        "display_name": f"{base}-{quote}",
        "min_market_funds": "1",
        "margin_enabled": False,
        "post_only": False,
        "limit_only": False,
        "cancel_only": False,
        "status": "online",
        "status_message": "",
        "trading_disabled": False,
        "fx_stablecoin": False,
        "max_slippage_percentage": "0.02000000",
        "auction_mode": False,
        "high_bid_limit_percentage": "",
    }


def _json(value: Any, *, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), content_type="application/json", status=status)
