"""`fulltape bench tape`: how fast, how late and how complete the producer is, beside a peer on the same stage.

The producer, or the peer, has one core to itself; broker, sandbox exchange and this program share the other.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

from fulltape import __version__
from fulltape.audit.tape import audit_tape
from fulltape.bench.peer import read_at_rest, tally
from fulltape.bench.report import StolenCpu, latency, machine, undisturbed, versions
from fulltape.bench.stage import (
    FeedOptions,
    ProducerProgram,
    Program,
    SandboxProgram,
    delete_topics,
    make_feed,
    wait_until,
)
from fulltape.bench.visible import VisibilityWatch
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, TopicSpec, ensure_topics
from fulltape.local.jars import KAFKA_VERSION
from fulltape.local.kafka import EmbeddedKafka

Say = Callable[[str], None]

PRODUCTS = (
    "BTC-USD",
    "ETH-USD",
    "SOL-USD",
    "XRP-USD",
    "DOGE-USD",
    "ADA-USD",
    "AVAX-USD",
    "LINK-USD",
    "LTC-USD",
    "ATOM-USD",
)


@dataclass(frozen=True, slots=True)
class Extent:
    """Seconds that each scenario is measured for, after its warm-up; where the name says so, trades."""

    warm_up: float
    throughput: float
    soak_trades: int
    visible: float
    repair: float
    cut: float
    kafka_down: float
    peer_trades: int


FULL = Extent(10, 60, 20_000_000, 60, 60, 120, 60, 50_000)
QUICK = Extent(1, 3, 0, 3, 0, 2, 1, 5_000)


class TapeBench:
    """Runs the scenarios, one after the other, on one broker."""

    def __init__(self, durations: Extent, say: Say) -> None:
        self._for = durations
        self._say = say
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
        self._subject_cpus = cores[:1] if len(cores) > 1 else []
        self._other_cpus = cores[1:2]
        self._stolen_cpu: dict[str, float | None] = {}

    def run(self) -> dict[str, Any]:
        """Measure everything; return the report."""
        if self._other_cpus:
            os.sched_setaffinity(0, self._other_cpus)
        whole = StolenCpu()
        with (
            tempfile.TemporaryDirectory(prefix="fulltape-bench-") as folder,
            EmbeddedKafka(cpus=self._other_cpus) as broker,
        ):
            self._folder = Path(folder)
            self._broker = broker
            results: dict[str, Any] = {"stolen_cpu": self._stolen_cpu}
            results |= self._undisturbed("throughput", self._throughput)
            results["peer"] = self._undisturbed("peer", self._peer)
            if self._for is QUICK:  # a start costs seconds: one run serves for both, at the price of a worse tail
                results |= self._undisturbed("frame_to_visible and gap_repair", self._visible_and_repair)
            else:
                results["frame_to_visible"] = self._undisturbed("frame_to_visible", self._visible)
                results["gap_repair"] = self._undisturbed("gap_repair", self._repair)
            results["connections_cut"] = self._undisturbed("connections_cut", self._cut)
            results["kafka_down"] = self._undisturbed("kafka_down", self._kafka_down)
        peer_rate = results["peer"]["trades_per_second"]
        results["times_the_peer"] = round(results["trades_per_second"] / peer_rate, 1) if peer_rate else None
        return {
            "benchmark": "tape",
            "machine": machine() | {"stolen_cpu": whole.fraction()},
            "versions": {"fulltape": __version__, "kafka": KAFKA_VERSION}
            | versions("confluent-kafka", "websockets", "msgspec", "uvloop"),
            "load": {
                "products": len(PRODUCTS),
                "partitions": FeedOptions(PRODUCTS).partitions,
                "subject_cores": len(self._subject_cpus) or None,
                "scenarios": asdict(self._for),
            },
            "results": results,
        }

    def _undisturbed(self, name: str, scenario: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        return undisturbed(name, scenario, self._say, self._stolen_cpu, tries=1 if self._for is QUICK else 3)

    def _sandbox(self, rate: int | str, *options: str) -> SandboxProgram:
        return SandboxProgram(
            self._folder,
            *("--products", ",".join(PRODUCTS), "--rate", str(rate)),
            *("--wait-for-subscriber", "--no-limits", "--no-compression"),
            *options,
            cpus=self._other_cpus,
        )

    def _throughput(self) -> dict[str, Any]:
        """Go as fast as the producer can, for a while; then on to the soak's number of trades, watching its memory."""
        feed = make_feed(f"bench-{uuid4().hex[:8]}", FeedOptions(PRODUCTS))
        with (
            self._sandbox("max") as sandbox,
            ProducerProgram(
                self._folder, feed, sandbox, self._broker.bootstrap_servers, cpus=self._subject_cpus
            ) as producer,
        ):
            producer.wait_ready()
            time.sleep(self._for.warm_up)
            rates, rss_mib = [], []
            began, began_records, cpu = time.monotonic(), self._committed(producer), producer.cpu_seconds()
            last, last_records = began, began_records
            while (now := time.monotonic()) - began < self._for.throughput or last_records < self._for.soak_trades:
                time.sleep(max(0.0, 1.0 - (time.monotonic() - now)))
                records = self._committed(producer)
                rates.append((records - last_records) / (time.monotonic() - last))
                rss_mib.append(producer.rss_mib())
                last, last_records = time.monotonic(), records
                if len(rates) <= self._for.throughput:
                    sustained = (records - began_records) / (last - began)
                    sustained_cpu = (producer.cpu_seconds() - cpu) / (records - began_records) * 1e6
            exit_code = producer.terminate()
        audit, audit_rate = self._audit(feed.topics.trades)
        delete_topics(self._broker.bootstrap_servers, feed)
        return {
            "trades_per_second": round(sustained),
            "slowest_second": round(min(rates)),
            "cpu_us_per_trade": round(sustained_cpu, 2),
            "trades": audit["records"],
            "missing": sum(product["missing"] + product["gap_ids"] for product in audit["products"]),
            "duplicates": sum(product["duplicates"] + product["out_of_order"] for product in audit["products"]),
            "drained": exit_code == 0,
            "rss_mib": round(max(rss_mib), 1),
            "rss_mib_after_a_tenth": round(statistics.mean(rss_mib[: max(1, len(rss_mib) // 10)]), 1),
            "rss_mib_at_the_end": round(rss_mib[-1], 1),
            "audit_records_per_second": round(audit_rate),
        }

    def _visible(self) -> dict[str, Any]:
        results = self._watched(3000, self._for.visible, FeedOptions(PRODUCTS))
        return dict(results["frame_to_visible"])

    def _repair(self) -> dict[str, Any]:
        """Drop a frame every half second; measure the dropped trade from its time at the exchange to visible."""
        results = self._watched(1000, self._for.repair, FeedOptions(PRODUCTS), disturb=_drop, every_seconds=0.5)
        return dict(results["gap_repair"])

    def _visible_and_repair(self) -> dict[str, Any]:
        results = self._watched(3000, self._for.visible, FeedOptions(PRODUCTS), disturb=_drop, every_seconds=0.5)
        return {name: results[name] for name in ("frame_to_visible", "gap_repair")}

    def _cut(self) -> dict[str, Any]:
        """Two connections, of which one is cut every five seconds."""

        def cut(sandbox: SandboxProgram) -> None:
            sandbox.order("faults", fault="close", connections=1)

        every_seconds = min(5.0, self._for.cut / 2)
        options = FeedOptions(PRODUCTS, connections=2)
        results = self._watched(2000, self._for.cut, options, disturb=cut, every_seconds=every_seconds)
        return {name: results[name] for name in ("frame_to_visible", "missing", "duplicates", "reconnects")}

    def _watched(
        self,
        rate: int,
        seconds: float,
        options: FeedOptions,
        *,
        disturb: Callable[[SandboxProgram], None] | None = None,
        every_seconds: float = 1.0,
    ) -> dict[str, Any]:
        """Run a producer under a steady load, disturbed now and then, and watch the tape as a consumer does."""
        feed = make_feed(f"bench-{uuid4().hex[:8]}", options)
        bootstrap_servers = self._broker.bootstrap_servers
        with (
            self._sandbox(rate) as sandbox,
            ProducerProgram(self._folder, feed, sandbox, bootstrap_servers, cpus=self._subject_cpus) as producer,
        ):
            producer.wait_ready()
            with VisibilityWatch(bootstrap_servers, feed.topics.trades) as watch:
                wait_until(lambda: bool(watch.sightings), "the first trade is visible")
                time.sleep(self._for.warm_up)
                from_us = time.time_ns() // 1000
                end = time.monotonic() + seconds
                while (left := end - time.monotonic()) > 0:
                    if disturb is not None:
                        disturb(sandbox)
                    time.sleep(min(every_seconds, left))
                until_us = time.time_ns() // 1000
                time.sleep(min(1.0, self._for.warm_up))  # what was under way arrives
            reconnects = producer.metric("fulltape_reconnects_total")
            producer.terminate()
        audit = audit_tape({"bootstrap.servers": bootstrap_servers}, feed.topics.trades, lambda *_: None)
        delete_topics(bootstrap_servers, feed)
        seen = [sighting for sighting in watch.sightings if from_us <= sighting.time_us < until_us]
        streamed = [sighting.seen_us - sighting.received_us for sighting in seen if not sighting.backfilled]
        repaired = [sighting.seen_us - sighting.time_us for sighting in seen if sighting.backfilled]
        return {
            "frame_to_visible": dict(latency(streamed)),
            "gap_repair": dict(latency(repaired)),
            "missing": sum(product.missing + product.gap_ids for product in audit.products),
            "duplicates": sum(product.duplicates + product.out_of_order for product in audit.products),
            "reconnects": round(reconnects),
        }

    def _kafka_down(self) -> dict[str, Any]:
        """Kill the broker under 5,000 trades/s, bring it back after a while, and wait until the tape has caught up."""
        feed = make_feed(f"bench-{uuid4().hex[:8]}", FeedOptions(PRODUCTS))
        emit = int(5000 * (self._for.warm_up + self._for.kafka_down + 2))
        with (
            self._sandbox(5000, "--count", str(emit)) as sandbox,
            ProducerProgram(
                self._folder, feed, sandbox, self._broker.bootstrap_servers, cpus=self._subject_cpus
            ) as producer,
        ):
            producer.wait_ready()
            time.sleep(self._for.warm_up)
            self._broker.kill()
            rss_mib = []
            end = time.monotonic() + self._for.kafka_down
            while time.monotonic() < end:
                time.sleep(0.2)
                rss_mib.append(producer.rss_mib())
            self._broker.restart()
            restarted = time.monotonic()

            def caught_up() -> bool:
                rss_mib.append(producer.rss_mib())
                return bool(sandbox.state()["ended"]) and self._committed(producer) >= emit

            wait_until(caught_up, "the tape has caught up", seconds=10 * self._for.kafka_down + 60)
            catch_up_seconds = time.monotonic() - restarted
            producer.terminate()
        audit = audit_tape({"bootstrap.servers": self._broker.bootstrap_servers}, feed.topics.trades, lambda *_: None)
        delete_topics(self._broker.bootstrap_servers, feed)
        return {
            "rss_mib": round(max(rss_mib), 1),
            "catch_up_seconds": round(catch_up_seconds, 1),
            "trades": audit.records,
            "missing": sum(product.missing + product.gap_ids for product in audit.products),
            "duplicates": sum(product.duplicates + product.out_of_order for product in audit.products),
        }

    def _peer(self) -> dict[str, Any]:
        """Run the peer as the throughput was measured: the same broker, exchange and core; as fast as it reads."""
        topic = f"bench-{uuid4().hex[:8]}.peer"
        bootstrap_servers = self._broker.bootstrap_servers
        kafka = ClientConfiguration({"bootstrap.servers": bootstrap_servers})
        ensure_topics(kafka, [TopicSpec(topic, FeedOptions(PRODUCTS).partitions, 1, {"cleanup.policy": "delete"})])
        with self._sandbox("max", "--count", str(self._for.peer_trades)) as sandbox:
            command = [sys.executable, "-m", "fulltape.bench.peer_cryptofeed", "--topic", topic]
            command += ["--websocket-url", sandbox.websocket_url, "--products", ",".join(PRODUCTS)]
            command += ["--bootstrap-servers", bootstrap_servers]
            with Program("peer", command, self._folder, cpus=self._subject_cpus) as peer:
                records = read_at_rest(bootstrap_servers, topic)
                assert peer.running, peer.tail()
                counted = tally(records, sandbox.last_ids())
        return {
            "name": "cryptofeed",
            "version": version("cryptofeed"),
            "trades_per_second": round(counted.trades_per_second),
            "trades": counted.trades,
            "missing": sum(counted.missing.values()),
            "duplicates": counted.duplicates,
        }

    def _committed(self, producer: ProducerProgram) -> int:
        return round(producer.metric("fulltape_tape_records_total"))

    def _audit(self, topic: str) -> tuple[dict[str, Any], float]:
        """Run the audit as a user would, on the subject's core; return what it found and its rate."""
        command: Sequence[str] = [sys.executable, "-m", "fulltape.cli", "audit", topic, "--json"]
        if self._subject_cpus:
            command = ["taskset", "-c", str(self._subject_cpus[0]), *command]
        ended = subprocess.run(
            command,
            env={**os.environ, BOOTSTRAP_VARIABLE: self._broker.bootstrap_servers},
            stdout=subprocess.PIPE,
            check=False,
        )
        audit: dict[str, Any] = json.loads(ended.stdout)
        return audit, float(audit["records_per_second"])


def _drop(sandbox: SandboxProgram) -> None:
    sandbox.order("faults", fault="drop", next=1)
