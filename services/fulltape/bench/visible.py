"""A consumer as a user would run it: notes when each trade becomes visible to whoever reads only what is committed."""

import threading
import time
from typing import Any, NamedTuple, Self

import msgspec

from fulltape.bench.arrivals import consumer_from_now_on
from fulltape.messages import Trade

_POLL_SECONDS = 0.1


class Sighting(NamedTuple):
    """One trade, seen."""

    seen_us: int
    received_us: int
    time_us: int
    backfilled: bool


class VisibilityWatch:
    """Reads a tape from now on, in a thread, while the context lasts; ``sightings`` then holds every trade seen.

    It polls message by message: a client that waits to fill a batch would add that wait to what it measures.
    """

    def __init__(self, bootstrap_servers: str, topic: str) -> None:
        self.sightings: list[Sighting] = []
        self._stop = threading.Event()
        self._consumer = consumer_from_now_on(bootstrap_servers, topic)
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._consumer.close()

    def _watch(self) -> None:
        decode: Any = msgspec.json.Decoder(Trade).decode
        while not self._stop.is_set():
            message = self._consumer.poll(_POLL_SECONDS)
            if message is None or message.error() is not None:
                continue
            seen_us = time.time_ns() // 1000
            try:
                trade: Trade = decode(message.value())
            except msgspec.ValidationError:  # a gap record
                continue
            self.sightings.append(Sighting(seen_us, trade.received_us, trade.time_us, trade.source == "backfill"))
