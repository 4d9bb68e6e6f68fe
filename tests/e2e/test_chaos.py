"""Whatever fails, the tape stays complete, the windows right, and the feed gets ready again by itself.

With ``FULLTAPE_CHAOS=full`` what dies or is cut off does so five times, and what lasts, lasts longer: ``make chaos``.
"""

import os
import random
import time
from datetime import UTC, datetime

import pytest

from tests.cluster.demo import DATA_NAMESPACE, OPERATOR_NAMESPACE
from tests.cluster.faults import cut_off, full
from tests.cluster.node import Node
from tests.control_plane.plane import Cluster, ControlPlane
from tests.e2e.feeds import PATIENCE_SECONDS, Feed

pytestmark = pytest.mark.e2e

_FULL = os.environ.get("FULLTAPE_CHAOS") == "full"
_ROUNDS = 5 if _FULL else 1
_CUT_SECONDS = 30.0
_DOWN_SECONDS = 60.0 if _FULL else 10.0
_RANDOM_SECONDS = 300.0 if _FULL else 30.0
_BETWEEN_SECONDS = 10.0


def test_a_killed_driver_goes_on_from_the_checkpoint_on_its_volume(feed: Feed) -> None:
    for _ in range(_ROUNDS):
        with feed.going_on_from_checkpoint():
            with feed.replacing("panes") as pod:
                _kill(feed.cluster, pod, feed.namespace)
            feed.wait_ready()
    feed.assert_right()


@pytest.mark.parametrize("component", ["producer", "executor", "monitor"])
def test_a_killed_pod_comes_back_and_no_trade_is_lost(feed: Feed, component: str) -> None:
    for _ in range(_ROUNDS):
        driver = feed.lives("panes")
        with feed.replacing(component) as pod:
            _kill(feed.cluster, pod, feed.namespace)
        feed.wait_ready()
        assert feed.lives("panes") == driver, "the driver outlives what else dies"
    feed.assert_right()


def test_kafka_may_die_and_come_back_on_its_volume(feed: Feed) -> None:
    for _ in range(_ROUNDS):
        with feed.replacing_beside(DATA_NAMESPACE, "app=kafka") as pod:
            _kill(feed.cluster, pod, DATA_NAMESPACE)
        feed.wait_ready()
    feed.assert_right()


def test_pods_may_die_at_random_all_the_time(feed: Feed) -> None:
    chance = random.Random(20_261_123)
    end = time.monotonic() + _RANDOM_SECONDS
    while time.monotonic() < end:
        if pods := feed.pods():
            feed.delete_pod(chance.choice(pods)["metadata"]["name"])
        time.sleep(_BETWEEN_SECONDS)
    feed.wait_ready()
    feed.assert_right()


def test_a_producer_without_a_network_fetches_what_it_missed(feed: Feed) -> None:
    _needs_own_node(feed)
    for _ in range(_ROUNDS):
        with cut_off(feed.pods("producer")[0]["metadata"]["uid"]):
            time.sleep(_CUT_SECONDS)
        feed.wait_ready()
    feed.assert_right()


def test_spark_goes_on_once_the_volume_of_its_checkpoint_has_room_again(feed: Feed) -> None:
    _needs_own_node(feed)
    with feed.replacing("panes") as driver:
        feed.delete_pod(driver)  # the first boundary, at which a stream writes, comes half a minute after a start
    claim = feed.cluster.get("persistentvolumeclaim/majors-panes-0", f"--namespace={feed.namespace}")
    with full(claim["spec"]["volumeName"]) as fill:

        def is_noticed() -> bool:
            fill()
            return feed.condition("AnalyticsReady")["status"] != "True"

        # The next boundary may be the second, five minutes later.
        feed.wait_until(is_noticed, "the full volume to be noticed", patience_seconds=300 + PATIENCE_SECONDS)
    feed.wait_ready()
    feed.assert_right()


def test_the_pods_of_a_node_may_be_evicted(feed: Feed) -> None:
    for _ in range(_ROUNDS):
        evicted = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in feed.pods()}
        for name in evicted:
            feed.wait_until(lambda name=name: feed.evict(name), f"{name} to be evicted")  # type: ignore[misc]

        def are_gone(old: frozenset[str] = frozenset(evicted.values())) -> bool:
            return old.isdisjoint(pod["metadata"]["uid"] for pod in feed.pods())

        feed.wait_until(are_gone, "the evicted pods to end")
        feed.wait_ready()
    feed.assert_right()


def test_the_data_plane_does_not_notice_that_the_api_server_is_down(feed: Feed) -> None:
    plane = feed.cluster
    if not isinstance(plane, ControlPlane):
        pytest.skip("a cluster that is named keeps its API server")
    before = feed.lives()
    plane.stop_api_server()
    time.sleep(_DOWN_SECONDS)
    down = datetime.now(UTC)
    plane.start_api_server()
    feed.wait_ready(down)
    assert feed.lives() == before
    feed.assert_right()


def test_a_feed_gets_ready_without_the_operator_that_made_it(feed: Feed) -> None:
    with feed.replacing_beside(OPERATOR_NAMESPACE, "app.kubernetes.io/name=fulltape-operator") as operator:
        _kill(feed.cluster, operator, OPERATOR_NAMESPACE)
        with feed.replacing("monitor") as monitor:
            feed.delete_pod(monitor)
    feed.wait_ready()
    feed.assert_right()


def _needs_own_node(feed: Feed) -> None:
    if not isinstance(feed.cluster, Node):
        pytest.skip("only the owner of a node can do this to it")


def _kill(cluster: Cluster, pod: str, namespace: str) -> None:
    cluster.kubectl("delete", "pod", pod, f"--namespace={namespace}", "--grace-period=0", "--force")
