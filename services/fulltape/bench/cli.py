"""`fulltape bench NAME`: runs a benchmark and prints its report, as JSON or as a table."""

from collections.abc import Sequence
from dataclasses import replace

import click
from rich.console import Console

from fulltape.bench import live, warehouse
from fulltape.bench.feed import measure_feed
from fulltape.bench.live import SCENARIOS, LiveBench
from fulltape.bench.report import tell
from fulltape.bench.tape import FULL, QUICK, TapeBench
from fulltape.bench.warehouse import WarehouseBench
from fulltape.commands import LazyGroup


@click.group("bench", cls=LazyGroup, elsewhere={"operator": ("fulltape_operator.bench.cli", "operator_bench_command")})
def bench_command() -> None:
    """Measure Fulltape and a peer in the same run."""


@bench_command.command("tape")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="End within a minute; the same keys, rougher figures.")
def tape_command(*, as_json: bool, quick: bool) -> None:
    """Measure the producer: rate, latency, repair, memory; and cryptofeed's rate."""
    console = Console(stderr=True)
    with console.status("starting Kafka") as status:
        report = TapeBench(QUICK if quick else FULL, status.update if console.is_terminal else console.print).run()
    tell(report, as_json=as_json)


@bench_command.command("live")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="End within minutes; cold JVMs, rougher figures.")
@click.option("--only", multiple=True, type=click.Choice(SCENARIOS), help="This scenario alone; may be repeated.")
@click.option(
    "--rates", default="4000,6000,8000,12000,16000,25000", show_default=True, help="Trades/s to try to hold, rising."
)
def live_command(*, as_json: bool, quick: bool, only: Sequence[str], rates: str) -> None:
    """Measure a trade's way from the exchange to windows, to a browser's paint and to Alertmanager's webhook."""
    console = Console(stderr=True)
    with console.status("starting Kafka") as status:
        say = status.update if console.is_terminal else console.print
        bench = LiveBench(live.QUICK if quick else live.FULL, [int(rate) for rate in rates.split(",")], say)
        report = bench.run(only)
    tell(report, as_json=as_json)


@bench_command.command("warehouse")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="End within minutes; the same keys, rougher figures.")
@click.option(
    "--only", multiple=True, type=click.Choice(warehouse.SCENARIOS), help="This scenario alone; may be repeated."
)
@click.option("--rows", type=click.IntRange(min=1), help="Trades in the file that is asked, in place of 100 million.")
def warehouse_command(*, as_json: bool, quick: bool, only: Sequence[str], rows: int | None) -> None:
    """Measure how soon a trade can be asked for, how fast trades are stored, and how long answers take."""
    extent = warehouse.QUICK if quick else warehouse.FULL
    if rows is not None:
        extent = replace(extent, queries=rows)
    console = Console(stderr=True)
    with console.status("making room") as status:
        report = WarehouseBench(extent, status.update if console.is_terminal else console.print).run(only)
    tell(report, as_json=as_json)


@bench_command.command("feed")
@click.argument("feed")
@click.option("--bootstrap-servers", required=True, help="Kafka's, which lets this in without credentials.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--window", default="1m", show_default=True, help="The length of the windows that count.")
@click.option("--warm-up", type=click.FloatRange(min=0), default=0.0, show_default=True, help="Seconds before.")
@click.option("--seconds", type=click.FloatRange(min=1), default=600.0, show_default=True, help="Seconds that count.")
def feed_command(
    feed: str, bootstrap_servers: str, window: str, warm_up: float, seconds: float, *, as_json: bool
) -> None:
    """Measure how long the trades of FEED, which runs already, take until a window reflects them."""
    console = Console(stderr=True)
    with console.status("connecting") as status:
        say = status.update if console.is_terminal else console.print
        report = measure_feed(feed, bootstrap_servers, window=window, warm_up_seconds=warm_up, seconds=seconds, say=say)
    tell(report, as_json=as_json)
