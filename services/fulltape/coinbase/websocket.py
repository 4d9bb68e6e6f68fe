"""One WebSocket connection to the exchange, built for bursts: a read from the socket is one call to the receiver.

websockets' Sans-I/O layer does the protocol (handshake, frames, permessage-deflate, pings, close); this file moves the
bytes. Its high-level client wakes a task for every message, which at tens of thousands of messages a second costs more
than all the rest of the producer.
"""

import asyncio
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, cast
from urllib.parse import urlsplit

from websockets.client import ClientProtocol
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import State
from websockets.uri import parse_uri

from fulltape.errors import ExchangeError

Cause = Literal["stale", "lost", "closed", "protocol", "refused", "unreachable"]
"""Why a connection ended: silence, broken off, a close frame, bytes that are no WebSocket, a refusal, no answer."""


class Closed(NamedTuple):
    """How a connection ended."""

    cause: Cause
    detail: str


Receiver = Callable[[Sequence[bytes | bytearray], int], None]
"""Gets the messages of one read, in order, and the time of that read in microseconds since the epoch."""

MAX_MESSAGE_BYTES = 1024 * 1024
"""Far above any message of the channels that are subscribed to; what is longer is no message of theirs."""


class Connection(asyncio.Protocol):
    """An open connection. Made by `connect`; ends when `closed` is set, with the cause as its result."""

    def __init__(self, url: str, receive: Receiver) -> None:
        self._websocket = ClientProtocol(
            parse_uri(url), extensions=[ClientPerMessageDeflateFactory()], max_size=MAX_MESSAGE_BYTES
        )
        self._receive = receive
        self._transport: asyncio.Transport | None = None
        self._fragments: list[bytes | bytearray] = []
        loop = asyncio.get_running_loop()
        self.opened: asyncio.Future[None] = loop.create_future()
        self.closed: asyncio.Future[Closed] = loop.create_future()
        self.last_read = time.monotonic()
        """Monotonic seconds of the last bytes from the exchange."""
        self.paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the WebSocket handshake."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's transports are no subclass of it
        self._websocket.send_request(self._websocket.connect())
        self._flush()

    def data_received(self, data: bytes) -> None:
        """Hand over every message that these bytes complete."""
        received_us = time.time_ns() // 1000
        self.last_read = time.monotonic()
        websocket = self._websocket
        websocket.receive_data(data)
        messages: list[bytes | bytearray] = []
        for event in websocket.events_received():
            if isinstance(event, Frame):
                if event.opcode is Opcode.TEXT and event.fin:
                    messages.append(event.data)  # type: ignore[arg-type]  # frames that are read hold no memoryview
                elif event.opcode in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                    self._fragments.append(event.data)  # type: ignore[arg-type]
                    if event.fin:
                        messages.append(b"".join(self._fragments))
                        self._fragments.clear()
            elif isinstance(event, Response):
                self._handshake_answered()
        if messages:
            self._receive(messages, received_us)
        self._flush()
        if websocket.state is not State.OPEN and self.opened.done():
            self._end(self._close_cause())

    def eof_received(self) -> None:
        """Pass the end of the stream on to the protocol."""
        self._websocket.receive_eof()
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """Settle both futures: nothing comes after this."""
        self._websocket.receive_eof()
        self._end(Closed("lost", str(exc)) if exc else self._close_cause())

    def send(self, message: bytes) -> None:
        """Send one text message."""
        self._websocket.send_text(message)
        self._flush()

    def pause(self) -> None:
        """Leave what comes in the kernel's buffers, so that the exchange feels that we are slow."""
        if self._transport is not None and not self.paused:
            self._transport.pause_reading()
            self.paused = True

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and self.paused:
            self._transport.resume_reading()
            self.last_read = time.monotonic()
            self.paused = False

    def close(self) -> None:
        """Send a close frame and drop the connection without waiting for the answer."""
        if self._websocket.state is State.OPEN:
            self._websocket.send_close(1000)
            self._flush()
        if self._transport is not None:
            self._transport.close()

    def abort(self, why: Closed) -> None:
        """Drop the connection at once."""
        self._end(why)
        if self._transport is not None:
            self._transport.abort()

    def _handshake_answered(self) -> None:
        refusal = self._websocket.handshake_exc
        if refusal is None:
            self.opened.set_result(None)
        else:
            self._end(Closed("refused", f"handshake refused: {refusal}"))

    def _close_cause(self) -> Closed:
        websocket = self._websocket
        if websocket.parser_exc is not None and not isinstance(websocket.parser_exc, EOFError):
            return Closed("protocol", str(websocket.parser_exc))
        if websocket.close_rcvd is not None:
            return Closed("closed", f"by the exchange: {websocket.close_rcvd}")
        return Closed("lost", "no close frame")

    def _end(self, why: Closed) -> None:
        if not self.opened.done():
            self.opened.set_exception(ConnectionError(why.detail))
            self.opened.exception()  # whoever awaits it gets it; nobody awaiting it is no fault
        if not self.closed.done():
            self.closed.set_result(why)

    def _flush(self) -> None:
        assert self._transport is not None
        for data in self._websocket.data_to_send():
            if data:
                self._transport.write(data)
            else:
                self._transport.close()


async def connect(url: str, receive: Receiver, *, timeout_seconds: float = 10.0) -> Connection:
    """Open a connection and finish the handshake.

    Raises:
        ExchangeError: the URL is no ``ws://`` or ``wss://`` one.
        ConnectionError: nobody listens there, the handshake was refused or took too long; also other `OSError`.

    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or parts.hostname is None:
        raise ExchangeError(f"{url!r} is no WebSocket address; write ws://host:port or wss://host")
    secure = parts.scheme == "wss"
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(timeout_seconds):
            _, connection = await loop.create_connection(
                lambda: Connection(url, receive),
                parts.hostname,
                parts.port or (443 if secure else 80),
                ssl=ssl.create_default_context() if secure else None,
            )
            try:
                await connection.opened
            except (ConnectionError, asyncio.CancelledError):
                connection.abort(Closed("unreachable", "no handshake"))
                raise
    except TimeoutError:
        raise ConnectionError(f"no WebSocket handshake with {url} within {timeout_seconds:g} s") from None
    return connection
