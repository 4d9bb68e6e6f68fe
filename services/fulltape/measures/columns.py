"""What a pane is made of: the SQL that aggregates it from the trades of the tape, and that of each of its fields.

The one definition that the streaming application and the tests read. It is Spark SQL of built-in functions alone, over
the fields of `messages.Trade` and ``tape_us``. Each trade goes through each column of the aggregate three times (to sum
it, to add it to what is stored, to write the pane), so there are few: what belongs together is one structure, counts
share an integer.

Differences of prices are taken between decimals, before anything becomes a float, and log returns by log1p of the
relative change: at 65,000.01 a tick of 0.01 would otherwise lose ten of its sixteen digits.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

PANE_SECONDS = 1
"""The length of a pane; every window and slide is a multiple."""

MINI_CRASH_TICKS, MINI_CRASH_US = 10, 1_500_000
"""A run of this many ticks one way within this time is a mini crash: Nanex, "Flash Crash Summary Report" (2010)."""

_PRICE, _SIZE = "DECIMAL(18, 10)", "DECIMAL(22, 8)"
"""Eight and fourteen digits before the point, and every increment of the exchange after it. A decimal of 18 digits is
an integer to Spark, one of more is an object: sizes are too far apart to do with less."""

_COUNT_BITS = 21
"""Bits of a count: a second of a product has fewer than two million trades. Three counts share an integer of 64."""

TRADE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "p": f"try_cast(price AS {_PRICE})",
        "q": f"try_cast(size AS {_SIZE})",
        "p1": f"try_cast(previous_price AS {_PRICE})",
        "p2": f"try_cast(second_previous_price AS {_PRICE})",
        "peak": f"try_cast(pane_high AS {_PRICE})",
        "trough": f"try_cast(pane_low AS {_PRICE})",
        "departed": f"try_cast(run_start_price AS {_PRICE})",
        "digits": "trim(LEADING '0' FROM replace(size, '.', ''))",
    }
)
"""Computed for each trade from its fields."""

USABLE = (
    "product IS NOT NULL AND trade_id IS NOT NULL AND taker_side IN ('buy', 'sell') AND time_us > 0 "
    "AND received_us IS NOT NULL AND run_ticks IS NOT NULL "
    "AND p > 0 AND q > 0 AND CAST(p AS DOUBLE) * CAST(q AS DOUBLE) < 1e18D "
    "AND peak >= p AND trough > 0 AND trough <= p "
    "AND (previous_price IS NULL OR p1 > 0) AND (second_previous_price IS NULL OR p2 > 0) "
    "AND (run_start_price IS NULL OR departed > 0)"
)
"""Holds for each trade that is as trades are, over its fields and `TRADE_COLUMNS`; else false or null. What fails it
would make a sum overflow or divide by zero, and so end the stream."""

RETURN_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "x": "CAST(p AS DOUBLE)",
        "change": "CAST(p - p1 AS DOUBLE)",
        "r": "log1p(CAST(p - p1 AS DOUBLE) / CAST(p1 AS DOUBLE))",
        "r1": "log1p(CAST(p1 - p2 AS DOUBLE) / CAST(p2 AS DOUBLE))",
        "fall": "CAST(peak - p AS DOUBLE) / CAST(peak AS DOUBLE)",
        "rise": "CAST(p - trough AS DOUBLE) / CAST(trough AS DOUBLE)",
        "run": (
            f"CASE WHEN abs(run_ticks) >= {MINI_CRASH_TICKS} AND time_us - run_start_us <= {MINI_CRASH_US} "
            "THEN abs(CAST(p - departed AS DOUBLE) / CAST(departed AS DOUBLE)) ELSE 0D END"
        ),
        "digit": "CAST(left(digits, 1) AS INT)",
    }
)
"""Computed for each trade from `TRADE_COLUMNS`."""


def _counts(conditions: Sequence[str]) -> str:
    """Return the SQL that counts for how many trades each of up to three conditions holds, in one integer."""
    ones = [
        f"CASE WHEN {condition} THEN {1 << _COUNT_BITS * place}L ELSE 0L END"
        for place, condition in enumerate(conditions)
    ]
    return f"sum({' + '.join(ones)})"


def _count(counts: str, place: int) -> str:
    """Return the SQL of one of the counts that share an integer."""
    return f"shiftright({counts}, {_COUNT_BITS * place}) & {(1 << _COUNT_BITS) - 1}L"


AGGREGATES: Mapping[str, str] = MappingProxyType(
    {
        "trades": "count(*)",
        "volume": "sum(q)",
        "notional": "sum(p * q)",
        "buy_volume": "sum(CASE WHEN taker_side = 'buy' THEN q ELSE 0BD END)",
        "price_mean": "avg(x)",
        "price_variance": "var_pop(x)",
        "change_sum": "sum(coalesce(change, 0D))",
        "change_squares": "sum(coalesce(change * change, 0D))",
        "return_squares": "sum(coalesce(r * r, 0D))",
        "return_fourths": "sum(coalesce(r * r * r * r, 0D))",
        "bipower": "sum(coalesce(abs(r) * abs(r1), 0D))",
        "largest_return": "max(coalesce(abs(r), 0D))",
        "first": "min(struct(trade_id, p, time_us, p1))",
        "last": "max(struct(trade_id, p, time_us))",
        "highest": "max(struct(p, time_us))",
        "lowest": "min(struct(p, -time_us AS minus_time_us))",
        "fallen": "max(struct(fall, peak, p))",
        "run_up": "max(rise)",
        "mini_crash": "max(run)",
        "largest_size": "max(q)",
        "occurrences": _counts(["change IS NOT NULL", "r1 IS NOT NULL", "length(trim(TRAILING '0' FROM digits)) = 1"]),
        "digits_1_to_3": _counts([f"digit = {digit}" for digit in (1, 2, 3)]),
        "digits_4_to_6": _counts([f"digit = {digit}" for digit in (4, 5, 6)]),
        "digits_7_to_9": _counts([f"digit = {digit}" for digit in (7, 8, 9)]),
        "received_us": "max(received_us)",
        "tape_us": "max(tape_us)",
    }
)
"""Aggregated from the trades of a product and a second."""

_DIGITS = [
    _count(digits, place) for digits in ("digits_1_to_3", "digits_4_to_6", "digits_7_to_9") for place in range(3)
]

PANE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "trades": "trades",
        "volume": "volume",
        "notional": "notional",
        "buy_volume": "buy_volume",
        "price_mean": "price_mean",
        "price_square_deviations": "price_variance * trades",
        "changes": _count("occurrences", 0),
        "change_sum": "change_sum",
        "change_squares": "change_squares",
        "return_squares": "return_squares",
        "return_fourths": "return_fourths",
        "return_pairs": _count("occurrences", 1),
        "bipower": "bipower",
        "largest_return": "largest_return",
        "open": "first.p",
        "high": "highest.p",
        "low": "lowest.p",
        "close": "last.p",
        "open_us": "first.time_us",
        "high_us": "highest.time_us",
        "low_us": "-lowest.minus_time_us",
        "close_us": "last.time_us",
        "previous_price": "first.p1",
        "drawdown_peak": "fallen.peak",
        "drawdown_trough": "fallen.p",
        "run_up": "run_up",
        "mini_crash": "coalesce(mini_crash, 0D)",
        "largest_size": "largest_size",
        "first_id": "first.trade_id",
        "last_id": "last.trade_id",
        "first_digits": f"array({', '.join(_DIGITS)})",
        "round_sizes": _count("occurrences", 2),
        "received_us": "received_us",
        "tape_us": "tape_us",
    }
)
"""Each field of `messages.Pane` but its key, over `AGGREGATES`."""
