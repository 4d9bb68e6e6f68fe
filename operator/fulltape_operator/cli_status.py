"""`fulltape status`: how the feeds of a cluster stand, at a glance or as JSON; exit code 1 where one is not ready."""

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fulltape_operator.cluster import FEEDS, connect
from fulltape_operator.desired.child import Manifest

_COLUMNS = ("feed", "ready", "products", "trades/s", "missing", "lag", "p99 ms", "what is wrong")
_FIELDS = ("products", "tradesPerSecond", "missingTrades", "consumerLag", "p99Milliseconds")
_COLOURS = {"True": "green", "False": "red"}


@click.command("status")
@click.argument("name", required=False)
@click.option("--namespace", "-n", help="Of this namespace.  [default: of all]")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
def status_command(*, name: str | None, namespace: str | None, as_json: bool) -> None:
    """Tell how the feeds in the cluster of KUBECONFIG stand; exit code 1 where one is not ready, or there is none."""
    feeds = asyncio.run(_feeds(namespace))
    found = [live for live in feeds if name is None or live["metadata"]["name"] == name]
    if as_json:
        for live in found:
            click.echo(json.dumps({**_place(live), **live.get("status", {})}))
    elif sys.stdout.isatty():
        _draw(found)
    else:
        for live in found:
            click.echo("\t".join(_row(live)))
    if not found or any(_ready(live).get("status") != "True" for live in found):
        sys.exit(1)


async def _feeds(namespace: str | None) -> list[Manifest]:
    async with connect() as cluster:
        return [live async for page in cluster.pages(FEEDS, namespace) for live in page]


def _draw(feeds: list[Manifest]) -> None:
    table = Table(*_COLUMNS)
    for live in feeds:
        feed, ready, *others = _row(live)
        table.add_row(feed, Text(ready, _COLOURS.get(ready, "yellow")), *others)
    Console().print(table)


def _row(live: Manifest) -> Iterator[str]:
    status = live.get("status", {})
    ready = _ready(live)
    yield "/".join(_place(live).values())
    yield ready.get("status", "Unknown")
    for field in _FIELDS:
        yield str(status.get(field, ""))
    yield "" if ready.get("status") == "True" else ready.get("message", "no operator has looked at it yet")


def _place(live: Manifest) -> dict[str, str]:
    return {"namespace": live["metadata"]["namespace"], "name": live["metadata"]["name"]}


def _ready(live: Manifest) -> Mapping[str, Any]:
    conditions = live.get("status", {}).get("conditions", ())
    return next((condition for condition in conditions if condition["type"] == "Ready"), {})
