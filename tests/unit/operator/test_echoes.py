"""A watch that is missing is told from one that lags, and from one that has nothing to tell."""

import pytest

from fulltape_operator.desired.child import Key
from fulltape_operator.echoes import Echoes

TOPIC = Key("KafkaTopic", "markets", "majors.trades")
OTHER = Key("KafkaTopic", "markets", "majors.panes")
SERVICE = Key("Service", "markets", "majors-page")


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def echoes(clock: Clock) -> Echoes:
    return Echoes([], clock)


def test_where_nothing_is_awaited_no_watch_is_thought_missing(echoes: Echoes, clock: Clock) -> None:
    echoes.hear(TOPIC, 1)
    clock.seconds += 1000
    assert echoes.silent() == set()


def test_what_is_not_told_of_for_long_shows_which_watch_is_missing(echoes: Echoes, clock: Clock) -> None:
    echoes.await_one(TOPIC, 5)
    echoes.hear(SERVICE, 6)
    clock.seconds += 10
    assert echoes.silent() == set()
    clock.seconds += 10
    assert echoes.silent() == {"KafkaTopic"}


def test_a_later_version_is_an_echo_too_and_an_earlier_one_is_none(echoes: Echoes, clock: Clock) -> None:
    echoes.await_one(TOPIC, 5)
    echoes.await_one(SERVICE, 5)
    echoes.hear(TOPIC, 7)
    echoes.hear(SERVICE, 4)
    clock.seconds += 20
    assert echoes.silent() == {"Service"}


def test_a_watch_that_lags_but_tells_is_not_missing(echoes: Echoes, clock: Clock) -> None:
    echoes.await_one(TOPIC, 5)
    clock.seconds += 20
    echoes.hear(OTHER, 3)
    assert echoes.silent() == set()
    clock.seconds += 20
    assert echoes.silent() == {"KafkaTopic"}


def test_who_is_written_again_and_again_is_still_overdue(echoes: Echoes, clock: Clock) -> None:
    for version in (5, 6, 7):
        echoes.await_one(TOPIC, version)
        clock.seconds += 10
    assert echoes.silent() == {"KafkaTopic"}


def test_of_what_is_gone_or_is_in_no_watched_namespace_nothing_is_awaited(echoes: Echoes, clock: Clock) -> None:
    echoes.await_one(TOPIC, 5)
    echoes.forget(TOPIC)
    elsewhere = Echoes(["kafka"], clock)
    elsewhere.await_one(TOPIC, 5)
    clock.seconds += 20
    assert echoes.silent() == elsewhere.silent() == set()
