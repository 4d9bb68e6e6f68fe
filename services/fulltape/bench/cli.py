"""`fulltape bench NAME`: runs a benchmark and prints its report, as JSON or as a table."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fulltape.bench import live, warehouse
from fulltape.bench.live import SCENARIOS, LiveBench
from fulltape.bench.tape import FULL, QUICK, TapeBench
from fulltape.bench.warehouse import WarehouseBench


@click.group("bench")
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
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(report)


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
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(report)


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
    if as_json:
        sys.stdout.write(json.dumps(report) + "\n")
    else:
        _print(report)


def _print(report: Mapping[str, Any]) -> None:
    rows = _flat(report["results"])
    if not sys.stdout.isatty():
        sys.stdout.writelines(f"{name}={value}\n" for name, value in rows)
        return
    table = Table("figure", "value", title=f"{report['benchmark']} on {report['machine']['processor']}")
    for name, value in rows:
        table.add_row(name, f"{value:,}" if isinstance(value, int | float) else str(value))
    Console().print(table)


def _flat(results: Mapping[str, Any], within: str = "") -> list[tuple[str, Any]]:
    rows: list[tuple[str, Any]] = []
    for name, value in results.items():
        rows += _flat(value, f"{within}{name}.") if isinstance(value, Mapping) else [(f"{within}{name}", value)]
    return rows
