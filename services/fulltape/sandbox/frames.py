"""Trades to bytes, many at once: WebSocket frames of Coinbase's messages, and REST's list of trades.

A message is a row of bytes with a fixed place for every field. Numpy fills the rows of a whole block column by column,
unused places hold NUL, which no JSON text has, and taking the NULs out leaves all messages end to end. That costs about
a microsecond a message, a tenth of what formatting them one by one does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from fulltape.sandbox.trades import PRICE_DECIMALS, SIZE_DECIMALS, Flags, Integers, Trades

Bytes = npt.NDArray[np.uint8]

_HEADER_BYTES = 4
_SHORTEST_BYTES = 126  # from here on a frame's length takes two bytes, so the header is always of four
_TEXT_FRAME = 0x81  # FIN and opcode 1: RFC 6455, section 5.2
_ZERO = ord("0")
_INTEGER_DIGITS = 16
_PRODUCT_WIDTH = 24
_REST_DECIMALS = 8  # REST writes prices and sizes with eight decimals at least; the WebSocket trims the zeros

# Four characters to a word: one look-up writes four places.
_FOUR_DIGITS = np.frombuffer(b"".join(b"%04d" % number for number in range(10_000)), dtype=np.uint32)
_FOUR_HEX_DIGITS = np.frombuffer(b"".join(b"%04x" % number for number in range(65_536)), dtype=np.uint32)
_SIDES = np.array([list(b"sell"), list(b"buy\0")], dtype=np.uint8)
_KINDS = {kind: np.frombuffer(kind.encode().ljust(10, b"\0"), dtype=np.uint8) for kind in ("match", "last_match")}


class _Layout:
    """Where each field of a message stands in a row; built from literal bytes and (name, width) of fields."""

    def __init__(self, *parts: bytes | tuple[str, int]) -> None:
        row = bytearray()
        self._places: dict[str, slice] = {}
        for part in parts:
            if isinstance(part, bytes):
                row += part
            else:
                name, width = part
                self._places[name] = slice(len(row), len(row) + width)
                row += bytes(width)
        self._template = np.frombuffer(bytes(row), dtype=np.uint8)

    def fill(self, rows: int, fields: dict[str, Bytes]) -> tuple[Bytes, Integers]:
        """Return all messages end to end, and where each begins, with the end of the last as one more."""
        table = np.empty((rows, len(self._template)), dtype=np.uint8)
        table[:] = self._template
        for name, value in fields.items():
            table[:, self._places[name]] = value
        used = table != 0
        starts = np.zeros(rows + 1, dtype=np.int64)
        np.cumsum(np.count_nonzero(used, axis=1), out=starts[1:])
        return table[used], starts


@dataclass(frozen=True, slots=True)
class Frames:
    """Unmasked WebSocket text frames, end to end."""

    data: Bytes
    starts: Integers
    """Where each frame begins; one more at the end of the last."""

    def __len__(self) -> int:
        return len(self.starts) - 1

    def span(self, first: int, end: int) -> memoryview:
        """Return the bytes of the frames from ``first`` up to ``end``, without a copy."""
        return self.data.data[self.starts[first] : self.starts[end]]

    def chosen(self, first: int, end: int, wanted: Flags) -> memoryview:
        """Return the bytes of those frames from ``first`` up to ``end`` that ``wanted`` marks."""
        lengths = np.diff(self.starts[first : end + 1])
        return self.data[self.starts[first] : self.starts[end]][np.repeat(wanted, lengths)].data

    def each(self, first: int, end: int) -> list[memoryview]:
        """Return the frames from ``first`` up to ``end`` one by one."""
        view = self.data.data
        return [view[start:stop] for start, stop in pairwise(self.starts[first : end + 1].tolist())]


def text_frame(payload: bytes) -> bytes:
    """Return one unmasked text frame that holds the payload of less than 64 KiB."""
    if len(payload) < _SHORTEST_BYTES:
        return bytes((_TEXT_FRAME, len(payload))) + payload
    return bytes((_TEXT_FRAME, _SHORTEST_BYTES)) + len(payload).to_bytes(2) + payload


def payload_of(frame: bytes | memoryview) -> bytes:
    """Return what a frame made by this module holds."""
    return bytes(frame[_HEADER_BYTES if frame[1] == _SHORTEST_BYTES else 2 :])


_PLACEHOLDER = b"\1" * _HEADER_BYTES  # not NUL: lengths are written over it when the rows have been packed

_MATCH = _Layout(
    _PLACEHOLDER + b'{"type":"',
    ("kind", 10),
    b'","trade_id":',
    ("trade_id", _INTEGER_DIGITS),
    b',"maker_order_id":"',
    ("maker_order", 36),
    b'","taker_order_id":"',
    ("taker_order", 36),
    b'","side":"',
    ("side", 4),
    b'","size":"',
    ("size", 21),
    b'","price":"',
    ("price", 21),
    b'","product_id":"',
    ("product", _PRODUCT_WIDTH),
    b'","sequence":',
    ("sequence", _INTEGER_DIGITS),
    b',"time":"',
    ("time", 27),
    b'"}',
)

_TICKER = _Layout(
    _PLACEHOLDER + b'{"type":"ticker","sequence":',
    ("sequence", _INTEGER_DIGITS),
    b',"product_id":"',
    ("product", _PRODUCT_WIDTH),
    b'","price":"',
    ("price", 21),
    b'","open_24h":"',
    ("open", 21),
    b'","volume_24h":"',
    ("volume", 25),
    b'","low_24h":"',
    ("low", 21),
    b'","high_24h":"',
    ("high", 21),
    b'","volume_30d":"',
    ("volume_month", 25),
    b'","best_bid":"',
    ("bid", 21),
    b'","best_bid_size":"',
    ("bid_size", 21),
    b'","best_ask":"',
    ("ask", 21),
    b'","best_ask_size":"',
    ("ask_size", 21),
    b'","side":"',
    ("side", 4),
    b'","time":"',
    ("time", 27),
    b'","trade_id":',
    ("trade_id", _INTEGER_DIGITS),
    b',"last_size":"',
    ("size", 21),
    b'"}',
)

_REST_TRADE = _Layout(
    b'{"trade_id":',
    ("trade_id", _INTEGER_DIGITS),
    b',"side":"',
    ("side", 4),
    b'","size":"',
    ("size", 21),
    b'","price":"',
    ("price", 21),
    b'","time":"',
    ("time", 27),
    b'"},',
)


def encode_matches(trades: Trades, names: Bytes, *, kind: str = "match") -> Frames:
    """Return a `match` (or `last_match`) frame for each trade; ``names`` as `product_names` makes it."""
    first_of_order = trades.trade_id - trades.fill
    return _framed(
        _MATCH,
        len(trades),
        {
            "kind": _KINDS[kind],
            "trade_id": _integers(trades.trade_id),
            "maker_order": _order_ids(trades.product, trades.trade_id, salt=1),
            "taker_order": _order_ids(trades.product, first_of_order, salt=2),
            "side": _SIDES[trades.maker_buys.astype(np.intp)],
            "size": _decimals(trades.size, SIZE_DECIMALS),
            "price": _decimals(trades.price, PRICE_DECIMALS),
            "product": names[trades.product],
            "sequence": _integers(trades.sequence),
            "time": _times(trades.time_us),
        },
    )


@dataclass(frozen=True, slots=True)
class Statistics:
    """What a ticker says beyond its trade; a row for each ticker. Prices and sizes as in `Trades`."""

    open: Integers
    low: Integers
    high: Integers
    volume: npt.NDArray[np.float64]
    """In base units; a float, since a year of a penny token would overflow an integer of 1e-8 units."""
    tick: Integers


def encode_tickers(trades: Trades, statistics: Statistics, names: Bytes) -> Frames:
    """Return a `ticker` frame for each trade. The book is one tick wide around the trade; its sizes are invented."""
    taker_buys = ~trades.maker_buys
    volume = _volumes(statistics.volume)
    return _framed(
        _TICKER,
        len(trades),
        {
            "sequence": _integers(trades.sequence),
            "product": names[trades.product],
            "price": _decimals(trades.price, PRICE_DECIMALS),
            "open": _decimals(statistics.open, PRICE_DECIMALS),
            "volume": volume,
            "low": _decimals(statistics.low, PRICE_DECIMALS),
            "high": _decimals(statistics.high, PRICE_DECIMALS),
            "volume_month": volume,
            "bid": _decimals(trades.price - statistics.tick * taker_buys, PRICE_DECIMALS),
            "bid_size": _decimals(_book_sizes(trades, salt=3), SIZE_DECIMALS),
            "ask": _decimals(trades.price + statistics.tick * trades.maker_buys, PRICE_DECIMALS),
            "ask_size": _decimals(_book_sizes(trades, salt=4), SIZE_DECIMALS),
            "side": _SIDES[taker_buys.astype(np.intp)],
            "time": _times(trades.time_us),
            "trade_id": _integers(trades.trade_id),
            "size": _decimals(trades.size, SIZE_DECIMALS),
        },
    )


def encode_rest_trades(trades: Trades) -> bytes:
    """Return the JSON array that `GET /products/{id}/trades` answers with, in the order given."""
    listed, _ = _REST_TRADE.fill(
        len(trades),
        {
            "trade_id": _integers(trades.trade_id),
            "side": _SIDES[trades.maker_buys.astype(np.intp)],
            "size": _decimals(trades.size, SIZE_DECIMALS, keep=_REST_DECIMALS),
            "price": _decimals(trades.price, PRICE_DECIMALS, keep=_REST_DECIMALS),
            "time": _times(trades.time_us),
        },
    )
    return b"[" + listed.tobytes()[:-1] + b"]"


def product_names(product_ids: Sequence[str]) -> Bytes:
    """Return a table of the products' names, a row each, for the encoders to choose from."""
    return np.array([list(name.encode().ljust(_PRODUCT_WIDTH, b"\0")) for name in product_ids], dtype=np.uint8)


def iso_time(time_us: int) -> str:
    """Return a time as Coinbase writes it: ``2026-07-07T22:58:16.156605Z``."""
    return _times(np.array([time_us], dtype=np.int64)).tobytes().decode()


def _framed(layout: _Layout, rows: int, fields: dict[str, Bytes]) -> Frames:
    data, starts = layout.fill(rows, fields)
    begins = starts[:-1]
    lengths = np.diff(starts) - _HEADER_BYTES
    data[begins] = _TEXT_FRAME
    data[begins + 1] = _SHORTEST_BYTES
    data[begins + 2] = lengths >> 8
    data[begins + 3] = lengths & 0xFF
    return Frames(data, starts)


def _digits(values: Integers, groups: int) -> Bytes:
    """Return the last ``groups`` * 4 decimal digits of each value, zeros in front."""
    words = np.empty((len(values), groups), dtype=np.uint32)
    rest = values
    for group in range(groups - 1, -1, -1):
        quotient = rest // 10_000
        words[:, group] = _FOUR_DIGITS[rest - quotient * 10_000]
        rest = quotient
    return words.view(np.uint8)


def _blank_leading_zeros(digits: Bytes) -> None:
    """Put NUL for the zeros in front of each number, but for its last digit."""
    blank = np.ones(len(digits), dtype=np.bool_)
    for column in range(digits.shape[1] - 1):
        blank &= digits[:, column] == _ZERO
        if not blank.any():
            return
        digits[blank, column] = 0


def _integers(values: Integers) -> Bytes:
    digits = _digits(values, _INTEGER_DIGITS // 4)
    _blank_leading_zeros(digits)
    return digits


def _decimals(values: Integers, decimals: int, *, keep: int = 0) -> Bytes:
    """Return 21 places per value: integer digits, point, fraction; zeros trimmed but for ``keep`` of the fraction."""
    unit = 10**decimals
    whole = values // unit
    fraction = _digits(values - whole * unit, decimals // 4)
    blank = np.ones(len(values), dtype=np.bool_)
    for column in range(decimals - 1, keep - 1, -1):
        blank &= fraction[:, column] == _ZERO
        if not blank.any():
            break
        fraction[blank, column] = 0
    places = np.zeros((len(values), 21), dtype=np.uint8)
    whole_digits = _digits(whole, (20 - decimals) // 4)
    _blank_leading_zeros(whole_digits)
    places[:, : 20 - decimals] = whole_digits
    places[:, 20 - decimals] = np.where(fraction[:, 0] == 0, 0, ord("."))
    places[:, 21 - decimals :] = fraction
    return places


def _volumes(volumes: npt.NDArray[np.float64]) -> Bytes:
    """Return 25 places per value: integer digits, point, eight decimals."""
    whole = volumes.astype(np.int64)
    places = np.empty((len(volumes), 25), dtype=np.uint8)
    places[:, :16] = _integers(whole)
    places[:, 16] = ord(".")
    places[:, 17:] = _digits(((volumes - whole) * 10**8).astype(np.int64), 2)
    return places


def _times(times_us: Integers) -> Bytes:
    """Return 27 places per time: ``YYYY-MM-DDTHH:MM:SS.ffffffZ``."""
    seconds = times_us // 1_000_000
    micros = times_us - seconds * 1_000_000
    days, at_second = np.unique(seconds, return_inverse=True)  # a block holds few distinct seconds
    texts = np.datetime_as_string(days.astype("datetime64[s]"))
    heads = np.array([list(text.encode()) for text in texts.tolist()], dtype=np.uint8).reshape(-1, 19)
    places = np.empty((len(times_us), 27), dtype=np.uint8)
    places[:, :19] = heads[at_second]
    places[:, 19] = ord(".")
    places[:, 20:26] = _digits(micros, 2)[:, 2:]
    places[:, 26] = ord("Z")
    return places


def _scramble(product: npt.NDArray[np.int16], number: Integers, salt: int) -> npt.NDArray[np.uint64]:
    """Return 64 well-mixed bits per (product, number, salt): the finalizer of SplitMix64 (Steele et al., 2014)."""
    bits = number.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    bits += product.astype(np.uint64) * np.uint64(0xD1B54A32D192ED03) + np.uint64(salt * 0x632BE59BD9B4E019 % 2**64)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _order_ids(product: npt.NDArray[np.int16], number: Integers, salt: int) -> Bytes:
    """Return a version 4 UUID per row, the same one whenever the same trade is encoded."""
    bits = np.empty((len(number), 2), dtype=np.uint64)
    bits[:, 0] = _scramble(product, number, salt) & np.uint64(0xFFFFFFFFFFFF0FFF) | np.uint64(0x4000)
    bits[:, 1] = _scramble(product, number, salt + 16) & np.uint64(0x3FFFFFFFFFFFFFFF) | np.uint64(0x8000000000000000)
    words = np.stack([bits >> np.uint64(shift) & np.uint64(0xFFFF) for shift in (48, 32, 16, 0)], axis=2)
    digits = _FOUR_HEX_DIGITS[words.reshape(-1, 8).astype(np.intp)].view(np.uint8)
    places = np.full((len(number), 36), ord("-"), dtype=np.uint8)
    source = 0
    for start, width in ((0, 8), (9, 4), (14, 4), (19, 4), (24, 12)):
        places[:, start : start + width] = digits[:, source : source + width]
        source += width
    return places


def _book_sizes(trades: Trades, salt: int) -> Integers:
    """Return one to five times the trade's size: a stand-in for the rest of the book's best level."""
    return trades.size * (1 + (_scramble(trades.product, trades.trade_id, salt) % np.uint64(5)).astype(np.int64))
