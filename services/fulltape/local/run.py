"""`fulltape run FEED`: a feed on one machine with no cluster.

Each workload is the program that a cluster runs too, as a child process; beside them runs what a cluster has already: a
Kafka broker, an Alertmanager where one is installed and, where Coinbase is out of reach, a sandbox exchange.
"""

import asyncio
import contextlib
import os
import signal
import tempfile
import threading
import time
import webbrowser
from pathlib import Path

import aiohttp
import click
from confluent_kafka import KafkaException
from rich.console import Console
from rich.text import Text

from fulltape.errors import ConfigurationError
from fulltape.feed.load import load_feed
from fulltape.local.alerts import AlertTail
from fulltape.local.cli import default_data_folder
from fulltape.local.compose import Composition, Plan, compose, log_folder
from fulltape.local.jars import KAFKA, SPARK_KAFKA, ensure_jars
from fulltape.local.java import find_java
from fulltape.local.kafka import free_port
from fulltape.local.parts import Keeper, Part, State
from fulltape.local.surroundings import (
    available_memory_mib,
    check_memory,
    check_packages,
    check_page_port,
    check_room,
    exchange_answers,
    has_desktop,
)
from fulltape.local.view import RunConsole, View
from fulltape.readings import Meter
from fulltape.warehouse.migrations import make_duckdb
from fulltape.workloads import workloads

_ROOM_MIB = 1024
_KAFKA_MIB = 768
_MEASURE_SECONDS = 1.0
_ALERTS_SECONDS = 0.2
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@click.command("run")
@click.argument("feed", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--exchange",
    type=click.Choice(["auto", "coinbase", "sandbox"]),
    default="auto",
    show_default=True,
    help="auto: Coinbase where it can be reached, else the sandbox.",
)
@click.option("--rate", type=click.IntRange(min=1), default=200, show_default=True, help="Trades/s of the sandbox.")
@click.option("--scenario", type=click.Choice(["flash_crash", "spike"]), help="Begin the sandbox with this scenario.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True, help="Of the page; 0: any free port."
)
@click.option("--no-browser", is_flag=True, help="Don't open the page.")
def run_command(*, feed: Path, exchange: str, rate: int, scenario: str | None, port: int, no_browser: bool) -> None:
    """Run the feed FEED on this machine until Ctrl-C: Kafka, the exchange, and all that the feed asks for."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # until the run itself listens
    loaded = load_feed(feed)
    programs = workloads(loaded)
    if not programs:
        raise ConfigurationError(f"{feed}: the feed is suspended, so nothing would run; set spec.suspend to false")
    if scenario is not None and exchange == "coinbase":
        raise click.UsageError("--scenario is the sandbox's and Coinbase is asked for: give one of them")
    live = exchange == "coinbase" or (
        exchange == "auto" and scenario is None and exchange_answers(loaded.spec.endpoints.rest)
    )
    plan = Plan(
        feed=loaded,
        file=feed.absolute(),
        programs=programs,
        sandbox=None if live else ("--rate", str(rate), *(("--scenario", scenario) if scenario else ())),
        # A sandbox begins its trade ids anew at every start, so its tape is not kept.
        data=default_data_folder() if live else None,
        page_port=port or free_port(),
    )
    check(plan)
    console = RunConsole()
    with log_folder(loaded.metadata.name) as logs, tempfile.TemporaryDirectory(prefix="fulltape-run-") as scratch:
        composition = compose(plan, scratch=Path(scratch), logs=logs)
        if composition.warehouse is not None:
            composition.warehouse.parent.mkdir(parents=True, exist_ok=True)
            make_duckdb(composition.warehouse)
        opens_page = not no_browser and console.is_terminal and has_desktop(os.environ)
        asyncio.run(Run(composition, console, opens_page=opens_page).until_told())


def check(plan: Plan) -> None:
    """Check all that a run needs of this machine, and fetch the jars that are not here yet.

    Raises:
        ConfigurationError: something is missing, in use or too small; says what and the mend.

    """
    find_java()
    needs_spark = any(program.component in {"panes", "archive"} for program in plan.programs)
    if needs_spark:
        check_packages({"pyspark": "Spark", "fulltape_spark": "Spark"})
    check_room(Path(tempfile.gettempdir()), _ROOM_MIB, "a run")
    if plan.data is not None:
        check_room(plan.data, _ROOM_MIB, "the tape")
    check_memory(_KAFKA_MIB + sum(program.memory_mib for program in plan.programs), available_memory_mib())
    if plan.has_page:
        check_page_port(plan.page_port)
    for jars in (KAFKA, SPARK_KAFKA) if needs_spark else (KAFKA,):
        ensure_jars(jars)


class Run:
    """A composition that runs, and what a person sees of it."""

    def __init__(self, composition: Composition, console: Console, *, opens_page: bool) -> None:
        self._composition = composition
        self._keeper = Keeper(composition.groups, self._changed)
        self._meter = Meter()
        self._view = View(
            console,
            title=composition.title,
            footer=composition.notes,
            parts=self._keeper.parts,
            figures=self._meter.figures,
        )
        self._opens_page = opens_page

    async def until_told(self) -> None:
        """Run everything until the first SIGINT, SIGTERM or SIGHUP, then stop it in order; a second one kills it.

        Raises:
            FulltapeError: a part could not be started for the first time.

        """
        told = asyncio.Event()

        def tell() -> None:
            if told.is_set():
                self._keeper.kill()
            told.set()

        for number in _SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, tell)
        with self._view:
            tasks = [
                asyncio.create_task(work)
                for work in (told.wait(), self._keeper.run(), self._measure(), self._follow_alerts())
            ]
            try:
                done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                told.set()
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                await self._keeper.stop()
            for task in done:
                task.result()  # raises what ended the run

    async def _measure(self) -> None:
        """Read the parts' metrics every second."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_MEASURE_SECONDS)) as session:
            while True:
                texts = {}
                for part in self._keeper.parts:
                    if part.metrics is not None and part.been_ready.is_set():
                        with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                            async with session.get(part.metrics) as answer:
                                texts[part.name] = await answer.text()
                self._meter.add(time.monotonic(), texts)
                await asyncio.sleep(_MEASURE_SECONDS)

    async def _follow_alerts(self) -> None:
        """Show each alert that fires or resolves, where the feed has windows to watch."""
        topic = self._composition.alerts_topic
        if topic is None:
            await asyncio.Event().wait()
            return
        await self._composition.kafka.been_ready.wait()
        while True:
            with contextlib.suppress(KafkaException):
                tail = await asyncio.to_thread(AlertTail, self._composition.kafka_configuration, topic)
                break
            await asyncio.sleep(_MEASURE_SECONDS)
        try:
            while True:
                for alert in tail.poll():
                    if alert.state in {"firing", "resolved"}:
                        self._view.alert(alert)
                await asyncio.sleep(_ALERTS_SECONDS)
        finally:
            tail.close()

    def _changed(self, part: Part, before: State) -> None:
        self._view.part_changed(part, before)
        if part is self._composition.page_part and part.state.phase == "ready":
            self._page_is_ready()

    def _page_is_ready(self) -> None:
        page = self._composition.page_url
        self._view.say(Text(f"the page is at {page}"))
        if self._opens_page:
            self._opens_page = False  # a page that is open comes back by itself
            threading.Thread(target=webbrowser.open, args=(page,), daemon=True).start()
