"""A market and an archive of its tape, with what it has stored: what the tests of the archive share."""

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pyarrow.parquet

from fulltape.bench.stage import FeedOptions, ServiceProgram, make_feed, wait_until, write_feed
from fulltape.errors import FulltapeError
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, ensure_topics, topic_specs
from fulltape.local.kafka import EmbeddedKafka, free_port
from fulltape.warehouse.staging import Kind, Staging
from fulltape.warehouse.tables import TABLES, arrow_schema
from tests.integration.market import PRODUCTS, Market


class ArchiveProgram(ServiceProgram):
    """An archive of a feed, as a cluster runs it."""

    def __init__(self, folder: Path, feed: CryptoFeed, servers: str, staging: Path) -> None:
        self.port = free_port()
        self.checkpoint = folder / "state" / "archive"
        self.checkpoint.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fulltape_spark.archive", "--feed", str(write_feed(folder, feed))]
        command += ["--checkpoint", str(self.checkpoint), "--staging", str(staging), "--port", str(self.port)]
        super().__init__("archive", command, folder, environment={BOOTSTRAP_VARIABLE: servers})


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
        self.market = Market(self.servers, self.feed.topics.trades, "12345678901.00000001")
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
