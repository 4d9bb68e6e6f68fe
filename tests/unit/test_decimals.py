"""Decimals off the wire: exact, positive, and compared without rounding."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape.decimals import compare_decimals, is_positive_decimal, shortest_decimal

texts = st.decimals(min_value=0, max_value=10**12, allow_nan=False, allow_infinity=False, places=12).map(
    lambda value: f"{value:f}"
)


@given(texts, texts)
def test_comparison_is_exact(left: str, right: str) -> None:
    exact = (Decimal(left) > Decimal(right)) - (Decimal(left) < Decimal(right))
    assert compare_decimals(left, right) == exact


def test_a_difference_below_a_floats_precision_counts() -> None:
    assert compare_decimals("100000.00000000000001", "100000.00000000000000") == 1
    assert compare_decimals("1.10", "1.1") == 0


@pytest.mark.parametrize("text", ["1", "0.00000001", "63514.60", "123456789012345678.123456789"])
def test_plain_positive_decimals_pass(text: str) -> None:
    assert is_positive_decimal(text)


@pytest.mark.parametrize(
    "text", ["0", "0.000", "-1", "+1", "1e5", "NaN", "inf", "", " 1", "1_000", ".5", "5.", "1,5", "٣"]
)
def test_everything_else_is_refused(text: str) -> None:
    assert not is_positive_decimal(text)


@given(texts)
def test_the_shortest_spelling_is_the_same_number(text: str) -> None:
    short = shortest_decimal(text)
    assert Decimal(short) == Decimal(text)
    assert shortest_decimal(short) == short
    assert short.count(".") == 0 or short[-1] not in "0."
