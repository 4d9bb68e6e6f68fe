"""`fulltape local`: the parts of a cluster that a laptop needs, one command each."""

import json
import os
import signal
from pathlib import Path

import click

from fulltape.local.jars import KAFKA_VERSION
from fulltape.local.kafka import EmbeddedKafka


@click.group()
def local() -> None:
    """Run on this machine what a cluster otherwise provides."""


@local.command()
@click.option("--port", type=click.IntRange(0, 65535), default=9092, show_default=True, help="0: any free port.")
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder that keeps the data.  [default: $XDG_DATA_HOME/fulltape/kafka or ~/.local/share/fulltape/kafka]",
)
@click.option("--ephemeral", is_flag=True, help="Throw the data away at the end.")
@click.option(
    "--advertise",
    metavar="HOST",
    help="Listen on all addresses, and tell clients to come to HOST: for containers and networks of one's own, as "
    "nothing is encrypted.",
)
@click.option("--heap-mib", type=click.IntRange(min=128), default=512, show_default=True, help="Limit of the heap.")
@click.option("--json", "as_json", is_flag=True, help="Say where it listens as one JSON object on one line.")
def kafka(
    *, port: int, data: Path | None, ephemeral: bool, advertise: str | None, heap_mib: int, as_json: bool
) -> None:
    """Run a Kafka broker until Ctrl-C or SIGTERM."""
    if data is not None and ephemeral:
        raise click.UsageError("--data keeps the data and --ephemeral throws it away: give one of them")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = None if ephemeral else data or default_data_folder()
    broker = EmbeddedKafka(folder, port=port, advertise=advertise, heap_mib=heap_mib)
    try:
        with broker:
            if as_json:
                ready = {"bootstrap_servers": broker.bootstrap_servers, "data": str(broker.data), "pid": broker.pid}
                click.echo(json.dumps(ready))
            else:
                kept = "thrown away at the end" if ephemeral else "kept"
                click.echo(f"Kafka {KAFKA_VERSION} on {broker.bootstrap_servers}; data in {broker.data} ({kept})")
                click.echo("Ctrl-C stops it.")
            broker.wait()
    except KeyboardInterrupt:  # the ordinary end
        pass


def default_data_folder() -> Path:
    """Return where data is kept that nobody gave a place: the XDG data folder."""
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "fulltape" / "kafka"
