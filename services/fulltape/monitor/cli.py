"""`fulltape monitor --feed FILE`: computes a feed's windows and watches its alerts until it is told to stop."""

import os
from pathlib import Path

import click
import uvloop

from fulltape.feed.load import load_feed
from fulltape.kafka import prepare_kafka
from fulltape.monitor.alertmanager import alertmanager_urls
from fulltape.monitor.service import MonitorService, MonitorSettings
from fulltape.telemetry import configure_logging, run_until_told


@click.command("monitor")
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option("--host", default="127.0.0.1", envvar="FULLTAPE_HOST", show_default=True, help="Where to serve metrics.")
@click.option("--port", default=0, envvar="FULLTAPE_PORT", help="Port for metrics and probes; 0 takes a free one.")
def monitor_command(*, feed: Path, host: str, port: int) -> None:
    """Merge panes into sliding windows, publish them, and raise the feed's alerts."""
    configure_logging()
    loaded = load_feed(feed)
    settings = MonitorSettings(
        feed=loaded,
        alertmanagers=alertmanager_urls(loaded, os.environ),
        kafka=prepare_kafka(loaded, os.environ),
        host=host,
        port=port,
    )
    uvloop.run(run_until_told(lambda: MonitorService(settings)))
