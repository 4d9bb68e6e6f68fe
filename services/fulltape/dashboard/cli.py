"""`fulltape dashboard --feed FILE`: serves the page until it is told to stop."""

import os
from pathlib import Path

import click
import uvloop

from fulltape.dashboard.service import DashboardService, DashboardSettings, listen
from fulltape.errors import ConfigurationError
from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import prepare_kafka
from fulltape.telemetry import configure_logging, run_until_told
from fulltape.warehouse.credentials import warehouse_of


@click.command("dashboard")
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option("--host", default="127.0.0.1", envvar="FULLTAPE_HOST", show_default=True, help="Where to listen.")
@click.option("--port", default=8080, envvar="FULLTAPE_PORT", show_default=True, help="Port of the page.")
@click.option("--probe-port", default=0, envvar="FULLTAPE_PROBE_PORT", help="For metrics and probes; 0: a free one.")
@click.option(
    "--allow-host",
    multiple=True,
    envvar="FULLTAPE_ALLOWED_HOSTS",
    metavar="NAME",
    help="A name that browsers reach the page by, besides localhost; may be repeated.",
)
def dashboard_command(*, feed: Path, host: str, port: int, probe_port: int, allow_host: tuple[str, ...]) -> None:
    """Show the market and the pipeline on a web page, live."""
    configure_logging()
    loaded = load_feed(feed)
    with listen(host, port) as page:
        settings = dashboard_settings(loaded, host=host, probe_port=probe_port, allowed_hosts=allow_host)
        uvloop.run(run_until_told(lambda: DashboardService(settings, page)))


def dashboard_settings(
    feed: CryptoFeed, *, host: str, probe_port: int, allowed_hosts: tuple[str, ...]
) -> DashboardSettings:
    """Work out what the dashboard of ``feed`` shows, and make its topics where that is a service's task.

    Raises:
        ConfigurationError: the feed has no analytics, or the credentials can't be read.
        KafkaUnavailableError: no broker answers, or it refuses.

    """
    analytics = feed.spec.analytics
    if analytics is None:
        raise ConfigurationError("the feed has no windows to show; add spec.analytics")
    return DashboardSettings(
        feed=feed.metadata.name,
        products=feed.spec.products,
        windows=[str(window) for window in analytics.windows],
        longest_window=str(max(analytics.windows, key=lambda window: window.us)),
        topics=feed.topics,
        kafka=prepare_kafka(feed, os.environ),
        allowed_hosts=(host, *allowed_hosts),
        host=host,
        probe_port=probe_port,
        warehouse=warehouse_of(feed, os.environ),
    )
