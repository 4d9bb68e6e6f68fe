"""The sandbox's WebSocket feed: Coinbase's rules for connecting and subscribing, around an `Exchange`."""

import asyncio
import contextlib
import time
from collections.abc import Iterable
from http import HTTPStatus

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.protocol import State

from fulltape.sandbox.config import SandboxConfig
from fulltape.sandbox.exchange import Client, Exchange
from fulltape.sandbox.frames import payload_of, text_frame
from fulltape.sandbox.limits import CLIENT_MESSAGES, CONNECTION_ATTEMPTS, RateLimiter
from fulltape.sandbox.subscriptions import (
    SUBSCRIPTIONS_PER_PRODUCT,
    RefusedError,
    error_message,
    parse_request,
    subscriptions_message,
)

_POLICY_VIOLATION = 1008
_LARGEST_MESSAGE_BYTES = 64 * 1024


class _Connection:
    """A `Wire` over one connection of the library. Frames that are ready go straight to the transport."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._transport = connection.transport
        self.address = str(connection.remote_address[0])
        self.compressed = bool(connection.protocol.extensions)

    def write(self, data: bytes | memoryview) -> None:
        if self._open():
            self._transport.write(data)

    def write_each(self, frames: Iterable[bytes | memoryview]) -> None:
        if self._open():
            for frame in frames:
                self._connection.protocol.send_text(payload_of(frame))
            self._connection.send_data()

    def send(self, payloads: Iterable[bytes]) -> None:
        """Send messages, compressed if so agreed."""
        frames = [text_frame(payload) for payload in payloads]
        if self.compressed:
            self.write_each(frames)
        else:
            self.write(b"".join(frames))

    def waiting_bytes(self) -> int:
        return self._transport.get_write_buffer_size()

    def abort(self) -> None:
        self._transport.abort()

    def stall(self, seconds: float) -> None:
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(seconds, self._wake)

    def _wake(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def _open(self) -> bool:
        return self._connection.protocol.state is State.OPEN and not self._transport.is_closing()


class Feed:
    """Serves an exchange to WebSocket clients."""

    def __init__(self, exchange: Exchange, config: SandboxConfig) -> None:
        self._exchange = exchange
        self._config = config
        self._attempts = RateLimiter(CONNECTION_ATTEMPTS)
        self._messages = RateLimiter(CLIENT_MESSAGES)
        self.match_subscribed = asyncio.Event()

    async def serve(self) -> Server:
        """Start to listen.

        Raises:
            OSError: the port can't be had.

        """
        return await serve(
            self._handle,
            self._config.host,
            self._config.port,
            process_request=self._admit,
            compression="deflate" if self._config.compression else None,
            max_size=_LARGEST_MESSAGE_BYTES,
            ping_interval=None,  # Coinbase leaves pings to its clients
            close_timeout=1,
        )

    def _admit(self, connection: ServerConnection, _: Request) -> Response | None:
        address = str(connection.remote_address[0])
        if self._config.limits and not self._attempts.allows(address, time.monotonic()):
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "Too Many Requests\n")
        return None

    async def _handle(self, connection: ServerConnection) -> None:
        wire = _Connection(connection)
        client = self._exchange.add(wire)
        try:
            async with asyncio.timeout(self._config.subscribe_within_seconds) as patience:
                async for text in connection:
                    if self._config.limits and not self._messages.allows(wire.address, time.monotonic()):
                        wire.send([error_message("Rate limit exceeded", "more than 100 messages in a second")])
                        await connection.close(_POLICY_VIOLATION, "rate limit exceeded")
                        return
                    self._answer(client, wire, text)
                    if client.subscriptions:
                        patience.reschedule(None)
        except TimeoutError:
            await connection.close(_POLICY_VIOLATION, "no subscribe in time")
        except ConnectionClosed:
            pass  # without a close frame, or by us: nothing to say to it any more
        finally:
            self._exchange.remove(client)

    def _answer(self, client: Client, wire: _Connection, text: str | bytes) -> None:
        try:
            request = parse_request(text, self._exchange.product_ids)
        except RefusedError as refused:
            wire.send([error_message(refused.message, refused.reason)])
            return
        if not request.subscribe:
            wire.send(error_message("Failed to unsubscribe", reason) for reason in request.refusals)
            self._exchange.unsubscribe(client, request.wanted)
            wire.send([subscriptions_message(client.subscriptions)])
            return
        granted = []
        refusals = list(request.refusals)
        for channel, product_id in request.wanted:
            subscription = (channel, product_id)
            others = self._exchange.subscribers_at(wire.address, subscription)
            if self._config.limits and others >= SUBSCRIPTIONS_PER_PRODUCT and subscription not in client.subscriptions:
                refusals.append(f"Subscription limit of {SUBSCRIPTIONS_PER_PRODUCT} reached for {channel} {product_id}")
            else:
                granted.append(subscription)
        wire.send(error_message("Failed to subscribe", reason) for reason in refusals)
        if not granted:
            return
        greetings = self._exchange.subscribe(client, granted)
        wire.send([subscriptions_message(client.subscriptions)])
        wire.send(payload_of(greeting) for greeting in greetings)
        if client.matches.any():
            self.match_subscribed.set()


async def stop(server: Server) -> None:
    """Close all connections and stop to listen."""
    server.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(2):
            await server.wait_closed()
