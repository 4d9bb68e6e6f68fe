"""Feeds on a Kafka of Strimzi's: topics, users and Secrets by its kinds, on a broker that refuses what was not given.

`tests.cluster.strimzi` stands in for Strimzi's operators; the broker, its TLS and its authorizer are Kafka's own.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fulltape.kafka import CREDENTIALS
from tests.cluster.demo import KAFKA_NAMESPACE, MANIFESTS, install_strimzi
from tests.cluster.jobs import FILES, run_job
from tests.control_plane.plane import Cluster
from tests.e2e.feeds import PATIENCE_SECONDS, Feed, assert_complete

pytestmark = [pytest.mark.e2e, pytest.mark.long]

_LIST_TOPICS = Path(__file__).with_name("list_topics.py")
_KAFKA: dict[str, Any] = {
    "strimziCluster": {"name": "feeds", "namespace": KAFKA_NAMESPACE},
    "authentication": {"type": "tls"},
    "topics": {"partitions": 2, "replicas": 1, "retention": "24h"},
}
_TOO_MANY_COPIES = {**_KAFKA, "topics": {**_KAFKA["topics"], "replicas": 2}}
_AUDITOR = {
    "apiVersion": "kafka.strimzi.io/v1",
    "kind": "KafkaUser",
    "metadata": {"name": "auditor", "namespace": KAFKA_NAMESPACE, "labels": {"strimzi.io/cluster": "feeds"}},
    "spec": {
        "authentication": {"type": "tls"},
        "authorization": {
            "type": "simple",
            "acls": [
                {"resource": {"type": kind, "name": "*", "patternType": "literal"}, "operations": ["Describe", "Read"]}
                for kind in ("topic", "group")
            ],
        },
    },
}
"""Somebody who may read everything, feeds or none."""


@pytest.fixture(scope="module")
def strimzi(cluster: Cluster, feed: Feed) -> Iterator[Cluster]:
    """Give the cluster with a Kafka of Strimzi's, and room."""
    with feed.suspended():
        install_strimzi(cluster)
        cluster.kubectl("apply", "--filename=-", input=yaml.safe_dump(_AUDITOR))
        cluster.kubectl("wait", f"--namespace={KAFKA_NAMESPACE}", "--for=condition=Ready", "kafkauser/auditor")
        yield cluster


@pytest.fixture(scope="module")
def desk(strimzi: Cluster) -> Feed:
    """Give a feed with live windows, whose topics go with it; it may not be ready yet."""
    feed = Feed(strimzi, "desk", "desks")
    analytics = {"windows": ["1m"], "executors": 1, "checkpoint": {"volume": {"size": "1Gi"}}}
    feed.apply(products=["BTC-USD", "ETH-USD"], kafka=_KAFKA, analytics=analytics)
    return feed


@pytest.fixture(scope="module")
def kept(strimzi: Cluster) -> Feed:
    """Give a feed whose topics outlive it; of each it wants more copies than there are brokers."""
    feed = Feed(strimzi, "kept", "desks")
    feed.apply(
        products=["BTC-USD"], kafka=_TOO_MANY_COPIES, analytics=None, alerts=[], alertmanagers=[], retain="Retain"
    )
    return feed


def test_a_topic_that_kafka_refuses_is_told_and_heals(desk: Feed, kept: Feed) -> None:
    def is_told() -> bool:
        conditions = kept.live().get("status", {}).get("conditions", ())
        told = [one["message"] for one in conditions if (one["type"], one["status"]) == ("TopicsReady", "False")]
        return any("replication factor" in message for message in told)

    kept.wait_until(is_told, "the refusal to be told")
    kept.patch({"kafka": {"topics": {"replicas": 1}}})
    kept.wait_ready()
    assert kept.condition("TopicsReady")["status"] == "True"


def test_a_feed_needs_no_right_but_those_of_its_user(desk: Feed) -> None:
    desk.wait_ready()
    desk.wait_until(lambda: bool(desk.alerts("BusyMarket")), "an alert of its windows")
    said = _as_user_of(desk, ["audit", "desk.trades", "--json"])
    assert_complete(said, ["BTC-USD", "ETH-USD"])


def test_the_user_of_a_feed_may_do_nothing_else(desk: Feed, kept: Feed) -> None:
    assert "does not allow" in _as_user_of(desk, ["topics", "delete"])
    assert "may not read kept.trades" in _as_user_of(desk, ["audit", "kept.trades"])


def test_topics_and_users_go_with_a_feed(strimzi: Cluster, desk: Feed) -> None:
    _delete(desk)
    assert not [topic for topic in _topics(strimzi) if topic.startswith("desk.")]
    assert not _objects(strimzi, "kafkatopics,kafkausers", "desk")


def test_topics_stay_where_the_feed_says_so(strimzi: Cluster, kept: Feed) -> None:
    before = [topic for topic in _topics(strimzi) if topic.startswith("kept.")]
    _delete(kept)
    assert not _objects(strimzi, "kafkausers", "kept")
    assert [topic for topic in _topics(strimzi) if topic.startswith("kept.")] == before
    assert before == sorted(topic["metadata"]["name"] for topic in _objects(strimzi, "kafkatopics", "kept"))
    assert_complete(_as_auditor(strimzi, ["fulltape", "audit", "kept.trades", "--json", *_FEED]), ["BTC-USD"])


_FEED = (f"--feed={FILES}/feed.yaml",)


def _as_user_of(feed: Feed, arguments: Sequence[str]) -> str:
    """Return what ``fulltape`` says to the feed's own user."""
    secrets = {"user": f"{feed.name}-kafka-user", "ca": f"{feed.name}-kafka-ca"}
    return _run(feed.cluster, feed.namespace, secrets, feed.name, ["fulltape", *arguments, *_FEED])


def _as_auditor(cluster: Cluster, command: Sequence[str]) -> str:
    return _run(cluster, KAFKA_NAMESPACE, {"user": "auditor", "ca": "feeds-cluster-ca-cert"}, "kept", command)


def _run(cluster: Cluster, namespace: str, secrets: dict[str, str], name: str, command: Sequence[str]) -> str:
    """Return the last line that a program says, which reaches Kafka as the feed of a name does."""
    feed = yaml.safe_load((MANIFESTS / "feed.yaml").read_text())
    feed["metadata"]["name"] = name
    # To `fulltape topics` the topics are its own to delete, so that it is Kafka that refuses.
    feed["spec"]["kafka"] = {**_KAFKA, "topicManagement": "Admin"}
    given = {"feed.yaml": yaml.safe_dump(feed), _LIST_TOPICS.name: _LIST_TOPICS.read_text()}
    folders = {f"{CREDENTIALS}/{folder}": secret for folder, secret in secrets.items()}
    said = run_job(cluster, {"ask": command}, PATIENCE_SECONDS, given, namespace=namespace, secrets=folders)
    return said["ask"].splitlines()[-1]


def _topics(cluster: Cluster) -> list[str]:
    return list(json.loads(_as_auditor(cluster, ["python3", f"{FILES}/{_LIST_TOPICS.name}", f"{FILES}/feed.yaml"])))


def _delete(feed: Feed) -> None:
    feed.cluster.kubectl("delete", f"cryptofeed/{feed.name}", f"--namespace={feed.namespace}", "--timeout=120s")

    def have_no_finalizers_left() -> bool:
        found = _objects(feed.cluster, "kafkatopics,kafkausers", feed.name)
        return not any("deletionTimestamp" in one["metadata"] for one in found)

    feed.wait_until(have_no_finalizers_left, "Strimzi to end what the feed had")


def _objects(cluster: Cluster, kinds: str, feed: str) -> list[dict[str, Any]]:
    selector = f"--selector=fulltape.dev/feed={feed}"
    return list(cluster.get(kinds, f"--namespace={KAFKA_NAMESPACE}", selector)["items"])
