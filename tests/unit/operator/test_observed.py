"""What is known of the cluster: never older than it was, whatever order news come in; and how each kind does."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Key
from fulltape_operator.health import Health
from fulltape_operator.observed import FeedKey, Observed, feed_of_labels, seen
from fulltape_operator.owned import MANAGER

FEED, ANOTHER = FeedKey("markets", "majors"), FeedKey("markets", "another")
LABELS = {FEED_LABEL: "majors", FEED_NAMESPACE_LABEL: "markets"}


def thing(version: int, kind: str = "ConfigMap", uid: str = "first", **fields: Any) -> dict[str, Any]:
    """Return a live object."""
    metadata = {"name": "one", "namespace": "markets", "uid": uid, "resourceVersion": str(version), "generation": 1}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata | {"labels": LABELS}, **fields}


KEY = Key("ConfigMap", "markets", "one")


def of_ours(version: int, data: str, uid: str = "first") -> dict[str, Any]:
    live = thing(version, uid=uid, data={"x": data})
    live["metadata"]["managedFields"] = [
        {"manager": MANAGER, "operation": "Apply", "fieldsV1": {"f:data": {"f:x": {}}}}
    ]
    return live


def labelled(version: int, labels: dict[str, str]) -> dict[str, Any]:
    live = of_ours(version, "a")
    live["metadata"]["labels"] = labels
    return live


def health(kind: str, **fields: Any) -> Health:
    return seen(thing(1, kind, **fields)).health


def test_an_object_is_a_feed_s_by_both_labels() -> None:
    assert feed_of_labels(thing(1)) == FEED
    assert feed_of_labels({"metadata": {"labels": {FEED_LABEL: "majors"}}}) is None
    assert feed_of_labels({"metadata": {}}) is None


@given(st.permutations(range(1, 6)))
def test_the_newest_version_stays_in_whatever_order_versions_come(order: list[int]) -> None:
    observed = Observed()
    for version in order:
        observed.see(of_ours(version, str(version)))
    assert observed.children(FEED)[KEY] == seen(of_ours(5, "5"))


def test_only_what_matters_to_a_pass_is_told() -> None:
    observed = Observed()
    assert observed.see(of_ours(1, "a")) == {FEED}
    assert not observed.see(of_ours(1, "a"))
    assert not observed.see(of_ours(2, "a"))
    assert observed.see(of_ours(3, "b")) == {FEED}
    assert not observed.see(of_ours(2, "c"))
    deleting = of_ours(4, "b")
    deleting["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert observed.see(deleting) == {FEED}


def test_a_deletion_is_not_undone_by_a_late_answer() -> None:
    observed = Observed()
    observed.see(of_ours(1, "a"))
    assert observed.lose(KEY, 3) == FEED
    assert not observed.see(of_ours(2, "b"))
    assert observed.children(FEED) == {}
    assert observed.lose(KEY, 3) is None
    assert observed.see(of_ours(9, "a", uid="second")) == {FEED}  # another may take the name


def test_late_news_of_a_predecessor_leave_its_successor() -> None:
    observed = Observed()
    observed.see(of_ours(5, "a", uid="second"))
    assert observed.lose(KEY, 4) is None
    assert not observed.see(of_ours(3, "a", uid="first"))
    assert observed.children(FEED)[KEY].uid == "second"


@pytest.mark.parametrize("label", [FEED_LABEL, FEED_NAMESPACE_LABEL])
def test_what_lost_a_label_is_its_feed_s_again_when_it_has_it_again(label: str) -> None:
    observed = Observed()
    observed.see(of_ours(1, "a"))
    assert observed.see(labelled(2, {key: value for key, value in LABELS.items() if key != label})) == {FEED}
    assert observed.children(FEED) == {}
    assert not observed.see(of_ours(1, "a"))
    assert observed.see(of_ours(3, "a")) == {FEED}
    assert observed.lose(KEY, 2) is None, "the news of the loss are older"
    assert KEY in observed.children(FEED)


def test_an_object_that_goes_from_one_feed_to_another_and_back_is_one_s_at_a_time() -> None:
    observed = Observed()
    observed.see(of_ours(1, "a"))
    assert observed.see(labelled(2, {**LABELS, FEED_LABEL: "another"})) == {FEED, ANOTHER}
    assert observed.children(FEED) == {}
    assert KEY in observed.children(ANOTHER)
    assert observed.see(of_ours(3, "a")) == {FEED, ANOTHER}
    assert observed.children(ANOTHER) == {}
    assert observed.lose(KEY, 4) == FEED


def test_what_carries_no_feed_s_labels_is_nobody_s() -> None:
    observed = Observed()
    assert not observed.see(labelled(1, {}))
    assert not observed.of_kind("ConfigMap")


def test_children_are_found_by_their_kind() -> None:
    observed = Observed()
    observed.see(thing(1))
    observed.see(thing(1, "Service", uid="other"))
    assert [one.key for one in observed.of_kind("ConfigMap")] == [KEY]


def test_late_news_of_a_feed_do_not_replace_newer_ones() -> None:
    observed = Observed()
    observed.see_feed(FEED, thing(5, "CryptoFeed"))
    observed.see_feed(FEED, thing(4, "CryptoFeed"))
    assert observed.feeds[FEED]["metadata"]["resourceVersion"] == "5"
    observed.see_feed(FEED, thing(6, "CryptoFeed"))
    assert observed.feeds[FEED]["metadata"]["resourceVersion"] == "6"


def test_late_news_of_a_feed_leave_its_successor() -> None:
    observed = Observed()
    observed.see_feed(FEED, thing(5, "CryptoFeed", uid="second"))
    observed.see_feed(FEED, thing(3, "CryptoFeed", uid="first"))
    observed.lose_feed(FEED, 4)
    assert observed.feeds[FEED]["metadata"]["uid"] == "second"


def test_the_deletion_of_a_feed_is_not_undone_by_a_late_answer() -> None:
    observed = Observed()
    observed.see_feed(FEED, thing(1, "CryptoFeed"))
    observed.lose_feed(FEED, 3)
    observed.see_feed(FEED, thing(2, "CryptoFeed"))
    assert FEED not in observed.feeds
    observed.see_feed(FEED, thing(4, "CryptoFeed", uid="second"))
    assert FEED in observed.feeds


def status(**fields: Any) -> dict[str, Any]:
    return {"observedGeneration": 1, **fields}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
@pytest.mark.parametrize(
    ("replicas", "found", "expected"),
    [
        (2, status(replicas=2, updatedReplicas=2, readyReplicas=2), Health(2, 2)),
        (2, {}, Health(0, 2, rolling=True)),  # just made: nobody has looked at it
        (2, status(replicas=2, updatedReplicas=2, readyReplicas=1), Health(1, 2, rolling=True)),
        (2, status(replicas=2, updatedReplicas=1, readyReplicas=2), Health(2, 2, rolling=True)),
        (2, status(replicas=3, updatedReplicas=2, readyReplicas=3), Health(3, 2, rolling=True)),  # an old pod is left
        (0, status(), Health(0, 0)),  # suspended
        (0, status(replicas=1, updatedReplicas=0, readyReplicas=1), Health(1, 0, rolling=True)),
        (1, {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}, Health(1, 1, True)),  # noqa: FBT003
    ],
)
def test_a_workload_rolls_until_all_its_pods_are_new_and_ready(
    kind: str, replicas: int, found: dict[str, Any], expected: Health
) -> None:
    assert health(kind, spec={"replicas": replicas}, status=found) == expected


def test_a_workload_tells_why_it_has_no_pods() -> None:
    conditions = [
        {"type": "Available", "status": "False", "message": "not this"},
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"},
        {"type": "Progressing", "status": "False", "message": "deadline exceeded"},
    ]
    found = health("Deployment", spec={"replicas": 1}, status=status(conditions=conditions))
    assert found.problem == "exceeded quota: pods; deadline exceeded"


def test_what_a_workload_tells_of_its_well_being_is_no_problem() -> None:
    conditions = [
        {"type": "ReplicaFailure", "status": "False", "message": "not this"},
        {"type": "Progressing", "status": "True", "message": "not this"},
    ]
    assert health("Deployment", spec={"replicas": 1}, status=status(conditions=conditions)).problem == ""


@pytest.mark.parametrize("kind", ["KafkaTopic", "KafkaUser"])
@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], Health(ready=0)),
        ([{"type": "Ready", "status": "True"}], Health()),
        (
            [{"type": "Ready", "status": "False", "reason": "KafkaError", "message": "too many replicas"}],
            Health(ready=0, failed=True, problem="too many replicas"),
        ),
        ([{"type": "NotReady", "status": "True", "reason": "Odd"}], Health(ready=0, failed=True, problem="Odd")),
        ([{"type": "NotReady", "status": "True"}], Health(ready=0, failed=True, problem="is not ready")),
        ([{}, {"type": "Ready"}], Health(ready=0, failed=True, problem="is not ready")),  # its CRD asks for nothing
    ],
)
def test_strimzi_s_objects_are_ready_when_its_operators_say_so(
    kind: str, conditions: list[dict[str, Any]], expected: Health
) -> None:
    assert health(kind, spec={}, status={"conditions": conditions}) == expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], Health(ready=0)),
        ([{"type": "Complete", "status": "True"}], Health(ready=1)),
        ([{"type": "Complete", "status": "False"}], Health(ready=0)),
        (
            [{"type": "Failed", "status": "True", "message": "too often"}],
            Health(ready=0, failed=True, problem="too often"),
        ),
    ],
)
def test_a_job_is_done_or_failed_when_its_conditions_say_so(conditions: list[dict[str, Any]], expected: Health) -> None:
    assert health("Job", spec={}, status={"conditions": conditions}) == expected


def container(**fields: Any) -> dict[str, Any]:
    return {"containerStatuses": [fields]}


ENDED = {"terminated": {"exitCode": 2, "message": "starting\nno such topic\n"}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, Health(ready=0)),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, Health()),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: memory"}]},
            Health(ready=0, problem="0/3 nodes: memory"),
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "True", "message": "not this"}]}, Health(ready=0)),
        (container(state={"waiting": {"reason": "ContainerCreating"}}), Health(ready=0)),
        (
            container(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
            Health(ready=0, problem="ImagePullBackOff: no such image"),
        ),
        (container(state={"waiting": {"message": "no such image"}}), Health(ready=0, problem="no such image")),
        (
            container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ENDED),
            Health(ready=0, problem="ended with code 2: no such topic"),
        ),
        (container(lastState={"terminated": {"exitCode": 137}}), Health(ready=0, problem="ended with code 137")),
        (container(lastState={"terminated": {"exitCode": 0}}), Health(ready=0)),
        ({"conditions": [{"type": "Ready", "status": "True"}], **container(lastState=ENDED)}, Health()),
    ],
    ids=[
        "new",
        "ready",
        "unschedulable",
        "scheduled",
        "being made",
        "no image",
        "no reason",
        "crash loop",
        "killed",
        "ended well",
        "ready again",
    ],
)
def test_a_pod_that_is_not_ready_tells_why(found: dict[str, Any], expected: Health) -> None:
    assert health("Pod", spec={}, status=found) == expected


def test_what_has_no_status_is_well_once_it_is_there() -> None:
    assert health("Service") == Health()


def test_a_pod_s_address_is_known() -> None:
    assert seen(thing(1, "Pod", spec={}, status={"podIP": "10.0.0.7"})).address == "10.0.0.7"
    assert seen(thing(1, "Pod", spec={})).address == ""
