"""What is known of the cluster: the newest alone, and how each object does."""

from typing import Any

import pytest

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Key
from fulltape_operator.observed import FeedKey, Health, Observed, feed_of_labels, seen

FEED = FeedKey("n", "majors")


def live(kind: str = "ConfigMap", version: int = 1, uid: str = "1", **others: Any) -> dict[str, Any]:
    labels = {FEED_LABEL: FEED.name, FEED_NAMESPACE_LABEL: FEED.namespace}
    metadata = {"name": "x", "namespace": "n", "uid": uid, "resourceVersion": str(version), "labels": labels}
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata | others.pop("metadata", {}), **others}


def condition(kind: str, status: str, message: str = "") -> dict[str, str]:
    return {"type": kind, "status": status, "message": message}


def test_an_older_version_never_takes_the_place_of_a_newer() -> None:
    observed = Observed()
    observed.see(FEED, live("Job", 5, status={"conditions": [condition("Complete", "True")]}))
    assert not observed.see(FEED, live("Job", 4))
    assert observed.children(FEED)[Key("Job", "n", "x")].health.ready == 1


def test_a_deletion_is_not_undone_by_a_late_answer_and_another_object_may_take_the_name() -> None:
    observed = Observed()
    key = Key("ConfigMap", "n", "x")
    observed.see(FEED, live(version=5))
    assert observed.lose(FEED, key, "1")
    assert not observed.see(FEED, live(version=4))
    assert not observed.children(FEED)
    assert observed.see(FEED, live(version=9, uid="2"))
    assert not observed.lose(FEED, key, "1")
    assert key in observed.children(FEED)


def test_what_changes_nothing_for_a_pass_is_no_news() -> None:
    observed = Observed()
    assert observed.see(FEED, live(version=1))
    assert not observed.see(FEED, live(version=2))
    assert observed.see(FEED, live(version=3, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}))


def test_what_a_list_lacks_is_found_by_its_kind() -> None:
    observed = Observed()
    observed.see(FEED, live())
    observed.see(FEED, live("Service", uid="2"))
    [(feed, gone)] = observed.missing("Service", [])
    assert (feed, gone.key) == (FEED, Key("Service", "n", "x"))
    assert not observed.missing("Service", [(FEED, gone.key)])


def test_a_feed_keeps_its_newest_version_and_one_made_anew_replaces_it() -> None:
    observed = Observed()
    observed.see_feed(FEED, live("CryptoFeed", 5))
    observed.see_feed(FEED, live("CryptoFeed", 4))
    assert observed.feeds[FEED]["metadata"]["resourceVersion"] == "5"
    observed.see_feed(FEED, live("CryptoFeed", 3, uid="2"))
    assert observed.feeds[FEED]["metadata"]["uid"] == "2"


def test_an_object_without_a_feed_s_labels_is_nobody_s() -> None:
    assert feed_of_labels(live()) == FEED
    assert feed_of_labels({"metadata": {"labels": {FEED_LABEL: "majors"}}}) is None
    assert feed_of_labels({"metadata": {}}) is None


def workload(wanted: int, generation: int = 1, **status: Any) -> dict[str, Any]:
    return live("Deployment", metadata={"generation": generation}, spec={"replicas": wanted}, status=status)


@pytest.mark.parametrize(
    ("found", "health"),
    [
        (workload(1), Health(ready=0, wanted=1, rolling=True)),
        (
            workload(2, observedGeneration=1, replicas=2, readyReplicas=2, updatedReplicas=2),
            Health(ready=2, wanted=2),
        ),
        (
            workload(2, 2, observedGeneration=1, replicas=2, readyReplicas=2, updatedReplicas=2),
            Health(ready=2, wanted=2, rolling=True),
        ),
        (
            workload(1, observedGeneration=1, replicas=2, readyReplicas=2, updatedReplicas=1),
            Health(ready=2, wanted=1, rolling=True),
        ),
        (workload(0, observedGeneration=1), Health(ready=0, wanted=0)),
        (
            workload(1, observedGeneration=1, conditions=[condition("ReplicaFailure", "True", "exceeded quota")]),
            Health(ready=0, wanted=1, rolling=True, problem="exceeded quota"),
        ),
        (live("KafkaTopic"), Health(ready=0)),
        (live("KafkaTopic", status={"conditions": [condition("Ready", "True")]}), Health(ready=1)),
        (
            live("KafkaTopic", status={"conditions": [condition("Ready", "False", "too few brokers")]}),
            Health(ready=0, failed=True, problem="too few brokers"),
        ),
        (
            live("Job", status={"conditions": [condition("Failed", "True", "deadline")]}),
            Health(ready=0, failed=True, problem="deadline"),
        ),
        (live("Pod", status={"conditions": [condition("Ready", "True")]}), Health(ready=1)),
        (
            live("Pod", status={"conditions": [condition("PodScheduled", "False", "no node fits")]}),
            Health(ready=0, problem="no node fits"),
        ),
        (
            live("Pod", status={"containerStatuses": [{"state": {"waiting": {"reason": "ImagePullBackOff"}}}]}),
            Health(ready=0, problem="ImagePullBackOff"),
        ),
        (
            live("Pod", status={"containerStatuses": [{"lastState": {"terminated": {"exitCode": 2}}}]}),
            Health(ready=0, problem="ended with code 2"),
        ),
        (live("Service"), Health()),
    ],
)
def test_how_an_object_does_is_what_its_controller_says(found: dict[str, Any], health: Health) -> None:
    assert seen(found).health == health
