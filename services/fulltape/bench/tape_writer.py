"""Made-up trades straight onto a tape, at a rate or all at once, without the cost of an exchange and a producer."""

import multiprocessing
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import msgspec
from confluent_kafka import Producer

from fulltape.coinbase.messages import Match
from fulltape.errors import KafkaUnavailableError
from fulltape.kafka import partition_of
from fulltape.producer.tail import Tail

_TICK_SECONDS = 0.004
_SAID_EVERY = 200_000
_FLUSH_SECONDS = 60.0
_PRICES = ("63514.60", "63514.61", "63514.60", "63514.62", "63514.61", "63514.61", "63514.62", "63514.61")
"""Over and over."""
_SIZES = ("0.01520000", "0.20000000", "1.00000000", "0.00350000", "0.07710000", "2.50000000", "0.91230000")


class TapeWriter:
    """A process of its own that writes while the context lasts."""

    def __init__(self, bootstrap_servers: str, topic: str, products: Sequence[str], rate: int, partitions: int) -> None:
        arguments = (bootstrap_servers, topic, tuple(products), rate, partitions)
        self._process = multiprocessing.get_context("spawn").Process(target=_write, args=arguments, daemon=True)

    def __enter__(self) -> Self:
        self._process.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.join()


def _write(bootstrap_servers: str, topic: str, products: Sequence[str], rate: int, partitions: int) -> None:
    producer = Producer({"bootstrap.servers": bootstrap_servers, "linger.ms": 0, "enable.idempotence": True})
    tails = [Tail(product, None) for product in products]
    places = [partition_of(product, partitions) for product in products]
    encode = msgspec.json.Encoder().encode
    began, written = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * rate)
        for count in range(written, due):
            number, place = divmod(count, len(products))
            now_us = time.time_ns() // 1000
            trade = tails[place].append(_match(products[place], number), now_us, now_us, "stream")
            producer.produce(topic, encode(trade), trade.product, places[place])
        written = due
        producer.poll(0)
        time.sleep(_TICK_SECONDS)


def fill_tape(
    bootstrap_servers: str,
    topic: str,
    products: Sequence[str],
    partitions: int,
    *,
    trades: int,
    rate: int,
    say: Callable[[str], None],
) -> dict[str, int]:
    """Write trades as fast as it goes, which by their times came at ``rate`` until now; return how many by product."""
    producer = Producer(
        {
            "bootstrap.servers": bootstrap_servers,
            "linger.ms": 20,
            "compression.type": "lz4",
            "enable.idempotence": True,
        }
    )
    tails = [Tail(product, None) for product in products]
    places = [partition_of(product, partitions) for product in products]
    encode = msgspec.json.Encoder().encode
    first_us = time.time_ns() // 1000 - trades * 1_000_000 // rate
    for count in range(trades):
        number, place = divmod(count, len(products))
        time_us = first_us + count * 1_000_000 // rate
        trade = tails[place].append(_match(products[place], number), time_us, time_us, "stream")
        value = encode(trade)
        while True:
            try:
                producer.produce(topic, value, trade.product, places[place])
                break
            except BufferError:  # the broker is slower
                producer.poll(0.1)
        if count % _SAID_EVERY == 0:
            producer.poll(0)
            say(f"put {count:,} of {trades:,} trades on the tape")
    if producer.flush(_FLUSH_SECONDS):
        raise KafkaUnavailableError(f"{bootstrap_servers} did not take all trades within {_FLUSH_SECONDS:g} s")
    return {tail.last.product: tail.last.trade_id for tail in tails if tail.last is not None}


def _match(product: str, number: int) -> Match:
    """Return one of a product's trades, as the exchange tells it."""
    return Match(
        product_id=product,
        trade_id=number + 1,
        price=_PRICES[number % len(_PRICES)],
        size=_SIZES[number % len(_SIZES)],
        side="sell" if number % 3 else "buy",
        time="",
        sequence=number + 1,
    )
