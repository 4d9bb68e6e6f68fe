"""`fulltape run`: a feed on one machine, a part that dies comes back, and no end of it leaves anything behind."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import Consumer, KafkaException, TopicPartition

from fulltape.audit.tape import audit_tape
from fulltape.bench.stage import FeedOptions, make_feed, wait_until
from fulltape.errors import FulltapeError
from fulltape.local.kafka import free_port
from fulltape.messages import Window
from fulltape.warehouse.connection import WarehouseUnavailableError, open_duckdb

pytestmark = pytest.mark.integration

_SPARK_SECONDS = 300
"""Spark takes ten seconds to start, and far longer on a machine that is busy with other things."""


class Run:
    """A `fulltape run` of a feed on the sandbox, what it prints and what it makes."""

    def __init__(self, folder: Path, **spec: Any) -> None:
        options = FeedOptions(["BTC-USD", "ETH-USD"], channels=["matches", "ticker"], **spec)
        file = folder / "feed.yaml"
        file.write_text(json.dumps(make_feed("run", options).to_dict()))
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.port = free_port()
        self._output = folder / "output"
        environment = {**os.environ, "TMPDIR": str(self.temporary), "XDG_STATE_HOME": str(folder / "state")}
        # A shell's background jobs ignore Ctrl-C, and so would what they start: this test may run in one.
        command = ["/usr/bin/env", "--default-signal=INT", sys.executable, "-m", "fulltape.cli", "run", str(file)]
        command += ["--exchange", "sandbox", "--rate", "100", "--port", str(self.port), "--no-browser"]
        with self._output.open("w") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=output, start_new_session=True, env=environment
            )

    @property
    def said(self) -> str:
        return self._output.read_text()

    @property
    def bootstrap_servers(self) -> str | None:
        found = re.search(r"--bootstrap-servers (\S+)", self.said)
        return found[1] if found else None

    def trades(self) -> int:
        """Return how many trades are on the tape, which must be complete."""
        if self.bootstrap_servers is None or "kafka: ready" not in self.said:
            return 0
        try:
            audit = audit_tape({"bootstrap.servers": self.bootstrap_servers}, "run.trades", lambda *_: None)
        except FulltapeError:
            return 0
        assert audit.kept or not audit.records
        return audit.records

    def page(self) -> str:
        """Return the page; empty while nothing answers."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/", timeout=5) as answer:
                return str(answer.read().decode())
        except OSError:
            return ""

    def stored(self) -> int:
        """Return how many trades the warehouse holds; 0 while another has it open."""
        found = re.search(r"fulltape query --warehouse (\S+)", self.said)
        assert found is not None, self.said
        try:
            connection = open_duckdb(Path(found[1]), read_only=True)
            try:
                rows = connection.run("SELECT COUNT(*), COUNT(DISTINCT (product, trade_id)) FROM fulltape.trades").rows
            finally:
                connection.close()
        except WarehouseUnavailableError:
            return 0
        ((count, distinct),) = rows
        assert count == distinct
        return int(count)

    def descendants(self) -> dict[int, str]:
        """Return pid and command of every process that this one started, and that those started."""
        listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True).stdout
        rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
        found: dict[int, str] = {}
        parents = {self.process.pid}
        while parents:
            children = {int(pid): command for pid, parent, command in rows if int(parent) in parents}
            found |= children
            parents = set(children)
        return found

    def pid_of(self, words: str) -> int:
        (pid,) = [pid for pid, command in self.descendants().items() if words in command]
        return pid

    def kill_and_see_it_back(self, name: str, words: str) -> None:
        """End a part as a crash would, and wait until it is said to be dead and then ready again."""
        begin = len(self.said)
        os.kill(self.pid_of(words), signal.SIGKILL)
        wait_until(
            lambda: re.search(rf"{name}: restarting in ", self.said[begin:]) is not None,
            f"the death of {name} is said",
        )
        wait_until(lambda: f"\n{name}: ready" in self.said[begin:], f"{name} is back", seconds=_SPARK_SECONDS)

    def expect_nothing_left(self, started: dict[int, str]) -> None:
        wait_until(lambda: not [pid for pid in started if runs(pid)], f"all have ended: {started}", seconds=20)
        assert not list(self.temporary.iterdir())


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that waits to be reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[Run] = []

    def run(**options: Any) -> Run:
        started.append(Run(tmp_path, **options))
        return started[-1]

    yield run
    for running in started:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


@pytest.fixture
def run(start: Callable[..., Run]) -> Run:
    """Give a run of the tape alone, on which trades flow."""
    running = start()
    wait_until(lambda: running.trades() > 100, "trades flow")
    return running


def test_a_killed_producer_and_broker_come_back_and_ctrl_c_leaves_nothing(run: Run) -> None:
    run.kill_and_see_it_back("producer-0", " producer ")
    assert re.search("producer-0: restarting in .*: killed by SIGKILL", run.said)
    run.kill_and_see_it_back("kafka", "/java ")
    before = run.trades()
    wait_until(lambda: run.trades() > before + 100, "trades flow again")
    started = run.descendants()
    assert len(started) == 3, started  # Kafka, the sandbox, the producer
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 0, run.said
    stopped = re.findall(r"^(\S+): stopped$", run.said, re.MULTILINE)
    assert stopped == ["sandbox", "producer-0", "kafka"]  # the data's way
    run.expect_nothing_left(started)


def test_a_second_ctrl_c_kills_what_does_not_end_and_leaves_nothing(run: Run) -> None:
    started = run.descendants()
    os.kill(run.pid_of(" producer "), signal.SIGSTOP)  # it would be waited for
    run.process.send_signal(signal.SIGTERM)
    wait_until(lambda: "producer-0: stopping" in run.said, "the stop has begun")
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(10) == 0, run.said
    run.expect_nothing_left(started)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a child with its parent")
def test_a_run_that_is_killed_leaves_no_process(run: Run) -> None:
    started = run.descendants()
    run.process.kill()
    wait_until(lambda: not [pid for pid in started if runs(pid)], f"all have ended: {started}", seconds=20)


class Windows:
    """The windows that a run publishes."""

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self._consumer = Consumer({"bootstrap.servers": bootstrap_servers, "group.id": "test", "log_level": 0})
        partitions = self._consumer.list_topics(topic, timeout=10).topics[topic].partitions
        self._consumer.assign([TopicPartition(topic, number, 0) for number in partitions])
        self.latest_trade_us = 0

    def newest(self) -> int:
        """Return the exchange's time of the newest trade that a window reflects."""
        try:
            messages = self._consumer.consume(1000, 0.1)
        except KafkaException:
            messages = []
        for message in messages:
            if message.error() is None and message.value():
                window = msgspec.json.decode(message.value() or b"", type=Window)
                self.latest_trade_us = max(self.latest_trade_us, window.trade_us)
        return self.latest_trade_us

    def close(self) -> None:
        self._consumer.close()


def test_the_whole_way_to_the_page_works_survives_deaths_and_leaves_nothing(start: Callable[..., Run]) -> None:
    run = start(analytics={"windows": ["1m"]}, warehouse={"every": "1s"})
    wait_until(lambda: "<html" in run.page().lower(), "the page answers")
    wait_until(
        lambda: "panes-0: ready" in run.said and "monitor: ready" in run.said, "all are ready", seconds=_SPARK_SECONDS
    )
    assert run.bootstrap_servers is not None
    windows = Windows(run.bootstrap_servers, "run.windows")
    try:
        wait_until(lambda: windows.newest() > 0, "there are windows")
        for name, words in (
            ("panes-0", "fulltape_spark.panes"),
            ("monitor", " monitor "),
            ("dashboard", " dashboard "),
        ):
            run.kill_and_see_it_back(name, words)
            before = windows.newest()
            wait_until(lambda: windows.newest() > before, f"windows go on after {name}", seconds=_SPARK_SECONDS)  # noqa: B023
    finally:
        windows.close()
    assert "<html" in run.page().lower()
    wait_until(lambda: run.stored() > 1000, "the warehouse fills", seconds=_SPARK_SECONDS)
    started = run.descendants()
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(90) == 0, run.said
    run.expect_nothing_left(started)
