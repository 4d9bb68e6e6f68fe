"""What a stream does follows from the feed, its number and the environment; mistakes in them are said."""

import dataclasses
from math import isclose

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape.bench.stage import FeedOptions, make_feed
from fulltape.errors import ConfigurationError
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import ClientConfiguration
from fulltape_spark.panes import PanesSettings, batch_seconds, panes_settings


def feed(replicas: int = 1) -> CryptoFeed:
    return make_feed("majors", FeedOptions(["BTC-USD"], analytics={"replicas": replicas}))


def stream(number: int, replicas: int, *, trigger: str = "real-time") -> PanesSettings:
    return PanesSettings(
        feed=feed(replicas),
        kafka=ClientConfiguration({}),
        stream=number,
        checkpoint="",
        trigger=trigger,  # type: ignore[arg-type]
        batch_seconds=300.0,
        warm=False,
        host="127.0.0.1",
        port=0,
    )


def boundaries(number: int, replicas: int, started: float, *, length: float = 300.0) -> list[float]:
    """Return when each batch of a stream ends, in the first half an hour."""
    settings = dataclasses.replace(stream(number, replicas), batch_seconds=length)
    ends = [started]
    while ends[-1] < started + 1_800:
        ends.append(ends[-1] + batch_seconds(settings, len(ends) - 1, ends[-1]))
    return ends[1:]


@pytest.mark.parametrize("length", [300.0, 3600.0, 10.0])
@pytest.mark.parametrize("replicas", [1, 2])
@given(started=st.floats(0, 2e9))
def test_what_a_start_has_read_again_is_kept_soon(length: float, replicas: int, started: float) -> None:
    first = boundaries(replicas - 1, replicas, started, length=length)[0]
    assert 4.9 <= first - started <= min(30, length) + 5


def test_a_single_stream_gives_way_to_nobody() -> None:
    assert boundaries(0, 1, 1234.5)[:3] == [1264.5, 1564.5, 1864.5]


@given(started=st.tuples(st.floats(0, 2e9), st.floats(-600, 600)))
def test_two_streams_never_pause_together_whenever_they_were_started(started: tuple[float, float]) -> None:
    first, second = boundaries(0, 2, started[0]), boundaries(1, 2, sum(started))
    assert min(abs(one - other) for one in first for other in second) > 9.9
    assert all(isclose(end % 300, 0, abs_tol=1e-3) or isclose(end % 300, 300, abs_tol=1e-3) for end in first[1:])
    assert all(isclose(end % 300, 150, abs_tol=1e-3) for end in second[1:])


def test_micro_batches_have_no_boundary_to_move() -> None:
    assert {batch_seconds(stream(1, 2, trigger="micro-batch"), batch, now=1.0) for batch in (0, 1, 2)} == {300}


def settings_of(feed: CryptoFeed, number: int, **environment: str) -> PanesSettings:
    return panes_settings(feed, number, None, environment, host="127.0.0.1", port=0)


def test_a_feed_without_analytics_has_no_panes() -> None:
    with pytest.raises(ConfigurationError, match=r"has no spec\.analytics"):
        settings_of(make_feed("majors", FeedOptions(["BTC-USD"])), 0)


def test_an_address_that_is_not_of_s3a_is_no_folder() -> None:
    with pytest.raises(ConfigurationError, match="give a folder or s3a://bucket/prefix"):
        panes_settings(feed(), 0, "s3://bucket/prefix", {}, host="127.0.0.1", port=0)


@pytest.mark.parametrize("number", [-1, 2])
def test_a_stream_that_the_feed_has_not_is_refused(number: int) -> None:
    with pytest.raises(ConfigurationError, match=rf"no stream {number}: spec\.analytics\.replicas is 2"):
        settings_of(feed(2), number)


def test_an_unknown_trigger_is_refused_with_those_there_are() -> None:
    with pytest.raises(ConfigurationError, match="set it to real-time or micro-batch"):
        settings_of(feed(), 0, FULLTAPE_TRIGGER="hourly")


@pytest.mark.parametrize("text", ["soon", "1s", "0s"])
def test_a_batch_that_is_no_duration_or_too_short_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="FULLTAPE_BATCH"):
        settings_of(feed(), 0, FULLTAPE_BATCH=text)
