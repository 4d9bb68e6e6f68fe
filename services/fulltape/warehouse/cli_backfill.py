"""`fulltape backfill PRODUCT`: past trades of a product into the warehouse of a feed."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
import uvloop

from fulltape.coinbase.rest import RestClient
from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.telemetry import configure_logging
from fulltape.warehouse.backfill import Backfill, Backfilled
from fulltape.warehouse.cli_progress import progress
from fulltape.warehouse.load import Retention
from fulltape.warehouse.queries import Parameter, value_of
from fulltape.warehouse.staging import Staging, staging_root
from fulltape.workloads import REST_VARIABLE

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - times here are UTC without a zone, as in the warehouse
_HOLES_SHOWN = 10


class TradesLackingError(FulltapeError):
    """All was asked for, and the exchange does not have all of it."""


@click.command("backfill")
@click.argument("product")
@click.option("--since", required=True, help="From this exchange time: ISO 8601 (UTC), or now - 30d.")
@click.option("--until", help="To below this time.  [default: the newest trade]")
@click.option("--feed", required=True, type=click.Path(path_type=Path, dir_okay=False), help="The CryptoFeed file.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    default=5.0,
    show_default=True,
    help="Requests a second. The exchange allows ten from one address, of which a producer there needs some.",
)
@click.option("--rest-url", envvar=REST_VARIABLE, help="An exchange's REST in place of the feed's.")
def backfill_command(
    *, product: str, since: str, until: str | None, feed: Path, rate: float, rest_url: str | None
) -> None:
    """Fetch past trades of PRODUCT from the exchange to where a feed's loader finds them.

    Run again, it continues. Exits with 1 where the exchange lacks trades; which, the table of gaps tells.
    """
    configure_logging()
    loaded = load_feed(feed)
    since_us, until_us = _times_us(loaded, product, since, until)
    staging = Staging(staging_root(loaded, os.environ))
    staging.check()
    rest = RestClient(rest_url or loaded.spec.endpoints.rest, requests_per_second=rate, burst=1)
    with progress(f"backfilling {product}") as show:
        done = uvloop.run(_run(Backfill(product, rest, staging, show), rest, since_us, until_us))
    click.echo(
        f"{product}: trades {done.span.first} to {done.span.last} are staged in {staging.uri}, "
        f"{done.fetched:,} of them fetched now"
    )
    if done.holes:
        raise TradesLackingError(_lacking(product, done))


async def _run(backfill: Backfill, rest: RestClient, since_us: int, until_us: int | None) -> Backfilled:
    async with rest:
        return await backfill.run(since_us, until_us)


def _times_us(feed: CryptoFeed, product: str, since: str, until: str | None) -> tuple[int, int | None]:
    """Return the range in microseconds since the epoch.

    Raises:
        ConfigurationError: the feed stores nothing or not for as long, or these are no times, or no range of the past.

    """
    warehouse = feed.spec.warehouse
    if warehouse is None:
        raise ConfigurationError(f"feed {feed.metadata.name} has no spec.warehouse; add it to have its trades stored")
    zoned = datetime.now(UTC)
    now = zoned.replace(tzinfo=None)
    first = _moment("since", since, now)
    last = None if until is None else _moment("until", until, now)
    if first >= now:
        raise ConfigurationError(f"--since {since} is in the future; there are no trades yet")
    if last is not None and first >= last:
        raise ConfigurationError(f"from {first} to {last} is no time at all; let --since be earlier")
    if warehouse.retention is not None and product in feed.spec.products:
        kept_since = Retention(feed.spec.products, warehouse.retention.seconds).before(zoned)
        if first < kept_since:
            raise ConfigurationError(
                f"spec.warehouse.retention is {warehouse.retention}, so that rows from before {kept_since} would be "
                "deleted again; let --since be later, or the retention longer"
            )
    return _micros(first), None if last is None else _micros(last)


def _moment(name: str, text: str, now: datetime) -> datetime:
    moment = value_of(Parameter(name, "time", "", ""), text, now, now)
    assert isinstance(moment, datetime)
    return moment


def _micros(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)


def _lacking(product: str, done: Backfilled) -> str:
    """Return which trades the exchange lacks, in words."""
    shown = [f"{hole.span.first} to {hole.span.last} ({hole.reason})" for hole in done.holes[:_HOLES_SHOWN]]
    if len(done.holes) > _HOLES_SHOWN:
        shown.append(f"and {len(done.holes) - _HOLES_SHOWN} more spans")
    count = sum(hole.span.length for hole in done.holes)
    return (
        f"the exchange lacks {count:,} trades of {product}: {'; '.join(shown)}. All others are staged; these are noted "
        "as gaps, and are asked for again when the same is run again"
    )
