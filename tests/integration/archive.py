"""A market and an archive of its tape, with what it has stored: what the tests of the archive share."""

import random
import sys
import time
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pyarrow.parquet
from confluent_kafka import Producer

from fulltape.bench.stage import FeedOptions, ServiceProgram, make_feed, wait_until, write_feed
from fulltape.coinbase.messages import Match
from fulltape.errors import FulltapeError
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, ensure_topics, topic_specs
from fulltape.local.kafka import EmbeddedKafka, free_port
from fulltape.messages import Trade
from fulltape.producer.tail import Tail
from fulltape.warehouse.staging import Kind, Staging
from fulltape.warehouse.tables import TABLES, arrow_schema

PRODUCTS = ("BTC-USD", "SHIB-USD", "ETH-USD")
SECOND_US = 1_000_000


class ArchiveProgram(ServiceProgram):
    """An archive of a feed, as a cluster runs it."""

    def __init__(self, folder: Path, feed: CryptoFeed, servers: str, staging: Path) -> None:
        self.port = free_port()
        self.checkpoint = folder / "state" / "archive"
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fulltape_spark.archive", "--feed", str(write_feed(folder, feed))]
        command += ["--checkpoint", str(self.checkpoint), "--staging", str(staging), "--port", str(self.port)]
        super().__init__("archive", command, folder, environment={BOOTSTRAP_VARIABLE: servers})


class Market:
    """Trades, tickers and alerts as others write them, and the topics that they write to."""

    def __init__(self, bootstrap_servers: str, feed: CryptoFeed) -> None:
        self._producer = Producer({"bootstrap.servers": bootstrap_servers})
        self._topics = feed.topics
        self._random = random.Random(20_101_010)
        self._tails = {product: Tail(product, None) for product in PRODUCTS}
        self._prices = {"BTC-USD": 6_512_345, "SHIB-USD": 91_827_364, "ETH-USD": 351_844}
        self._digits = {"BTC-USD": 2, "SHIB-USD": 10, "ETH-USD": 2}
        self.trades: dict[tuple[str, int], Trade] = {}
        self.ids: dict[str, int] = defaultdict(int)

    def trade(self, product: str, time_us: int) -> Trade:
        """Write the next trade of a product."""
        chance = self._random
        self._prices[product] += chance.choice((-7, -1, -1, 0, 0, 1, 1, 7))
        digits = self._digits[product]
        whole, part = divmod(self._prices[product], 10**digits)
        size = chance.choice(("0.00000001", "250", "0.5", "12345678901.00000001", f"{chance.random():.8f}1"[:10]))
        self.ids[product] += 1
        match = Match(
            product_id=product,
            trade_id=self.ids[product],
            price=f"{whole}.{part:0{digits}d}",
            size=size,
            side=chance.choice(("buy", "sell")),
            time="",
            sequence=self.ids[product],
        )
        received_us = time.time_ns() // 1_000
        trade = self._tails[product].append(match, time_us, received_us, "stream")
        self.trades[product, trade.trade_id] = trade
        self.write(self._topics.trades, msgspec.json.encode(trade), product, -(-received_us // 1_000))
        return trade

    def burst(self, trades: int, first_us: int, seconds: int) -> None:
        """Write trades of all products, ordered, spread over some seconds, and a ticker after some of them."""
        for time_us in sorted(first_us + self._random.randrange(seconds * SECOND_US) for _ in range(trades)):
            self.trade(self._random.choice(PRODUCTS), time_us)
        self.flush()

    def write(self, topic: str, value: bytes, key: str, time_ms: int = 0) -> None:
        self._producer.produce(topic, value, key, timestamp=time_ms or time.time_ns() // 1_000_000)

    def flush(self) -> None:
        assert self._producer.flush(30) == 0


class Stage:
    """The market, and the archive with what it has stored."""

    def __init__(self, broker: EmbeddedKafka, folder: Path, analytics: dict[str, Any] | None = None) -> None:
        self.folder = folder
        self.servers = broker.bootstrap_servers
        options = FeedOptions(
            PRODUCTS, partitions=2, channels=("matches", "ticker"), analytics=analytics, warehouse={"every": "1s"}
        )
        self.feed = make_feed(f"test-{uuid4().hex[:12]}", options)
        ensure_topics(ClientConfiguration({"bootstrap.servers": self.servers}), topic_specs(self.feed, replicas=1))
        self.market = Market(self.servers, self.feed)
        self.root = folder / "staging"
        self.staging = Staging(str(self.root))
        self.program: ArchiveProgram

    def start(self) -> None:
        self.program = ArchiveProgram(self.folder, self.feed, self.servers, self.root)
        self.program.wait_ready(300)

    def said(self) -> str:
        return self.program.output.read_text()

    def rows(self, kind: Kind) -> list[dict[str, Any]]:
        """Return the rows of every batch that was described; each must be as its description says."""
        found = []
        for name in self.staging.listed(kind):
            batch = self.staging.read(kind, name)
            rows = []
            for file in batch.files:
                table = pyarrow.parquet.read_table(self.root / file.path)
                assert table.schema.equals(arrow_schema(TABLES[kind]))
                assert table.num_rows == file.rows
                assert (self.root / file.path).stat().st_size == file.bytes
                rows += table.to_pylist()
            assert len(rows) == batch.rows
            assert sum(file.bytes for file in batch.files) == batch.bytes
            found += rows
        return found

    def stored(self) -> dict[tuple[str, int], dict[str, Any]]:
        return {(row["product"], row["trade_id"]): row for row in self.rows("trades")}

    def wait_until(self, condition: Any, what: str) -> None:
        def holds() -> bool:
            if not self.program.running:
                raise FulltapeError(f"the archive ended with {self.program.exit_code}:\n{self.program.tail()}")
            return bool(condition())

        wait_until(holds, what, seconds=120)

    def assert_every_trade_is_stored(self) -> None:
        """Wait until the trades of the market are there, each as it was written."""
        self.wait_until(lambda: len(self.stored()) >= len(self.market.trades), "every trade is stored")
        stored = self.stored()
        assert stored.keys() == self.market.trades.keys()
        for place, trade in self.market.trades.items():
            row = stored[place]
            assert (row["price"], row["size"]) == (Decimal(trade.price), Decimal(trade.size))
            assert (row["taker_side"], row["source"], row["sequence"]) == (
                "buy" if trade.taker_side == "buy" else "sell",
                "stream",
                trade.sequence,
            )
            assert micros(row["traded_at"]) == trade.time_us
            assert micros(row["received_at"]) == trade.received_us
            assert micros(row["tape_at"]) == -(-trade.received_us // 1_000) * 1_000

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}


def micros(moment: Any) -> int:
    return (moment.replace(tzinfo=UTC) - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)


def now_us() -> int:
    return time.time_ns() // 1_000
