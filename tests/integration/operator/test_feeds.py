"""Feeds come true, are kept so, and end, by the real operator on a real API server; and what is wrong is said."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from fulltape.feed.load import feed_of
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Key
from fulltape_operator.desired.kafka import user_name
from fulltape_operator.platform import Platform
from tests.control_plane.kubelet import Fate, Kubelet
from tests.control_plane.plane import Cluster, KubectlError
from tests.integration.operator.processes import OperatorProcess, eventually

pytestmark = pytest.mark.integration

KINDS = (
    "configmaps,secrets,services,serviceaccounts,persistentvolumeclaims,statefulsets,deployments,jobs,"
    "poddisruptionbudgets,roles,rolebindings,networkpolicies,kafkatopics,kafkausers"
)


@pytest.fixture(scope="module")
def operator(plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    with OperatorProcess(plane.kubeconfig, tmp_path_factory.mktemp("operator"), lease_namespace="default") as process:
        yield process


class Feed:
    """A feed in the cluster."""

    def __init__(self, plane: Cluster, namespace: str, **spec: Any) -> None:
        self.plane = plane
        self.namespace = namespace
        self.manifest: dict[str, Any] = {
            "apiVersion": "fulltape.dev/v1alpha1",
            "kind": "CryptoFeed",
            "metadata": {"name": "majors", "namespace": namespace},
            "spec": {
                "products": ["BTC-USD", "ETH-USD"],
                "channels": ["matches", "ticker"],
                "kafka": {"strimziCluster": {"name": "feeds"}, "topics": {"partitions": 2}},
                "analytics": {},
                **spec,
            },
        }

    def apply(self, **spec: Any) -> None:
        self.manifest["spec"] |= spec
        self.plane.kubectl("apply", "--filename=-", input=json.dumps(self.manifest))

    def delete(self) -> None:
        self.plane.kubectl("delete", "cryptofeed", "majors", f"--namespace={self.namespace}", "--wait=false")

    def exists(self) -> bool:
        return bool(self.plane.get("cryptofeeds", f"--namespace={self.namespace}")["items"])

    def children(self) -> dict[Key, dict[str, Any]]:
        selector = f"--selector={FEED_LABEL}=majors,{FEED_NAMESPACE_LABEL}={self.namespace}"
        items = self.plane.get(KINDS, "--all-namespaces", selector)["items"]
        return {
            Key(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item
            for item in items
            if "deletionTimestamp" not in item["metadata"]
        }

    def wanted(self) -> set[Key]:
        return {child.key for child in desired_state(feed_of(self.manifest), Platform())}

    def is_complete(self) -> bool:
        return set(self.children()) == self.wanted()

    def child(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = self.plane.get(kind, name, f"--namespace={self.namespace}")
        return found

    def conditions(self) -> dict[str, dict[str, Any]]:
        status = self.child("cryptofeed", "majors").get("status", {})
        return {condition["type"]: condition for condition in status.get("conditions", [])}

    def reason(self, condition: str = "Ready") -> str:
        return str(self.conditions().get(condition, {}).get("reason"))

    def is_settled(self) -> bool:
        generation = self.child("cryptofeed", "majors")["metadata"]["generation"]
        conditions = self.conditions()
        return (
            bool(conditions)
            and "Reconciling" not in conditions
            and conditions["Ready"]["observedGeneration"] == generation
            and self.is_complete()
        )


@pytest.fixture
def feed(plane: Cluster, namespace: str, operator: OperatorProcess) -> Feed:
    assert operator is not None
    kafka = {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "Kafka",
        "metadata": {"name": "feeds", "namespace": namespace},
        "spec": {"kafka": {"listeners": [{"name": "tls", "port": 9093, "type": "internal", "tls": True}]}},
    }
    plane.kubectl("create", "--filename=-", input=json.dumps(kafka))
    return Feed(plane, namespace)


def templates(feed: Feed) -> dict[str, Any]:
    return {
        key.name: child["spec"]["template"]
        for key, child in feed.children().items()
        if key.kind in ("Deployment", "StatefulSet")
    }


def test_a_feed_becomes_all_that_it_wants_and_nothing_of_it_is_left_when_it_is_deleted(feed: Feed) -> None:
    feed.apply()
    eventually(feed.is_settled, "the feed is as it shall be")
    uid = feed.child("cryptofeed", "majors")["metadata"]["uid"]
    owners = [child["metadata"]["ownerReferences"][0]["uid"] for child in feed.children().values()]
    assert set(owners) == {uid}
    feed.delete()
    eventually(lambda: not feed.exists() and not feed.children(), "nothing is left")


def test_topics_that_are_to_be_retained_stay_when_their_feed_goes(feed: Feed) -> None:
    feed.apply(retain="Retain")
    eventually(feed.is_settled, "the feed is as it shall be")
    feed.delete()
    eventually(lambda: {key.kind for key in feed.children()} == {"KafkaTopic"}, "the topics alone are left")


def test_a_topic_that_is_not_recorded_any_more_goes_unless_it_is_to_be_retained(feed: Feed) -> None:
    ticker = Key("KafkaTopic", feed.namespace, "majors.ticker")
    feed.apply(retain="Retain")
    eventually(feed.is_settled, "the feed is as it shall be")
    before = templates(feed)
    feed.apply(channels=["matches"])
    eventually(lambda: templates(feed)["majors-producer"] != before["majors-producer"], "the change is made")
    eventually(lambda: len(feed.children()) == len(feed.wanted()) + 1, "and its old settings are gone")
    assert ticker in feed.children()
    feed.apply(retain="Delete")
    eventually(feed.is_complete, "now it goes too")


def test_what_is_deleted_or_edited_by_hand_comes_back_and_what_others_added_stays(feed: Feed) -> None:
    feed.apply()
    eventually(feed.is_settled, "the feed is as it shall be")
    space = f"--namespace={feed.namespace}"
    before = feed.children()
    feed.plane.kubectl("annotate", "deployment", "majors-monitor", "note=mine", space)
    feed.plane.kubectl("delete", "deployment", "majors-dashboard", "--wait=true", space)
    feed.plane.kubectl("scale", "statefulset", "majors-producer", "--replicas=3", space)
    feed.plane.kubectl("label", "service", "majors-producer", "app.kubernetes.io/part-of=else", "--overwrite", space)
    feed.plane.kubectl("delete", "kafkatopic", "majors.trades", space)

    def mended() -> bool:
        now = feed.children()
        return set(now) == set(before) and all(
            now[key]["metadata"]["labels"] == child["metadata"]["labels"]
            and now[key].get("spec", {}).get("replicas") == child.get("spec", {}).get("replicas")
            for key, child in before.items()
        )

    eventually(mended, "all is as it was")
    assert feed.child("deployment", "majors-monitor")["metadata"]["annotations"]["note"] == "mine"


def test_a_change_rolls_the_programs_that_read_it_and_no_others(feed: Feed) -> None:
    feed.apply()
    eventually(feed.is_settled, "the feed is as it shall be")
    before = templates(feed)
    feed.apply(alerts=[{"name": "Fall", "measure": "drawdown", "window": "1m", "above": 0.1}])
    eventually(feed.is_settled, "the change is made")
    after = templates(feed)
    assert [name for name in before if before[name] != after[name]] == ["majors-monitor"]


def test_a_suspended_feed_runs_nothing_keeps_its_volumes_and_goes_on_afterwards(feed: Feed) -> None:
    feed.apply()
    eventually(feed.is_settled, "the feed is as it shall be")
    claim = feed.child("pvc", "majors-panes-0")["metadata"]["uid"]
    feed.apply(suspend=True)
    eventually(lambda: not feed.plane.get("pods", f"--namespace={feed.namespace}")["items"], "no pod is left")
    eventually(lambda: feed.reason("ProducersReady") == "Suspended", "it is said")
    feed.apply(suspend=False)
    eventually(lambda: feed.reason("AnalyticsReady") == "AnalyticsReady", "all runs again")
    assert feed.child("pvc", "majors-panes-0")["metadata"]["uid"] == claim


def test_a_paused_feed_is_left_as_it_is_until_the_pause_ends(feed: Feed) -> None:
    feed.apply()
    eventually(feed.is_settled, "the feed is as it shall be")
    space = f"--namespace={feed.namespace}"
    feed.plane.kubectl("annotate", "cryptofeed", "majors", "fulltape.dev/pause=true", space)
    eventually(lambda: feed.reason("Reconciling") == "Paused", "it is said")
    feed.plane.kubectl("delete", "deployment", "majors-monitor", space)
    # The operator has seen the deletion once it says that the program is missing.
    eventually(lambda: feed.reason("AnalyticsReady") == "AnalyticsNotReady", "the loss is seen")
    assert not feed.is_complete()
    feed.plane.kubectl("annotate", "cryptofeed", "majors", "fulltape.dev/pause-", space)
    eventually(feed.is_complete, "the program is back")
    feed.plane.kubectl("annotate", "cryptofeed", "majors", "fulltape.dev/pause=true", space)
    feed.delete()
    eventually(lambda: not feed.exists() and not feed.children(), "a paused feed can be deleted")


def test_another_s_object_of_the_same_name_is_left_alone_and_reported_until_it_is_gone(feed: Feed) -> None:
    space = f"--namespace={feed.namespace}"
    feed.plane.kubectl("create", "service", "clusterip", "majors-dashboard", "--tcp=1234", space)
    mine = feed.child("service", "majors-dashboard")
    feed.apply()
    eventually(lambda: feed.reason() == "NameTaken", "it is reported")
    assert "majors-dashboard" in feed.conditions()["Stalled"]["message"]
    assert feed.child("service", "majors-dashboard") == mine
    assert "deployment.apps/majors-monitor" in feed.plane.kubectl("get", "deployments", "--output=name", space)
    feed.plane.kubectl("delete", "service", "majors-dashboard", space)
    eventually(feed.is_complete, "the name was free, and is taken")


def test_a_secret_that_is_missing_is_named_and_the_feed_heals_when_it_is_made(feed: Feed, kubelet: Kubelet) -> None:
    assert kubelet is not None
    feed.manifest["spec"]["kafka"] = {
        "bootstrapServers": "kafka.example:9096",
        "authentication": {"type": "scram-sha-512", "secretRef": {"name": "msk"}},
    }
    feed.apply(retain="Retain")
    eventually(lambda: feed.reason() == "SecretMissing", "it is reported")
    condition = feed.conditions()["Ready"]
    assert f"{feed.namespace}/msk" in condition["message"]
    assert "spec.kafka.authentication.secretRef" in condition["message"]
    events = feed.plane.get("events.events.k8s.io", f"--namespace={feed.namespace}")["items"]
    assert [event["reason"] for event in events if event["regarding"]["kind"] == "CryptoFeed"] == ["SecretMissing"]
    feed.plane.kubectl("create", "secret", "generic", "msk", f"--namespace={feed.namespace}")
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")


def test_a_quota_that_is_exceeded_is_reported_and_the_feed_heals_when_it_is_raised(feed: Feed) -> None:
    space = f"--namespace={feed.namespace}"
    feed.plane.kubectl("create", "quota", "small", "--hard=count/deployments.apps=1", space)
    feed.apply()
    eventually(lambda: feed.reason() == "QuotaExceeded", "it is reported")
    feed.plane.kubectl("delete", "quota", "small", space)
    eventually(feed.is_complete, "all is made")


def test_a_kafka_cluster_that_does_not_exist_is_named(feed: Feed) -> None:
    feed.plane.kubectl("delete", "kafka", "feeds", f"--namespace={feed.namespace}")
    feed.apply()
    eventually(lambda: feed.reason() == "NoSuchKafkaCluster", "it is reported")
    assert f"{feed.namespace}/feeds" in feed.conditions()["TopicsReady"]["message"]


def test_with_strimzi_in_another_namespace_secrets_are_copied_and_all_is_deleted_with_the_feed(
    feed: Feed, plane: Cluster
) -> None:
    kafka = f"{feed.namespace}-kafka"
    plane.kubectl("create", "namespace", kafka)
    try:
        feed.manifest["spec"]["kafka"] = {
            "strimziCluster": {"name": "feeds", "namespace": kafka},
            "authentication": {"type": "scram-sha-512"},
        }
        user = user_name(feed_of(feed.manifest))
        feed.apply()
        eventually(lambda: feed.reason("ProducersReady") == "SecretNotMade", "the Secrets are missed")
        for name, field in (("feeds-cluster-ca-cert", "ca.crt=CA"), (user, "password=secret")):
            plane.kubectl("create", "secret", "generic", name, f"--from-literal={field}", f"--namespace={kafka}")
        copies = {Key("Secret", feed.namespace, f"majors-kafka-{name}") for name in ("ca", "user")}
        eventually(lambda: set(feed.children()) == feed.wanted() | copies, "all is there, with the copies")
        feed.delete()
        eventually(lambda: not feed.exists() and not feed.children(), "nothing is left, in either namespace")
    finally:
        plane.kubectl("delete", "namespace", kafka, "--wait=false")


def test_topics_of_a_kafka_without_strimzi_are_deleted_by_a_job_once_nothing_runs_any_more(
    feed: Feed, kubelet: Kubelet
) -> None:
    feed.manifest["spec"]["kafka"] = {"bootstrapServers": "kafka.example:9092"}
    feed.apply()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    kubelet.treat(f"{feed.namespace}/majors-cleanup-*", Fate.PENDING)
    feed.delete()
    eventually(lambda: Key("Job", feed.namespace, "majors-cleanup") in feed.children(), "the Job is there")
    assert not templates(feed)
    assert feed.exists()
    kubelet.treat(f"{feed.namespace}/majors-cleanup-*", Fate.WELL)
    eventually(lambda: not feed.exists() and not feed.children(), "nothing is left")


def test_nothing_is_written_while_nothing_changes(feed: Feed) -> None:
    feed.apply()
    eventually(feed.is_settled, "the feed is as it shall be")
    marker = Feed(feed.plane, feed.namespace)
    marker.manifest["metadata"]["name"] = "marker"

    def versions() -> dict[str, str]:
        found = {str(key): child["metadata"]["resourceVersion"] for key, child in feed.children().items()}
        return found | {"feed": feed.child("cryptofeed", "majors")["metadata"]["resourceVersion"]}

    eventually(lambda: versions() == versions(), "the last writes are over")
    before = versions()
    # A feed that is made and settled meanwhile shows that the operator was awake.
    marker.apply()
    eventually(
        lambda: (
            "status" in feed.child("cryptofeed", "marker")
            and "Reconciling" not in {one["type"] for one in feed.child("cryptofeed", "marker")["status"]["conditions"]}
        ),
        "another feed settles",
    )
    assert versions() == before


def test_a_feed_that_the_schema_let_through_and_the_model_refuses_does_not_hold_up_others(feed: Feed) -> None:
    with pytest.raises(KubectlError, match="products"):
        feed.apply(products=["BTC-USD", "BTC-USD"])
    assert not feed.exists()
