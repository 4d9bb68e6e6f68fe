"""The CryptoFeed's defaults, what it derives, and that it survives being written and read."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from fulltape.feed.duration import Duration
from fulltape.feed.load import load_feed, parse_feed
from fulltape.feed.model import CrossFieldError, CryptoFeed, Mistake
from fulltape.feed.patterns import PATTERNS, Pattern
from fulltape.measures.names import MEASURES

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))

LEAST: dict[str, Any] = {
    "apiVersion": "fulltape.dev/v1alpha1",
    "kind": "CryptoFeed",
    "metadata": {"name": "majors"},
    "spec": {"products": ["BTC-USD"], "kafka": {"strimziCluster": {"name": "feeds"}}},
}


def feed(**spec: Any) -> CryptoFeed:
    """Return the smallest feed, with these fields of its spec."""
    return CryptoFeed.model_validate({**LEAST, "spec": {**LEAST["spec"], **spec}})


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"majors.yaml", "strimzi.yaml", "aws-msk.yaml"}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_loads_and_survives_being_written_and_read(path: Path) -> None:
    loaded = load_feed(path)
    assert parse_feed(json.dumps(loaded.to_dict()).encode(), "again") == loaded


def test_the_smallest_feed_has_the_documented_defaults() -> None:
    spec = feed().spec
    assert spec.exchange == "Coinbase"
    assert spec.endpoints.websocket == "wss://ws-feed.exchange.coinbase.com"
    assert spec.endpoints.rest == "https://api.exchange.coinbase.com"
    assert spec.channels == ("matches",)
    assert (spec.producer.replicas, spec.producer.connections) == (1, 2)
    assert (spec.producer.start.since, spec.producer.start.trade_ids) == (None, None)
    assert (spec.kafka.topics.partitions, spec.kafka.topics.replicas) == (6, 3)
    assert spec.kafka.topics.retention == Duration("7d")
    assert (spec.analytics, spec.warehouse, spec.alerts) == (None, None, ())
    assert (spec.suspend, spec.retain) == (False, "Delete")


def test_empty_analytics_take_all_defaults() -> None:
    analytics = feed(analytics={}).spec.analytics
    assert analytics is not None
    assert analytics.windows == (Duration("1m"), Duration("5m"))
    assert (analytics.slide, analytics.watermark) == (Duration("1s"), Duration("10m"))


def test_topics_are_named_after_the_feed_unless_it_says_otherwise() -> None:
    kafka = {"strimziCluster": {"name": "feeds"}}
    assert feed().topics.trades == "majors.trades"
    assert feed(kafka={**kafka, "topics": {"prefix": "desk.majors"}}).topics.trades == "desk.majors.trades"


@pytest.mark.parametrize(
    ("kafka", "managed_by", "encrypted"),
    [
        ({"strimziCluster": {"name": "feeds"}}, "Strimzi", True),
        ({"strimziCluster": {"name": "feeds"}, "topicManagement": "Admin"}, "Admin", True),
        ({"bootstrapServers": "b:9092"}, "Admin", False),
        ({"bootstrapServers": "b:9094", "tls": {}}, "Admin", True),
        (
            {"bootstrapServers": "b:9096", "authentication": {"type": "scram-sha-512", "secretRef": {"name": "s"}}},
            "Admin",
            True,
        ),
    ],
)
def test_topics_and_encryption_follow_from_the_kind_of_kafka(
    *, kafka: dict[str, Any], managed_by: str, encrypted: bool
) -> None:
    spec = feed(kafka=kafka).spec.kafka
    assert (spec.topics_managed_by, spec.encrypted) == (managed_by, encrypted)


def test_what_the_api_server_adds_to_an_object_is_dropped() -> None:
    from_server = {
        **LEAST,
        "metadata": {"name": "majors", "uid": "1-2", "resourceVersion": "7", "managedFields": [], "generation": 2},
        "status": {"conditions": []},
    }
    assert CryptoFeed.model_validate(from_server) == feed()


def test_a_rule_may_name_its_window_in_another_unit() -> None:
    rule = {"name": "A", "measure": "drawdown", "window": "60s", "above": 0.1, "for": "2s"}
    (loaded,) = feed(analytics={}, alerts=[rule]).spec.alerts
    assert loaded.window == Duration("1m")
    assert loaded.held_for == Duration("2s")


def test_a_pattern_needs_no_threshold_and_takes_some() -> None:
    rules = [
        {"name": "A", "pattern": "flashCrash", "window": "1m"},
        {"name": "B", "pattern": "flashCrash", "window": "1m", "thresholds": {"drawdown": 0.03}},
    ]
    first, second = feed(analytics={}, alerts=rules).spec.alerts
    assert (first.pattern, first.measure, dict(first.thresholds)) == ("flashCrash", None, {})
    assert dict(second.thresholds) == {"drawdown": 0.03}


def test_alertmanagers_without_analytics_are_refused() -> None:
    with pytest.raises(ValidationError, match="there is no analytics; add analytics"):
        feed(alertmanagers=["http://a:9093"])


@pytest.mark.parametrize("pattern", PATTERNS.values(), ids=list(PATTERNS))
def test_a_pattern_watches_measures_with_thresholds_that_they_can_cross(pattern: Pattern) -> None:
    conditions = [condition for case in pattern.cases for condition in case]
    assert {condition.threshold for condition in conditions} == set(pattern.thresholds)
    for condition in conditions:
        measure = MEASURES[condition.measure]
        assert measure.least < pattern.thresholds[condition.threshold] < measure.most
        assert not measure.needs_ticker  # so that every feed can have every pattern


def test_a_rule_across_fields_names_the_field_at_fault() -> None:
    with pytest.raises(ValidationError) as caught:
        feed(products=["BTC-USD", "BTC-USD"])
    (details,) = caught.value.errors()
    cause = details["ctx"]["error"]
    assert isinstance(cause, CrossFieldError)
    assert details["loc"] == ("spec", "products")
    assert cause.mistakes == (Mistake((1,), "BTC-USD is already item 0 of the list; remove one"),)


def test_a_feed_never_changes() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        feed().spec.suspend = True


products = st.lists(
    st.from_regex(r"[A-Z0-9]{1,20}-[A-Z][A-Z0-9]{0,19}", fullmatch=True), min_size=1, max_size=20, unique=True
)


@settings(deadline=None)
@given(
    name=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,38}[a-z0-9])?", fullmatch=True),
    products=products,
    partitions=st.integers(1, 1000),
    retention=st.integers(60, 1_000_000).map("{}s".format),
    slide=st.integers(1, 60),
    steps=st.lists(st.integers(1, 60), min_size=1, max_size=8, unique=True),
    threshold=st.floats(0, 0.99),
)
def test_any_good_feed_survives_being_written_and_read(
    *, name: str, products: list[str], partitions: int, retention: str, slide: int, steps: list[int], threshold: float
) -> None:
    windows = [f"{slide * step}s" for step in steps]
    loaded = feed(
        products=products,
        kafka={
            "bootstrapServers": "b:9092",
            "topics": {"prefix": name, "partitions": partitions, "retention": retention},
        },
        analytics={"windows": windows, "slide": f"{slide}s"},
        alerts=[{"name": "A", "measure": "drawdown", "window": windows[-1], "above": threshold}],
    )
    assert parse_feed(json.dumps(loaded.to_dict()).encode(), "again") == loaded
