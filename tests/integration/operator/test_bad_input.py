"""The API server refuses what the model refuses, with the field and the mend, and takes what the model takes."""

import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

import kubernetes
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fulltape.errors import FeedError
from fulltape.feed.load import feed_of
from fulltape.feed.patterns import PATTERNS
from fulltape.feed.reference import Schema, feed_schema, fields
from tests.control_plane.plane import Cluster, KubectlError
from tests.integration.operator.bad_feeds import BAD, CHANGES, GOOD, Bad, Change
from tests.unit.feed import test_bad_feeds

pytestmark = pytest.mark.integration

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))

Feed = dict[str, Any]


@pytest.fixture(scope="module")
def feeds(plane: Cluster) -> Iterator[str]:
    """Give a namespace for feeds, in which nothing makes anything of them."""
    name = f"feeds-{uuid4().hex[:12]}"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture(scope="module")
def refusal(plane: Cluster, feeds: str) -> Callable[[Feed], str]:
    """Give what asks the API server about a feed, without creating it: returns why it is refused, or nothing."""
    client = kubernetes.client.CustomObjectsApi(kubernetes.config.new_client_from_config(str(plane.kubeconfig)))

    def ask(feed: Feed) -> str:
        body = {**feed, "metadata": {**feed["metadata"], "namespace": feeds}}
        try:
            client.create_namespaced_custom_object(
                "fulltape.dev", "v1alpha1", feeds, "cryptofeeds", body, dry_run="All", field_validation="Strict"
            )
        except kubernetes.client.ApiException as error:
            answer = json.loads(error.body)
            assert answer["reason"] in {"Invalid", "BadRequest"}, answer  # and not that the server itself fails
            return str(answer["message"])
        return ""

    return ask


def apply(plane: Cluster, feeds: str, text: str) -> str:
    return plane.kubectl("apply", f"--namespace={feeds}", "--filename=-", input=text)


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_a_bad_feed_is_refused_with_its_field_and_the_mend(plane: Cluster, feeds: str, bad: Bad) -> None:
    with pytest.raises(KubectlError) as caught:
        apply(plane, feeds, bad.text)
    assert bad.field in str(caught.value)
    assert bad.said in str(caught.value)


def test_after_all_that_is_refused_the_good_feed_is_applied(plane: Cluster, feeds: str) -> None:
    assert plane.get("cryptofeeds", f"--namespace={feeds}")["items"] == []
    assert apply(plane, feeds, GOOD) == "cryptofeed.fulltape.dev/majors created\n"
    plane.kubectl("delete", "cryptofeed", "majors", f"--namespace={feeds}")


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.name)
def test_a_feed_changes_where_it_may_and_says_where_it_may_not(plane: Cluster, feeds: str, change: Change) -> None:
    apply(plane, feeds, change.feed)
    try:
        if not change.said:
            assert apply(plane, feeds, change.text) == "cryptofeed.fulltape.dev/majors configured\n"
            return
        with pytest.raises(KubectlError) as caught:
            apply(plane, feeds, change.text)
        assert f"{change.field}: " in str(caught.value)
        assert change.said in str(caught.value)
    finally:
        plane.kubectl("delete", "cryptofeed", "majors", f"--namespace={feeds}")


def test_a_feed_has_the_models_defaults_once_it_is_applied(plane: Cluster, feeds: str) -> None:
    apply(plane, feeds, GOOD)
    stored = plane.get("cryptofeed", "majors", f"--namespace={feeds}")
    plane.kubectl("delete", "cryptofeed", "majors", f"--namespace={feeds}")
    written = {**yaml.safe_load(GOOD)}
    written["metadata"]["namespace"] = feeds
    assert stored["spec"] == feed_of(written).to_dict()["spec"]


def test_producers_scale_through_the_scale_subresource_within_the_rules(plane: Cluster, feeds: str) -> None:
    apply(plane, feeds, GOOD)
    scale = ("scale", "cryptofeed/majors", f"--namespace={feeds}")
    try:
        plane.kubectl(*scale, "--replicas=2")
        assert plane.get("cf", "majors", f"--namespace={feeds}")["spec"]["producer"]["replicas"] == 2
        with pytest.raises(KubectlError, match="3 producers can't share 2 product"):
            plane.kubectl(*scale, "--replicas=3")
    finally:
        plane.kubectl("delete", "cryptofeed", "majors", f"--namespace={feeds}")


def test_a_list_of_feeds_shows_how_they_are(plane: Cluster, feeds: str) -> None:
    apply(plane, feeds, GOOD)
    ready = {
        "type": "Ready", "status": "False", "reason": "SecretMissing", "message": "there is no Secret",
        "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 1,
    }  # fmt: skip
    status = {"conditions": [ready], "products": 2, "tradesPerSecond": 3.5, "missingTrades": 4, "consumerLag": 5}
    arguments = ("cryptofeed", "majors", f"--namespace={feeds}")
    try:
        plane.kubectl(
            "patch", *arguments, "--subresource=status", "--type=merge", f"--patch={json.dumps({'status': status})}"
        )
        titles, row = plane.kubectl("get", "fulltape", f"--namespace={feeds}").splitlines()
        assert titles.split() == ["NAME", "READY", "PRODUCTS", "TRADES/S", "MISSING", "LAG", "AGE"]
        assert row.split()[:-1] == ["majors", "False", "2", "3.5", "4", "5"]
        assert "there is no Secret" in plane.kubectl("get", *arguments, "--output=wide")
    finally:
        plane.kubectl("delete", *arguments)


def test_explain_reads_like_documentation(plane: Cluster) -> None:
    said = " ".join(plane.kubectl("explain", "cryptofeed.spec.kafka.topics").split())
    assert "Brokers that hold a copy of each topic. With 3, one broker may fail and the feed goes on." in said
    for where, schema, _ in fields(feed_schema()["properties"]["spec"]["properties"]["analytics"]):
        if 0 not in where:
            said = " ".join(plane.kubectl("explain", ".".join(("cf.spec.analytics", *map(str, where)))).split())
            assert schema["description"] in said


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_taken(refusal: Callable[[Feed], str], path: Path) -> None:
    assert refusal(yaml.safe_load(path.read_text())) == ""


def largest() -> Feed:
    """Return a feed that is as large as the model allows, wherever a rule looks."""
    products = [f"{'A' * 16}{number:04}-{'B' * 20}" for number in range(200)]
    patterns = [name for name, pattern in PATTERNS.items() if len(pattern.thresholds) == 3]
    rules: list[Feed] = [
        {
            "name": f"{'A' * 58}{number:02}",
            "pattern": patterns[number % len(patterns)],
            "thresholds": PATTERNS[patterns[number % len(patterns)]].thresholds | {},
            "window": "3600000ms",
            "products": list(reversed(products)),
            "labels": {f"{'a' * 98}{label:02}": "b" * 256 for label in range(20)},
            "annotations": {f"{'a' * 98}{label:02}": "b" for label in range(20)},
        }
        for number in range(50)
    ]
    windows = [f"{60_000 * minutes}ms" for minutes in (1, 2, 3, 4, 5, 6, 7)]
    return {
        "apiVersion": "fulltape.dev/v1alpha1",
        "kind": "CryptoFeed",
        "metadata": {"name": "a" * 40},
        "spec": {
            "products": products,
            "channels": ["matches"],
            "producer": {"replicas": 50, "start": {"tradeIds": dict.fromkeys(products, 2**63 - 1)}},
            "kafka": {"bootstrapServers": ",".join(f"{'b' * 190}-{number}:9092" for number in range(10))},
            "analytics": {"windows": [*windows, "3600000ms"], "slide": "60000ms"},
            "alerts": rules,
            "alertmanagers": [f"http://{'a' * 200}-{number}:9093" for number in range(10)],
        },
    }


def test_the_largest_feed_of_the_model_is_within_what_the_rules_may_cost(refusal: Callable[[Feed], str]) -> None:
    feed = largest()
    feed_of(feed)
    assert refusal(feed) == ""
    feed["spec"]["alerts"][-1]["products"][-1] = "NONE-USD"
    assert f"{feed['spec']['alerts'][-1]['name']}: product NONE-USD is not one of spec.products" in refusal(feed)


def said_by_the_model(feed: Feed) -> str:
    """Return why the model refuses a feed, or nothing."""
    try:
        feed_of(feed)
    except FeedError as error:
        return str(error)
    return ""


def as_data(bad: test_bad_feeds.Bad) -> Feed | None:
    """Return what the YAML of a bad feed says, or nothing where it is the YAML itself that is bad, or no JSON."""
    try:
        feed = yaml.safe_load(test_bad_feeds.GOOD.replace(bad.old, bad.new, 1))
        json.dumps(feed, allow_nan=False)
    except (yaml.YAMLError, TypeError, ValueError):
        return None
    return feed if said_by_the_model(feed) else None


REFUSED_BY_THE_MODEL = [
    pytest.param(feed, id=bad.name)
    for bad in test_bad_feeds.BAD
    if (feed := as_data(bad)) is not None and "metadata.namespace" not in bad.said[0]
]


@pytest.mark.parametrize("feed", REFUSED_BY_THE_MODEL)
def test_what_the_model_refuses_is_refused(refusal: Callable[[Feed], str], feed: Feed) -> None:
    assert refusal(feed) != ""


DURATIONS = ["0s", "999ms", "1s", "1500ms", "7s", "59s", "60s", "1m", "5m", "300000ms", "1h", "61m", "1d", "24h", "2d"]
DURATIONS += ["30d", "721h", "3650d", "87601h", "3651d", "999999999d", "01s", "5", "1.5s", "5M", "", "1234567890s"]
TEXTS = ["a", "A", "majors", "a.b", "-a", "a_b", "BTC-USD", "SOL-USD", "b-1:9092", "b-1:9092,b-2:9092", "http://a:1/b"]
TEXTS += ["wss://a", "s3://bucket/x", "s3a://bucket/x", "arn:aws:iam::123456789012:role/r", "5Gi", "FlashCrash", ""]
TEXTS += ["FeedStale", "\u00e9", "a\n", "a" * 63, "a" * 64, "a" * 253, "a" * 254, "A" * 60, "A" * 61]
NAMES = ["team", "severity", "on-call", "a" * 100, "a" * 101, "drawdown", "trades", "BTC-USD", "SOL-USD", "btc", ""]
WRONG: list[Any] = ["text", 7, -1, 0.5, True, [], {}, ["a"], {"a": 1}]


def values(schema: Schema) -> st.SearchStrategy[Any]:
    """Draw what a field may hold, what lies just beyond its bounds and now and then what has the wrong type."""
    return st.one_of(*[plausible(schema)] * 9, st.sampled_from(WRONG))


def plausible(schema: Schema) -> st.SearchStrategy[Any]:
    drawn: st.SearchStrategy[Any]
    match schema:
        case {"enum": choices}:
            drawn = st.sampled_from([*choices, "other"])
        case {"type": "string"}:
            drawn = st.sampled_from(DURATIONS if "x-minimum" in schema else TEXTS)
        case {"minimum": least, "maximum": most}:
            drawn = st.sampled_from([least - 1, least, least + 1, most - 1, most, most + 1])
        case {"type": "number"}:
            drawn = st.sampled_from([-1.5, -1, -0.5, 0, 0.0, 0.05, 0.3, 1, 1.5, 100, 1e300])
        case {"type": "boolean"}:
            drawn = st.booleans()
        case {"items": item}:
            drawn = st.lists(values(item), max_size=4)
        case {"properties": properties}:
            needed = {name: values(properties[name]) for name in schema.get("required", ())}
            others = {name: values(child) for name, child in properties.items() if name not in needed}
            drawn = st.fixed_dictionaries(needed, optional=others)
        case {"additionalProperties": value}:
            drawn = st.dictionaries(st.sampled_from(NAMES), values(value), max_size=2)
    return drawn


PLACES = list(fields(feed_schema()["properties"]["spec"], ("spec",)))
GOOD_FEEDS: list[Feed] = [yaml.safe_load(text) for text in (GOOD, *(path.read_text() for path in EXAMPLES))]


@st.composite
def edited(draw: st.DrawFn) -> Feed:
    """Draw a good feed in which one to three fields are set to something or removed."""
    feed = deepcopy(draw(st.sampled_from(GOOD_FEEDS)))
    for where, schema, _ in draw(st.lists(st.sampled_from(PLACES), min_size=1, max_size=3)):
        holder: Any = feed
        for part in where[:-1]:
            holder = holder.setdefault(part, {}) if isinstance(holder, dict) else first(holder)
        if isinstance(holder, dict) and draw(st.integers(0, 7)) == 0:
            holder.pop(where[-1], None)
        elif isinstance(holder, dict):
            holder[where[-1]] = draw(values(schema))
    return feed


def first(holder: Any) -> Any:
    return holder[0] if isinstance(holder, list) and holder else None


@settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(feed=edited())
def test_whatever_is_written_the_api_server_and_the_model_agree(refusal: Callable[[Feed], str], feed: Feed) -> None:
    said = refusal(feed)
    assert bool(said) == bool(said_by_the_model(feed)), (
        f"model: {said_by_the_model(feed) or 'good'}; API server: {said or 'good'}"
    )
