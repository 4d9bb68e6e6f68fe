"""What a pane is made of: for each field of `messages.Pane` the SQL that aggregates it from the trades of the tape.

The one definition that the streaming application and the tests read. It is Spark SQL of built-in functions alone, over
the fields of `messages.Trade` and ``tape_us``.

Differences of prices are taken between decimals, before anything becomes a float, and log returns by log1p of the
relative change: at 65,000.01 a tick of 0.01 would otherwise lose ten of its sixteen digits.
"""

from collections.abc import Mapping
from types import MappingProxyType

PANE_SECONDS = 1
"""The length of a pane; every window and slide is a multiple."""

MINI_CRASH_TICKS, MINI_CRASH_US = 10, 1_500_000
"""A run of this many ticks one way within this time is a mini crash: Nanex, "Flash Crash Summary Report" (2010)."""

_PRICE, _SIZE = "DECIMAL(22, 10)", "DECIMAL(22, 8)"
"""Twelve and fourteen digits before the point, and every increment of the exchange after it."""

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
    "AND p > 0 AND q > 0 AND p * q < 1e20BD AND peak >= p AND trough > 0 AND trough <= p "
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
        "digit": "left(digits, 1)",
    }
)
"""Computed for each trade from `TRADE_COLUMNS`."""

PANE_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "trades": "count(*)",
        "volume": "sum(q)",
        "notional": "sum(p * q)",
        "buy_volume": "sum(CASE WHEN taker_side = 'buy' THEN q ELSE 0BD END)",
        "price_mean": "avg(x)",
        "price_square_deviations": "var_pop(x) * count(x)",
        "changes": "count(change)",
        "change_sum": "coalesce(sum(change), 0D)",
        "change_squares": "coalesce(sum(change * change), 0D)",
        "return_sum": "coalesce(sum(r), 0D)",
        "return_squares": "coalesce(sum(r * r), 0D)",
        "return_fourths": "coalesce(sum(r * r * r * r), 0D)",
        "return_pairs": "count(r1)",
        "bipower": "coalesce(sum(abs(r) * abs(r1)), 0D)",
        "largest_return": "coalesce(max(abs(r)), 0D)",
        "open": "min_by(p, trade_id)",
        "high": "max(p)",
        "low": "min(p)",
        "close": "max_by(p, trade_id)",
        "open_us": "min_by(time_us, trade_id)",
        "high_us": "max_by(time_us, p)",
        "low_us": "min_by(time_us, p)",
        "close_us": "max_by(time_us, trade_id)",
        "previous_price": "min_by(p1, trade_id)",
        "drawdown": "max(fall)",
        "drawdown_peak": "max_by(CAST(peak AS DOUBLE), fall)",
        "drawdown_trough": "max_by(x, fall)",
        "run_up": "max(rise)",
        "mini_crash": "coalesce(max(run), 0D)",
        "largest_size": "max(q)",
        "first_id": "min(trade_id)",
        "last_id": "max(trade_id)",
        "first_digits": "array(" + ", ".join(f"count_if(digit = '{digit}')" for digit in range(1, 10)) + ")",
        "round_sizes": "count_if(length(trim(TRAILING '0' FROM digits)) = 1)",
        "received_us": "max(received_us)",
        "tape_us": "max(tape_us)",
    }
)
"""Aggregated from the trades of a product and a second; the names are those of `messages.Pane`'s fields."""
