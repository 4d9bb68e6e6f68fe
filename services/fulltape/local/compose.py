"""Puts a run together: which parts, in which order they stop, on which ports, with which environment and folders."""

import fcntl
import itertools
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fulltape.feed.model import CryptoFeed
from fulltape.kafka import BOOTSTRAP_VARIABLE
from fulltape.local.alertmanager import EmbeddedAlertmanager, find_alertmanager
from fulltape.local.bodies import AlertmanagerBody, BrokerBody
from fulltape.local.kafka import EmbeddedKafka, free_port
from fulltape.local.parts import Part, Process
from fulltape.workloads import (
    ALERTMANAGERS_VARIABLE,
    HEALTHY,
    METRICS,
    PAGE,
    PROBES,
    READY,
    REST_VARIABLE,
    STAGING_VARIABLE,
    WAREHOUSE_VARIABLE,
    WEBSOCKET_VARIABLE,
    Workload,
)

_HOST = "127.0.0.1"
_SANDBOX_STOP_SECONDS = 5.0
_AFTER_OTHERS = ("/usr/bin/env", "nice", "-n", "10")
"""Begins the command of what may wait where cores are few."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is to run, decided before anything starts."""

    feed: CryptoFeed
    file: Path
    """The feed's file, absolute."""
    programs: tuple[Workload, ...]
    sandbox: Sequence[str] | None
    """Options of the sandbox exchange; None reads Coinbase."""
    data: Path | None
    """Folder that keeps Kafka's data and the warehouse; None throws them away at the end."""
    page_port: int

    @property
    def has_page(self) -> bool:
        """Whether the feed has a page."""
        return any(PAGE in program.ports for program in self.programs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Composition:
    """The parts of a run, not started yet, and what to say of them."""

    groups: Sequence[Sequence[Part]]
    """In the order in which they stop."""
    kafka: Part
    kafka_configuration: Mapping[str, str | int]
    """What clients of that Kafka are made with."""
    page_part: Part | None
    page_url: str
    alerts_topic: str | None
    """None where the feed has no windows, so no alerts."""
    warehouse: Path | None
    """The DuckDB file, whose tables have to be made before anything starts; None where the feed has no warehouse."""
    title: str
    notes: Sequence[str]


@dataclass(frozen=True, slots=True)
class _Places:
    """What all programs of a run share."""

    file: Path
    scratch: Path
    logs: Path
    environment: Mapping[str, str]
    archive_state: Path
    """Lasts as long as what is archived."""


def compose(plan: Plan, *, scratch: Path, logs: Path) -> Composition:
    """Put the parts of a run together.

    Args:
        plan: what is to run.
        scratch: folder for what nobody needs afterwards.
        logs: folder for the parts' output.

    """
    feed = plan.feed
    ports = _distinct_ports()
    broker = EmbeddedKafka(plan.data, port=next(ports))
    kafka = Part("kafka", BrokerBody(broker, feed))
    environment = _environment(broker.bootstrap_servers, scratch)
    groups: list[list[Part]] = []
    kept = "thrown away at the end" if plan.data is None else f"kept in {plan.data}"
    notes = [
        f"Kafka is at {broker.bootstrap_servers}; its data are {kept}",
        f"to prove the tape: fulltape audit {feed.topics.trades} --bootstrap-servers {broker.bootstrap_servers}",
        f"logs are in {logs}",
    ]
    if plan.sandbox is not None:
        sandbox, addresses = _sandbox(plan, next(ports), next(ports), logs)
        environment |= addresses
        groups.append([sandbox])
    alertmanager = None
    environment[ALERTMANAGERS_VARIABLE] = ""  # those that the feed names are not told of what one machine tries out
    if feed.spec.analytics is not None and find_alertmanager() is None:
        notes.append("no Alertmanager is installed (prometheus-alertmanager): alerts are shown on the page and here")
    elif feed.spec.analytics is not None:
        address = f"http://{_HOST}:{(port := next(ports))}"
        alertmanager = Part("alertmanager", AlertmanagerBody(EmbeddedAlertmanager(port=port)))
        environment[ALERTMANAGERS_VARIABLE] = address
        notes.append(f"Alertmanager is at {address}")
    kept_folder = (scratch if plan.data is None else plan.data) / "warehouse"
    warehouse = None
    if feed.spec.warehouse is not None:
        warehouse = kept_folder / f"{feed.topics.prefix}.duckdb"
        environment[WAREHOUSE_VARIABLE] = str(warehouse)
        environment[STAGING_VARIABLE] = str(kept_folder / "staging" / feed.topics.prefix)
        notes.append(f"to question the warehouse: fulltape query --warehouse {warehouse}")
    places = _Places(plan.file, scratch, logs, environment, kept_folder / "checkpoints" / feed.topics.prefix)
    page = panes = None
    for _, alike in itertools.groupby(plan.programs, key=lambda program: program.component):
        group = []
        for program in alike:
            numbers = {name: plan.page_port if name == PAGE else next(ports) for name in program.ports}
            # Spark takes longest to start, so it does so beside Kafka, for which it waits by itself; and what is stored
            # can wait for what is seen.
            after = {"panes": None, "archive": panes or kafka}.get(program.component, kafka)
            part = _program(program, numbers, places, after)
            group.append(part)
            panes = part if program.component == "panes" else panes
            page = part if PAGE in program.ports else page
        groups.append(group)
    groups += [[alertmanager]] if alertmanager else []
    groups.append([kafka])
    source = "Coinbase" if plan.sandbox is None else "a sandbox exchange with a synthetic market"
    return Composition(
        groups=groups,
        kafka=kafka,
        kafka_configuration={"bootstrap.servers": broker.bootstrap_servers},
        page_part=page,
        page_url=f"http://{_HOST}:{plan.page_port}",
        alerts_topic=feed.topics.alerts if feed.spec.analytics is not None else None,
        warehouse=warehouse,
        title=f"Fulltape runs {feed.metadata.name} on {source}",
        notes=notes,
    )


def _program(program: Workload, ports: Mapping[str, int], places: _Places, after: Part | None) -> Part:
    """Return a workload as a part."""
    archives = program.component == "archive"
    state = places.archive_state if archives else places.scratch / program.name
    if program.keeps_state:
        state.mkdir(parents=True, exist_ok=True)
    command = program.command(feed=str(places.file), host=_HOST, ports=ports, state=str(state))
    body = Process(
        [*_AFTER_OTHERS, sys.executable, *command] if archives else [sys.executable, *command],
        places.logs / f"{program.name}.log",
        environment=places.environment,
        stop_seconds=program.stop_seconds,
    )
    url = f"http://{_HOST}:{ports[PROBES]}"
    return Part(program.name, body, probe=url + READY, health=url + HEALTHY, metrics=url + METRICS, after=after)


def _environment(bootstrap_servers: str, scratch: Path) -> dict[str, str]:
    """Return what every workload finds in its environment: Kafka, and where to put temporary files."""
    temporary = scratch / "tmp"
    temporary.mkdir()
    java_options = f"{os.environ.get('JAVA_TOOL_OPTIONS', '')} -Djava.io.tmpdir={temporary}".strip()
    return {
        BOOTSTRAP_VARIABLE: bootstrap_servers,
        # What a killed Spark could not delete goes with the run.
        "TMPDIR": str(temporary),
        "SPARK_LOCAL_DIRS": str(temporary),
        "JAVA_TOOL_OPTIONS": java_options,
    }


def _sandbox(plan: Plan, port: int, rest_port: int, logs: Path) -> tuple[Part, Mapping[str, str]]:
    """Return the sandbox, and the variables that lead producers to it."""
    assert plan.sandbox is not None
    options = ["--json", "--port", str(port), "--rest-port", str(rest_port), *plan.sandbox]
    body = Process(
        [
            sys.executable,
            *("-m", "fulltape.cli", "sandbox", *options),
            *("--products", ",".join(plan.feed.spec.products)),
        ],
        logs / "sandbox.log",
        stop_seconds=_SANDBOX_STOP_SECONDS,
    )
    rest = f"http://{_HOST}:{rest_port}"
    addresses = {WEBSOCKET_VARIABLE: f"ws://{_HOST}:{port}", REST_VARIABLE: rest}
    return Part("sandbox", body, probe=f"{rest}/time"), addresses


def _distinct_ports() -> Iterator[int]:
    """Give free ports, none of them twice."""
    given: set[int] = set()
    while True:
        if (port := free_port()) not in given:
            given.add(port)
            yield port


@contextmanager
def log_folder(name: str) -> Iterator[Path]:
    """Give an empty folder for the logs of a run of the feed ``name``; they stay until its next run.

    It lies in $XDG_STATE_HOME/fulltape, or ~/.local/state/fulltape. Runs at the same time have folders of their own.
    """
    root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "fulltape"
    for number in itertools.count(1):
        folder = root / (name if number == 1 else f"{name}-{number}")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            for log in folder.glob("*.log"):
                log.unlink()
            yield folder
            return
