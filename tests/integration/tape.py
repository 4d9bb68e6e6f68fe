"""What the drills share: a feed of its own on the session's broker, and the proof at the end."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fulltape.audit.tape import TapeAudit, audit_tape
from fulltape.bench.stage import (
    FeedOptions,
    ProducerProgram,
    Program,
    SandboxProgram,
    delete_topics,
    make_feed,
    wait_until,
)
from fulltape.feed.model import CryptoFeed
from fulltape.local.kafka import EmbeddedKafka

DRILL_SECONDS = float(os.environ.get("FULLTAPE_DRILL_SECONDS", "12"))
"""How long each drill keeps hurting; two minutes is the full measure."""

PRODUCTS = ("BTC-USD", "ETH-USD", "SOL-USD", "DOGE-USD")
FIRST_ID = 1_000_001
"""The first trade of every product that the sandbox emits; the one before it is there from the start."""
_CATCH_UP_SECONDS = 90.0


class Stage:
    """One feed between a sandbox exchange and the broker."""

    def __init__(self, broker: EmbeddedKafka, folder: Path, name: str) -> None:
        self.broker = broker
        self.folder = folder
        self.name = name
        self._programs: list[Program] = []
        self._feed: CryptoFeed | None = None

    def feed(self, **options: Any) -> CryptoFeed:
        """Return a feed; its tape begins with the sandbox's first trade, so that all of them can be asked for."""
        start = {"tradeIds": dict.fromkeys(PRODUCTS, FIRST_ID)}
        self._feed = make_feed(self.name, FeedOptions(**{"products": PRODUCTS, "start": start} | options))
        return self._feed

    def sandbox(self, *options: str, rate: int = 2000, seconds: float | None = None) -> SandboxProgram:
        """Start an exchange that emits for so long, from the first subscriber on, and then stays without trades."""
        emit = ["--rate", str(rate), "--wait-for-subscriber", "--no-limits"]
        emit += ["--count", str(int(rate * seconds))] if seconds is not None else []
        sandbox = SandboxProgram(self.folder, "--products", ",".join(PRODUCTS), *emit, *options)
        self._programs.append(sandbox)
        return sandbox

    def sandbox_replay(self, *options: str) -> SandboxProgram:
        """Start an exchange that replays recorded trades, from the first subscriber on."""
        sandbox = SandboxProgram(self.folder, "--wait-for-subscriber", "--no-limits", *options)
        self._programs.append(sandbox)
        return sandbox

    def producer(self, feed: CryptoFeed, sandbox: SandboxProgram, shard: int = 0) -> ProducerProgram:
        producer = ProducerProgram(self.folder, feed, sandbox, self.broker.bootstrap_servers, shard=shard)
        self._programs.append(producer)
        return producer

    def audit(self) -> TapeAudit:
        return audit_tape({"bootstrap.servers": self.broker.bootstrap_servers}, f"{self.name}.trades", lambda *_: None)

    def proof(self, sandbox: SandboxProgram, seconds: float = DRILL_SECONDS * 4 + 60) -> TapeAudit:
        """Wait until the exchange has said all and the tape has caught up with it; return the audit of that."""
        wait_until(lambda: sandbox.state()["ended"], "the exchange has said all", seconds=seconds)
        deadline = time.monotonic() + _CATCH_UP_SECONDS
        expected = sandbox.last_ids()
        while True:
            audit = self.audit()
            if {product.product: product.last_id for product in audit.products} == expected:
                return audit
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {program.name}\n{program.tail()}" for program in self._programs)
                raise AssertionError(f"the tape did not catch up: {audit}, the exchange is at {expected}\n{logs}")
            time.sleep(0.2)

    def end_programs(self) -> None:
        for program in self._programs:
            program.kill()

    def close(self) -> None:
        self.end_programs()
        if self._feed is not None and self.broker.pid is not None:
            delete_topics(self.broker.bootstrap_servers, self._feed)


def rounds(seconds: float, every_seconds: float) -> Iterator[int]:
    """Yield now and every so often, until the time is up: the drum that faults are dealt out to."""
    deadline = time.monotonic() + seconds
    number = 0
    while time.monotonic() < deadline:
        time.sleep(every_seconds)
        yield number
        number += 1


def assert_complete(audit: TapeAudit, trades: int) -> None:
    """Hold a tape to the promise: every one of so many trades once, in order, and nothing written off."""
    assert audit.kept, audit
    assert sum(product.gap_records for product in audit.products) == 0, audit
    assert audit.records == trades, audit
