"""When trades got how far: a topic watched as messages arrive, and each trade's time to the first that reflects it.

Panes and windows are conflated, so a trade has no message of its own: it has arrived with the first one whose `last_id`
is its id or a later one. That way every trade counts, not only those that happened to be the newest.
"""

import threading
import time
from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Self

import msgspec
import numpy as np
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient
from numpy.typing import NDArray

from fulltape.audit.reader import WholeTopic

_POLL_SECONDS = 0.1
_APART_US = 1_000_000
"""Slow trades that are further apart are of two pauses."""

Ints = NDArray[np.int64]


class Marks(NamedTuple):
    """Ids of one product in the order of their arrival, none below one before it; and when each arrived."""

    ids: Ints
    at_us: Ints


class Trades(NamedTuple):
    """Trades of one product by ascending id: their ids, exchange times, and whole-millisecond times on the tape."""

    ids: Ints
    time_us: Ints
    tape_us: Ints


class Pause(NamedTuple):
    """A stretch of exchange time whose trades took long."""

    at_us: int
    """When its first trade was."""
    trades: int
    longest_us: int


class PaneMark(msgspec.Struct):
    """What counts of a pane here: whole numbers alone after the product, the id first."""

    product: str
    last_id: int


class WindowMark(msgspec.Struct):
    """What counts of a window here: when its newest trade passed each stage."""

    product: str
    last_id: int
    trade_us: int
    tape_us: int
    pane_us: int
    published_us: int


class _TapeTrade(msgspec.Struct, tag="trade", tag_field="type"):
    product: str
    trade_id: int
    time_us: int


class Arrivals:
    """Watches a topic of panes or windows from now on, in a thread, while the context lasts.

    It polls, and notes one time for each drain: a client that waits to fill a batch would add that wait to what it
    measures. ``kind`` says what is kept of a message.
    """

    def __init__(
        self,
        bootstrap_servers: str,
        topic: str,
        kind: type[PaneMark] | type[WindowMark],
        *,
        only_keys_with: bytes = b"",
    ) -> None:
        self._kind = kind
        self._only = only_keys_with
        self._rows: defaultdict[str, array[int]] = defaultdict(lambda: array("q"))
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

    def rows(self) -> dict[str, Ints]:
        """Return by product what has arrived: a row a message, of the kind's numbers and the arrival in us."""
        width = len(self._kind.__struct_fields__)
        return {product: np.array(row, np.int64).reshape(-1, width) for product, row in self._rows.items()}

    def marks(self) -> dict[str, Marks]:
        """Return the ids that have arrived, by product."""
        return {
            product: Marks(np.maximum.accumulate(rows[:, 0]), np.maximum.accumulate(rows[:, -1]))
            for product, rows in self.rows().items()
        }

    def _watch(self) -> None:
        only, rows, consume = self._only, self._rows, self._consumer.consume
        decode: Any = msgspec.json.Decoder(self._kind).decode
        while not self._stop.is_set():
            first = self._consumer.poll(_POLL_SECONDS)
            if first is None:
                continue
            at_us = time.time_ns() // 1000
            for message in (first, *consume(1000, 0)):
                if message.error() is None and only in (message.key() or b""):
                    product, *numbers = msgspec.structs.astuple(decode(message.value()))
                    rows[product].extend((*numbers, at_us))


def marks(seen: Iterable[tuple[str, int, int]]) -> dict[str, Marks]:
    """Gather (product, last id, arrival in us) by product, in order of arrival."""
    ids: defaultdict[str, list[int]] = defaultdict(list)
    times: defaultdict[str, list[int]] = defaultdict(list)
    for product, last_id, at_us in seen:
        ids[product].append(last_id)
        times[product].append(at_us)
    return {
        product: Marks(np.maximum.accumulate(np.array(ids[product], np.int64)), np.array(times[product], np.int64))
        for product in ids
    }


def read_trades(bootstrap_servers: str, topic: str, *, since_us: int = 0) -> dict[str, Trades]:
    """Read the tape, to what is its end now, from its first record on or the first that was written at a time."""
    decode: Any = msgspec.json.Decoder(_TapeTrade).decode
    rows: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
    with WholeTopic({"bootstrap.servers": bootstrap_servers}, topic, since_us=since_us) as tape:
        for message in tape.messages():
            try:
                trade = decode(message.value())
            except msgspec.ValidationError:  # a gap record
                continue
            rows[trade.product].append((trade.trade_id, trade.time_us, message.timestamp()[1] * 1000))
    return {product: Trades(*np.array(sorted(rows[product]), np.int64).T) for product in rows}


def latencies_us(
    trades: Mapping[str, Trades], arrived: Mapping[str, Marks], from_us: int, until_us: int, *, since_tape: bool = False
) -> Ints:
    """Return for each trade of a stretch of exchange time how long it took to the first mark that reflects it.

    Trades that no mark reflects are left out; `unseen` counts them. With ``since_tape`` the time counts from when the
    trade was written to the tape, which Kafka notes in whole milliseconds, rounded down.
    """
    parts = []
    for product, rows, index, known in _joined(trades, arrived, from_us, until_us):
        began = (trades[product].tape_us if since_tape else trades[product].time_us)[rows][known]
        parts.append(arrived[product].at_us[index[known]] - began)
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def pauses(
    trades: Mapping[str, Trades], arrived: Mapping[str, Marks], from_us: int, until_us: int, *, over_us: int
) -> list[Pause]:
    """Return, in order, when the trades of a stretch of exchange time took longer than ``over_us`` to a mark."""
    parts = [np.empty((0, 2), np.int64)]
    for product, rows, index, known in _joined(trades, arrived, from_us, until_us):
        began = trades[product].time_us[rows][known]
        parts.append(np.column_stack((began, arrived[product].at_us[index[known]] - began)))
    every = np.concatenate(parts)
    slow = every[every[:, 1] > over_us]
    slow = slow[np.argsort(slow[:, 0])]
    ends = np.flatnonzero(np.diff(slow[:, 0]) > _APART_US) + 1
    return [Pause(int(one[0, 0]), len(one), int(one[:, 1].max())) for one in np.split(slow, ends) if len(one)]


def unseen(trades: Mapping[str, Trades], arrived: Mapping[str, Marks], from_us: int, until_us: int) -> int:
    """Count the trades of a stretch of exchange time that no mark reflects."""
    return sum(int((~known).sum()) for *_, known in _joined(trades, arrived, from_us, until_us)) + sum(
        int(((rows.time_us >= from_us) & (rows.time_us < until_us)).sum())
        for product, rows in trades.items()
        if product not in arrived
    )


def _joined(
    trades: Mapping[str, Trades], arrived: Mapping[str, Marks], from_us: int, until_us: int
) -> Iterable[tuple[str, NDArray[np.bool_], Ints, NDArray[np.bool_]]]:
    for product in trades.keys() & arrived.keys():
        rows = (trades[product].time_us >= from_us) & (trades[product].time_us < until_us)
        index = np.searchsorted(arrived[product].ids, trades[product].ids[rows], side="left")
        yield product, rows, index, index < len(arrived[product].ids)


def consumer_from_now_on(bootstrap_servers: str, topic: str) -> Consumer:
    """Return a consumer of all partitions of a topic, of the committed records that come from now on."""
    partitions = AdminClient({"bootstrap.servers": bootstrap_servers}).list_topics(topic, timeout=10)
    consumer = Consumer(
        {
            "bootstrap.servers": bootstrap_servers,
            "group.id": f"{topic}.bench",
            "isolation.level": "read_committed",
            "enable.auto.commit": False,
            "auto.offset.reset": "latest",
            "fetch.queue.backoff.ms": 1,
        }
    )
    consumer.assign([TopicPartition(topic, number) for number in partitions.topics[topic].partitions])
    return consumer
