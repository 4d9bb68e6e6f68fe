"""Keeps a WebSocket connection to the exchange alive and subscribed, whatever happens to it."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

import msgspec

from fulltape.coinbase.messages import Error, Subscriptions
from fulltape.coinbase.rest import TokenBucket, backoff_seconds
from fulltape.coinbase.websocket import Cause, Closed, Connection, connect

LOG = logging.getLogger(__name__)

STALE_SECONDS = 5.0
"""A connection that is silent for this long is replaced: heartbeats come every second for each product."""
_WATCH_SECONDS = 0.5
_SETTLED_SECONDS = 2.0
"""A connection that lived this long starts the back-off anew."""

Intake = Callable[[Sequence[bytes | bytearray], int], list[Subscriptions | Error]]


class ConnectionKeeper:
    """One of the producer's connections; they differ in nothing but their number.

    ``subscribes`` is shared: it limits how often all of them together connect and subscribe.
    """

    def __init__(
        self,
        number: int,
        url: str,
        products: list[str],
        channels: Sequence[str],
        *,
        receive: Intake,
        subscribes: TokenBucket,
        refused: Callable[[Error], None],
    ) -> None:
        self.number = number
        self.subscribed = False
        self.reconnects: Counter[Cause] = Counter()
        self._url = url
        self._products = products
        self._channels = list(channels)
        self._receive = receive
        self._subscribes = subscribes
        self._refused = refused
        self._connection: Connection | None = None
        self._paused = False

    def pause(self) -> None:
        """Read no more for now."""
        self._paused = True
        if self._connection is not None:
            self._connection.pause()

    def resume(self) -> None:
        """Read on."""
        self._paused = False
        if self._connection is not None:
            self._connection.resume()

    def leave_out(self, products: Collection[str]) -> None:
        """Subscribe no more to these."""
        self._products = [product for product in self._products if product not in products]

    async def run(self) -> None:
        """Connect, subscribe, watch, and begin again, until cancelled."""
        attempt = 0
        while True:
            began = time.monotonic()
            closed = await self._live()
            self.subscribed = False
            self.reconnects[closed.cause] += 1
            attempt = 0 if time.monotonic() - began > _SETTLED_SECONDS else attempt + 1
            LOG.warning("connection %d ended (%s): %s", self.number, closed.cause, closed.detail)
            await asyncio.sleep(backoff_seconds(attempt, first=0.05, most=30.0))

    async def _live(self) -> Closed:
        """Open one connection and return how it ended."""
        await self._subscribes.take()
        try:
            connection = await connect(self._url, self._received)
        except OSError as problem:
            return Closed("unreachable", f"{self._url}: {problem}")
        self._connection = connection
        try:
            if self._paused:
                connection.pause()
            connection.send(
                msgspec.json.encode(
                    {"type": "subscribe", "product_ids": self._products, "channels": [*self._channels, "heartbeat"]}
                )
            )
            return await self._watch(connection)
        finally:
            self._connection = None
            connection.close()

    async def _watch(self, connection: Connection) -> Closed:
        while not connection.closed.done():
            await asyncio.wait([connection.closed], timeout=_WATCH_SECONDS)
            silent_seconds = time.monotonic() - connection.last_read
            if silent_seconds > STALE_SECONDS and not connection.paused and not connection.closed.done():
                connection.abort(Closed("stale", f"nothing came for {silent_seconds:.1f} s"))
        return connection.closed.result()

    def _received(self, messages: Sequence[bytes | bytearray], received_us: int) -> None:
        for message in self._receive(messages, received_us):
            if isinstance(message, Error):
                LOG.error("the exchange refuses on connection %d: %s %s", self.number, message.message, message.reason)
                self._refused(message)
                if self._connection is not None:
                    self._connection.abort(Closed("refused", f"{message.message} {message.reason}".strip()))
            else:
                self._subscription(message)

    def _subscription(self, message: Subscriptions) -> None:
        granted = {
            product for channel in message.channels if channel.name == "matches" for product in channel.product_ids
        }
        absent = set(self._products) - granted
        self.subscribed = not absent
        if absent:
            LOG.error("the exchange grants connection %d no matches of %s", self.number, ", ".join(sorted(absent)))
