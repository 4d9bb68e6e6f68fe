"""What a feed's status says in each circumstance, and which of it is news."""

from dataclasses import replace
from typing import Any

import pytest

from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import Key
from fulltape_operator.desired.kafka import required_secrets
from fulltape_operator.health import Health
from fulltape_operator.observed import Seen
from fulltape_operator.plan import WORKLOADS, Wanted
from fulltape_operator.platform import Platform
from fulltape_operator.status import Circumstances, Figures, Problem, Status, news, status_of, status_of_hindered
from tests.unit.operator.feeds import MAJORS, MSK, STRIMZI, changed

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
TOPIC = Key("KafkaTopic", "kafka", "majors.trades")
PRODUCER = Key("StatefulSet", "markets", "majors-producer")
MONITOR = Key("Deployment", "markets", "majors-monitor")
LOADER = Key("Deployment", "markets", "majors-warehouse")


def circumstances(feed: CryptoFeed, health: dict[Key, Health] | None = None, **others: Any) -> Circumstances:
    """Return a feed whose objects are all there and well, but for those whose health is given."""
    wanted = [Wanted(child, "digest") for child in desired_state(feed, Platform())]
    there = {
        one.child.key: Seen(one.child.key, "uid", 1, "digest", (), deleting=False, health=Health(wanted=1))
        for one in wanted
    }
    there |= {key: replace(there[key], health=how) for key, how in (health or {}).items()}
    return Circumstances(feed=feed, generation=3, wanted=wanted, there=there, **others)


def status(feed: CryptoFeed, health: dict[Key, Health] | None = None, **others: Any) -> Status:
    return status_of(circumstances(feed, health, **others), {}, NOW)


def told(found: Status) -> dict[str, tuple[str, str]]:
    return {one["type"]: (one["status"], one["reason"]) for one in found["conditions"]}


def message(found: Status, condition: str) -> str:
    return str(next(one["message"] for one in found["conditions"] if one["type"] == condition))


@pytest.mark.parametrize("feed", [STRIMZI, MSK], ids=["strimzi", "msk"])
def test_a_feed_of_which_all_is_well_is_ready_and_nothing_else_is_said(feed: CryptoFeed) -> None:
    found = told(status(feed))
    assert {value for value, _ in found.values()} == {"True"}
    assert found["Ready"] == ("True", "Ready")
    assert not {"Reconciling", "Stalled"} & found.keys()


@pytest.mark.parametrize(
    ("feed", "health", "others", "condition", "reason", "words"),
    [
        (
            STRIMZI,
            {TOPIC: Health(ready=0)},
            {"kafka_missing": True},
            "TopicsReady",
            "NoSuchKafkaCluster",
            "kafka/feeds",
        ),
        (STRIMZI, {TOPIC: Health(ready=0)}, {}, "TopicsReady", "TopicsNotReady", "wait for Strimzi"),
        (
            STRIMZI,
            {TOPIC: Health(ready=0, failed=True, problem="replication factor 3 > 1 brokers")},
            {},
            "TopicsReady",
            "TopicsNotReady",
            "replication factor",
        ),
        (
            STRIMZI,
            {},
            {"problems": {TOPIC: Problem("KindMissing", "install Strimzi", needs_person=True)}},
            "TopicsReady",
            "KindMissing",
            "install Strimzi",
        ),
        (
            MSK,
            {},
            {"secrets": {"msk-fulltape": "spec.kafka.authentication.secretRef"}},
            "ProducersReady",
            "SecretMissing",
            "markets/msk-fulltape",
        ),
        (
            STRIMZI,
            {PRODUCER: Health(ready=1, wanted=2, rolling=True)},
            {"complaints": {PRODUCER: "exceeded quota: pods"}},
            "ProducersReady",
            "ProducersNotReady",
            "1 of 2 ready: exceeded quota",
        ),
        (
            STRIMZI,
            {MONITOR: Health(ready=0, wanted=1, problem="pods are forbidden")},
            {},
            "AnalyticsReady",
            "AnalyticsNotReady",
            "pods are forbidden",
        ),
        (MSK, {LOADER: Health(ready=0)}, {}, "WarehouseReady", "WarehouseNotReady", "majors-warehouse"),
    ],
)
def test_what_is_wrong_is_said_with_its_reason_and_makes_the_feed_not_ready(
    feed: CryptoFeed, health: dict[Key, Health], others: dict[str, Any], condition: str, reason: str, words: str
) -> None:
    found = status(feed, health, **others)
    assert told(found)[condition] == ("False", reason)
    assert told(found)["Ready"] == ("False", reason)
    assert words in message(found, condition)


def test_what_a_person_must_mend_comes_before_what_will_pass() -> None:
    found = status(
        MSK,
        {PRODUCER: Health(ready=0, wanted=2, rolling=True)},
        secrets={"redshift": "spec.warehouse.redshift.secretRef"},
    )
    assert told(found)["Ready"] == ("False", "SecretMissing")
    assert told(found)["Stalled"] == ("True", "SecretMissing")
    assert told(found)["Reconciling"] == ("True", "Rolling")


def test_a_laptop_s_warehouse_is_named_and_does_not_keep_a_feed_from_being_ready() -> None:
    found = told(status(MAJORS))
    assert found["WarehouseReady"] == ("False", "NoDatabase")
    assert found["Ready"] == ("True", "Ready")


ROUTE = Key("HTTPRoute", "markets", "majors-dashboard")
ROUTED = changed(STRIMZI, dashboard={"httpRoute": {"host": "majors.example.com", "parentRefs": [{"name": "web"}]}})


@pytest.mark.parametrize(
    ("health", "others", "reason", "words"),
    [
        (
            {ROUTE: Health(ready=0, failed=True, problem="no listener")},
            {},
            "RouteRefused",
            "majors-dashboard: no listener",
        ),
        ({ROUTE: Health(ready=0, problem="no answer")}, {}, "RouteNotTaken", "majors-dashboard: no answer"),
        (
            {},
            {"problems": {ROUTE: Problem("KindMissing", "install the Gateway API", needs_person=True)}},
            "KindMissing",
            "install the Gateway API",
        ),
    ],
)
def test_a_route_that_leads_nowhere_is_said_and_a_feed_whose_trades_flow_is_ready_all_the_same(
    health: dict[Key, Health], others: dict[str, Any], reason: str, words: str
) -> None:
    assert told(status(ROUTED))["RouteReady"] == ("True", "RouteReady")
    found = status(ROUTED, health, **others)
    assert told(found)["RouteReady"] == ("False", reason)
    assert words in message(found, "RouteReady")
    assert told(found)["Ready"] == ("True", "Ready")
    assert not {"Reconciling", "Stalled"} & told(found).keys()


def test_a_route_that_is_not_made_yet_is_said_and_a_feed_without_one_says_nothing_of_it() -> None:
    found = circumstances(ROUTED)
    found = replace(found, there={key: one for key, one in found.there.items() if key != ROUTE})
    assert told(status_of(found, {}, NOW))["RouteReady"] == ("False", "RouteNotTaken")
    assert "RouteReady" not in told(status(STRIMZI))


def test_a_stream_on_a_spark_operator_is_ready_with_its_driver_and_says_what_ails_it() -> None:
    found = circumstances(STRIMZI)
    wanted = [Wanted(child, "digest") for child in desired_state(STRIMZI, Platform(spark_backend="kubeflow"))]
    drivers = [Key("Pod", "markets", f"majors-panes-{stream}-driver") for stream in (0, 1)]
    present = {
        key: Seen(key, "uid", 1, "digest", (), deleting=False, health=Health())
        for key in [*(one.child.key for one in wanted), *drivers]
    }
    found = replace(found, wanted=wanted, there=present)
    assert told(status_of(found, {}, NOW))["Ready"] == ("True", "Ready")
    ailing = replace(present[drivers[1]], health=Health(ready=0, problem="no node has room"))
    found = replace(found, there={**present, drivers[1]: ailing})
    assert told(status_of(found, {}, NOW))["AnalyticsReady"] == ("False", "AnalyticsNotReady")
    said = message(status_of(found, {}, NOW), "AnalyticsReady")
    assert said == "SparkApplication markets/majors-panes-1: 0 of 1 ready: no node has room"


def test_suspended_paused_and_waiting_are_said() -> None:
    suspended = changed(STRIMZI, suspend=True)
    assert told(status(suspended))["ProducersReady"] == ("False", "Suspended")
    assert told(status(STRIMZI, paused=True))["Reconciling"] == ("True", "Paused")
    assert told(status(STRIMZI, waiting={MONITOR: "something"}))["Reconciling"] == ("True", "Waiting")


def test_a_condition_is_of_its_generation_and_has_all_that_kubernetes_asks_for() -> None:
    fields = {"type", "status", "reason", "message", "lastTransitionTime", "observedGeneration"}
    for one in status(MSK, {LOADER: Health(ready=0)}, paused=True)["conditions"]:
        assert one.keys() == fields
        assert one["observedGeneration"] == 3
        assert one["reason"].isalpha()


def test_what_ails_a_pod_is_said_of_its_workload() -> None:
    found = circumstances(STRIMZI, {MONITOR: Health(ready=0, rolling=True)})
    pod = Key("Pod", "markets", "majors-monitor-5f-x")
    ailing = Seen(
        pod, "pod", 1, None, (), deleting=False, health=Health(ready=0, problem="ended with code 2: bad topic")
    )
    neighbour = replace(ailing, key=Key("Pod", "markets", "majors-dashboard-5f-x"), health=Health(problem="not this"))
    found = replace(found, there={**found.there, neighbour.key: neighbour, pod: ailing})
    assert "0 of 1 ready: ended with code 2: bad topic" in message(status_of(found, {}, NOW), "AnalyticsReady")


def test_a_workload_that_is_not_there_yet_is_not_ready() -> None:
    found = circumstances(STRIMZI)
    found = replace(found, there={key: one for key, one in found.there.items() if key != PRODUCER})
    assert told(status_of(found, {}, NOW))["ProducersReady"] == ("False", "ProducersNotReady")
    assert status_of(found, {}, NOW)["shards"] == 0


def test_topics_that_programs_make_are_not_ready_before_one_runs() -> None:
    nothing = circumstances(MSK)
    nothing = replace(nothing, there={})
    assert told(status_of(nothing, {}, NOW))["TopicsReady"] == ("False", "TopicsNotMade")


@pytest.mark.parametrize("needs_person", [True, False])
def test_an_object_that_was_refused_is_told_and_stalls_where_only_a_person_helps(*, needs_person: bool) -> None:
    settings = Key("ConfigMap", "markets", "majors-monitor-0")
    found = status(STRIMZI, problems={settings: Problem("QuotaExceeded", "exceeded quota", needs_person=needs_person)})
    assert told(found)["Ready"] == ("False", "QuotaExceeded")
    assert told(found)["Reconciling"] == ("True", "Retrying")
    assert ("Stalled" in told(found)) == needs_person


def test_a_long_message_is_cut_where_kubernetes_would_refuse_it() -> None:
    found = message(status(STRIMZI, {MONITOR: Health(ready=0, problem="x" * 40_000)}), "AnalyticsReady")
    assert len(found) < 32_768
    assert found.endswith("...")


def test_a_missing_secret_is_said_of_the_programs_that_mount_it_alone() -> None:
    found = told(status(MSK, secrets={"redshift": "spec.warehouse.redshift.secretRef"}))
    assert found["ProducersReady"] == ("True", "ProducersReady")
    assert found["WarehouseReady"] == found["Ready"] == ("False", "SecretMissing")


def test_a_secret_that_strimzi_has_yet_to_make_is_waited_for() -> None:
    found = status(
        STRIMZI,
        {PRODUCER: Health(ready=0, wanted=2, rolling=True)},
        awaited={"majors-kafka-user": "kafka/majors-kafka-1"},
    )
    assert told(found)["ProducersReady"] == ("False", "SecretNotMade")
    assert "kafka/majors-kafka-1" in message(found, "ProducersReady")
    assert "Stalled" not in told(found)


def test_a_suspended_feed_says_that_it_is_suspended_whoever_makes_its_topics() -> None:
    asleep = Health(ready=0, wanted=0)
    health = {one.child.key: asleep for one in circumstances(MSK).wanted if one.child.key.kind in WORKLOADS}
    found = told(status(changed(MSK, suspend=True), health))
    assert found["Ready"] == ("False", "Suspended")


def test_topics_of_a_suspended_feed_are_ready_only_if_its_programs_made_them_before() -> None:
    asleep = circumstances(changed(MSK, suspend=True))
    asleep = replace(asleep, there={})
    assert told(status_of(asleep, {}, NOW))["TopicsReady"] == ("False", "Suspended")
    awake = status(MSK)
    assert told(awake)["TopicsReady"] == ("True", "TopicsReady")
    assert told(status_of(asleep, awake, NOW))["TopicsReady"] == ("True", "TopicsReady")


def test_a_missing_secret_that_kafka_and_the_database_share_is_said_of_the_producers_too() -> None:
    warehouse = MSK.to_dict()["spec"]["warehouse"]
    redshift = {**warehouse["redshift"], "secretRef": {"name": "msk-fulltape"}}
    feed = changed(MSK, warehouse={**warehouse, "redshift": redshift})
    found = told(status(feed, secrets=required_secrets(feed)))
    assert found["ProducersReady"] == found["WarehouseReady"] == ("False", "SecretMissing")


def test_a_condition_keeps_its_time_while_its_status_stays() -> None:
    first = status(STRIMZI)
    bad = circumstances(STRIMZI, {MONITOR: Health(ready=0)})
    second = status_of(bad, first, LATER)
    times = {one["type"]: one["lastTransitionTime"] for one in second["conditions"]}
    assert times["ProducersReady"] == NOW
    assert times["AnalyticsReady"] == times["Ready"] == LATER


def test_figures_are_shown_where_they_are_known() -> None:
    found = status(STRIMZI, figures=Figures(trades_per_second=120.0, missing_trades=0))
    assert found["tradesPerSecond"] == 120.0
    assert found["missingTrades"] == 0
    assert "consumerLag" not in found
    assert found["products"] == 4
    assert "app.kubernetes.io/component=producer" in found["selector"]


def test_news_is_what_got_ready_is_not_any_more_or_needs_a_person() -> None:
    well = status(STRIMZI)
    rolling = status(STRIMZI, {PRODUCER: Health(ready=0, wanted=2, rolling=True)})
    stalled = status(STRIMZI, {TOPIC: Health(ready=0)}, kafka_missing=True)
    assert news(rolling, {}) is None
    assert news(well, rolling) == ("Normal", "Ready", "all that was asked for runs")
    assert news(well, well) is None
    found = news(rolling, well)
    assert found is not None
    assert found[:2] == ("Warning", "ProducersNotReady")
    found = news(stalled, rolling)
    assert found is not None
    assert found[:2] == ("Warning", "NoSuchKafkaCluster")
    assert news(stalled, stalled) is None


def test_a_feed_that_can_t_be_used_is_stalled_with_the_mend() -> None:
    problem = Problem("InvalidSpec", "spec.products: is missing", needs_person=True)
    found = status_of_hindered(problem, 2, {}, NOW)
    assert told(found) == {"Ready": ("False", "InvalidSpec"), "Stalled": ("True", "InvalidSpec")}
    assert found["observedGeneration"] == 2
