"""The exchange's heart: takes trades from a source when they are due, remembers them, and hands them to its clients.

No server is in here: a client is whatever `Client` describes. One pass of `emit` sends all that is due at a time. The
usual client has all matches of some products and no compression, and gets the bytes of many frames in one write; frames
are handled one by one only where a fault, a ticker or compression demands it.
"""

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from fulltape.errors import ConfigurationError
from fulltape.sandbox.faults import (
    Close,
    Fault,
    Frame,
    FrameFault,
    FrameFaults,
    RefuseRest,
    SlowRest,
    Stall,
)
from fulltape.sandbox.frames import (
    encode_matches,
    encode_tickers,
    iso_time,
    product_names,
    text_frame,
)
from fulltape.sandbox.history import History
from fulltape.sandbox.products import Product
from fulltape.sandbox.subscriptions import Subscription
from fulltape.sandbox.tickers import BlockTickers, RunningStatistics
from fulltape.sandbox.trades import Block, Flags, Trades

_LEAST_HISTORY = 10_000  # trades that REST remembers of a product however quiet


class Source(Protocol):
    """Where trades come from."""

    products: tuple[Product, ...]
    shares: npt.NDArray[np.float64]
    """Each product's share of all trades."""

    def begin(self, now_us: int) -> Trades:
        """Start; return the trades that came before the first."""
        ...

    def block(self) -> Block | None:
        """Return the next trades, or None after the last."""
        ...


class Wire(Protocol):
    """How bytes reach one client."""

    address: str
    """IP address."""
    compressed: bool
    """Frames have to be handed over one by one."""

    def write(self, data: bytes | memoryview) -> None:
        """Send frames that are already encoded."""
        ...

    def write_each(self, frames: Iterable[bytes | memoryview]) -> None:
        """Send frames one by one, compressed."""
        ...

    def waiting_bytes(self) -> int:
        """Return how much the client has yet to take."""
        ...

    def abort(self) -> None:
        """Break the connection off, without a close frame."""
        ...

    def stall(self, seconds: float) -> None:
        """Neither read nor answer for a while."""
        ...


class Client:
    """One connection: what it has subscribed to, and its luck with faults."""

    def __init__(self, wire: Wire, products: int, faults: FrameFaults) -> None:
        self.wire = wire
        self.subscriptions: set[Subscription] = set()
        self.faults = faults
        self.matches: Flags = np.zeros(products, dtype=np.bool_)
        self.tickers: Flags = np.zeros(products, dtype=np.bool_)
        self.stalled_until_us = 0

    def subscribes_to_trades(self) -> bool:
        """Whether any channel fed by trades is subscribed."""
        return bool(self.matches.any() or self.tickers.any())


class Exchange:
    """The products, their trades up to now, the clients, and the faults in force.

    Args:
        source: of the trades.
        paced: send each trade when it is due; otherwise whatever `emit` is called for, stamped with its time.
        restamp: in an unpaced run, give trades the time of sending.
        count: make so many trades and no more.
        history_trades: how many trades REST remembers.
        slow_client_bytes: a client that lets more than this wait for it is disconnected.
        seed: of the faults.

    """

    def __init__(
        self,
        source: Source,
        *,
        paced: bool = True,
        restamp: bool = False,
        count: int | None = None,
        history_trades: int = 2_000_000,
        slow_client_bytes: int = 32 * 2**20,
        seed: int = 1,
    ) -> None:
        self.source = source
        self.products = source.products
        self.index = {product.product_id: number for number, product in enumerate(self.products)}
        self.product_ids = frozenset(self.index)
        self.clients: list[Client] = []
        self.paced = paced
        self.begun = False
        self.ended = False
        self.trades_sent = 0
        self.slow_clients_dropped = 0
        self.behind_us = 0
        self.struck: Counter[str] = Counter()
        self.rules: list[FrameFault] = []
        self.rest_faults: list[tuple[RefuseRest | SlowRest, float]] = []
        self._restamp = restamp
        self._left = count
        self._slow_client_bytes = slow_client_bytes
        self._seed = seed
        self._faults = FrameFaults(self.rules, "feed", self.struck, seed)
        self._names = product_names([product.product_id for product in self.products])
        self._history = History([max(_LEAST_HISTORY, int(history_trades * share)) for share in source.shares])
        self._last_id = np.zeros(len(self.products), dtype=np.int64)
        self._statistics = RunningStatistics(self.products)
        self._block = Block(Trades.of(**dict.fromkeys(Trades.__slots__, ())), np.zeros(0, dtype=np.int64), 0)
        self._block_statistics, self._statistics_after = self._statistics.follow(self._block.trades)
        self._frames = encode_matches(self._block.trades, self._names)
        self._tickers: BlockTickers | None = None
        self._sent = 0
        self._latest_us = 0

    def begin(self, now_us: int) -> None:
        """Start the source: from here on, trades are due."""
        self.begun = True
        before = self.source.begin(now_us)
        self._history.append(before)
        _, self._statistics_after = self._statistics.follow(before)
        self._last_id[before.product] = before.trade_id
        self._block = replace(self._block, until_us=now_us)

    # Trades on their way

    def emit(self, now_us: int) -> int:
        """Send all that is due; return when the next trade, or the next block, is.

        In an unpaced run the next block is sent whole, and the next is due at once. After the last, `ended` is set.
        """
        while self._sent == len(self._block.trades):
            if self.paced and now_us < self._block.until_us:
                return self._block.until_us
            self._prepare(now_us)
            if self.ended:
                return now_us
            if not self.paced:
                self._send(0, len(self._block.trades), now_us)
                return now_us
        due = self._block.due_us
        end = int(np.searchsorted(due, now_us, side="right"))
        if end > self._sent:
            self.behind_us = now_us - int(due[self._sent])
            self._send(self._sent, end, now_us)
        return int(due[end]) if end < len(due) else self._block.until_us

    def _prepare(self, now_us: int) -> None:
        block = None if self._left == 0 else self.source.block()
        if block is None:
            self.ended = True
            return
        if self._left is not None:
            kept = slice(0, self._left)
            block = Block(block.trades.take(kept), block.due_us[kept], block.until_us)
            self._left -= len(block.trades)
        if self._restamp:
            block = replace(block, trades=self._stamped(block.trades, now_us))
        self._block, self._sent = block, 0
        self._history.append(block.trades)
        self._statistics = self._statistics_after
        self._block_statistics, self._statistics_after = self._statistics.follow(block.trades)
        self._tickers = None
        self._frames = encode_matches(block.trades, self._names)

    def _stamped(self, trades: Trades, now_us: int) -> Trades:
        """Return the trades with the time of now, each order a microsecond after the one before."""
        if not len(trades):
            return trades
        order = np.cumsum(trades.fill == 0)
        time_us = max(now_us, self._latest_us + 1) + order - order[0]
        self._latest_us = int(time_us[-1])
        return replace(trades, time_us=time_us)

    def _send(self, first: int, end: int, now_us: int) -> None:
        trades = self._block.trades
        product = trades.product[first:end]
        self._last_id[product] = trades.trade_id[first:end]  # of repeated products the last value stays
        self.trades_sent += end - first
        self._sent = end
        listening = [
            client for client in self.clients if client.stalled_until_us <= now_us and client.subscribes_to_trades()
        ]
        one_by_one = self._faults.active or any(
            client.wire.compressed or client.faults.active or client.tickers.any() for client in listening
        )
        if one_by_one:
            self._send_one_by_one(first, end, listening)
        else:
            self._send_together(first, end, product, listening)

    def _send_together(self, first: int, end: int, product: npt.NDArray[np.int16], listening: list[Client]) -> None:
        encoded: dict[bytes, memoryview] = {}
        for client in listening:
            key = client.matches.tobytes()
            if key not in encoded:
                everything = client.matches.all()
                encoded[key] = (
                    self._frames.span(first, end)
                    if everything
                    else self._frames.chosen(first, end, client.matches[product])
                )
            self._write(client, encoded[key])

    def _send_one_by_one(self, first: int, end: int, listening: list[Client]) -> None:
        """Send through the faults, tickers and compression. A feed's faults strike even where nobody listens."""
        names = [product.product_id for product in self.products]
        products = [names[index] for index in self._block.trades.product[first:end].tolist()]
        frames = [
            Frame(name, data, is_match=True) for name, data in zip(products, self._frames.each(first, end), strict=True)
        ]
        if any(client.tickers.any() for client in listening):
            self._tickers = self._tickers or BlockTickers(self._block.trades, self._block_statistics, self._names)
            frames = self._tickers.weave(first, frames)
        frames = self._faults.apply(frames)
        for client in listening:
            mine = [
                frame
                for frame in frames
                if (client.matches if frame.is_match else client.tickers)[self.index[frame.product]]
            ]
            if client.faults.active:
                mine = client.faults.apply(mine)
            if client.wire.compressed:
                client.wire.write_each(frame.data for frame in mine)
                self._drop_if_slow(client)
            elif mine:
                self._write(client, b"".join(frame.data for frame in mine))

    def _write(self, client: Client, data: bytes | memoryview) -> None:
        if len(data):
            client.wire.write(data)
            self._drop_if_slow(client)

    def _drop_if_slow(self, client: Client) -> None:
        if client.wire.waiting_bytes() > self._slow_client_bytes:
            self._drop(client)

    def _drop(self, client: Client) -> None:
        self.slow_clients_dropped += 1
        self.remove(client)
        client.wire.abort()

    # Clients

    def add(self, wire: Wire) -> Client:
        """Welcome a client."""
        own_luck = FrameFaults(self.rules, "connection", self.struck, secrets.randbits(32))
        client = Client(wire, len(self.products), own_luck)
        self.clients = [*self.clients, client]
        return client

    def remove(self, client: Client) -> None:
        """Forget a client."""
        self.clients = [other for other in self.clients if other is not client]

    def subscribe(self, client: Client, wanted: Iterable[Subscription]) -> list[bytes]:
        """Add to what a client receives; return the messages that greet it: `last_match`, and a first `ticker`."""
        fresh = [subscription for subscription in dict.fromkeys(wanted) if subscription not in client.subscriptions]
        client.subscriptions.update(fresh)
        self._note(client)
        greetings = []
        for channel, product_id in fresh:
            newest = self.newest(product_id)
            if channel == "matches" and len(newest):
                greetings.append(bytes(encode_matches(newest, self._names, kind="last_match").span(0, 1)))
            elif channel == "ticker" and len(newest):
                _, now = self._statistics.follow(self._block.trades.take(slice(0, self._sent)))
                greetings.append(bytes(encode_tickers(newest, now.of(newest), self._names).span(0, 1)))
        return greetings

    def unsubscribe(self, client: Client, unwanted: Iterable[Subscription]) -> None:
        """Take from what a client receives."""
        client.subscriptions.difference_update(unwanted)
        self._note(client)

    def _note(self, client: Client) -> None:
        ids = [product.product_id for product in self.products]
        client.matches = np.array([("matches", product_id) in client.subscriptions for product_id in ids])
        client.tickers = np.array([("ticker", product_id) in client.subscriptions for product_id in ids])

    def subscribers_at(self, address: str, subscription: Subscription) -> int:
        """Return how many connections from an address have this channel of this product."""
        return sum(client.wire.address == address and subscription in client.subscriptions for client in self.clients)

    def has_match_subscriber(self) -> bool:
        """Whether anybody receives matches."""
        return any(client.matches.any() for client in self.clients)

    def most_waiting_bytes(self, now_us: int) -> int:
        """Return how much the slowest client that isn't stalled has yet to take."""
        return max((one.wire.waiting_bytes() for one in self.clients if one.stalled_until_us <= now_us), default=0)

    def drop_slow_clients(self, bytes_allowed: int) -> None:
        """Break off every client that has more than so many bytes to take."""
        for client in self.clients:
            if client.wire.waiting_bytes() > bytes_allowed:
                self._drop(client)

    def heartbeat(self, now_us: int) -> None:
        """Send every client its heartbeats."""
        messages: dict[str, bytes] = {}
        for client in self.clients:
            wanted = sorted(product_id for channel, product_id in client.subscriptions if channel == "heartbeat")
            if not wanted or client.stalled_until_us > now_us:
                continue
            frames = []
            for product_id in wanted:
                if product_id not in messages:
                    messages[product_id] = text_frame(self._heartbeat(product_id, now_us))
                frames.append(messages[product_id])
            if client.wire.compressed:
                client.wire.write_each(frames)
                self._drop_if_slow(client)
            else:
                self._write(client, b"".join(frames))

    def _heartbeat(self, product_id: str, now_us: int) -> bytes:
        newest = self.newest(product_id)
        return msgspec.json.encode(
            {
                "type": "heartbeat",
                "last_trade_id": int(newest.trade_id[0]) if len(newest) else 0,
                "product_id": product_id,
                "sequence": int(newest.sequence[0]) if len(newest) else 0,
                "time": iso_time(now_us),
            }
        )

    # What REST shows

    def newest(self, product_id: str) -> Trades:
        """Return a product's last trade; no trade when it has had none."""
        return self.page(product_id, limit=1)

    def page(self, product_id: str, *, limit: int, after: int | None = None, before: int | None = None) -> Trades:
        """Return trades of a product, newest first, as `History.page`."""
        number = self.index[product_id]
        return self._history.page(number, int(self._last_id[number]), limit=limit, after=after, before=before)

    # Faults

    def inject(self, fault: Fault, now_us: int) -> None:
        """Put a fault in force.

        Raises:
            ConfigurationError: it names a product that there isn't.

        """
        if isinstance(fault, FrameFault):
            if fault.product is not None and fault.product not in self.product_ids:
                raise ConfigurationError(f"there is no product {fault.product} in this sandbox")
            self.rules.append(fault)
        elif isinstance(fault, Close):
            for client in self.clients[: fault.connections]:
                self.struck["close"] += 1
                self.remove(client)
                client.wire.abort()
        elif isinstance(fault, Stall):
            for client in self.clients[: fault.connections]:
                self.struck["stall"] += 1
                client.stalled_until_us = now_us + round(fault.seconds * 1_000_000)
                client.wire.stall(fault.seconds)
        else:
            until_us = float("inf") if fault.seconds is None else now_us + fault.seconds * 1_000_000
            self.rest_faults.append((fault, until_us))

    def clear_faults(self) -> None:
        """End all faults of frames and of REST."""
        self.rules.clear()
        self.rest_faults.clear()

    def rest_fault(self, now_us: int) -> RefuseRest | SlowRest | None:
        """Return the fault that strikes a REST request now, if any."""
        self.rest_faults = [(fault, until_us) for fault, until_us in self.rest_faults if now_us < until_us]
        if not self.rest_faults:
            return None
        fault, _ = self.rest_faults[-1]
        self.struck[str(type(fault).__struct_config__.tag)] += 1
        return fault
