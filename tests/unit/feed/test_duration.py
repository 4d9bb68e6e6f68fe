"""Durations keep their text and compare by their length."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.feed.duration import Duration

UNITS_US = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}

numbers = st.integers(0, 999_999_999)
units = st.sampled_from(sorted(UNITS_US))


@settings(deadline=None)
@given(numbers, units)
def test_a_duration_is_its_number_times_its_unit_and_keeps_its_text(number: int, unit: str) -> None:
    duration = Duration(f"{number}{unit}")
    assert duration.us == number * UNITS_US[unit]
    assert duration.seconds == pytest.approx(number * UNITS_US[unit] / 1e6)
    assert str(duration) == f"{number}{unit}"


@settings(deadline=None)
@given(st.integers(0, 99_999), st.sampled_from([("s", "ms", 1000), ("m", "s", 60), ("h", "m", 60), ("d", "h", 24)]))
def test_the_same_length_in_another_unit_is_equal(number: int, step: tuple[str, str, int]) -> None:
    larger, smaller, ratio = step
    one, other = Duration(f"{number}{larger}"), Duration(f"{number * ratio}{smaller}")
    assert one == other
    assert hash(one) == hash(other)
    assert one != Duration(f"{number + 1}{larger}")


@settings(deadline=None)
@given(st.text(max_size=8))
def test_any_other_text_is_refused_by_its_own_words(text: str) -> None:
    number, unit = text.rstrip("mshd"), text[len(text.rstrip("mshd")) :]
    written_well = number.isascii() and number.isdigit() and str(int(number)) == number and unit in UNITS_US
    if written_well:
        assert Duration(text).us == int(number) * UNITS_US[unit]
    else:
        with pytest.raises(ValueError, match="is not a duration; write a whole number and ms, s, m, h or d"):
            Duration(text)


@pytest.mark.parametrize(
    "text", ["", "5", "m", "1.5s", "-1s", "01s", "1 s", "1s\n", "1h30m", "1S", "1us", "1234567890s"]
)
def test_what_only_looks_like_a_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a duration"):
        Duration(text)
