"""Exact decimals as the wire has them: checked and compared without ever being rounded."""

import re
from decimal import Decimal

_PLAIN = re.compile(r"[0-9]{1,30}(?:\.[0-9]{1,30})?").fullmatch


def is_decimal(text: str) -> bool:
    """Tell whether ``text`` is a plain decimal of zero or more."""
    return _PLAIN(text) is not None


def is_positive_decimal(text: str) -> bool:
    """Tell whether ``text`` is a plain positive decimal such as ``0.00001``: no sign, exponent, blank or NaN.

    >>> [is_positive_decimal(text) for text in ("1", "0.10", "0.0", "-1", "1e3", "NaN", "")]
    [True, True, False, False, False, False, False]
    """
    return _PLAIN(text) is not None and float(text) > 0


def shortest_decimal(text: str) -> str:
    """Write a plain decimal without the zeros that add nothing to it, as the WebSocket feed does and REST does not.

    >>> [shortest_decimal(text) for text in ("63514.60000000", "2.00000000", "100", "0.00000001")]
    ['63514.6', '2', '100', '0.00000001']
    """
    return text.rstrip("0").rstrip(".") if "." in text else text


def compare_decimals(left: str, right: str) -> int:
    """Return -1, 0 or 1 as ``left`` is below, equal to or above ``right``, exactly.

    Rounding to a float never turns an order around, so unequal floats decide; equal ones leave it to exact decimals.
    """
    if left == right:
        return 0
    left_value, right_value = float(left), float(right)
    if left_value == right_value:
        exact_left, exact_right = Decimal(left), Decimal(right)
        return (exact_left > exact_right) - (exact_left < exact_right)
    return 1 if left_value > right_value else -1
