"""What Coinbase Exchange sends, decoded and checked: WebSocket messages and REST trades.

Decoding is strict about the fields that Fulltape uses and blind to all others, so that a field which Coinbase adds
changes nothing and a field that it breaks is noticed at once.
"""

from datetime import UTC, datetime
from functools import lru_cache
from typing import Annotated, Literal

import msgspec

from fulltape.decimals import is_decimal, is_positive_decimal
from fulltape.messages import UNDECODABLE, TakerSide

Side = Literal["buy", "sell"]
Id = Annotated[int, msgspec.Meta(gt=0, le=2**63 - 1)]

TAKER_OF_MAKER: dict[Side, TakerSide] = {"buy": "sell", "sell": "buy"}
"""A match names the maker's side; the taker's is the other."""


class MalformedMessageError(ValueError):
    """A message of a known type that can't be used; the text says which field and why."""


class Match(msgspec.Struct, tag="match", tag_field="type", gc=False):
    """One trade, live. ``side`` is the maker's."""

    product_id: str
    trade_id: Id
    price: str
    size: str
    side: Side
    time: str
    sequence: Id


class LastMatch(Match, tag="last_match"):
    """The newest trade at the moment of subscribing: the first message on `matches` for each product."""


class Ticker(msgspec.Struct, tag="ticker", tag_field="type", gc=False):
    """Best bid and offer after a taker order was matched. ``side`` is the taker's."""

    product_id: str
    trade_id: Id
    sequence: Id
    price: str
    last_size: str
    side: Side
    best_bid: str
    best_bid_size: str
    best_ask: str
    best_ask_size: str
    time: str


class Heartbeat(msgspec.Struct, tag="heartbeat", tag_field="type", gc=False):
    """Once a second for each product: how far its trades have come, so that a loss at the tail is seen."""

    product_id: str
    last_trade_id: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    sequence: int
    time: str


class Channel(msgspec.Struct):
    """One channel of a subscription."""

    name: str
    product_ids: list[str]


class Subscriptions(msgspec.Struct, tag="subscriptions", tag_field="type"):
    """The answer to a subscribe: all that this connection now receives."""

    channels: list[Channel]


class Error(msgspec.Struct, tag="error", tag_field="type"):
    """The exchange refuses what was sent."""

    message: str
    reason: str = ""


Message = Match | LastMatch | Ticker | Heartbeat | Subscriptions | Error


class RestTrade(msgspec.Struct, gc=False):
    """One trade as `GET /products/{id}/trades` lists it. ``side`` is the maker's."""

    trade_id: Id
    price: str
    size: str
    side: Side
    time: str


class Product(msgspec.Struct):
    """One product as `GET /products` lists it."""

    id: str
    status: str = "online"


class _Envelope(msgspec.Struct):
    type: str


_KNOWN = frozenset({"match", "last_match", "ticker", "heartbeat", "subscriptions", "error"})
_decoder: msgspec.json.Decoder[Message] = msgspec.json.Decoder(Message)
_decode = _decoder.decode
_decode_envelope = msgspec.json.Decoder(_Envelope).decode


def decode(raw: bytes | bytearray) -> Message | None:
    """Decode one WebSocket message; None for a type that Fulltape does not read.

    Raises:
        MalformedMessageError: it is no JSON object with a ``type``, or a known type with a missing or mistyped field.

    """
    try:
        return _decode(raw)
    except UNDECODABLE as problem:
        try:
            kind = _decode_envelope(raw).type
        except UNDECODABLE:
            raise MalformedMessageError(str(problem)) from None
        if kind not in _KNOWN:
            return None
        raise MalformedMessageError(str(problem)) from None


def check_trade(trade: Match | RestTrade) -> None:
    """Hold a trade to what the field's types can't say.

    Raises:
        MalformedMessageError: the price or the size is not a positive decimal.

    """
    if not is_positive_decimal(trade.price):
        raise MalformedMessageError(f"price {trade.price!r} is not a positive decimal - at `$.price`")
    if not is_positive_decimal(trade.size):
        raise MalformedMessageError(f"size {trade.size!r} is not a positive decimal - at `$.size`")


def check_ticker(ticker: Ticker) -> None:
    """Hold a ticker to what the fields' types can't say; an empty side of the book is quoted as zero.

    Raises:
        MalformedMessageError: a price or a size is no plain decimal, or the trade's is not positive.

    """
    for name in ("price", "last_size"):
        if not is_positive_decimal(getattr(ticker, name)):
            raise MalformedMessageError(f"{name} {getattr(ticker, name)!r} is not a positive decimal - at `$.{name}`")
    for name in ("best_bid", "best_bid_size", "best_ask", "best_ask_size"):
        if not is_decimal(getattr(ticker, name)):
            raise MalformedMessageError(f"{name} {getattr(ticker, name)!r} is not a decimal - at `$.{name}`")


@lru_cache(maxsize=4096)
def _second_us(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1_000_000


def parse_time_us(text: str) -> int:
    """Turn Coinbase's time, such as ``2026-07-07T22:58:16.156605Z``, into microseconds since the epoch.

    Many trades share a second, so its part of the text is parsed once.

    Raises:
        MalformedMessageError: it is not an ISO 8601 time in UTC.

    """
    try:
        if len(text) == 27 and text[19] == "." and text[26] == "Z" and text.isascii() and text[20:26].isdigit():
            return _second_us(text[:19]) + int(text[20:26])
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.utcoffset() is None:
        raise MalformedMessageError(f"time {text!r} is not an ISO 8601 time in UTC - at `$.time`")
    return int(moment.timestamp()) * 1_000_000 + moment.microsecond
