"""What a feed becomes: the manifests of every example, and what follows from a change of a feed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import Phase, assume, given, settings

from fulltape.feed.load import load_feed, parse_feed
from fulltape.feed.model import CryptoFeed, dotted
from fulltape.feed.reference import feed_schema, fields
from fulltape.kafka import topic_specs
from fulltape.producer.writer import pen_ids
from fulltape.workloads import workloads
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Child, Key, Stage
from fulltape_operator.desired.copies import copy_of
from fulltape_operator.desired.deletion import deletion
from fulltape_operator.desired.kafka import copied_secrets, kafka_secrets, required_secrets
from fulltape_operator.desired.settings import FEED_FILE, feed_settings
from fulltape_operator.plan import WORKLOADS
from fulltape_operator.platform import Platform
from tests.unit.operator.feeds import EVERYTHING, EXAMPLES, MSK, STRIMZI, changed, feeds

GOLDEN = Path(__file__).parent / "golden"

quickly = settings(max_examples=20, deadline=None)


def state(feed: CryptoFeed, platform: Platform = EVERYTHING) -> dict[Key, Child]:
    return {child.key: child for child in desired_state(feed, platform)}


def rolled(before: CryptoFeed, after: CryptoFeed) -> set[str]:
    """Return the workloads whose pods a change restarts."""
    old, new = state(before), state(after)
    return {
        key.name
        for key in old.keys() & new.keys()
        if key.kind in WORKLOADS and old[key].manifest["spec"]["template"] != new[key].manifest["spec"]["template"]
    }


def touched(before: CryptoFeed, after: CryptoFeed) -> set[str]:
    """Return the objects that a change makes, deletes or alters, ConfigMaps without the digest in their names."""
    old, new = state(before), state(after)
    different = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
    return {f"{key.kind} {key.name.rpartition('-')[0] if key.kind == 'ConfigMap' else key.name}" for key in different}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_becomes_what_its_golden_file_says(path: Path) -> None:
    """Write the files anew with FULLTAPE_WRITE_GOLDEN=1, and read the difference before committing it."""
    found = [child.manifest for child in desired_state(load_feed(path), EVERYTHING)]
    golden = GOLDEN / path.name
    if os.environ.get("FULLTAPE_WRITE_GOLDEN"):
        golden.write_text(yaml.safe_dump_all(found, sort_keys=True, width=1000))
    assert found == list(yaml.load_all(golden.read_text(), yaml.CSafeLoader))


def test_any_feed_that_is_drawn_here_may_have_any_field_of_the_model() -> None:
    drawn: set[str] = set()

    @settings(max_examples=250, deadline=None, derandomize=True, database=None, phases=[Phase.generate])
    @given(feeds())
    def draw(feed: CryptoFeed) -> None:
        drawn.update(written(feed.spec.model_dump(mode="json", by_alias=True, exclude_unset=True)))

    draw()
    of_the_model = {dotted(part for part in where if isinstance(part, str)) for where in SPEC_FIELDS}
    assert of_the_model - drawn == set()


SPEC_FIELDS = [where for where, _, _ in fields(feed_schema()["properties"]["spec"])]


def written(value: Any, where: str = "") -> Iterator[str]:
    """Yield the fields that stand in a feed, those of a list's items without their places."""
    if isinstance(value, dict):
        for name, below in value.items():
            yield from written(below, f"{where}.{name}".removeprefix("."))
    elif isinstance(value, list) and value:
        for item in value:
            yield from written(item, where)
    yield where


@quickly
@given(feeds())
def test_every_program_is_given_a_feed_that_is_valid_and_has_all_that_it_reads(feed: CryptoFeed) -> None:
    for workload in workloads(feed):
        text = feed_settings(feed, workload).manifest["data"][FEED_FILE]
        given_feed = parse_feed(text.encode(), workload.name)
        assert given_feed.metadata == feed.metadata.model_copy(update={"labels": {}, "annotations": {}})
        whole, read = feed.to_dict()["spec"], given_feed.to_dict()["spec"]
        assert {field: read.get(field) for field in workload.reads} == {
            field: whole.get(field) for field in workload.reads
        }


@quickly
@given(feeds())
def test_the_same_feed_always_becomes_the_same_in_the_same_order(feed: CryptoFeed) -> None:
    again = CryptoFeed.model_validate(feed.to_dict())
    assert desired_state(again, EVERYTHING) == desired_state(feed, EVERYTHING)


@quickly
@given(feeds())
def test_objects_come_in_the_order_of_stages_each_once(feed: CryptoFeed) -> None:
    children = desired_state(feed, EVERYTHING)
    stages = [child.stage for child in children]
    assert stages == sorted(stages)
    assert len({child.key for child in children}) == len(children)
    of_kind = {
        "KafkaTopic": {Stage.TOPICS},
        "KafkaUser": {Stage.USERS},
        "StatefulSet": {Stage.PRODUCERS},
        "Deployment": {Stage.ANALYTICS, Stage.SERVING},
    }
    assert all(child.stage in of_kind[child.key.kind] for child in children if child.key.kind in of_kind)


@quickly
@given(feeds(), feeds())
def test_two_feeds_never_want_the_same_object(one: CryptoFeed, other: CryptoFeed) -> None:
    """Topics aside: of two feeds with the same prefix on one Kafka they are the same, whatever is done."""
    assume((one.metadata.namespace, one.metadata.name) != (other.metadata.namespace, other.metadata.name))
    shared = state(one).keys() & state(other).keys()
    assert {key.kind for key in shared} <= {"KafkaTopic"}
    assert not shared or one.topics.prefix == other.topics.prefix


def feed_named(namespace: str, name: str, of: CryptoFeed = STRIMZI) -> CryptoFeed:
    return CryptoFeed.model_validate(of.to_dict() | {"metadata": {"namespace": namespace, "name": name}})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("a-b", "c"), ("a", "b-c")),
        (("x" * 63, "a"), ("x" * 63, "b")),
    ],
    ids=["hyphens", "long names"],
)
def test_feeds_of_different_namespaces_have_users_of_their_own(one: tuple[str, str], other: tuple[str, str]) -> None:
    users = [{key for key in state(feed_named(*names)) if key.kind == "KafkaUser"} for names in (one, other)]
    assert all(users)
    assert not users[0] & users[1]


@quickly
@given(feeds())
def test_every_object_says_which_feed_it_is_of(feed: CryptoFeed) -> None:
    for child in [*desired_state(feed, EVERYTHING), *deletion(feed, EVERYTHING)]:
        labels = child.manifest["metadata"]["labels"]
        assert labels[FEED_LABEL] == feed.metadata.name
        assert labels[FEED_NAMESPACE_LABEL] == feed.metadata.namespace
        assert labels["app.kubernetes.io/managed-by"] == "fulltape"


def test_a_change_of_alerts_touches_the_monitor_and_prometheus_rules_alone() -> None:
    after = changed(STRIMZI, alerts=[])
    assert rolled(STRIMZI, after) == {"majors-monitor"}
    assert touched(STRIMZI, after) == {
        "ConfigMap majors-monitor",
        "Deployment majors-monitor",
        "PrometheusRule majors-feed",
    }


def test_one_more_product_restarts_no_spark() -> None:
    after = changed(STRIMZI, products=[*STRIMZI.to_dict()["spec"]["products"], "LTC-USD"])
    assert rolled(STRIMZI, after) == {"majors-producer", "majors-monitor", "majors-dashboard"}
    assert not any("panes" in each for each in touched(STRIMZI, after))


def test_another_slide_restarts_what_computes_or_shows_windows() -> None:
    slower = STRIMZI.to_dict()["spec"]["analytics"] | {"slide": "2s"}
    assert rolled(STRIMZI, changed(STRIMZI, analytics=slower)) == {
        "majors-panes-0",
        "majors-panes-1",
        "majors-monitor",
        "majors-dashboard",
    }


def test_another_retention_changes_the_topics_and_all_programs_which_are_told_of_them() -> None:
    kafka: dict[str, Any] = STRIMZI.to_dict()["spec"]["kafka"]
    after = changed(STRIMZI, kafka={**kafka, "topics": {**kafka["topics"], "retention": "1h"}})
    before, now = state(STRIMZI), state(after)
    assert rolled(STRIMZI, after) == {key.name for key in before if key.kind in WORKLOADS}
    topics = {key for key in before if key.kind == "KafkaTopic" and before[key] != now[key]}
    assert {key.name for key in topics} == {
        name for name in (str(key.name) for key in before if key.kind == "KafkaTopic") if "cursors" not in name
    }


@quickly
@given(feeds())
def test_what_becomes_of_the_topics_of_a_deleted_feed_restarts_nothing(feed: CryptoFeed) -> None:
    other = "Delete" if feed.spec.retain == "Retain" else "Retain"
    before, after = state(feed), state(changed(feed, retain=other))
    assert {key: child.manifest for key, child in before.items()} == {
        key: child.manifest for key, child in after.items()
    }
    assert {key.kind for key in before if before[key].outlives != after[key].outlives} <= {"KafkaTopic"}


@quickly
@given(feeds())
def test_labels_and_annotations_of_the_feed_change_nothing(feed: CryptoFeed) -> None:
    data = feed.to_dict()
    data["metadata"] |= {"annotations": {"note": "new"}, "labels": {"team": "other"}}
    assert state(CryptoFeed.model_validate(data)) == state(feed)


@quickly
@given(feeds())
def test_a_suspended_feed_differs_in_the_number_of_its_pods_alone(feed: CryptoFeed) -> None:
    running, suspended = state(changed(feed, suspend=False)), state(changed(feed, suspend=True))
    assert running.keys() == suspended.keys()
    for key, child in suspended.items():
        manifest = child.manifest
        if key.kind in WORKLOADS:
            assert manifest["spec"]["replicas"] == 0
            replicas = running[key].manifest["spec"]["replicas"]
            assert replicas > 0
            manifest = {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}
        assert manifest == running[key].manifest


def test_what_a_cluster_does_not_offer_is_not_asked_for() -> None:
    plain = {key.kind for key in state(STRIMZI, Platform(network_policies=False))}
    assert {key.kind for key in state(STRIMZI)} - plain == {"NetworkPolicy", "PodMonitor", "PrometheusRule"}


def test_the_copy_of_a_secret_has_what_programs_read_and_not_the_rest() -> None:
    original = {
        "metadata": {"namespace": "kafka", "name": "original"},
        "data": {"user.crt": "YQ==", "user.key": "Yg==", "user.p12": "Yw==", "user.password": "ZA=="},
    }
    copy = copy_of(STRIMZI, "majors-kafka-user", original)
    assert copy.key == Key("Secret", "markets", "majors-kafka-user")
    assert copy.manifest["data"] == {"user.crt": "YQ==", "user.key": "Yg=="}
    assert copy.manifest["metadata"]["annotations"] == {"fulltape.dev/copy-of": "kafka/original"}
    assert copy.stage < Stage.PRODUCERS


@quickly
@given(feeds())
def test_every_secret_that_pods_mount_is_copied_or_somebody_is_asked_for_it(feed: CryptoFeed) -> None:
    mounted = set(kafka_secrets(feed).values())
    copied, required = copied_secrets(feed), required_secrets(feed)
    made_here = {f"{feed.metadata.name}-kafka", "feeds-cluster-ca-cert"}  # by Strimzi, where it is in the namespace
    assert mounted <= {*copied, *required, *(made_here if not copied else ())}
    assert copied.keys() <= mounted


def test_topics_are_deleted_by_a_job_that_ends_and_has_the_credentials() -> None:
    settings_child, job = deletion(MSK, EVERYTHING)
    spec = job.manifest["spec"]
    pod = spec["template"]["spec"]
    assert spec["activeDeadlineSeconds"] > 0
    assert pod["restartPolicy"] == "Never"
    assert not {"ports", "startupProbe", "livenessProbe", "readinessProbe"} & pod["containers"][0].keys()
    assert "msk-fulltape" in {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    given_feed = parse_feed(settings_child.manifest["data"][FEED_FILE].encode(), "job")
    assert given_feed.spec.kafka == MSK.spec.kafka
    assert given_feed.spec.channels == MSK.spec.channels
    assert given_feed.spec.analytics == MSK.spec.analytics


def allowed(feed: CryptoFeed, kind: str, name: str) -> set[str]:
    """Return what Kafka lets a feed's user do with something, as its ACLs say."""
    (user,) = (child.manifest for key, child in state(feed).items() if key.kind == "KafkaUser")
    return {
        operation
        for acl in user["spec"]["authorization"]["acls"]
        if acl["resource"]["type"] == kind
        and (
            name == acl["resource"]["name"]
            if acl["resource"]["patternType"] == "literal"
            else name.startswith(acl["resource"]["name"])
        )
        for operation in acl["operations"]
    }


@pytest.mark.parametrize("manager", ["Strimzi", "Admin"])
def test_a_feed_s_user_may_do_what_its_programs_do_and_nothing_with_a_feed_whose_name_goes_on(manager: str) -> None:
    kafka = STRIMZI.to_dict()["spec"]["kafka"]
    feed, other = (
        changed(STRIMZI, kafka={**kafka, "topics": {"prefix": prefix}, "topicManagement": manager})
        for prefix in ("desk", "desk.majors")
    )
    for topic in topic_specs(feed):
        assert {"Read", "Write"} <= allowed(feed, "topic", topic.name)
        assert ("Delete" in allowed(feed, "topic", topic.name)) == (manager == "Admin")
    warm_up = "desk.panes-0.warmup-1b2c3d4e.trades"
    assert {"Create", "Delete", "Read", "Write"} <= allowed(feed, "topic", warm_up)
    transactions = [*pen_ids(feed.topics, "1-of-2"), "desk.monitor"]
    assert all(allowed(feed, "transactionalId", name) == {"Describe", "Write"} for name in transactions)
    groups = ["desk.trades.audit", "desk.trades.tape-reader", "desk.windows.beginning", "desk.dashboard"]
    groups += ["desk.monitor", "desk.panes-0-5c1f-executor", "desk.archive-records-5c1f-driver-0"]
    assert all(allowed(feed, "group", name) == {"Describe", "Read"} for name in groups)
    assert not any(allowed(feed, "topic", topic.name) for topic in topic_specs(other))
    others = [*pen_ids(other.topics, "0-of-1"), "desk.majors.monitor"]
    assert not any(allowed(feed, "transactionalId", name) for name in others)
    assert not any(allowed(feed, "group", name.replace("desk.", "desk.majors.")) for name in groups)
