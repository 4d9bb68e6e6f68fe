"""Made-up trades straight onto a tape, at a rate: what Spark takes, without the cost of an exchange and a producer."""

import itertools
import multiprocessing
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

import msgspec
from confluent_kafka import Producer

from fulltape.kafka import partition_of
from fulltape.messages import Trade

_TICK_SECONDS = 0.004
_STEPS = (0, 1, -1, 0, 2, -1, 0, 0, -1, 1, 0, -1)
"""Of the price, in cents, over and over; they end where they began."""
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
    trades = _trades(products)
    places = {product: partition_of(product, partitions) for product in products}
    encode = msgspec.json.Encoder().encode
    began, written = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - began) * rate)
        for trade in itertools.islice(trades, due - written):
            producer.produce(topic, encode(trade), trade.product, places[trade.product])
        written = due
        producer.poll(0)
        time.sleep(_TICK_SECONDS)


def _trades(products: Sequence[str]) -> "itertools.chain[Trade]":
    """Yield trades of all products in turn, at the time of now, each chained to those before as on a tape."""
    return itertools.chain.from_iterable(_round(products, number) for number in itertools.count(1))


def _round(products: Sequence[str], number: int) -> list[Trade]:
    now_us = time.time_ns() // 1000
    ends = [6_351_460 + sum(_STEPS[: (number - back) % len(_STEPS)]) for back in (0, 1, 2)]
    price, previous, second_previous = (f"{cents / 100:.2f}" for cents in ends)
    return [
        Trade(
            product=product,
            trade_id=number,
            price=price,
            size=_SIZES[(number + place) % len(_SIZES)],
            taker_side="buy" if number % 3 else "sell",
            time_us=now_us,
            sequence=number,
            received_us=now_us,
            source="stream",
            previous_price=previous,
            second_previous_price=second_previous,
            run_ticks=0,
            run_start_us=now_us,
            run_start_price=previous,
            pane_high="63514.70",
            pane_low=min(price, "63514.50"),
        )
        for place, product in enumerate(products)
    ]
