"""What a stream does follows from the feed, its number and the environment; mistakes in them are said."""

import dataclasses

import pytest

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


@pytest.mark.parametrize(("length", "first"), [(300.0, 30.0), (10.0, 10.0)])
@pytest.mark.parametrize("replicas", [1, 2])
def test_what_a_start_has_read_again_is_kept_soon(length: float, first: float, replicas: int) -> None:
    settings = dataclasses.replace(stream(0, replicas), batch_seconds=length)
    assert batch_seconds(settings, 0, now=1234.5) == first


def test_a_single_stream_gives_way_to_nobody() -> None:
    assert [batch_seconds(stream(0, 1), batch, now=1234.5) for batch in (1, 2, 3)] == [300, 300, 300]


@pytest.mark.parametrize("now", [0.0, 1.0, 149.0, 150.0, 291.0, 299.9, 1_763_850_000.7])
def test_two_streams_never_pause_together_whenever_they_were_started(now: float) -> None:
    boundaries = [(now + batch_seconds(stream(number, 2), 1, now)) % 300 for number in (0, 1)]
    assert min(boundaries[0], 300 - boundaries[0]) == pytest.approx(0, abs=1e-6)
    assert boundaries[1] == pytest.approx(150)
    assert all(5 <= batch_seconds(stream(number, 2), 1, now) <= 305 for number in (0, 1))
    assert all(batch_seconds(stream(number, 2), 2, now) == 300 for number in (0, 1))


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
