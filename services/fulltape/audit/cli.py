"""`fulltape audit TOPIC`: prints the proof as a table or as JSON, and exits with 1 where the promise is broken."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from fulltape.audit.tape import TapeAudit, audit_tape
from fulltape.errors import ConfigurationError
from fulltape.feed.load import load_feed
from fulltape.kafka import BOOTSTRAP_VARIABLE, ClientConfiguration, client_configuration, kafka_settings, probe_broker

_CONNECT_SECONDS = 15.0


@click.command("audit")
@click.argument("topic")
@click.option("--bootstrap-servers", metavar="HOST:PORT", help=f"Brokers; or set {BOOTSTRAP_VARIABLE}.")
@click.option("--feed", type=click.Path(path_type=Path, dir_okay=False), help="Reach Kafka as this feed does.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def audit_command(topic: str, bootstrap_servers: str | None, feed: Path | None, *, as_json: bool) -> None:
    """Read the tape TOPIC to its end and prove it complete.

    Exits with 1 where an id is missing, twice or out of order, or where something is on the topic that is no trade.
    """
    kafka = _kafka(bootstrap_servers, feed)
    probe_broker(kafka, _CONNECT_SECONDS)
    columns = (TextColumn("reading {task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as shown:
        task = shown.add_task(topic)
        audit = audit_tape(kafka, topic, lambda done, total: shown.update(task, completed=done, total=total))
    if as_json:
        sys.stdout.write(msgspec.json.encode(audit).decode() + "\n")
    elif sys.stdout.isatty():
        _print(audit)
    else:
        sys.stdout.writelines(f"{line}\n" for line in _plain_lines(audit))
    sys.exit(0 if audit.kept else 1)


def _kafka(bootstrap_servers: str | None, feed: Path | None) -> ClientConfiguration:
    servers = bootstrap_servers or os.environ.get(BOOTSTRAP_VARIABLE)
    if feed is not None:
        override = {BOOTSTRAP_VARIABLE: servers} if servers else {}
        return client_configuration(kafka_settings(load_feed(feed), {**os.environ, **override}))
    if servers is None:
        raise ConfigurationError(f"which Kafka? Give --bootstrap-servers or --feed, or set {BOOTSTRAP_VARIABLE}")
    return ClientConfiguration({"bootstrap.servers": servers})


def _print(audit: TapeAudit) -> None:
    console = Console()
    table = Table("product", title=audit.topic, title_justify="left")
    for heading in ("first id", "last id", "trades", "missing", "duplicates", "out of order", "gap records", "gap ids"):
        table.add_column(heading, justify="right")
    table.add_column("from")
    table.add_column("to")
    for product in audit.products:
        broken = [product.missing, product.duplicates, product.out_of_order]
        table.add_row(
            product.product,
            str(product.first_id),
            str(product.last_id),
            f"{product.trades:,}",
            *(f"[red]{count:,}[/]" if count else "0" for count in broken),
            f"{product.gap_records:,}",
            f"{product.gap_ids:,}",
            _moment(product.first_time_us),
            _moment(product.last_time_us),
        )
    console.print(table)
    verdict = "[green]complete, in order, once each[/]" if audit.kept else "[red]the promise is broken[/]"
    if not audit.records:
        verdict = "the tape is empty"
    foreign = f", {audit.foreign:,} messages that are no tape records" if audit.foreign else ""
    console.print(
        f"{verdict}: {audit.records:,} records in {audit.seconds:.1f} s ({audit.records_per_second:,.0f}/s){foreign}"
    )


def _plain_lines(audit: TapeAudit) -> list[str]:
    """Return the audit as lines for other programs: a product each, then the whole."""
    lines = [
        " ".join(f"{name}={'' if value is None else value}" for name, value in msgspec.structs.asdict(product).items())
        for product in audit.products
    ]
    whole = {name: value for name, value in msgspec.structs.asdict(audit).items() if name != "products"}
    return [*lines, " ".join(f"{name}={value}" for name, value in whole.items())]


def _moment(time_us: int | None) -> str:
    return "" if time_us is None else datetime.fromtimestamp(time_us / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
