"""The figures of a run follow from the metrics that its parts serve."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.exposition import generate_latest

from fulltape.readings import Figures, Meter, Recent, buckets, quantile, samples


def metrics(records: int, delays: list[float], *, histogram: str = "commit_delay", stage: str = "") -> str:
    """Return what a part with these metrics serves."""
    registry = CollectorRegistry()
    Counter("fulltape_tape_records", "-", registry=registry).inc(records)
    labels = ["stage"] if stage else []
    delay = Histogram(f"fulltape_{histogram}_seconds", "-", labels, buckets=(0.01, 0.02, 0.04), registry=registry)
    for value in delays:
        (delay.labels(stage) if stage else delay).observe(value)
    return generate_latest(registry).decode()


def test_only_what_is_asked_for_is_read() -> None:
    text = 'a_total{x="1"} 5\na_total{x="odd \\"one\\" {y}"} 2\na_totals 3\ngarbage that nobody asked for {{{\n'
    found = [(sample.labels["x"], sample.value) for sample in samples(text, {"a_total"})]
    assert found == [("1", 5), ('odd "one" {y}', 2)]


def test_text_that_is_not_of_the_format_is_refused() -> None:
    with pytest.raises(ValueError, match="ten"):
        samples("a_total ten\n", {"a_total"})


def test_a_histogram_is_summed_over_its_labels() -> None:
    text = (
        'h_bucket{le="1",a="x"} 1\nh_bucket{le="+Inf",a="x"} 2\nh_bucket{le="1",a="y"} 3\nh_bucket{le="+Inf",a="y"} 3\n'
    )
    assert buckets(samples(text, {"h_bucket"}), "h") == {1: 4, math.inf: 5}


@pytest.mark.parametrize(
    ("counts", "share", "value"),
    [
        ({}, 0.5, None),
        ({1.0: 0, math.inf: 0}, 0.5, None),
        ({1.0: 10, 2.0: 20, math.inf: 20}, 0.5, 1.0),
        ({1.0: 10, 2.0: 20, math.inf: 20}, 0.75, 1.5),
        ({1.0: 0, 2.0: 10, math.inf: 10}, 0.1, 1.1),
        ({1.0: 10, math.inf: 20}, 0.9, 1.0),
        ({-1.0: 10, math.inf: 10}, 0.5, -1.0),
    ],
)
def test_a_quantile_is_interpolated_as_prometheus_does(
    counts: dict[float, float], share: float, value: float | None
) -> None:
    assert quantile(counts, share) == (None if value is None else pytest.approx(value))


@given(
    st.lists(st.floats(0.001, 90), min_size=1, max_size=200),
    st.sampled_from([0.01, 0.5, 0.9, 0.99]),
)
def test_a_quantile_lies_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    bounds = [0.01, 0.1, 1, 10, 100, math.inf]
    counts = {bound: float(sum(value <= bound for value in values)) for bound in bounds}
    true = sorted(values)[max(0, math.ceil(share * len(values)) - 1)]
    found = quantile(counts, share)
    assert found is not None
    upper = min(bound for bound in bounds if true <= bound)
    lower = max([0.0, *(bound for bound in bounds if bound < true)])
    assert lower <= found <= upper


def test_a_rate_is_of_the_last_seconds_alone() -> None:
    recent: Recent[str] = Recent(10)
    assert recent.per_second() is None
    for second in range(100):
        recent.add(second, {"a": 0 if second < 50 else (second - 50) * 7})
    assert recent.per_second() == pytest.approx(7)


def test_a_program_that_begins_anew_never_makes_a_rate_negative() -> None:
    recent: Recent[str] = Recent(10)
    for second, count in enumerate([100, 110, 2, 12, 22]):
        recent.add(second, {"a": count})
        assert (recent.per_second() or 0) >= 0
    assert recent.per_second() == pytest.approx(10)


def test_the_figures_are_of_all_producers_and_of_the_tape_while_there_are_no_windows() -> None:
    meter = Meter()
    assert meter.figures() == Figures()
    meter.add(0, {"producer-0": metrics(10, [0.001] * 1000), "producer-1": metrics(4, [])})
    meter.add(2, {"producer-0": metrics(30, [0.001] * 1000 + [0.03] * 10), "producer-1": metrics(10, [])})
    figures = meter.figures()
    assert figures.trades_per_second == pytest.approx(13)
    assert figures.way == "socket to tape"
    assert figures.p50_seconds == pytest.approx(0.03)
    assert figures.p99_seconds == pytest.approx(0.0398)


def test_once_there_are_windows_the_latency_is_to_them() -> None:
    meter = Meter()
    windows = {"histogram": "stage", "stage": "received_to_window"}
    for second in range(3):
        monitor = metrics(0, [0.015] * second, **windows)
        meter.add(second, {"producer-0": metrics(second * 7, [0.001] * second), "monitor": monitor})
    assert meter.figures() == Figures(7, "socket to window", pytest.approx(0.015), pytest.approx(0.0199))
