"""`fulltape bench operator`: measures the operator on the cluster of KUBECONFIG."""

import asyncio
from dataclasses import replace

import click
from rich.console import Console

from fulltape.bench.report import tell
from fulltape_operator.bench.run import FULL, QUICK, OperatorBench


@click.command("operator")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--quick", is_flag=True, help="End within a minute; the same keys, rougher figures.")
@click.option("--feeds", type=click.IntRange(1, 5000), help="Feeds applied at once, in place of 200.")
def operator_bench_command(*, as_json: bool, quick: bool, feeds: int | None) -> None:
    """Measure how fast the operator makes feeds come true, on the cluster of KUBECONFIG, which has their CRDs."""
    extent = QUICK if quick else FULL
    if feeds is not None:
        extent = replace(extent, feeds=feeds)
    console = Console(stderr=True)
    with console.status("starting the operator") as status:
        say = status.update if console.is_terminal else (lambda _: None)
        report = asyncio.run(OperatorBench(extent, say).run())
    tell(report, as_json=as_json)
