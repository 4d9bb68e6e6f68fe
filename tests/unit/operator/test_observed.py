"""What is known of the cluster: never older than it was, whatever order news come in."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, REVISION_LABEL, Key
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


def test_the_revision_of_a_driver_is_known_as_it_shall_be_and_as_it_is() -> None:
    labels = {REVISION_LABEL: "1b2c"}
    assert seen(thing(1, "SparkApplication", spec={"driver": {"labels": labels}})).revision == "1b2c"
    assert seen(thing(1, "SparkApplication", spec={"driver": {}})).revision == ""
    pod = thing(1, "Pod", spec={})
    assert seen(pod).revision == ""
    pod["metadata"]["labels"] = LABELS | labels
    assert seen(pod).revision == "1b2c"


def test_a_pod_s_address_is_known() -> None:
    assert seen(thing(1, "Pod", spec={}, status={"podIP": "10.0.0.7"})).address == "10.0.0.7"
    assert seen(thing(1, "Pod", spec={})).address == ""
