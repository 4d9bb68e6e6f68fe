"""How a table as the database has it differs from its definition. Pure."""

from collections.abc import Iterable
from typing import Any

from fulltape.warehouse.tables import Column, Table, precision

FOUND_COLUMNS = "column_name, data_type, is_nullable, character_maximum_length, numeric_precision, numeric_scale"
"""What of information_schema.columns a row of `alterations` holds."""

_SPELLINGS = {"DOUBLE": "DOUBLE PRECISION", "TIMESTAMP WITHOUT TIME ZONE": "TIMESTAMP"}


def alterations(table: Table, found: Iterable[tuple[Any, ...]]) -> list[str]:
    """Return the differences, a line each; nothing where there are none.

    Args:
        table: the definition.
        found: for each column of the table in the database, in its order, a row of `FOUND_COLUMNS`.

    """
    there = {
        name: (column_type(kind, length, digits, places), null == "YES")
        for name, kind, null, length, digits, places in found
    }
    if not there:
        return [f"{table.qualified}: is missing"]
    wanted = {column.name: column for column in table.columns}
    lines = [
        f"{table.qualified}.{name}: {line}"
        for name, column in wanted.items()
        for line in (_differences(column, *there[name]) if name in there else ["is missing"])
    ]
    lines += [f"{table.qualified}.{name}: is none of fulltape's columns" for name in there if name not in wanted]
    if not lines and list(there) != list(wanted):
        lines.append(f"{table.qualified}: its columns are in another order, which COPY goes by")
    return lines


def _differences(column: Column, kind: str, null: bool) -> Iterable[str]:  # noqa: FBT001 - as found
    # DuckDB keeps no lengths.
    if kind != column.kind and not (kind == "VARCHAR" and column.kind.startswith("VARCHAR")):
        yield f"is {kind}, should be {column.kind}"
    if null != column.null:
        yield "may be null, should be NOT NULL" if null else "is NOT NULL, should allow null"


def column_type(kind: str, length: int | None, digits: int | None, places: int | None) -> str:
    """Return a type as `Column.kind` spells it, from what information_schema tells of it.

    >>> column_type("character varying", 32, None, None), column_type("numeric", None, 19, 10)
    ('VARCHAR(32)', 'DECIMAL(19,10)')
    >>> column_type("timestamp without time zone", None, None, None), column_type("DECIMAL(19,10)", None, 19, 10)
    ('TIMESTAMP', 'DECIMAL(19,10)')
    """
    upper = kind.upper()
    if upper in {"CHARACTER VARYING", "VARCHAR"}:
        return f"VARCHAR({length})" if length else "VARCHAR"
    if upper in {"NUMERIC", "DECIMAL"} or precision(upper):
        inner = precision(upper) or (digits, places)
        return f"DECIMAL({inner[0]},{inner[1]})"
    return _SPELLINGS.get(upper, upper)
