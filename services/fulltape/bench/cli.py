"""`fulltape bench NAME`: runs a benchmark and prints its report, as JSON or as a table."""

import click
from rich.console import Console

from fulltape.bench.feed import measure_feed
from fulltape.bench.report import tell
from fulltape.commands import LazyGroup

_LOCAL = "fulltape.bench.cli_local"


@click.group(
    "bench",
    cls=LazyGroup,
    elsewhere={
        "live": (_LOCAL, "live_command"),
        "operator": ("fulltape_operator.bench.cli", "operator_bench_command"),
        "tape": (_LOCAL, "tape_command"),
        "warehouse": (_LOCAL, "warehouse_command"),
    },
)
def bench_command() -> None:
    """Measure Fulltape and a peer in the same run."""


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
