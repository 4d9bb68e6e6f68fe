"""The exact computation that windows are held against, itself held against numbers worked out by hand."""

import math
import statistics
from decimal import Decimal
from itertools import pairwise
from typing import Any

import msgspec
import pytest

from fulltape.messages import Window
from tests.exact import PRICE, RELATIVE, SIZE, ExactWindow, Recorded, disagreements, exact_windows


def trade(trade_id: int, seconds: str, price: str, size: str = "1", *, bought: bool = True) -> Recorded:
    units = int(Decimal(price) * PRICE), int(Decimal(size) * SIZE)
    return Recorded(trade_id, int(Decimal(seconds) * 1_000_000), *units, bought)


THREE = [
    trade(1, "100.2", "10", "1"),
    trade(2, "100.8", "11", "2", bought=False),
    trade(4, "103.5", "9.9", "3"),
]
UP, DOWN = math.log(1.1), math.log(0.9)


def windows(trades: list[Recorded], seconds: int) -> dict[int, ExactWindow]:
    """Return windows by their ends in seconds."""
    return {window.end_us // 1_000_000: window for window in exact_windows(trades, seconds)}


def test_there_is_a_window_for_every_second_from_the_first_trades_to_the_last_ones() -> None:
    assert list(windows(THREE, 2)) == [101, 102, 103, 104]
    assert [window.end_us for window in exact_windows(THREE, 2, through_us=106_000_000)][-1] == 106_000_000


def test_a_window_of_the_first_trades() -> None:
    window = windows(THREE, 2)[101]
    assert window[:-1] == (
        *(101_000_000, 2, 0),
        *(Decimal(3), Decimal(32), Decimal(1)),
        *(Decimal(10), Decimal(11), Decimal(10), Decimal(11), Decimal(11)),
        *(2, Decimal(2), 100_800_000),
    )
    measures = window.measures
    known = {name: value for name, value in measures.items() if value is not None}
    assert known == pytest.approx(
        {
            "trades": 2,
            "staleness": 0.2,
            "vwap": 32 / 3,
            "vwapDeviation": 11 * 3 / 32 - 1,
            "sma": 10.5,
            "twap": 11,
            "ema": 11,
            "realizedVolatility": UP,
            "annualizedVolatility": UP * math.sqrt(365 * 86_400 / 2),
            "largestReturn": UP,
            "parkinson": UP / math.sqrt(4 * math.log(2)),
            "garmanKlass": UP * math.sqrt(0.5 - 2 * math.log(2) + 1),
            "rogersSatchell": 0,
            "drawdown": 0,
            "runUp": 0.1,
            "miniCrash": 0,
            "orderFlowImbalance": -1 / 3,
            "roundSizeShare": 1,
        },
        rel=1e-15,
    )


def test_a_window_without_trades_knows_the_last_price() -> None:
    window = windows(THREE, 2)[103]
    nothing = Decimal(0)
    assert window[1:6] == (0, 0, nothing, nothing, nothing)
    assert window[6:-1] == (None, None, None, None, Decimal(11), 2, None, 100_800_000)
    known = {name: value for name, value in window.measures.items() if value is not None}
    assert known == pytest.approx({"trades": 0, "staleness": 2.2, "twap": 11, "ema": 11, "ewmaVolatility": 0})


def test_returns_cross_the_windows_border() -> None:
    measures = windows(THREE, 2)[104].measures
    assert measures["realizedVolatility"] == pytest.approx(-DOWN, rel=1e-15)
    assert measures["bipowerVariation"] == pytest.approx(math.pi / 2 * UP * -DOWN, rel=1e-15)
    assert measures["jumpRatio"] == 0
    assert measures["amihudIlliquidity"] == pytest.approx(-DOWN / 29.7, rel=1e-15)
    assert measures["twap"] == pytest.approx((11 + 9.9) / 2, rel=1e-15)
    assert measures["ema"] == pytest.approx((11 / 3 + 9.9) / (4 / 3), rel=1e-15)
    assert measures["ewmaVolatility"] == pytest.approx(-DOWN, rel=1e-15)


def test_a_window_over_all() -> None:
    window = windows(THREE, 5)[104]
    measures = window.measures
    assert (window.trades, window.missing) == (3, 1)
    assert measures["priceChangeStdDev"] == pytest.approx(statistics.stdev([1.0, -1.1]), rel=1e-15)
    assert measures["bipowerVariation"] == pytest.approx(math.pi / 2 * 2 * UP * -DOWN, rel=1e-15)
    assert measures["jumpRatio"] == pytest.approx(max(0, 1 - math.pi * UP * -DOWN / (UP**2 + DOWN**2)), abs=1e-15)
    squares = [0.94**2 * 0, 0.94 * 0, DOWN**2]
    assert measures["ewmaVolatility"] == pytest.approx(math.sqrt(sum(squares) / (1 + 0.94 + 0.94**2)), rel=1e-15)
    assert measures["drawdown"] == pytest.approx(0.1, rel=1e-15)
    assert measures["recovery"] == 0


def test_of_equal_falls_the_one_from_the_higher_peak_counts() -> None:
    prices = ["10", "9.9", "20", "19.8", "19.9"]
    tape = [trade(number, f"100.{number}", price) for number, price in enumerate(prices)]
    assert windows(tape, 1)[101].measures["drawdown"] == 0.01
    assert windows(tape, 1)[101].measures["recovery"] == 0.5


@pytest.mark.parametrize(("milliseconds", "moved"), [(100, 0.1), (200, 0.0)])
def test_a_mini_crash_is_ten_ticks_one_way_within_a_second_and_a_half(milliseconds: int, moved: float) -> None:
    prices = [99, 100, 99, 98, 97, 96, 96, 95, 94, 93, 92, 91, 90]
    tape = [
        trade(number, str(Decimal(number * milliseconds) / 1000), str(price)) for number, price in enumerate(prices)
    ]
    assert list(windows(tape, 60).values())[-1].measures["miniCrash"] == moved


def test_first_digits_say_nothing_of_fewer_than_fifty_sizes() -> None:
    tape = [trade(number, f"100.{number:03}", "5", "0.0107") for number in range(50)]
    measures = windows(tape, 1)[101].measures
    shares = [math.log10(1 + 1 / digit) for digit in range(1, 10)]
    assert measures["firstDigitDeviation"] == pytest.approx((1 - shares[0] + sum(shares[1:])) / 9, rel=1e-15)
    assert measures["roundSizeShare"] == 0
    assert windows(tape[1:], 1)[101].measures["firstDigitDeviation"] is None


def test_z_scores_are_against_the_hour_of_windows_that_ended_by_the_windows_start() -> None:
    counts = [number % 3 + number % 7 + 1 for number in range(4_500)]
    tape = [
        trade(second * 10 + number, f"{second}.{number}", "5")
        for second, count in enumerate(counts)
        for number in range(count)
    ]
    found = windows(tape, 2)
    rates = [before + after for before, after in pairwise(counts)]  # of the ends 2, 3, ...
    assert found[602].measures["tradeRateZScore"] is None  # of the 600 windows that it would take, 599 are known
    for end in (603, 604, 3_605, 4_500):
        usual = rates[max(end - 4 - 3_599, 0) : end - 3]
        wanted = (rates[end - 2] - statistics.mean(usual)) / statistics.stdev(usual)
        assert found[end].measures["tradeRateZScore"] == pytest.approx(wanted, rel=1e-12)
    assert found[4_500].measures["orderFlowZScore"] is None  # all that was traded was bought: nothing varies


def published(exact: ExactWindow) -> Window:
    """Return a window that says just what it must."""
    fields: dict[str, Any] = {
        name: format(value, "f") if isinstance(value, Decimal) else value for name, value in exact._asdict().items()
    }
    return Window(product="X-Y", window="5s", start_us=0, received_us=0, tape_us=0, pane_us=0, published_us=0, **fields)


def test_the_comparison_sees_what_is_wrong() -> None:
    exact = windows(THREE, 5)[104]
    window = published(exact)
    assert list(disagreements(window, exact)) == []
    vwap = exact.measures["vwap"]
    assert vwap is not None
    for wrong in (vwap * (1 + 2 * RELATIVE), None):
        changed = msgspec.structs.replace(window, measures=window.measures | {"vwap": wrong})
        (line,) = disagreements(changed, exact)
        assert line.startswith("vwap is ")
    unknown = msgspec.structs.replace(window, measures=window.measures | {"tradeRateZScore": 0.0})
    assert list(disagreements(unknown, exact)) == ["tradeRateZScore is 0.0, not None"]
    lost = msgspec.structs.replace(window, missing=0, open=None)
    assert list(disagreements(lost, exact)) == ["missing is 0, not 1", "open is None, not 10"]
