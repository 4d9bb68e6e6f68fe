"""The pipeline's rates and latency histograms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape.dashboard.health import BUCKETS, FIRST_US, PER_OCTAVE, RATE_SECONDS, STAGES, Health, bucket, recent_rate
from tests.story import Story

SECOND = 1_000_000
WINDOW = Story(1_760_000_000, 10).window("BTC-USD", "1m", 5, last_id=1, now_us=50 * SECOND)


@given(st.integers(min_value=-(10**9), max_value=10**12))
def test_every_latency_falls_into_the_bucket_whose_bounds_hold_it(latency_us: int) -> None:
    index = bucket(latency_us)
    assert 0 <= index < BUCKETS
    if index:
        assert latency_us >= FIRST_US * 2 ** ((index - 1) / PER_OCTAVE) * (1 - 1e-9)
    if index < BUCKETS - 1:
        assert latency_us < FIRST_US * 2 ** (index / PER_OCTAVE) * (1 + 1e-9)


def test_rates_are_of_whole_seconds_and_idle_seconds_count_as_nothing() -> None:
    health = Health(10 * SECOND)
    health.count(5, 1, 10 * SECOND)
    health.count(7, 1, 10 * SECOND + 999_999)
    health.count(3, 1, 13 * SECOND)
    assert health.rates(14 * SECOND) == [12, 0, 0, 3]
    assert recent_rate(health.rates(14 * SECOND)) == pytest.approx(15 / 4)


def test_rates_go_back_so_far_and_no_further() -> None:
    health = Health(0)
    for second in range(RATE_SECONDS + 50):
        health.count(1, 0, second * SECOND)
    assert health.rates((RATE_SECONDS + 50) * SECOND) == [1] * RATE_SECONDS


def test_a_long_pause_costs_no_more_than_a_short_one_and_leaves_zeros() -> None:
    health = Health(0)
    health.count(1, 0, 0)
    health.passed(WINDOW, 0)
    later = 10**9 * SECOND
    assert health.rates(later) == [0] * RATE_SECONDS
    assert sum(map(sum, health.stages(later))) == 0


def test_latencies_are_forgotten_after_a_minute() -> None:
    health = Health(0)
    health.passed(WINDOW, 0)
    health.passed(WINDOW, 30 * SECOND)
    assert [sum(stage) for stage in health.stages(59 * SECOND)] == [2] * len(STAGES)
    assert [sum(stage) for stage in health.stages(60 * SECOND)] == [1] * len(STAGES)
    assert [sum(stage) for stage in health.stages(90 * SECOND)] == [0] * len(STAGES)


def test_each_stage_is_the_time_between_its_two_stamps() -> None:
    health = Health(50 * SECOND)
    health.passed(WINDOW, WINDOW.published_us + 4_000)
    expected = (900, 5_100, 5_000, 2_000, 4_000)
    assert [stage.index(1) for stage in health.stages(50 * SECOND)] == [bucket(us) for us in expected]


def test_a_clock_that_goes_back_does_no_harm() -> None:
    health = Health(100 * SECOND)
    health.count(1, 0, 100 * SECOND)
    health.count(2, 0, 90 * SECOND)
    assert health.rates(101 * SECOND) == [3]
