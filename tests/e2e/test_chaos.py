"""Whatever is killed, the tape stays complete and the feed gets ready again by itself.

``FULLTAPE_CHAOS_ROUNDS`` repeats every case (once by default): ``make chaos`` sets it.
"""

import os
from datetime import UTC, datetime

import pytest

from tests.cluster.demo import DATA_NAMESPACE
from tests.control_plane.plane import Cluster, ControlPlane
from tests.e2e.feeds import Feed, assert_complete

pytestmark = pytest.mark.e2e

_ROUNDS = int(os.environ.get("FULLTAPE_CHAOS_ROUNDS", "1"))


@pytest.mark.parametrize("component", ["producer", "executor", "panes", "monitor"])
def test_a_killed_pod_comes_back_and_no_trade_is_lost(feed: Feed, component: str) -> None:
    for _ in range(_ROUNDS):
        pods = feed.pods(component)
        killed = pods[0]["metadata"]
        _kill(feed.cluster, killed["name"], feed.namespace)

        def is_replaced(count: int = len(pods), uid: str = killed["uid"]) -> bool:
            now = feed.pods(component)
            return len(now) == count and all(_is_ready(pod) and pod["metadata"]["uid"] != uid for pod in now)

        feed.wait_until(is_replaced, f"another {component}")
        feed.wait_ready()
    assert_complete(feed.audit())


def test_kafka_may_die_and_come_back_on_its_volume(feed: Feed) -> None:
    for _ in range(_ROUNDS):
        _kill(feed.cluster, "kafka-0", DATA_NAMESPACE)
        feed.wait_ready(datetime.now(UTC))
    assert_complete(feed.audit())


def test_the_data_plane_does_not_notice_that_the_api_server_is_down(feed: Feed) -> None:
    plane = feed.cluster
    if not isinstance(plane, ControlPlane):
        pytest.skip("a cluster that is named keeps its API server")
    before = {pod["metadata"]["uid"]: _restarts(pod) for pod in feed.pods()}
    plane.stop_api_server()
    down = datetime.now(UTC)
    plane.start_api_server()
    feed.wait_ready(down)
    assert {pod["metadata"]["uid"]: _restarts(pod) for pod in feed.pods()} == before
    assert_complete(feed.audit())


def _kill(cluster: Cluster, pod: str, namespace: str) -> None:
    cluster.kubectl("delete", "pod", pod, f"--namespace={namespace}", "--grace-period=0", "--force")


def _is_ready(pod: dict[str, object]) -> bool:
    status = pod["status"]
    assert isinstance(status, dict)
    return any(one["type"] == "Ready" and one["status"] == "True" for one in status.get("conditions", ()))


def _restarts(pod: dict[str, object]) -> int:
    status = pod["status"]
    assert isinstance(status, dict)
    return sum(int(one["restartCount"]) for one in status.get("containerStatuses", ()))
