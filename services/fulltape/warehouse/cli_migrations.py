"""`fulltape warehouse migrate` and `fulltape warehouse status`: make the tables, and tell whether they are as made."""

import sys
from pathlib import Path

import click

from fulltape.warehouse.cli_queries import warehouse_option, warehouse_path
from fulltape.warehouse.connection import open_warehouse
from fulltape.warehouse.migrations import (
    Migration,
    alterations,
    applied_migrations,
    migrate,
    pending,
    read_migrations,
    standings,
)


@click.command("migrate")
@warehouse_option
@click.option("--dry-run", is_flag=True, help="Print the SQL that would run, and change nothing.")
def migrate_command(*, warehouse: Path | None, dry_run: bool) -> None:
    """Make the warehouse's tables and views, or bring them up to date; what is there already is left alone."""
    path = warehouse_path(warehouse)
    # A DuckDB file that is yet to be made can't be opened to be read.
    connection = open_warehouse(path, read_only=dry_run and path.exists())
    try:
        if dry_run:
            todo = pending(read_migrations(connection.dialect), applied_migrations(connection))
            for migration in todo:
                click.echo(f"-- {migration.number:04d}_{migration.name}")
                click.echo("".join(f"{statement};\n\n" for statement in migration.statements))
        else:
            todo = migrate(connection, on_done=_done)
    finally:
        connection.close()
    if not todo:
        click.echo("up to date")


@click.command("status")
@warehouse_option
def status_command(*, warehouse: Path | None) -> None:
    """Tell which migrations ran, and how the tables differ from what they should be.

    Exits with 1 where a migration is pending or edited, or where someone altered a table.
    """
    connection = open_warehouse(warehouse_path(warehouse), read_only=True)
    try:
        found = standings(read_migrations(connection.dialect), applied_migrations(connection))
        altered = alterations(connection) if any(one.applied_at for one in found) else []
    finally:
        connection.close()
    for one in found:
        moment = f" {one.applied_at:%Y-%m-%d %H:%M:%S} UTC" if one.applied_at else ""
        click.echo(f"{one.number:04d}_{one.name}: {one.state}{moment}")
    for line in altered:
        click.echo(f"altered: {line}")
    sys.exit(1 if altered or any(one.state != "applied" for one in found) else 0)


def _done(migration: Migration) -> None:
    click.echo(f"{migration.number:04d}_{migration.name}: applied")
