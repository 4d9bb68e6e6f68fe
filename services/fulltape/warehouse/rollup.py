"""Trades by the minute in a DuckDB file, kept in step with the trades by the very transaction that loads these.

Redshift does the same by itself: there `fulltape.trade_minutes` stands on a materialized view. A trade's time is the
exchange's and the same in all versions of the trade, so what a load changes is the minutes of the rows that it brings.
Those are worked out anew from all their trades, so that whatever came late, again or corrected counts as it stands.
"""

from datetime import datetime, timedelta

from fulltape.warehouse.ledger import Statement, newest
from fulltape.warehouse.tables import NOTIONAL, PRICE, TABLES, VOLUME, Column, Table

MINUTES = Table(
    "trade_minutes",
    (
        Column("product", "VARCHAR(32)", "Coinbase's product, such as BTC-USD"),
        Column("minute_at", "TIMESTAMP", "when the minute begins; exchange time"),
        Column("trades", "BIGINT", "number of trades; a minute without any has no row"),
        Column("late_trades", "BIGINT", "of these, those that were late"),
        Column("backfilled_trades", "BIGINT", "of these, those whose source is backfill"),
        Column("volume", VOLUME, "sum of the sizes, base currency"),
        Column("buy_volume", VOLUME, "sum of the sizes whose taker bought"),
        Column("notional", NOTIONAL, "sum of price times size, quote currency"),
        Column("first_id", "BIGINT", "least id"),
        Column("last_id", "BIGINT", "greatest id"),
        Column("open_price", PRICE, "price of the least id"),
        Column("high_price", PRICE, "highest price"),
        Column("low_price", PRICE, "lowest price"),
        Column("close_price", PRICE, "price of the greatest id"),
    ),
    key=("product", "minute_at"),
    sort=("minute_at", "product"),
)
"""The table, which no batch holds rows of: it follows from the trades."""

_TRADES = TABLES["trades"]
_MINUTE = "DATE_TRUNC('minute', traded_at)"
_MINUTES_OF_TRADES = (
    f"SELECT product, {_MINUTE}, COUNT(*), "  # noqa: S608 - of constants, as all here
    "COUNT(*) FILTER (WHERE late), "
    "COUNT(*) FILTER (WHERE source = 'backfill'), "
    "SUM(size), "
    "COALESCE(SUM(size) FILTER (WHERE taker_side = 'buy'), 0), "
    f"SUM(CAST(price * size AS {NOTIONAL})), "
    "MIN(trade_id), MAX(trade_id), "
    "ARG_MIN(price, trade_id), MAX(price), MIN(price), ARG_MAX(price, trade_id) "
    "FROM {trades} "
    f"GROUP BY product, {_MINUTE}"
)
_TOUCHED = f"(SELECT DISTINCT product, {_MINUTE} AS minute_at FROM {newest(_TRADES)}) AS touched"  # noqa: S608


def insert_minutes(trades: str = _TRADES.qualified) -> str:
    """Return what puts into the table what some trades come to.

    Args:
        trades: what stands after FROM: of each minute all trades, and no trade of a minute that the table has.

    """
    return f"INSERT INTO {MINUTES.qualified} {_MINUTES_OF_TRADES.format(trades=trades)}"


def keep_minutes(first: datetime, last: datetime) -> list[Statement]:
    """Return what brings the table up to date once the trades in `ledger.newest` have been merged.

    Args:
        first: least time of those trades; by this and the next, blocks of the tables are skipped.
        last: greatest time of them.

    """
    span = (_minute_of(first), _minute_of(last) + timedelta(minutes=1))
    return [
        Statement(
            f"DELETE FROM {MINUTES.qualified} USING {_TOUCHED} "  # noqa: S608
            "WHERE trade_minutes.product = touched.product AND trade_minutes.minute_at = touched.minute_at "
            "AND trade_minutes.minute_at >= %s AND trade_minutes.minute_at < %s",
            span,
        ),
        Statement(
            insert_minutes(
                f"(SELECT trades.* FROM {_TRADES.qualified} INNER JOIN {_TOUCHED} "  # noqa: S608
                f"ON trades.product = touched.product AND {_MINUTE} = touched.minute_at "
                "WHERE traded_at >= %s AND traded_at < %s) AS theirs"
            ),
            span,
        ),
    ]


def _minute_of(moment: datetime) -> datetime:
    return moment.replace(second=0, microsecond=0)
