"""What is read of several partitions, whatever the order of the times in them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from confluent_kafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st

from fulltape.monitor import reader as module
from fulltape.monitor.reader import Place, Reader


@dataclass
class Record:
    """A message as the client gives it."""

    place: Place
    number: int
    written_ms: int

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int:
        return self.number

    def timestamp(self) -> tuple[int, int]:
        return 1, self.written_ms

    def error(self) -> None:
        return None


class Client:
    """The client: a few messages of the partitions that are not paused, in turns; it never comes to their ends."""

    def __init__(self, records: Sequence[Sequence[Record]]) -> None:
        self._waiting = [list(part) for part in records]
        self._paused: set[int] = set()

    def assign(self, places: list[TopicPartition]) -> None:
        pass

    def pause(self, places: list[TopicPartition]) -> None:
        self._paused |= {place.partition for place in places}

    def resume(self, places: list[TopicPartition]) -> None:
        self._paused -= {place.partition for place in places}

    def consume(self, count: int, timeout: float) -> list[Any]:
        found = []
        for partition, waiting in enumerate(self._waiting):
            if partition not in self._paused:
                found += waiting[:3]
                del waiting[:3]
        return found

    def poll(self, timeout: float) -> None:
        return None


_TIMES = st.lists(st.lists(st.integers(0, 30), min_size=20, max_size=60), min_size=1, max_size=3)


@given(_TIMES)
def test_all_before_the_limits_is_handed_out_once_whatever_the_times(times: list[list[int]]) -> None:
    places = [("panes", partition) for partition in range(len(times))]
    records = [
        [Record(place, number, written_ms) for number, written_ms in enumerate(part)]
        for place, part in zip(places, times, strict=True)
    ]
    limits = {place: len(part) - 5 for place, part in zip(places, records, strict=True)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_HELD_HIGH", 6)
        patch.setattr(module, "_HELD_LOW", 2)
        reader = Reader(Client(records), dict.fromkeys(places, 0))  # type: ignore[arg-type]
        found: list[Any] = []
        for _ in range(200):
            if reader.reached(limits):
                break
            found += reader.read(0, limits)
    for place in places:
        assert sorted(record.number for record in found if record.place == place) == list(range(limits[place]))
