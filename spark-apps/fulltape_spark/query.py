"""The streaming query: the tape in, a pane out for every trade. Spark SQL of built-in functions alone.

The expressions are those of `fulltape.measures.columns`; here is how they stand in a query, and what is read of a
`Trade` and written of a `Pane`.
"""

import types
import typing
from collections.abc import Mapping

import msgspec
from pyspark.sql import Column, DataFrame
from pyspark.sql.functions import expr

from fulltape.measures.columns import AGGREGATES, PANE_COLUMNS, PANE_SECONDS, RETURN_COLUMNS, TRADE_COLUMNS, USABLE
from fulltape.messages import Pane, Trade

_PANE_US = PANE_SECONDS * 1_000_000
_SQL_TYPES = {str: "STRING", int: "BIGINT", float: "DOUBLE"}

TAPE = "tape"
"""Under this name each batch counts what it read of the tape: ``records``, and of those ``unusable`` ones, which are
neither a gap nor a trade as trades are."""


def trade_schema() -> str:
    """Return what is read of a record of the tape, as Spark SQL writes a schema.

    >>> trade_schema()[:54]
    'type STRING, product STRING, trade_id BIGINT, price ST'
    """
    fields = {field.name: _SQL_TYPES[_plain_type(field.type)] for field in msgspec.structs.fields(Trade)}
    return ", ".join(f"{name} {sql_type}" for name, sql_type in {"type": "STRING", **fields}.items())


def pane_fields() -> dict[str, str]:
    """Return the SQL of each field of a pane's JSON, in order, over what was aggregated; decimals become strings."""
    sql = {"product": "product", "start_us": "unix_micros(start)", **PANE_COLUMNS}
    fields = {"type": "'pane'"}
    for field in msgspec.structs.fields(Pane):
        is_decimal = field.name in PANE_COLUMNS and _plain_type(field.type) is str
        fields[field.name] = f"CAST({sql[field.name]} AS STRING)" if is_decimal else sql[field.name]
    return fields


def panes_of(tape: DataFrame, watermark_us: int, complete_from_us: int) -> DataFrame:
    """Return the panes of a tape as Kafka takes them: ``key`` and ``value``.

    Args:
        tape: as Spark's Kafka source gives it: ``value`` and ``timestamp``.
        watermark_us: a trade that is later than this, behind the newest, may be dropped. One that claims to be from
            further in the future than this is not counted either: it would make all others late.
        complete_from_us: panes that begin earlier are left out, because the tape is not read from their first trade on.

    """
    record = f"from_json(CAST(value AS STRING), '{trade_schema()}')"
    trade = f"type = 'trade' AND {USABLE} AND time_us <= tape_us + {watermark_us}"
    counts = {"records": "count(*)", "unusable": f"count_if(NOT coalesce(type = 'gap' OR ({trade}), false))"}
    trades = (
        tape.select(expr(record).alias("record"), expr("unix_micros(timestamp)").alias("tape_us"))
        .select("record.*", "tape_us")
        .select("*", *columns(TRADE_COLUMNS))
        .observe(TAPE, *columns(counts))
        .where(f"{trade} AND time_us >= {complete_from_us}")
        .select("*", *columns(RETURN_COLUMNS))
        .withColumn("start", expr(f"timestamp_micros(time_us DIV {_PANE_US} * {_PANE_US})"))
        .withWatermark("start", f"{watermark_us} microseconds")
    )
    panes = trades.groupBy("product", "start").agg(*columns(AGGREGATES))
    return panes.select(
        expr("concat(product, '/', unix_seconds(start))").alias("key"), expr(pane_json()).alias("value")
    )


def pane_json() -> str:
    """Return the SQL of a pane's JSON over what was aggregated."""
    fields = ", ".join(f"{sql} AS {name}" for name, sql in pane_fields().items())
    # Without the option, fields that are null would be left out.
    return f"to_json(struct({fields}), map('ignoreNullFields', 'false'))"


def columns(definitions: Mapping[str, str]) -> list[Column]:
    """Return columns by their names and SQL."""
    return [expr(sql).alias(name) for name, sql in definitions.items()]


def _plain_type(annotation: object) -> type:
    """Return the type of a field that may also be null; a `Literal` is a string."""
    if isinstance(annotation, types.UnionType):
        (annotation,) = set(typing.get_args(annotation)) - {types.NoneType}
    if typing.get_origin(annotation) is typing.Literal:
        return str
    return annotation if isinstance(annotation, type) else object
