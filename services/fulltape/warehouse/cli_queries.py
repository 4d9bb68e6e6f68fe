"""`fulltape query` and `fulltape sql`: ask the warehouse, in words that have a name or in SQL of one's own."""

import csv
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fulltape.errors import ConfigurationError
from fulltape.warehouse.connection import Connection, Result, open_warehouse
from fulltape.warehouse.credentials import CREDENTIALS
from fulltape.warehouse.queries import NamedQuery, QueryError, ask, check_read_only, named_queries
from fulltape.workloads import WAREHOUSE_VARIABLE


def warehouse_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--warehouse`` to a command."""
    return click.option(
        "--warehouse",
        type=click.Path(path_type=Path),
        envvar=WAREHOUSE_VARIABLE,
        help=f"A DuckDB file, or a folder of Redshift's credentials; or set {WAREHOUSE_VARIABLE}.",
    )(command)


def warehouse_path(given: Path | None) -> Path:
    """Return which warehouse is meant.

    Raises:
        ConfigurationError: none is named, and a cluster mounted none.

    """
    if given is not None:
        return given
    if CREDENTIALS.is_dir():
        return CREDENTIALS
    raise ConfigurationError(f"which warehouse? Give --warehouse, or set {WAREHOUSE_VARIABLE}")


def _formats(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option("--csv", "as_csv", is_flag=True, help="Print CSV with a line of headings.")(command)
    return click.option("--json", "as_json", is_flag=True, help="Print a JSON array of objects.")(command)


@click.command("query")
@click.argument("name", required=False)
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="Tell the question something.")
@warehouse_option
@_formats
def query_command(
    *, name: str | None, parameters: tuple[str, ...], warehouse: Path | None, as_json: bool, as_csv: bool
) -> None:
    """Ask the warehouse the question NAME; without it, list the questions and what they may be told."""
    questions = named_queries()
    if name is None:
        _list(questions)
        return
    if name not in questions:
        raise QueryError(f"there is no question {name!r}; there are {', '.join(questions)}")
    given: dict[str, str] = {}
    for text in parameters:
        key, equals, value = text.partition("=")
        if not equals:
            raise QueryError(f"--param {text!r}: write NAME=VALUE")
        given[key.strip()] = value
    with _opened(warehouse) as connection:
        result = ask(connection, questions[name], given)
    _show(result, questions[name].question, as_json=as_json, as_csv=as_csv)


@click.command("sql")
@click.argument("statement")
@warehouse_option
@_formats
def sql_command(*, statement: str, warehouse: Path | None, as_json: bool, as_csv: bool) -> None:
    """Run STATEMENT, which may only read, in the SQL of the warehouse (its tables are in the schema fulltape)."""
    with _opened(warehouse) as connection:
        check_read_only(statement, connection.dialect)
        result = connection.run(statement)
    _show(result, None, as_json=as_json, as_csv=as_csv)


@contextmanager
def _opened(warehouse: Path | None) -> Iterator[Connection]:
    connection = open_warehouse(warehouse_path(warehouse), read_only=True)
    try:
        yield connection
    finally:
        connection.close()


def _list(questions: dict[str, NamedQuery]) -> None:
    if not sys.stdout.isatty():
        for query in questions.values():
            told = " ".join(f"{parameter.name}={parameter.default!r}" for parameter in query.parameters)
            sys.stdout.write(f"{query.name}: {query.question} [{told}]\n")
        return
    table = Table("question", "", "may be shown", show_lines=True)
    for query in questions.values():
        shown = Text("\n").join(
            Text.assemble((parameter.name, "cyan"), f" = {parameter.default} ", (parameter.description, "dim"))
            for parameter in query.parameters
        )
        table.add_row(Text(query.name, "bold"), query.question, shown)
    Console().print(table)


def _show(result: Result, title: str | None, *, as_json: bool, as_csv: bool) -> None:
    if as_json:
        rows = [dict(zip(result.columns, map(_exact, row), strict=True)) for row in result.rows]
        sys.stdout.write(msgspec.json.encode(rows, enc_hook=str).decode() + "\n")
    elif as_csv or not sys.stdout.isatty():
        writer = csv.writer(sys.stdout, delimiter="," if as_csv else "\t", lineterminator="\n")
        writer.writerow(result.columns)
        writer.writerows([_exact(value) for value in row] for row in result.rows)
    else:
        table = Table(title=title, title_justify="left")
        for index, column in enumerate(result.columns):
            numeric = any(isinstance(row[index], int | float | Decimal) for row in result.rows)
            table.add_column(Text(column), justify="right" if numeric else "left")
        for values in result.rows:
            table.add_row(*(Text(_readable(value)) for value in values))
        Console().print(table)


def _exact(value: object) -> object:
    """Return a value for programs: decimals and times as text, exact; others as they are."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    return value.isoformat() if isinstance(value, datetime) else value


def _readable(value: object) -> str:
    """Return a value for people: no zeros that add nothing, floats to six digits."""
    if value is None:
        return ""
    if isinstance(value, Decimal):
        text = f"{value:,f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    if isinstance(value, float):
        return f"{value:,.6g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
