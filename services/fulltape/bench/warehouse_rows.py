"""A DuckDB warehouse full of made-up rows, of which it is asked how long questions take.

Trades are those of the sandbox's market: a livelier one, played more slowly, as those are made faster. A ticker follows
each tenth trade, and each second ends a window of each product and length. Windows hold random measures: here their
number counts and not what they say.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fulltape.bench.tape import PRODUCTS
from fulltape.sandbox.market import Market
from fulltape.sandbox.products import choose_products
from fulltape.sandbox.trades import PRICE_DECIMALS, Trades
from fulltape.warehouse.connection import attach_duckdb
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.rollup import MINUTES, insert_minutes
from fulltape.warehouse.tables import PRICE, SIZE, TABLES, precision

_SLOWER = 10
_CHUNK_US = 300_000_000  # whole minutes
_MINUTE_US = 60_000_000
_BACKFILLED = 0.001
_LATE = 0.0001
_NETWORK_US = (10.3, 0.4)  # mean and standard deviation of the log: a median of 30 ms
_TAPE_US = (9.6, 0.5)  # 15 ms

_MADE_UP = "made_up"
_TICKERS = f"""
INSERT INTO {TABLES["tickers"].qualified}
SELECT product, trade_id, traded_at, price, size, taker_side,
    CAST(price * 0.9999 AS {PRICE}), size, CAST(price * 1.0001 AS {PRICE}), size, sequence, received_at, tape_at
FROM {_MADE_UP} WHERE trade_id % 10 = 0 AND sequence IS NOT NULL
"""  # noqa: S608 - of constants, as all here
_WINDOW_VALUES = {
    "product": "product",
    "window_seconds": "window_seconds",
    "window_start": "window_end - TO_SECONDS(window_seconds)",
    "window_end": "window_end",
    "trades": "CAST(window_seconds * (200 + 200 * RANDOM()) AS BIGINT)",
    "volume": "1000 + 1000 * RANDOM()",
    "notional": "10000000 * RANDOM()",
    "buy_volume": "1000 * RANDOM()",
    "open_price": "low_price",
    "high_price": "high_price",
    "low_price": "low_price",
    "close_price": "high_price",
    "first_id": "first_id",
    "last_id": "last_id",
}
_WINDOWS = f"""
INSERT INTO {TABLES["windows"].qualified}
WITH spans AS (
    SELECT product, MIN(trade_id) AS first_id, MAX(trade_id) AS last_id, MIN(price) AS low_price,
        MAX(price) AS high_price
    FROM {_MADE_UP} GROUP BY product
), ends AS (
    SELECT
        UNNEST(GENERATE_SERIES(DATE_TRUNC('second', MIN(traded_at)), MAX(traded_at), INTERVAL 1 SECOND)) AS window_end
    FROM {_MADE_UP}
)
SELECT {", ".join(_WINDOW_VALUES.get(column.name, "RANDOM() / 100") for column in TABLES["windows"].columns)}
FROM spans, ends, (VALUES (60), (300)) AS lengths (window_seconds)
ORDER BY window_end, product
"""  # noqa: S608
_OTHERS = (
    f"""
    INSERT INTO {TABLES["alerts"].qualified}
    SELECT product || minute_at, CASE WHEN state = 'firing' THEN minute_at ELSE ends_at END, state, 'Crash', product,
        '5m', 'critical', 'it fell', '{{}}', '{{}}', '{{}}', minute_at, minute_at,
        CASE WHEN state = 'resolved' THEN ends_at END, NULL, minute_at
    FROM (
        SELECT product, minute_at, minute_at + INTERVAL 5 MINUTE AS ends_at
        FROM {MINUTES.qualified} USING SAMPLE 500 ROWS
    ), (VALUES ('firing'), ('resolved')) AS states (state)
    """,  # noqa: S608
    f"""
    INSERT INTO {TABLES["gaps"].qualified}
    SELECT product, first_id, first_id, 'not found', minute_at, minute_at
    FROM {MINUTES.qualified} USING SAMPLE 50 ROWS
    """,  # noqa: S608
    f"""
    INSERT INTO {TABLES["ledger"].qualified}
    SELECT 'trades', CAST(moment AS VARCHAR), 0, moment, CAST(moment AS VARCHAR)
    FROM (
        SELECT UNNEST(GENERATE_SERIES(MIN(minute_at), MAX(minute_at), INTERVAL 5 SECOND)) AS moment
        FROM {MINUTES.qualified}
    )
    """,  # noqa: S608
)


def fill_warehouse(file: Path, trades: int, rate: int, say: Callable[[str], None]) -> None:
    """Make a warehouse of so many trades, ``rate`` of them a second, up to now."""
    make_duckdb(file)
    connection = attach_duckdb(file, read_only=False, patience_seconds=0.0)
    done = 0
    for chunk in _ahead(_chunks(trades, rate)):
        connection.register(_MADE_UP, chunk)
        connection.execute(f"INSERT INTO {TABLES['trades'].qualified} FROM {_MADE_UP}")
        connection.execute(insert_minutes(_MADE_UP))
        connection.execute(_TICKERS)
        connection.execute(_WINDOWS)
        connection.unregister(_MADE_UP)
        done += len(chunk)
        say(f"made up {done:,} of {trades:,} trades")
    for statement in _OTHERS:
        connection.execute(statement)
    connection.execute("CHECKPOINT")
    connection.close()


def _ahead(chunks: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Yield the chunks; make the next one while one is used, which DuckDB does on another core."""
    with ThreadPoolExecutor(1) as maker:
        coming = maker.submit(next, chunks, None)
        while (chunk := coming.result()) is not None:
            coming = maker.submit(next, chunks, None)
            yield chunk


def _chunks(trades: int, rate: int) -> Iterator[pa.Table]:
    """Yield so many trades in order of time, in tables of whole minutes."""
    random = np.random.default_rng(1)
    start_us = (time.time_ns() // 1000 - round(trades / rate * 1e6)) // _MINUTE_US * _MINUTE_US
    market = Market(choose_products(PRODUCTS), rate=rate * _SLOWER, seed=1)
    rest, end_us, until_us = market.begin(start_us), start_us, start_us
    while trades:
        end_us += _CHUNK_US // _SLOWER
        parts = [rest]
        while until_us < end_us:
            block = market.block()
            parts.append(block.trades)
            until_us = block.until_us
        made = Trades.concatenate(parts)
        cut = int(np.searchsorted(made.time_us, end_us))
        rest = made.take(slice(cut, None))
        chunk = made.take(slice(min(cut, trades)))
        trades -= len(chunk)
        yield _rows(chunk, start_us, random)


def _rows(trades: Trades, start_us: int, random: np.random.Generator) -> pa.Table:
    """Return trades as rows of their table, the market's time since its start drawn out."""
    count = len(trades)
    time_us = start_us + (trades.time_us - start_us) * _SLOWER
    received_us = time_us + random.lognormal(*_NETWORK_US, count).astype(np.int64)
    tape_ms = (received_us + random.lognormal(*_TAPE_US, count).astype(np.int64)) // 1000
    backfilled = random.random(count) < _BACKFILLED
    return pa.table(
        {
            "product": _texts(trades.product, PRODUCTS),
            "trade_id": trades.trade_id,
            "traded_at": time_us.view("datetime64[us]"),
            "price": _decimals(trades.price, PRICE_DECIMALS, PRICE),
            "size": _decimals(trades.size, 8, SIZE),
            "taker_side": _texts(trades.maker_buys, ("buy", "sell")),
            "sequence": pa.array(trades.sequence, mask=backfilled),
            "received_at": received_us.view("datetime64[us]"),
            "tape_at": (tape_ms * 1000).view("datetime64[us]"),
            "source": _texts(backfilled, ("stream", "backfill")),
            "late": random.random(count) < _LATE,
        }
    )


def _texts(places: npt.NDArray[Any], texts: tuple[str, ...]) -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(places.astype(np.int8), texts)


def _decimals(units: npt.NDArray[np.int64], digits: int, kind: str) -> pa.Array:
    """Return integers of 10**-digits as decimals of a type with no more places; what that lacks has to be zeros."""
    precise = precision(kind)
    assert precise is not None
    places = precise[1]
    low = units // 10 ** (digits - places)
    words = np.stack([low, low >> 63], axis=1)  # 128 bits, two's complement, little-endian
    return pa.Array.from_buffers(pa.decimal128(*precise), len(units), [None, pa.py_buffer(words)])
