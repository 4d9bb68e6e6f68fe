"""`fulltape export PRODUCT`: rows of the warehouse into a Parquet or CSV file."""

import sys
import time
from datetime import datetime
from pathlib import Path

import click
import msgspec

from fulltape.warehouse.cli_progress import progress
from fulltape.warehouse.cli_queries import warehouse_option, warehouse_path
from fulltape.warehouse.connection import Connection, open_warehouse
from fulltape.warehouse.export import Selection, TableName, export
from fulltape.warehouse.queries import NamedQuery, Parameter, values

_RANGE = NamedQuery(
    "export",
    "Which time is wanted?",
    (Parameter("since", "time", "", "from this time"), Parameter("until", "time", "", "to below this time")),
    "",
)


@click.command("export")
@click.argument("product")
@click.option("--since", required=True, help="From this exchange time: ISO 8601 (UTC), now, latest, or latest - 1h.")
@click.option("--until", default="latest", show_default=True, help="To below this time.")
@click.option("--to", required=True, type=click.Path(path_type=Path), help="A file: .parquet or .csv.")
@click.option("--table", type=click.Choice(["trades", "windows"]), default="trades", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@warehouse_option
def export_command(
    *, product: str, since: str, until: str, to: Path, table: TableName, as_json: bool, warehouse: Path | None
) -> None:
    """Write the warehouse's rows of PRODUCT to a file, sorted by time."""
    began = time.monotonic()
    connection = open_warehouse(warehouse_path(warehouse), read_only=True)
    try:
        wanted = Selection(table, product, *_times(connection, since, until))
        with progress(f"{table} of {product}") as show:
            done = export(connection, wanted, to, show)
    finally:
        connection.close()
    if as_json:
        sys.stdout.write(msgspec.json.encode(done).decode() + "\n")
    else:
        seconds = time.monotonic() - began
        click.echo(
            f"{done.file}: {done.rows:,} rows from {done.first_at} to {done.last_at}, {done.bytes:,} bytes, "
            f"in {seconds:.1f} s"
        )


def _times(connection: Connection, since: str, until: str) -> tuple[datetime, datetime]:
    found = values(connection, _RANGE, {"since": since, "until": until})
    first, last = found["since"], found["until"]
    assert isinstance(first, datetime)
    assert isinstance(last, datetime)
    return first, last
