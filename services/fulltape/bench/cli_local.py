"""`fulltape bench tape`, `live` and `warehouse`: they set up all that they measure, with tools that no image has."""

from collections.abc import Sequence
from dataclasses import replace

import click
from rich.console import Console

from fulltape.bench import live, warehouse
from fulltape.bench.live import SCENARIOS, LiveBench
from fulltape.bench.report import tell
from fulltape.bench.tape import FULL, QUICK, TapeBench
from fulltape.bench.warehouse import WarehouseBench


@click.command("tape")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="End within a minute; the same keys, rougher figures.")
def tape_command(*, as_json: bool, quick: bool) -> None:
    """Measure the producer: rate, latency, repair, memory; and cryptofeed's rate."""
    console = Console(stderr=True)
    with console.status("starting Kafka") as status:
        report = TapeBench(QUICK if quick else FULL, status.update if console.is_terminal else console.print).run()
    tell(report, as_json=as_json)


@click.command("live")
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


@click.command("warehouse")
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
