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
    return Echoes(clock)


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


def test_what_was_awaited_of_watches_that_begin_anew_is_not_asked_of_the_new_ones(echoes: Echoes, clock: Clock) -> None:
    echoes.await_one(TOPIC, 5)
    echoes.forget()
    clock.seconds += 20
    assert echoes.silent() == set()
