"""`fulltape warehouse`: its tables, and `load --feed FILE`, which loads staged batches until it is told to stop."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import click
import uvloop

from fulltape.errors import ConfigurationError
from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.telemetry import configure_logging, run_until_told
from fulltape.warehouse.cli_migrations import migrate_command, status_command
from fulltape.warehouse.credentials import CREDENTIALS, redshift_address
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.load import Database, Retention
from fulltape.warehouse.redshift import RedshiftDatabase
from fulltape.warehouse.service import LoadService, LoadSettings
from fulltape.warehouse.staging import KINDS, Staging, staging_root
from fulltape.workloads import WAREHOUSE_VARIABLE

_STAGED_SECONDS = 86_400.0


@click.group("warehouse")
def warehouse_group() -> None:
    """Make the warehouse's tables, and load what the archive stages."""


@warehouse_group.command("load")
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option("--host", default="127.0.0.1", envvar="FULLTAPE_HOST", show_default=True, help="Where to serve metrics.")
@click.option("--port", default=0, envvar="FULLTAPE_PORT", help="Port for metrics and probes; 0 takes a free one.")
def load_command(*, feed: Path, host: str, port: int) -> None:
    """Load what the archive stages into Redshift, or into a DuckDB file where the feed names no Redshift."""
    configure_logging()
    settings = load_settings(load_feed(feed), os.environ, host=host, port=port)
    uvloop.run(run_until_told(lambda: LoadService(settings)))


def load_settings(feed: CryptoFeed, environment: Mapping[str, str], *, host: str, port: int) -> LoadSettings:
    """Return what a feed and an environment say of its loader.

    Raises:
        ConfigurationError: the feed has no warehouse, or credentials or paths are missing.

    """
    warehouse = feed.spec.warehouse
    if warehouse is None:
        raise ConfigurationError(f"feed {feed.metadata.name} has no spec.warehouse; add it to have its trades stored")
    staging = Staging(staging_root(feed, environment), environment)
    named = environment.get(WAREHOUSE_VARIABLE)
    place = Path(named or CREDENTIALS)
    database: Database
    if named and not place.is_dir():
        database = DuckDatabase(place, staging)
    elif warehouse.staging is not None:
        database = RedshiftDatabase(redshift_address(place), staging, warehouse.staging.iam_role)
    else:
        raise ConfigurationError(
            f"feed {feed.metadata.name} has no spec.warehouse.redshift; add it, or name a DuckDB file in "
            f"{WAREHOUSE_VARIABLE}"
        )
    kept = warehouse.retention
    return LoadSettings(
        feed=feed.topics.prefix,
        staging=staging,
        database=database,
        # Looked for more often than they come: a batch does not wait for as long again as it took to gather.
        look_seconds=min(warehouse.every.seconds, max(1.0, warehouse.every.seconds / 5)),
        staged_seconds=_STAGED_SECONDS,
        retention=None if kept is None else Retention(feed.spec.products, kept.seconds),
        host=host,
        port=port,
    )


@warehouse_group.command("quarantine")
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option("--release", is_flag=True, help="Have them loaded again, once what ailed them is mended.")
def quarantine_command(*, feed: Path, release: bool) -> None:
    """List the batches that could not be loaded, and why; exit code 1 where there are any."""
    staging = Staging(staging_root(load_feed(feed), os.environ))
    staging.check()
    found = [batch for kind in KINDS for batch in staging.quarantined(kind)]
    for batch in found:
        click.echo(f"{batch.kind}/{batch.name}: {batch.reason}")
        if release:
            staging.release(batch)
    if release:
        click.echo(f"released {len(found)}")
    elif found:
        sys.exit(1)


warehouse_group.add_command(migrate_command)
warehouse_group.add_command(status_command)
