"""The peer of `fulltape bench tape`, run as a child process: cryptofeed and its Kafka back-end, on Coinbase `matches`.

cryptofeed's `Coinbase` speaks the Advanced Trade feed, with API keys. Here it is taught the Exchange feed, which its
version 2.4.0 spoke and the sandbox speaks: endpoint, symbols, subscription and the names in a message. Connections,
parser, trades, queues, Kafka back-end and event loop (uvloop) are the library's own.

It gets the best configuration that its options allow, measured on one core with the broker warm:

- ``acks="all"``, where aiokafka's default is 1: as durable as the tape. Idempotence stays off, as it is by default; the
  tape's exactly-once is not asked of it.
- a feed with a connection and a back-end of its own for each product: a back-end waits for the answer to each trade
  before it sends the next, so that several keep the core busy where one waits for the broker (with two products about
  4,900 trades/s where one made 4,000). For the same reason aiokafka's batches hold one trade, and ``linger_ms`` above 0
  would only add waiting.
- writers on the event loop: a process for each (``backend_multiprocessing``) measured slower on the same core.
- logs only of warnings, to stderr; floats for prices, as by default.

Give it a finite number of trades: while frames wait to be read its reader never lets a writer run and its queues have
no bound, so that under an endless flood it writes almost nothing. At SIGTERM it drops what its queues hold: let the
topic come to rest first.
"""

import asyncio
import logging
from decimal import Decimal
from typing import Any, ClassVar

import click
from cryptofeed import FeedHandler
from cryptofeed.backends.kafka import TradeKafka
from cryptofeed.connection import WebsocketEndpoint
from cryptofeed.defines import COINBASE, TRADES
from cryptofeed.exchanges import Coinbase
from cryptofeed.symbols import Symbols
from yapic import json  # type: ignore[import-untyped] # the parser of cryptofeed's exchanges

_LOG = logging.getLogger("feedhandler")
_CONFIG = {"uvloop": True, "log": {"disabled": True}}  # "disabled" is the log file; warnings still reach stderr


class ExchangeFeed(Coinbase):  # type: ignore[misc] # cryptofeed has no types
    """cryptofeed's Coinbase, on the `matches` channel of Coinbase Exchange at ``websocket_url``."""

    # The library takes wss:// only; its hook for authentication, which may replace an address, gives the real one.
    websocket_endpoints: ClassVar = [
        WebsocketEndpoint("wss://replaced.invalid", options={"compression": None}, authentication=True)
    ]
    websocket_channels: ClassVar = {TRADES: "matches"}

    def __init__(self, websocket_url: str, **options: Any) -> None:
        super().__init__(**options)
        self._websocket_url = websocket_url

    async def _ws_authentication(self, _address: str, options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return self._websocket_url, options

    async def subscribe(self, conn: Any) -> None:
        """Subscribe a connection that has just been opened."""
        for channel, products in conn.subscription.items():
            message = {"type": "subscribe", "product_ids": products, "channels": [channel]}
            await conn.write(json.dumps(message))

    async def message_handler(self, msg: str, _conn: Any, timestamp: float) -> None:
        """Hand a trade to the library, with the taker's side by its new name; ``timestamp``: received, in seconds."""
        message = json.loads(msg, parse_float=Decimal)
        if message["type"] in ("match", "last_match"):
            message["side"] = "SELL" if message["side"] == "buy" else "BUY"  # `matches` tell the maker's
            await self._trade_update(message, timestamp)
        elif message["type"] != "subscriptions":
            _LOG.warning("%s: unexpected message %s", self.id, msg)


class OneTopic(TradeKafka):  # type: ignore[misc]
    """cryptofeed's Kafka back-end for trades, writing those of all products to ``topic``, as its example does."""

    def __init__(self, topic: str, **aiokafka_options: Any) -> None:
        super().__init__(**aiokafka_options)
        self._topic = topic

    def topic(self, _data: dict[str, Any]) -> str:
        """Return the topic of a trade."""
        return self._topic


@click.command()
@click.option("--websocket-url", required=True, help="The exchange's WebSocket feed.")
@click.option("--bootstrap-servers", required=True, help="The broker.")
@click.option("--topic", required=True, help="Where the trades go; it must exist.")
@click.option("--products", required=True, help="Products, with commas between.")
def main(websocket_url: str, bootstrap_servers: str, topic: str, products: str) -> None:
    """Write the trades of an exchange to a topic until SIGTERM."""
    names = products.split(",")
    Symbols.set(COINBASE, {name: name for name in names}, {})  # as the library would after asking Coinbase's REST
    handler = FeedHandler(config=_CONFIG)
    for name in names:
        backend = OneTopic(topic, bootstrap_servers=bootstrap_servers, acks="all")
        handler.add_feed(
            ExchangeFeed(websocket_url, config=_CONFIG, symbols=[name], channels=[TRADES], callbacks={TRADES: backend})
        )
    asyncio.set_event_loop(asyncio.new_event_loop())  # the library expects one, and uvloop's policy makes none
    handler.run()


if __name__ == "__main__":
    main()
