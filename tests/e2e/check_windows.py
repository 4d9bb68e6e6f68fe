"""Holds every window of a feed against its tape: ``python3 check_windows.py FEED BOOTSTRAP_SERVERS SECONDS...``.

It runs in a pod, as a file of its own. What a window must say is summed up anew from the tape's trades, second by
second, in exact decimals; windows of the newest seconds may still come, and are waited for. Of a length with a plus
behind it, which the feed was given later, windows must be there from the first of them on. Prints one JSON object: how
many windows were compared, and examples of those that are wrong or absent, with when each version was published; of the
first of them also the panes that are still there.
"""

import json
import sys
import time
from collections import defaultdict
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from fulltape.audit.reader import WholeTopic
from fulltape.messages import Gap, Pane, Trade, Window

_SECOND_US = 1_000_000
_PATIENCE_SECONDS = 60.0
_EXAMPLES = 5


class Sums(NamedTuple):
    """What a window or a second of a product says of its trades."""

    trades: int
    volume: Decimal
    notional: Decimal
    bought: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    first_id: int
    last_id: int


def read(topic: str, servers: str) -> list[bytes]:
    """Return all messages of a topic, each partition's in order."""
    with WholeTopic({"bootstrap.servers": servers}, topic) as whole:
        return [value for message in whole.messages() if (value := message.value()) is not None]


def join(parts: list[Sums]) -> Sums:
    """Add up neighbours in time."""
    return Sums(
        sum(part.trades for part in parts),
        sum((part.volume for part in parts), Decimal()),
        sum((part.notional for part in parts), Decimal()),
        sum((part.bought for part in parts), Decimal()),
        parts[0].open,
        max(part.high for part in parts),
        min(part.low for part in parts),
        parts[-1].close,
        parts[0].first_id,
        parts[-1].last_id,
    )


def seconds_of(tape: list[bytes]) -> dict[str, dict[int, Sums]]:
    """Return what each second of each product holds."""
    decode = msgspec.json.Decoder(Trade | Gap).decode
    trades: defaultdict[str, list[Trade]] = defaultdict(list)
    for value in tape:
        record = decode(value)
        if isinstance(record, Trade):
            trades[record.product].append(record)
    seconds: defaultdict[str, dict[int, list[Sums]]] = defaultdict(lambda: defaultdict(list))
    for product, records in trades.items():
        for trade in sorted(records, key=lambda trade: trade.trade_id):
            price, size = Decimal(trade.price), Decimal(trade.size)
            bought = size if trade.taker_side == "buy" else Decimal()
            single = Sums(1, size, price * size, bought, price, price, price, price, trade.trade_id, trade.trade_id)
            seconds[product][trade.time_us // _SECOND_US].append(single)
    return {product: {second: join(one) for second, one in held.items()} for product, held in seconds.items()}


def expected(tape: list[bytes], lengths: list[int]) -> dict[tuple[str, int, int], Sums]:
    """Return by product, length and end what windows must say, where one must be: a trade is in its last second."""
    found = {}
    for product, held in seconds_of(tape).items():
        # The first second may be of a stream that began in its midst, and the last is not over.
        first, last = min(held) + 1, max(held)
        for second in range(first, last):
            if second in held:
                for length in lengths:
                    if (start := second + 1 - length) >= first:
                        parts = [held[one] for one in range(start, second + 1) if one in held]
                        found[product, length, second + 1] = join(parts)
    return found


def said(window: Window) -> Sums | None:
    """Return a window as its sums; nothing of one without trades."""
    if window.open is None or window.high is None or window.low is None or window.close is None:
        return None
    exact = map(Decimal, (window.volume, window.notional, window.buy_volume))
    prices = map(Decimal, (window.open, window.high, window.low, window.close))
    first_id = window.last_id + 1 - window.trades - window.missing
    return Sums(window.trades, *exact, *prices, first_id, window.last_id)


def compare(wanted: dict[tuple[str, int, int], Sums], messages: list[bytes], later: set[int]) -> dict[str, Any]:
    """Hold the newest version of each window against what it must say."""
    decode = msgspec.json.Decoder(Window).decode
    versions: defaultdict[tuple[str, int, int], list[Window]] = defaultdict(list)
    for message in messages:
        window = decode(message)
        length = (window.end_us - window.start_us) // _SECOND_US
        versions[window.product, length, window.end_us // _SECOND_US].append(window)
    begins = {(product, length): end for product, length, end in sorted(versions, reverse=True) if length in later}
    due = [(product, length, end) for product, length, end in wanted if end >= begins.get((product, length), 0)]
    absent = [key for key in due if key not in versions]
    wrong = [key for key in due if key in versions and said(versions[key][-1]) != wanted[key]]
    return {
        "windows": len(due),
        "absent": len(absent),
        "wrong": len(wrong),
        "examples": [
            {"window": key, "wanted": repr(wanted[key]), "versions": [_outline(one) for one in versions.get(key, ())]}
            for key in (*absent[:_EXAMPLES], *wrong[:_EXAMPLES])
        ],
    }


def _outline(window: Window) -> dict[str, int]:
    return {"trades": window.trades, "last_id": window.last_id, "published_us": window.published_us}


def panes_of(window: tuple[str, int, int], feed: str, servers: str) -> dict[int, list[str]]:
    """Return by second the versions of a window's panes as they stand on their topic: where, when written, trades."""
    product, length, end = window
    decode = msgspec.json.Decoder(Pane).decode
    found: defaultdict[int, list[str]] = defaultdict(list)
    with WholeTopic({"bootstrap.servers": servers}, f"{feed}.panes") as whole:
        for message in whole.messages():
            pane = decode(message.value() or b"")
            second = pane.start_us // _SECOND_US
            if pane.product == product and end - length <= second < end:
                found[second].append(
                    f"{message.partition()}/{message.offset()} at {message.timestamp()[1]}: {pane.trades}"
                )
    return {second: [*versions[:1], *versions[1:][-2:]] for second, versions in sorted(found.items())}


def main(feed: str, servers: str, *lengths: str) -> None:
    """Compare until all is right, or for a minute."""
    wanted = expected(read(f"{feed}.trades", servers), [int(length.removesuffix("+")) for length in lengths])
    later = {int(length.removesuffix("+")) for length in lengths if length.endswith("+")}
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        result = compare(wanted, read(f"{feed}.windows", servers), later)
        if not (result["absent"] or result["wrong"]) or time.monotonic() > deadline:
            break
    if result["examples"]:
        result["panes"] = panes_of(result["examples"][0]["window"], feed, servers)
    sys.stdout.write(json.dumps(result))


if __name__ == "__main__":
    main(*sys.argv[1:])
