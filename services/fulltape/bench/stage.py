"""A stage for benchmarks and drills: the real programs as child processes, to be pinned, frozen and killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from confluent_kafka.admin import AdminClient

from fulltape.errors import FulltapeError
from fulltape.feed.load import parse_feed
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE
from fulltape.local.child import start_child
from fulltape.local.kafka import free_port
from fulltape.workloads import PROBES, workloads

_FULLTAPE = (sys.executable, "-m", "fulltape.cli")
_START_SECONDS = 60.0
_POLL_SECONDS = 0.02


class StageError(FulltapeError):
    """A program on the stage did not do its part; the text ends with the last lines of its output."""


def wait_until(condition: Callable[[], bool], what: str, *, seconds: float = _START_SECONDS) -> None:
    """Wait for a condition.

    Raises:
        StageError: it did not come true in time.

    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise StageError(f"{what}: not within {seconds:g} s")
        time.sleep(_POLL_SECONDS)


class Program:
    """A child process that ends with this one; a context manager that ends it sooner."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        folder: Path,
        *,
        cpus: Collection[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.output = folder / f"{name}-{time.monotonic_ns()}.log"
        self.name = name
        self.output.touch()
        self._process: subprocess.Popen[bytes] = start_child(
            command, output=self.output, environment=environment, cpus=cpus
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; negative for a signal; None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End it as a crash would."""
        if self.running:
            self._process.kill()
        self._process.wait()

    def freeze(self) -> None:
        """Stop it in its tracks (SIGSTOP)."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on (SIGCONT)."""
        self._process.send_signal(signal.SIGCONT)

    def terminate(self, seconds: float = 15.0) -> int:
        """Ask it to end (SIGTERM) and return its exit code.

        Raises:
            StageError: it did not end in time.

        """
        self._process.send_signal(signal.SIGTERM)
        return self.wait(seconds)

    def wait(self, seconds: float = _START_SECONDS) -> int:
        """Wait for its end and return its exit code.

        Raises:
            StageError: it did not end in time.

        """
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise StageError(f"{self.name} did not end within {seconds:g} s:\n{self.tail()}") from None

    def json_line(self) -> dict[str, Any]:
        """Wait for its first line of JSON and return that."""
        found: list[dict[str, Any]] = []

        def printed() -> bool:
            if not self.running:
                raise StageError(f"{self.name} ended with {self.exit_code}:\n{self.tail()}")
            found.extend(json.loads(line) for line in self.output.read_text().splitlines() if line.startswith("{"))
            return bool(found)

        wait_until(printed, f"{self.name} says that it is ready")
        return found[0]

    def rss_mib(self) -> float:
        """Return the resident memory of it and all that it started."""
        return sum(pages for *_, pages in self._session()) * os.sysconf("SC_PAGE_SIZE") / 2**20

    def cpu_seconds(self) -> float:
        """Return the CPU time that it and all that it started have used."""
        return sum(ticks for ticks, _ in self._session()) / os.sysconf("SC_CLK_TCK")

    def _session(self) -> Iterator[tuple[int, int]]:
        """Yield CPU ticks and resident pages of every process of its session, which `start_child` began for it."""
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                fields = path.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self._process.pid:
                    yield int(fields[11]) + int(fields[12]), int(fields[21])

    def tail(self) -> str:
        """Return the last lines of its output."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-15:])


class SandboxProgram(Program):
    """A sandbox exchange. ``options`` are those of `fulltape sandbox`."""

    def __init__(self, folder: Path, *options: str, cpus: Collection[int] = ()) -> None:
        command = [*_FULLTAPE, "sandbox", "--json", "--port", "0", "--rest-port", "0", *options]
        super().__init__("sandbox", command, folder, cpus=cpus)
        ready = self.json_line()
        self.websocket_url: str = ready["websocket"]
        self.rest_url: str = ready["rest"]

    def order(self, path: str, **body: object) -> None:
        """Post an order to the admin endpoint, such as ``order("faults", fault="drop", next=1)``."""
        request = urllib.request.Request(  # noqa: S310 - loopback
            f"{self.rest_url}/admin/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):  # noqa: S310
            pass

    def state(self) -> dict[str, Any]:
        """Return what the sandbox says of itself."""
        with urllib.request.urlopen(f"{self.rest_url}/admin/state", timeout=10) as answer:  # noqa: S310
            state: dict[str, Any] = json.load(answer)
            return state

    def last_ids(self) -> dict[str, int]:
        """Return the newest trade id of every product that has one."""
        return {product: last_id for product, last_id in self.state()["products"].items() if last_id}


class ServiceProgram(Program):
    """A program of a feed, with probes and metrics on ``port``."""

    port: int

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of a probe or of /metrics; status 0 while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as refusal:
            return refusal.code, refusal.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        lines = (line for line in self.get("metrics")[1].splitlines() if not line.startswith("#"))
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def wait_ready(self, seconds: float = _START_SECONDS) -> None:
        """Wait until it is ready.

        Raises:
            StageError: it ended instead, or the time was up.

        """

        def ready() -> bool:
            if not self.running:
                raise StageError(f"{self.name} ended with {self.exit_code}:\n{self.tail()}")
            return self.get("readyz")[0] == 200

        try:
            wait_until(ready, f"{self.name} is ready", seconds=seconds)
        except StageError as problem:
            raise StageError(f"{problem}\n{self.get('readyz')[1]}\n{self.tail()}") from None


class WorkloadProgram(ServiceProgram):
    """One of a feed's workloads, as a cluster runs it. ``further`` arguments and the environment are this stage's."""

    def __init__(
        self,
        folder: Path,
        feed: CryptoFeed,
        name: str,
        *,
        environment: Mapping[str, str],
        further: Sequence[str] = (),
        ports: Mapping[str, int] | None = None,
        cpus: Collection[int] = (),
    ) -> None:
        workload = next(workload for workload in workloads(feed) if workload.name == name)
        self.feed_file = write_feed(folder, feed)
        self.ports = {port: free_port() for port in workload.ports} | dict(ports or {})
        self.port = self.ports[PROBES]
        state = folder / "state" / feed.metadata.name / name
        state.mkdir(parents=True, exist_ok=True)
        command = workload.command(feed=str(self.feed_file), host="127.0.0.1", ports=self.ports, state=str(state))
        super().__init__(name, [sys.executable, *command, *further], folder, cpus=cpus, environment=environment)


class ProducerProgram(WorkloadProgram):
    """A producer of ``feed``, reading ``sandbox`` and writing to the broker at ``bootstrap_servers``."""

    def __init__(
        self,
        folder: Path,
        feed: CryptoFeed,
        sandbox: SandboxProgram,
        bootstrap_servers: str,
        *,
        shard: int = 0,
        port: int | None = None,
        cpus: Collection[int] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(
            folder,
            feed,
            "producer-0",
            environment={BOOTSTRAP_VARIABLE: bootstrap_servers} | dict(environment or {}),
            # Of an option that is given twice the last counts; any shard can be asked for, as a mistake would.
            further=("--shard", str(shard), "--websocket-url", sandbox.websocket_url, "--rest-url", sandbox.rest_url),
            ports={PROBES: port} if port else None,
            cpus=cpus,
        )


def write_feed(folder: Path, feed: CryptoFeed) -> Path:
    """Write a feed as a file of its own and return its path."""
    file = folder / f"{feed.metadata.name}-{time.monotonic_ns()}.yaml"
    file.write_text(json.dumps(feed.to_dict()))
    return file


@dataclass(frozen=True, slots=True)
class FeedOptions:
    """What differs between the feeds of benchmarks and drills."""

    products: Sequence[str]
    connections: int = 1
    replicas: int = 1
    partitions: int = 3
    channels: Sequence[str] = ("matches",)
    start: Mapping[str, Any] | None = None
    analytics: Mapping[str, Any] | None = None
    warehouse: Mapping[str, Any] | None = None
    alerts: Sequence[Mapping[str, Any]] = ()
    authentication: Mapping[str, Any] | None = None
    tls: Mapping[str, Any] | None = None


def make_feed(name: str, options: FeedOptions) -> CryptoFeed:
    """Return a feed for a stage; its topics begin with ``name``."""
    feed = {
        "apiVersion": "fulltape.dev/v1alpha1",
        "kind": "CryptoFeed",
        "metadata": {"name": name},
        "spec": {
            "exchange": "Coinbase",
            "products": list(options.products),
            "channels": list(options.channels),
            "producer": {
                "replicas": options.replicas,
                "connections": options.connections,
                "start": options.start or {},
            },
            "kafka": {
                "bootstrapServers": "127.0.0.1:9092",
                "topics": {"partitions": options.partitions, "replicas": 1, "retention": "24h"},
                **({"authentication": options.authentication} if options.authentication else {}),
                **({"tls": options.tls} if options.tls else {}),
            },
            **({"analytics": options.analytics} if options.analytics is not None else {}),
            **({"warehouse": options.warehouse} if options.warehouse is not None else {}),
            "alerts": list(options.alerts),
        },
    }
    return parse_feed(json.dumps(feed).encode(), name)


def delete_topics(bootstrap_servers: str, feed: CryptoFeed) -> None:
    """Free the space of a feed's topics."""
    topics = feed.topics
    admin = AdminClient({"bootstrap.servers": bootstrap_servers})
    names = [topics.trades, topics.ticker, topics.rejected, topics.cursors]
    if feed.spec.analytics is not None:
        names += [topics.panes, topics.windows, topics.alerts]
    futures = admin.delete_topics(names)
    for future in futures.values():
        future.exception()  # one that does not exist is as good as deleted
