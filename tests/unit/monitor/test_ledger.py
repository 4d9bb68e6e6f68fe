"""What the ledger does with a client that lets it down."""

from collections.abc import Iterator
from threading import Event
from typing import Any

import pytest

from fulltape.monitor import ledger as module
from fulltape.monitor.ledger import Entry, Ledger
from fulltape.topics import Topics


class Client:
    """A transactional producer that takes everything, or, once its offsets are sent, never comes back."""

    def __init__(self, hung: Event | None = None) -> None:
        self._hung = hung
        self.committed = 0

    def begin_transaction(self) -> None:
        pass

    def send_offsets_to_transaction(self, *_: Any) -> None:
        if self._hung is not None:
            self._hung.wait()

    def commit_transaction(self, _: float) -> None:
        self.committed += 1


class Surroundings:
    """The consumer and the windows' producer, with nothing to tell."""

    def consumer_group_metadata(self) -> None:
        pass

    def committed(self, _: Any, timeout: float) -> list[Any]:
        return []

    def flush(self, _: float) -> int:
        return 0


@pytest.fixture
def hung() -> Iterator[Event]:
    ended = Event()
    yield ended
    ended.set()


def test_a_commit_is_made_once_more_where_the_client_never_comes_back(
    hung: Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.01)
    first, second = Client(hung), Client()
    clients = iter((first, second))
    around: Any = Surroundings()
    ledger = Ledger({}, Topics("majors"), around, around, "monitor")
    monkeypatch.setattr(ledger, "_new_producer", lambda: next(clients))
    ledger.open()
    ledger.commit(Entry((), {("majors.panes", 0): 7}, 0, 0))
    assert (first.committed, second.committed) == (0, 1)
    assert (ledger.commits, ledger.recoveries) == (1, 1)
