"""Feeds heal from what their cluster, other people and their own mistakes do to them, and end whatever is wrong."""

import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from fulltape.local.kafka import free_port
from fulltape_operator.cluster import CHILDREN, FEEDS
from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Key
from fulltape_operator.finalize import FINALIZER
from fulltape_operator.owned import MANAGER
from tests.control_plane.kubelet import Fate, Kubelet
from tests.control_plane.plane import Cluster, ControlPlane, KubectlError
from tests.integration.operator.processes import OperatorProcess, eventually
from tests.integration.operator.test_feeds import Feed

pytestmark = pytest.mark.integration

CRD = Path(__file__).parents[3] / "charts" / "fulltape" / "crds" / "cryptofeeds.yaml"


@pytest.fixture(scope="module")
def operator(plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    with OperatorProcess(plane.kubeconfig, tmp_path_factory.mktemp("operator"), lease_namespace="default") as process:
        yield process


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


@pytest.fixture
def elsewhere(plane: Cluster, namespace: str) -> Iterator[str]:
    """Give a second namespace, for Kafka alone."""
    name = f"{namespace}-kafka"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


def events(feed: Feed, reason: str) -> list[dict[str, Any]]:
    found = feed.plane.get("events.events.k8s.io", f"--namespace={feed.namespace}")["items"]
    return [event for event in found if event["reason"] == reason and event["regarding"]["kind"] == "CryptoFeed"]


def is_made(feed: Feed) -> bool:
    """Tell whether all is there and the status says so of this generation, whether or not Kafka and pods follow."""
    conditions = feed.conditions()
    generation = feed.child("cryptofeed", "majors")["metadata"]["generation"]
    return bool(conditions) and conditions["Ready"]["observedGeneration"] == generation and feed.is_complete()


@pytest.mark.parametrize(
    "change",
    [
        f"{FEED_LABEL}-",
        f"{FEED_LABEL}=another",
        f"{FEED_NAMESPACE_LABEL}-",
        f"{FEED_NAMESPACE_LABEL}=another",
    ],
)
def test_a_child_that_is_taken_from_its_feed_by_its_labels_comes_back_and_is_watched_again(
    feed: Feed, change: str
) -> None:
    feed.apply()
    eventually(feed.is_settled, "the feed is as it shall be")
    uid = feed.child("deployment", "majors-monitor")["metadata"]["uid"]
    space = f"--namespace={feed.namespace}"
    feed.plane.kubectl("label", "deployment", "majors-monitor", change, "--overwrite", space)
    eventually(feed.is_complete, "it has its labels again")
    assert feed.child("deployment", "majors-monitor")["metadata"]["uid"] == uid
    feed.plane.kubectl("scale", "deployment", "majors-monitor", "--replicas=2", space)
    eventually(lambda: feed.child("deployment", "majors-monitor")["spec"]["replicas"] == 1, "it is kept as it shall be")
    eventually(lambda: feed.reason("AnalyticsReady") == "AnalyticsReady", "and it is seen to run")


def test_an_operator_that_may_not_watch_all_it_must_is_not_ready_until_it_may(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    account = f"--serviceaccount={namespace}:hindered"
    control_plane.kubectl("create", "serviceaccount", "hindered", f"--namespace={namespace}")
    rights = [
        {"apiGroups": ["*"], "resources": [resource], "verbs": ["get", "list", *more]}
        for resource, more in (("*", []), *((name, ["watch"]) for name in _WATCHED_BESIDE_PODS))
    ]
    role = {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": namespace}}
    control_plane.kubectl("create", "--filename=-", input=json.dumps({**role, "rules": rights}))
    control_plane.kubectl("create", "clusterrolebinding", namespace, f"--clusterrole={namespace}", account)
    port = free_port()
    hindered = OperatorProcess(
        control_plane.kubeconfig_for("hindered", namespace),
        tmp_path,
        lease_namespace=namespace,
        arguments=[f"--port={port}"],
    )
    try:
        with hindered:
            eventually(lambda: "1 watches fail" in _answer(port, "/readyz"), "it says that one fails")
            assert 'cannot watch resource "pods"' in hindered.log()
            assert _answer(port, "/healthz") == "ok\n"
            control_plane.kubectl("create", "clusterrolebinding", f"{namespace}-all", "--clusterrole=view", account)
            eventually(lambda: _answer(port, "/readyz") == "ok\n", "it is ready")
    finally:
        control_plane.kubectl("delete", "clusterrolebinding", namespace, f"{namespace}-all", "--ignore-not-found")
        control_plane.kubectl("delete", "clusterrole", namespace)


_WATCHED_BESIDE_PODS = [*(resource.plural for resource in (FEEDS, *CHILDREN.values())), "customresourcedefinitions"]


def _answer(port: int, path: str) -> str:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
            text: bytes = answer.read()
    except urllib.error.HTTPError as refusal:
        with refusal:
            text = refusal.read()
    except OSError as problem:  # it does not listen yet
        return str(problem)
    return text.decode()


def test_a_feed_that_a_laxer_schema_let_through_is_stalled_until_it_is_mended_and_holds_up_no_other(
    feed: Feed, control_plane: ControlPlane, elsewhere: str
) -> None:
    other = Feed(control_plane, elsewhere)
    lax = yaml.safe_load(CRD.read_text())
    (version,) = lax["spec"]["versions"]
    version["schema"]["openAPIV3Schema"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    control_plane.kubectl("replace", "--filename=-", input=yaml.safe_dump(lax))
    try:
        # The API server takes a moment to follow.
        eventually(lambda: _applies(feed, products=["BTC-USD", "BTC-USD"]), "the schema lets it through")
    finally:
        control_plane.kubectl("replace", f"--filename={CRD}")
    eventually(lambda: feed.reason() == "InvalidSpec", "it is reported")
    conditions = feed.conditions()
    assert "spec.products" in conditions["Stalled"]["message"]
    assert conditions["Ready"]["message"].startswith(conditions["Stalled"]["message"])
    assert not feed.children()
    other.apply()
    eventually(partial(is_made, other), "another feed is made")
    assert len(events(feed, "InvalidSpec")) == 1
    feed.apply(products=["BTC-USD"])
    eventually(partial(is_made, feed), "it is made too, once it is mended")
    assert "Stalled" not in feed.conditions()


def _applies(feed: Feed, **spec: Any) -> bool:
    try:
        feed.apply(**spec)
    except KubectlError:
        return False
    return True


def test_what_can_t_be_changed_is_reported_and_all_else_is(feed: Feed) -> None:
    def volume(name: str) -> dict[str, Any]:
        return {"checkpoint": {"volume": {"storageClassName": name}}}

    feed.apply(analytics=volume("slow"))
    eventually(feed.is_settled, "the feed is as it shall be")
    claim = feed.child("pvc", "majors-panes-0")["spec"]
    feed.apply(analytics=volume("fast"), producer={"replicas": 2})
    eventually(lambda: feed.reason() == "Invalid", "it is reported")
    assert "majors-panes-0" in feed.conditions()["Ready"]["message"]
    eventually(lambda: feed.child("statefulset", "majors-producer")["spec"]["replicas"] == 2, "all else is changed")
    assert feed.child("pvc", "majors-panes-0")["spec"] == claim
    feed.apply(analytics=volume("slow"))
    eventually(feed.is_settled, "it is well again when the change is taken back")


def test_the_finalizers_and_labels_of_others_stay_on_a_feed_and_its_own_finalizer_comes_back(
    feed: Feed, elsewhere: str
) -> None:
    feed.manifest["metadata"] |= {"finalizers": ["example.org/mine"], "labels": {"mine": "yes"}}
    feed.apply(kafka={"strimziCluster": {"name": "feeds", "namespace": elsewhere}})

    def finalizers() -> list[str]:
        found: list[str] = feed.child("cryptofeed", "majors")["metadata"].get("finalizers", [])
        return found

    def patch(value: list[str]) -> None:
        body = json.dumps({"metadata": {"finalizers": value}})
        feed.plane.kubectl(
            "patch", "cryptofeed", "majors", "--type=merge", f"--patch={body}", f"--namespace={feed.namespace}"
        )

    both = {"example.org/mine", FINALIZER}
    try:
        eventually(lambda: set(finalizers()) == both, "its own is there beside the other")
        patch(["example.org/mine"])
        eventually(lambda: set(finalizers()) == both, "its own is back")
        eventually(partial(is_made, feed), "all is made")
        assert feed.child("cryptofeed", "majors")["metadata"]["labels"] == {"mine": "yes"}
        feed.delete()
        eventually(lambda: finalizers() == ["example.org/mine"], "its own alone is taken off")
    finally:
        patch([])
    eventually(lambda: not feed.exists() and not feed.children(), "nothing is left")


def test_a_feed_whose_kafka_moves_leaves_nothing_in_its_old_place_though_it_is_deleted_on_the_way(
    feed: Feed, elsewhere: str
) -> None:
    feed.apply(kafka={"strimziCluster": {"name": "feeds", "namespace": elsewhere}, "topics": {"partitions": 2}})
    eventually(partial(is_made, feed), "all is made")
    # What can't be made keeps all that is there, also the old topics.
    feed.plane.kubectl("create", "quota", "none", "--hard=count/configmaps=1", f"--namespace={feed.namespace}")
    feed.apply(kafka={"strimziCluster": {"name": "feeds"}, "topics": {"partitions": 2}})
    eventually(lambda: feed.reason() == "QuotaExceeded", "the move is hindered")
    assert feed.plane.get("kafkatopics", f"--namespace={elsewhere}")["items"]
    feed.delete()
    eventually(lambda: not feed.exists() and not feed.children(), "nothing is left, in either namespace")


def set_status(feed: Feed, plural: str, **status: Any) -> None:
    """Say of a feed's route what its controller would."""
    body = json.dumps({"status": status})
    space = f"--namespace={feed.namespace}"
    feed.plane.kubectl(
        "patch", plural, "majors-dashboard", "--subresource=status", "--type=merge", f"--patch={body}", space
    )


def test_a_route_that_is_not_taken_or_refused_is_said_until_it_is_and_the_feed_is_ready_meanwhile(
    feed: Feed, kubelet: Kubelet
) -> None:
    assert kubelet is not None
    feed.manifest["spec"]["kafka"] = {"bootstrapServers": "kafka.example:9092"}
    feed.apply(retain="Retain", dashboard={"ingress": {"host": "majors.example.com"}})
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    eventually(lambda: feed.reason("RouteReady") == "RouteNotTaken", "an Ingress without an address is reported")
    set_status(feed, "ingresses", loadBalancer={"ingress": [{"ip": "192.0.2.1"}]})
    eventually(lambda: feed.reason("RouteReady") == "RouteReady", "it has one")
    feed.apply(dashboard={"httpRoute": {"host": "majors.example.com", "parentRefs": [{"name": "web"}]}})
    eventually(lambda: feed.reason("RouteReady") == "RouteNotTaken", "a silent Gateway is reported")

    def say(status: str, reason: str) -> None:
        of_condition = {"lastTransitionTime": "2026-01-01T00:00:00Z", "message": "so it is", "observedGeneration": 1}
        conditions = [{"type": "Accepted", "status": status, "reason": reason, **of_condition}]
        parent = {"parentRef": {"name": "web"}, "controllerName": "example.org/gateway", "conditions": conditions}
        set_status(feed, "httproutes", parents=[parent])

    say("False", "NotAllowedByListeners")
    eventually(lambda: feed.reason("RouteReady") == "RouteRefused", "a refusal is reported")
    assert "NotAllowedByListeners: so it is" in feed.conditions()["RouteReady"]["message"]
    say("True", "Accepted")
    eventually(lambda: feed.reason("RouteReady") == "RouteReady", "it is taken")
    assert feed.reason() == "Ready"


def job(namespace: str, **metadata: Any) -> dict[str, Any]:
    """Return a Job of the name of the one that deletes a feed's topics; nothing of it ever runs."""
    pod = {"restartPolicy": "Never", "containers": [{"name": "one", "image": "fulltape"}]}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "majors-cleanup", "namespace": namespace, **metadata},
        "spec": {"suspend": True, "template": {"spec": pod}},
    }


@pytest.mark.parametrize("labelled", [False, True])
def test_another_s_job_of_the_name_of_the_one_that_deletes_topics_is_left_alone_and_reported(
    feed: Feed, kubelet: Kubelet, *, labelled: bool
) -> None:
    assert kubelet is not None
    feed.manifest["spec"]["kafka"] = {"bootstrapServers": "kafka.example:9092"}
    feed.apply()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    labels = {FEED_LABEL: "majors", FEED_NAMESPACE_LABEL: feed.namespace} if labelled else {}
    feed.plane.kubectl("create", "--filename=-", input=json.dumps(job(feed.namespace, labels=labels)))
    theirs = feed.child("job", "majors-cleanup")
    feed.delete()
    eventually(lambda: not feed.exists(), "the feed goes")
    (told,) = events(feed, "TopicsLeft")
    assert "majors-cleanup exists and is not of this feed" in told["note"]
    now = feed.child("job", "majors-cleanup")
    assert (now["metadata"]["uid"], now["spec"]) == (theirs["metadata"]["uid"], theirs["spec"])
    assert "deletionTimestamp" not in now["metadata"]


def test_a_job_that_a_former_feed_of_the_name_left_does_not_pass_for_the_feed_s_own(
    feed: Feed, kubelet: Kubelet
) -> None:
    feed.manifest["spec"]["kafka"] = {"bootstrapServers": "kafka.example:9092"}
    feed.apply()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    space = f"--namespace={feed.namespace}"
    feed.plane.kubectl("annotate", "cryptofeed", "majors", "fulltape.dev/pause=true", space)
    eventually(lambda: feed.reason("Reconciling") == "Paused", "nothing is tidied up")
    labels = {FEED_LABEL: "majors", FEED_NAMESPACE_LABEL: feed.namespace}
    former = json.dumps(job(feed.namespace, labels=labels))
    feed.plane.kubectl("apply", "--server-side", f"--field-manager={MANAGER}", "--filename=-", input=former)
    uid = feed.child("job", "majors-cleanup")["metadata"]["uid"]
    kubelet.treat(f"{feed.namespace}/majors-cleanup-*", Fate.PENDING)
    feed.delete()

    def own() -> bool:
        found = [child["metadata"]["uid"] for key, child in feed.children().items() if key.kind == "Job"]
        return bool(found) and uid not in found

    eventually(own, "its own Job is there")
    kubelet.treat(f"{feed.namespace}/majors-cleanup-*", Fate.WELL)
    eventually(lambda: not feed.exists() and not feed.children(), "nothing is left")
    assert not events(feed, "TopicsLeft")


@pytest.mark.parametrize("hindrance", ["refused", "never ends"])
def test_topics_that_can_t_be_deleted_are_named_and_their_feed_goes(
    feed: Feed, kubelet: Kubelet, hindrance: str
) -> None:
    space = f"--namespace={feed.namespace}"
    kubelet.treat(f"{feed.namespace}/majors-cleanup-*", Fate.PENDING)
    feed.manifest["spec"]["kafka"] = {"bootstrapServers": "kafka.example:9092"}
    feed.apply()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    if hindrance == "refused":
        feed.plane.kubectl("create", "quota", "none", "--hard=count/jobs.batch=0", space)
        feed.delete()
    else:
        feed.delete()
        job = Key("Job", feed.namespace, "majors-cleanup")
        eventually(lambda: job in feed.children(), "the Job is there")
        soon = '--patch={"spec":{"activeDeadlineSeconds":1}}'
        feed.plane.kubectl("patch", "job", "majors-cleanup", "--type=merge", soon, space)
    eventually(lambda: not feed.exists() and not feed.children(), "nothing is left")
    (told,) = events(feed, "TopicsLeft")
    assert "majors.*" in told["note"]


def test_a_namespace_ends_with_all_its_feeds_and_what_they_have_elsewhere(
    plane: Cluster, operator: OperatorProcess, elsewhere: str
) -> None:
    assert operator is not None
    space = f"{elsewhere}-feeds"
    plane.kubectl("create", "namespace", space)
    plane.kubectl("wait", "--for=create", "serviceaccount/default", f"--namespace={space}", "--timeout=60s")
    strimzi = {"strimziCluster": {"name": "feeds", "namespace": elsewhere}, "authentication": {"type": "tls"}}
    feeds = [
        Feed(plane, space, kafka=strimzi),
        Feed(plane, space, kafka={"bootstrapServers": "kafka.example:9092"}),
        Feed(plane, space),
    ]
    for number, feed in enumerate(feeds):
        feed.manifest["metadata"]["name"] = f"feed-{number}"
        feed.apply()
    kinds = "kafkatopics,kafkausers"
    eventually(lambda: plane.get("kafkausers", f"--namespace={elsewhere}")["items"], "all is made elsewhere")
    eventually(lambda: len(plane.get("statefulsets", f"--namespace={space}")["items"]) == 3, "all is made")
    plane.kubectl("delete", "namespace", space, "--wait=false")
    eventually(lambda: space not in plane.kubectl("get", "namespaces", "--output=name"), "the namespace is gone", 120)
    assert not plane.get(kinds, f"--namespace={elsewhere}")["items"]
