"""Recorded trades as a source: CSV and NDJSON files, merged by time, at any speed.

CSV (``.csv``, ``.csv.gz``) has a header and the columns exchange, symbol, timestamp (exchange time, us),
local_timestamp, id, side (the taker's), price, amount. NDJSON (``.ndjson``, ``.ndjson.gz``) has one message of the
Coinbase Exchange feed a line; `match` and `last_match` are trades, all else is passed over. Ids that the recording
lacks exist nowhere in the sandbox: not on the feed and not in REST.
"""

import csv
import gzip
import zlib
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from fulltape.errors import ConfigurationError
from fulltape.sandbox.products import Product
from fulltape.sandbox.trades import MAX_ORDER_TRADES, PRICE_DECIMALS, SIZE_DECIMALS, Block, Integers, Trades

Clock = Literal["now", "recorded"]
"""Whose time a replayed trade bears: the moment when it is sent, or the recording's own."""

_CSV_COLUMNS = ["exchange", "symbol", "timestamp", "local_timestamp", "id", "side", "price", "amount"]
_BLOCK_TRADES = 2_000
_FIRST_SEQUENCE = 50_000_000
_LARGEST = 2**63 - 1


class _Row(NamedTuple):
    product_id: str
    trade_id: int
    price: int
    size: int
    maker_buys: bool
    time_us: int
    sequence: int
    """0 where the recording has none."""


_NUMBERS = ("trade_id", "price", "size", "maker_buys", "time_us", "sequence")


class _Match(msgspec.Struct):
    product_id: str
    trade_id: int
    price: str
    size: str
    side: Literal["buy", "sell"]
    time: str
    sequence: int


class _Envelope(msgspec.Struct):
    type: str


_decode_envelope = msgspec.json.Decoder(_Envelope).decode
_decode_match = msgspec.json.Decoder(_Match).decode


class Recording(NamedTuple):
    """What files hold: each trade once, in order of time, of each product in order of id."""

    products: tuple[Product, ...]
    trades: Trades


def read_recording(paths: Sequence[Path], progress: Callable[[int], None] | None = None) -> Recording:
    """Read and merge recordings; a trade that several files or lines hold counts once, as first read.

    Args:
        paths: the files, in any order.
        progress: called now and then with the number of trades read.

    Raises:
        ConfigurationError: a file that can't be read, a line that is no trade (with file and line), or no trade at all.

    """
    product_ids: dict[str, int] = {}
    names = ("product", *_NUMBERS)
    read = {name: array("q") for name in names}
    for path in paths:
        for row in _read(path):
            read["product"].append(product_ids.setdefault(row.product_id, len(product_ids)))
            for name in _NUMBERS:
                read[name].append(getattr(row, name))
            if progress and len(read["product"]) % 10_000 == 0:
                progress(len(read["product"]))
    if not product_ids:
        raise ConfigurationError(f"no trades in {', '.join(map(str, paths))}; name a recording that holds some")
    columns = {name: np.frombuffer(values, dtype=np.int64) for name, values in read.items()}
    by_id = np.lexsort(
        (columns["trade_id"], columns["product"])
    )  # stable: of a trade read twice, the first stays first
    columns = {name: values[by_id] for name, values in columns.items()}
    fresh = (np.diff(columns["product"], prepend=-1) | np.diff(columns["trade_id"], prepend=-1)) != 0
    columns = {name: values[fresh] for name, values in columns.items()}
    product = columns["product"]
    starts = np.flatnonzero(np.diff(product, prepend=-1))
    # The ids are the exchange's own order, so within a product nothing is due before what precedes it.
    due_us = np.concatenate([np.maximum.accumulate(part) for part in np.split(columns["time_us"], starts[1:])])
    columns["sequence"] = _sequences(columns["sequence"], starts)
    columns["fill"] = _fills(columns)
    trades = Trades.of(**columns).take(np.argsort(due_us, kind="stable"))
    return Recording(tuple(_product(name, trades, index) for index, name in enumerate(product_ids)), trades)


class Replay:
    """A recording as a source.

    Args:
        recording: what is replayed.
        speed: times as fast as recorded; None as fast as the clients take it.
        clock: whose time the trades bear.

    Raises:
        ConfigurationError: the speed is not above 0.

    """

    def __init__(self, recording: Recording, *, speed: float | None = 1.0, clock: Clock = "now") -> None:
        if speed is not None and not speed > 0:
            raise ConfigurationError(f"a speed of {speed:g} is not possible; choose one above 0, or max")
        self.products = recording.products
        self._trades = recording.trades
        self._speed = speed
        self._clock = clock
        self._next = 0
        self._begun_us = 0
        self.shares = np.bincount(self._trades.product, minlength=len(self.products)) / len(self._trades)

    def __len__(self) -> int:
        return len(self._trades)

    def begin(self, now_us: int) -> Trades:
        """Start the replay's clock; no trade has been made before the recording's first."""
        self._begun_us = now_us
        return self._trades.take(slice(0))

    def block(self) -> Block | None:
        """Return the next stretch, or None when all has been replayed."""
        trades = self._trades.take(slice(self._next, self._next + _BLOCK_TRADES))
        self._next += len(trades)
        if not len(trades):
            return None
        passed_us = trades.time_us - self._trades.time_us[0]
        if self._speed is None:
            due_us = np.full(len(trades), self._begun_us, dtype=np.int64)
        else:
            due_us = self._begun_us + (passed_us / self._speed).astype(np.int64)
        due_us = np.maximum.accumulate(due_us)
        if self._clock == "now":
            trades = replace(trades, time_us=due_us)
        return Block(trades, due_us, int(due_us[-1]))


def _sequences(recorded: Integers, starts: npt.NDArray[np.intp]) -> Integers:
    """Return the recorded sequences; where a product has none, sparse ones, the same each time."""
    gaps = np.random.default_rng(0).geometric(0.05, len(recorded))
    parts = [
        part if part.all() else _FIRST_SEQUENCE + np.cumsum(gap)
        for part, gap in zip(np.split(recorded, starts[1:]), np.split(gaps, starts[1:]), strict=True)
    ]
    return np.concatenate(parts)


def _fills(columns: dict[str, Integers]) -> Integers:
    """Return each trade's place in its taker order: the trades of one product, microsecond and side."""
    begins = np.zeros(len(columns["trade_id"]), dtype=np.bool_)
    for name in ("product", "time_us", "maker_buys"):
        begins |= np.diff(columns[name], prepend=-1) != 0
    first = np.maximum.accumulate(np.where(begins, np.arange(len(begins)), 0))
    return (columns["trade_id"] - columns["trade_id"][first]) % MAX_ORDER_TRADES


def _product(product_id: str, trades: Trades, index: int) -> Product:
    """Describe a product by its trades: the increments are the finest seen."""
    mine = trades.product == index
    tick = int(np.gcd.reduce(_powers_of_ten(trades.price[mine], PRICE_DECIMALS)))
    lot = int(np.gcd.reduce(_powers_of_ten(trades.size[mine], SIZE_DECIMALS)))
    return Product(
        product_id, Decimal(tick).scaleb(-PRICE_DECIMALS).normalize(), Decimal(lot).scaleb(-SIZE_DECIMALS).normalize()
    )


def _powers_of_ten(units: Integers, decimals: int) -> Integers:
    """Return for each number the largest power of ten, of at most one, that divides it."""
    powers = np.ones_like(units)
    for exponent in range(1, decimals + 1):
        powers[units % 10**exponent == 0] = 10**exponent
    return powers


def _read(path: Path) -> Iterator[_Row]:
    name = path.name.removesuffix(".gz")
    readers = {".csv": _csv_row, ".ndjson": _ndjson_row, ".jsonl": _ndjson_row}
    reader = readers.get(Path(name).suffix)
    if reader is None:
        raise ConfigurationError(
            f"{path}: not a recording by its name; use .csv, .ndjson or .jsonl, with or without .gz"
        )
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    row = reader(line, number)
                except (ValueError, msgspec.DecodeError) as problem:
                    raise ConfigurationError(f"{path}, line {number}: {problem}; mend or remove the line") from None
                if row:
                    yield row
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as problem:
        raise ConfigurationError(f"{path}: can't be read: {problem}; is it there, whole, and UTF-8?") from None


def _csv_row(line: str, number: int) -> _Row | None:
    values = next(csv.reader([line]), [])
    if number == 1:
        if values != _CSV_COLUMNS:
            raise ValueError(f"the header must be {','.join(_CSV_COLUMNS)}")
        return None
    if len(values) != len(_CSV_COLUMNS):
        raise ValueError(f"{len(values)} columns instead of {len(_CSV_COLUMNS)}")
    _, symbol, time_us, _, trade_id, side, price, amount = values
    if side not in {"buy", "sell"}:
        raise ValueError(f"side {side!r} is neither buy nor sell")
    return _Row(
        product_id=symbol,
        trade_id=_positive(int(trade_id), "id"),
        price=_units(price, PRICE_DECIMALS, "price"),
        size=_units(amount, SIZE_DECIMALS, "amount"),
        maker_buys=side == "sell",
        time_us=_positive(int(time_us), "timestamp"),
        sequence=0,
    )


def _ndjson_row(line: str, _: int) -> _Row | None:
    if _decode_envelope(line).type not in {"match", "last_match"}:
        return None
    match = _decode_match(line)
    moment = datetime.fromisoformat(match.time)
    if moment.tzinfo is None:
        raise ValueError(f"time {match.time!r} lacks its zone")
    return _Row(
        product_id=match.product_id,
        trade_id=_positive(match.trade_id, "trade_id"),
        price=_units(match.price, PRICE_DECIMALS, "price"),
        size=_units(match.size, SIZE_DECIMALS, "size"),
        maker_buys=match.side == "buy",
        time_us=int(moment.replace(microsecond=0).timestamp()) * 1_000_000 + moment.microsecond,
        sequence=match.sequence,
    )


def _positive(value: int, name: str) -> int:
    if not 0 < value <= _LARGEST:
        raise ValueError(f"{name} {value} is not a positive number of 64 bits")
    return value


def _units(text: str, decimals: int, name: str) -> int:
    """Return an exact decimal as an integer of 10**-decimals.

    Raises:
        ValueError: not a positive number, or one that this precision can't hold.

    """
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise ValueError(f"{name} {text!r} is not a number")
    scaled = value.scaleb(decimals)
    if not 0 < scaled <= _LARGEST or scaled != int(scaled):
        raise ValueError(f"{name} {text!r} is not above 0 with at most {decimals} decimals")
    return int(scaled)
