"""`fulltape run FEED`: a feed on one machine with no cluster: Kafka, the exchange or a sandbox, and the producers.

Each part is the program that a cluster runs too, as a child process; one that ends is started again, with back-off.
"""

import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import click
from rich.console import Console

from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE
from fulltape.local.child import start_child
from fulltape.local.cli import default_data_folder
from fulltape.local.kafka import EmbeddedKafka, free_port

_BACKOFF_SECONDS = (0.5, 30.0)
_SETTLED_SECONDS = 30.0
_REACHABLE_SECONDS = 3.0
_DRAIN_SECONDS = 12.0


@click.command("run")
@click.argument("feed", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--exchange",
    type=click.Choice(["auto", "coinbase", "sandbox"]),
    default="auto",
    show_default=True,
    help="auto: Coinbase where it can be reached, else the sandbox.",
)
@click.option("--rate", default=200, show_default=True, help="Trades/s of the sandbox.")
def run_command(*, feed: Path, exchange: str, rate: int) -> None:
    """Run the feed FEED on this machine until Ctrl-C."""
    loaded = load_feed(feed)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    console = Console(stderr=True)
    live = exchange == "coinbase" or (exchange == "auto" and _reachable(loaded.spec.endpoints.rest))
    # A sandbox begins its trade ids anew at every start, so its tape is not kept.
    data = default_data_folder() if live else None
    try:
        with EmbeddedKafka(data) as broker, tempfile.TemporaryDirectory(prefix="fulltape-run-") as folder:
            kept = f"kept in {data}" if data else "thrown away at the end"
            console.print(f"Kafka on {broker.bootstrap_servers}; its data is {kept}")
            _run(loaded, feed, _Surroundings(broker, Path(folder), console), sandbox_rate=None if live else rate)
    except KeyboardInterrupt:
        console.print("stopped")


@dataclass(frozen=True, slots=True)
class _Surroundings:
    broker: EmbeddedKafka
    folder: Path
    console: Console


@dataclass(slots=True)
class _Part:
    """One child process, and its history."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    attempt: int = 0
    due: float = field(default_factory=time.monotonic)


def _run(feed: CryptoFeed, file: Path, surroundings: _Surroundings, *, sandbox_rate: int | None) -> None:
    """Start every part, and keep all of them running, until KeyboardInterrupt."""
    console = surroundings.console
    fulltape = (sys.executable, "-m", "fulltape.cli")
    parts: list[_Part] = []
    exchange: list[str] = []
    if sandbox_rate is not None:
        websocket, rest = free_port(), free_port()
        console.print(f"the exchange is a sandbox with a synthetic market: ws://127.0.0.1:{websocket}")
        options = ["--json", "--port", str(websocket), "--rest-port", str(rest), "--rate", str(sandbox_rate)]
        parts.append(_Part("sandbox", [*fulltape, "sandbox", *options, "--products", ",".join(feed.spec.products)]))
        exchange = ["--websocket-url", f"ws://127.0.0.1:{websocket}", "--rest-url", f"http://127.0.0.1:{rest}"]
    else:
        console.print(f"the exchange is {feed.spec.endpoints.websocket}")
    for shard in range(feed.spec.producer.replicas):
        port = free_port()
        console.print(f"producer {shard}: http://127.0.0.1:{port}/metrics, /readyz, /healthz")
        command = [*fulltape, "producer", "--feed", str(file), "--shard", str(shard), "--port", str(port), *exchange]
        parts.append(_Part(f"producer {shard}", command))
    console.print(
        f"the tape is {feed.topics.trades}; prove it with:"
        f" fulltape audit {feed.topics.trades} --bootstrap-servers {surroundings.broker.bootstrap_servers}"
    )
    try:
        while True:
            for part in parts:
                _keep_running(part, surroundings)
            time.sleep(0.2)
    finally:
        _stop(parts)


def _keep_running(part: _Part, surroundings: _Surroundings) -> None:
    now = time.monotonic()
    if part.process is not None and part.process.poll() is not None:
        code = part.process.returncode
        part.attempt = 0 if now - part.started > _SETTLED_SECONDS else part.attempt + 1
        pause = min(_BACKOFF_SECONDS[1], _BACKOFF_SECONDS[0] * 2.0**part.attempt)
        last_words = _log(part, surroundings).read_text(errors="replace").splitlines()[-1:]
        surroundings.console.print(
            f"[red]{part.name} ended with {code}[/]; again in {pause:g} s: {' '.join(last_words)}", highlight=False
        )
        part.process, part.due = None, now + pause
    elif part.process is None and now >= part.due:
        environment = {BOOTSTRAP_VARIABLE: surroundings.broker.bootstrap_servers}
        part.process = start_child(part.command, output=_log(part, surroundings), environment=environment)
        part.started = now


def _log(part: _Part, surroundings: _Surroundings) -> Path:
    return surroundings.folder / f"{part.name.replace(' ', '-')}.log"


def _stop(parts: Sequence[_Part]) -> None:
    """End the parts in order of the data's way, each with time to finish what it has."""
    for part in parts:
        if part.process is not None and part.process.poll() is None:
            part.process.terminate()
    deadline = time.monotonic() + _DRAIN_SECONDS
    for part in parts:
        if part.process is not None:
            try:
                part.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                part.process.kill()


def _reachable(url: str) -> bool:
    """Tell whether a TCP connection to the exchange's REST can be made."""
    parts = urlsplit(url)
    try:
        with socket.create_connection(
            (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)), _REACHABLE_SECONDS
        ):
            return True
    except OSError:
        return False
