"""Whatever happens to the operator or to the API server, feeds end up as they shall be, and nothing else is left.

Each drill is short here; FULLTAPE_DRILL_KILLS=100 and FULLTAPE_OUTAGE_SECONDS=60 are the full measure.
"""

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fulltape.feed.load import feed_of
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import FEED_LABEL, Key
from fulltape_operator.platform import Platform
from tests.control_plane.plane import Cluster, ControlPlane
from tests.integration.operator.processes import OperatorProcess, eventually

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("FULLTAPE_DRILL_KILLS", "4"))
OUTAGE_SECONDS = float(os.environ.get("FULLTAPE_OUTAGE_SECONDS", "5"))
KINDS = "configmaps,services,serviceaccounts,statefulsets,deployments,roles,rolebindings,networkpolicies,kafkatopics"


@pytest.fixture
def operator(plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[OperatorProcess]:
    with OperatorProcess(plane.kubeconfig, tmp_path, lease_namespace=namespace) as process:
        yield process


class Feeds:
    """The feeds of a namespace, and what of them there shall be."""

    def __init__(self, plane: Cluster, namespace: str) -> None:
        self.plane = plane
        self.namespace = namespace
        self.wanted: dict[str, dict[str, Any]] = {}

    def apply(self, name: str, products: list[str]) -> None:
        spec = {"products": products, "kafka": {"strimziCluster": {"name": "feeds"}}}
        metadata = {"name": name, "namespace": self.namespace}
        feed = {"apiVersion": "fulltape.dev/v1alpha1", "kind": "CryptoFeed", "metadata": metadata, "spec": spec}
        self.plane.kubectl("apply", "--filename=-", input=json.dumps(feed))
        self.wanted[name] = feed

    def delete(self, name: str) -> None:
        self.plane.kubectl("delete", "cryptofeed", name, f"--namespace={self.namespace}", "--wait=false")
        del self.wanted[name]

    def are_as_wanted(self) -> bool:
        """Tell whether exactly these feeds are there, with exactly their objects, as they shall be."""
        space = f"--namespace={self.namespace}"
        names = {feed["metadata"]["name"] for feed in self.plane.get("cryptofeeds", space)["items"]}
        items = self.plane.get(KINDS, space, f"--selector={FEED_LABEL}")["items"]
        there = {Key(item["kind"], self.namespace, item["metadata"]["name"]): item for item in items}
        wanted = {
            child.key: child.manifest
            for feed in self.wanted.values()
            for child in desired_state(feed_of(feed), Platform())
        }
        return (
            names == set(self.wanted)
            and set(there) == set(wanted)
            and all(there[key].get("data") == manifest.get("data") for key, manifest in wanted.items())
            and all(_volumes(there[key]) == _volumes(manifest) for key, manifest in wanted.items())
        )


def _volumes(manifest: dict[str, Any]) -> list[str]:
    """Return the settings that a workload's pods are started with."""
    template = manifest.get("spec", {}).get("template", {})
    return [
        volume["configMap"]["name"] for volume in template.get("spec", {}).get("volumes", []) if "configMap" in volume
    ]


def test_killed_at_any_point_it_goes_on_where_it_was(plane: Cluster, namespace: str, operator: OperatorProcess) -> None:
    feeds = Feeds(plane, namespace)
    chance = random.Random(7)
    for kill in range(KILLS):
        match kill % 3:
            case 0:
                feeds.apply("first", ["BTC-USD"])
                feeds.apply("second", ["ETH-USD"])
            case 1:
                feeds.apply("first", ["BTC-USD", "SOL-USD"])
            case _:
                feeds.delete("first")
        time.sleep(chance.uniform(0, 0.6))  # the point at which it is killed
        operator.kill()
        operator.start()
        eventually(feeds.are_as_wanted, f"after kill {kill}, the feeds are as wanted\n{operator.log()[-3000:]}", 90)


def test_an_outage_of_the_api_server_passes(
    control_plane: ControlPlane, namespace: str, operator: OperatorProcess
) -> None:
    feeds = Feeds(control_plane, namespace)
    feeds.apply("first", ["BTC-USD"])
    eventually(feeds.are_as_wanted, "the feed is as wanted")
    control_plane.kubectl("delete", "statefulset", "first-producer", f"--namespace={namespace}", "--wait=false")
    feeds.apply("second", ["ETH-USD"])
    control_plane.stop_api_server()
    time.sleep(OUTAGE_SECONDS)
    control_plane.start_api_server()
    feeds.apply("first", ["BTC-USD", "SOL-USD"])
    eventually(feeds.are_as_wanted, "the feeds are as wanted", 90)
    control_plane.kubectl("delete", "deployments,services,statefulsets", "--all", f"--namespace={namespace}")
    eventually(feeds.are_as_wanted, "the watches work again", 90)
    assert operator.is_running(), "and it is the same process still"


def test_the_other_of_two_goes_on_when_the_one_that_works_is_killed_or_told_to_end(
    plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    feeds = Feeds(plane, namespace)

    def holder() -> str:
        leases = plane.get("leases", f"--namespace={namespace}")["items"]
        return str(leases[0]["spec"].get("holderIdentity")) if leases else ""

    with (
        OperatorProcess(plane.kubeconfig, tmp_path, name="one", lease_namespace=namespace) as one,
        OperatorProcess(plane.kubeconfig, tmp_path, name="other", lease_namespace=namespace) as other,
    ):
        eventually(lambda: holder() in ("one", "other"), "one of them works")
        first, second = (one, other) if holder() == "one" else (other, one)
        feeds.apply("first", ["BTC-USD"])
        eventually(feeds.are_as_wanted, "the feed is as wanted")
        assert "works now" not in second.log()
        first.kill()
        feeds.apply("second", ["ETH-USD"])
        eventually(feeds.are_as_wanted, "the other goes on")
        first.start()
        second.stop()
        feeds.delete("second")
        eventually(feeds.are_as_wanted, "the first goes on")
