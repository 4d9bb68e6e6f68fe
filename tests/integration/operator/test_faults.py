"""Whatever happens to the operator or to the API server, feeds end up as they shall be, and nothing else is left.

Each drill is short here; the full measure is FULLTAPE_DRILL_KILLS=100, FULLTAPE_OUTAGE_SECONDS=60,
FULLTAPE_WATCHES_GONE=10, FULLTAPE_STORM_SECONDS=60 and FULLTAPE_UPGRADE_FEEDS=100.
"""

import itertools
import json
import os
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fulltape.feed.load import feed_of
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import FEED_NAMESPACE_LABEL, Key
from fulltape_operator.finalize import FINALIZER
from fulltape_operator.platform import Platform
from tests.control_plane.plane import Cluster, ControlPlane
from tests.integration.operator.processes import OperatorProcess, eventually
from tests.integration.operator.test_feeds import KINDS

pytestmark = pytest.mark.integration

KILLS = int(os.environ.get("FULLTAPE_DRILL_KILLS", "6"))
OUTAGE_SECONDS = float(os.environ.get("FULLTAPE_OUTAGE_SECONDS", "8"))
UPGRADE_FEEDS = int(os.environ.get("FULLTAPE_UPGRADE_FEEDS", "3"))
WATCHES_GONE = int(os.environ.get("FULLTAPE_WATCHES_GONE", "1"))
STORM_SECONDS = float(os.environ.get("FULLTAPE_STORM_SECONDS", "4"))


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

    def apply(self, name: str, products: list[str], kafka: str | None = None) -> None:
        """Apply a feed.

        Args:
            name: the feed's.
            products: the feed's.
            kafka: the namespace of its Strimzi cluster, its own if None, or the address of another Kafka. An owner
                reference reaches only topics in the feed's own namespace.

        """
        strimzi = {"strimziCluster": {"name": "feeds", "namespace": kafka or self.namespace}}
        place = {"bootstrapServers": kafka} if kafka and ":" in kafka else strimzi
        spec = {"products": products, "kafka": place}
        metadata = {"name": name, "namespace": self.namespace}
        feed = {"apiVersion": "fulltape.dev/v1alpha1", "kind": "CryptoFeed", "metadata": metadata, "spec": spec}
        self.plane.kubectl("apply", "--filename=-", input=json.dumps(feed))
        self.wanted[name] = feed

    def delete(self, name: str) -> None:
        self.plane.kubectl("delete", "cryptofeed", name, f"--namespace={self.namespace}", "--wait=false")
        del self.wanted[name]

    def live(self) -> dict[str, dict[str, Any]]:
        found = self.plane.get("cryptofeeds", f"--namespace={self.namespace}")["items"]
        return {feed["metadata"]["name"]: feed for feed in found}

    def children(self, kinds: str = KINDS) -> dict[Key, dict[str, Any]]:
        selector = f"--selector={FEED_NAMESPACE_LABEL}={self.namespace}"
        items = self.plane.get(kinds, "--all-namespaces", selector)["items"]
        return {Key(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"]): item for item in items}

    def __repr__(self) -> str:  # which pytest shows of a condition that does not come true
        return f"Feeds that differ in {self.differences()}"

    def are_as_wanted(self) -> bool:
        """Tell whether exactly these feeds are there, with exactly their objects, as they shall be."""
        return not self.differences()

    def differences(self) -> list[str]:
        names, there = set(self.live()), self.children()
        wanted = {
            child.key: child.manifest
            for feed in self.wanted.values()
            for child in desired_state(feed_of(feed), Platform())
        }
        return [
            *(f"CryptoFeed {name}" for name in names ^ self.wanted.keys()),
            *(str(key) for key in there.keys() ^ wanted.keys()),
            *(
                str(key)
                for key in there.keys() & wanted.keys()
                if any(part(there[key]) != part(wanted[key]) for part in (_data, _volumes, _replicas))
            ),
        ]

    def are_settled(self) -> bool:
        """Tell whether all are as wanted, and say of themselves that nothing is on its way."""
        return self.are_as_wanted() and all(map(self.is_settled, self.wanted))

    def is_settled(self, name: str) -> bool:
        """Tell whether a feed says of itself that nothing is on its way."""
        live = self.live()[name]
        conditions = {one["type"]: one for one in live.get("status", {}).get("conditions", ())}
        return (
            bool(conditions)
            and "Reconciling" not in conditions
            and conditions["Ready"]["observedGeneration"] == live["metadata"]["generation"]
        )


def _data(manifest: dict[str, Any]) -> dict[str, str] | None:
    found: dict[str, str] | None = manifest.get("data")
    return found


def _volumes(manifest: dict[str, Any]) -> list[str]:
    """Return the settings that a workload's pods are started with."""
    template = manifest.get("spec", {}).get("template", {})
    return [
        volume["configMap"]["name"] for volume in template.get("spec", {}).get("volumes", []) if "configMap" in volume
    ]


def _replicas(manifest: dict[str, Any]) -> int | None:
    found: int | None = manifest.get("spec", {}).get("replicas")
    return found


@pytest.fixture
def kafka(plane: Cluster, namespace: str) -> Iterator[str]:
    """Give a second namespace, for Kafka alone."""
    name = f"{namespace}-kafka"
    plane.kubectl("create", "namespace", name)
    yield name
    plane.kubectl("delete", "namespace", name, "--wait=false")


def test_killed_at_any_point_it_goes_on_where_it_was(
    plane: Cluster, namespace: str, kafka: str, operator: OperatorProcess
) -> None:
    feeds = Feeds(plane, namespace)
    chance = random.Random(7)
    for kill in range(KILLS):
        match kill % 6:
            case 0:
                feeds.apply("first", ["BTC-USD"], kafka)
                feeds.apply("second", ["ETH-USD"])
            case 1:
                feeds.apply("first", ["BTC-USD", "SOL-USD"], kafka)
            case 2:
                feeds.apply("third", ["XRP-USD"], "kafka.example:9092")
            case 3:
                feeds.apply("first", ["BTC-USD", "SOL-USD"])  # moves to another Kafka
            case 4:
                feeds.delete("first")
            case _:
                feeds.delete("third")
        time.sleep(chance.uniform(0, 0.6))  # the point at which it is killed
        operator.kill()
        operator.start()
        if chance.random() < 1 / 2:
            time.sleep(chance.uniform(0, 4))  # and killed again, while it starts or goes on
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


def test_what_happened_while_the_watches_were_cut_is_found_also_where_nothing_is_left(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    feeds, space = Feeds(control_plane, namespace), f"--namespace={namespace}"
    services = f"/api/v1/namespaces/{namespace}/services"
    with OperatorProcess(control_plane.kubeconfig, tmp_path, lease_namespace=namespace, arguments=[space]) as operator:
        for _ in range(WATCHES_GONE):
            feeds.apply("first", ["BTC-USD"])
            feeds.apply("last", ["ETH-USD"])
            eventually(feeds.are_settled, "the feeds are as wanted")
            version = json.loads(control_plane.kubectl("get", f"--raw={services}"))["metadata"]["resourceVersion"]
            operator.freeze()
            feeds.delete("last")
            feeds.apply("first", ["BTC-USD", "SOL-USD"])
            feeds.apply("new", ["XRP-USD"])
            eventually(lambda: not any(key.name.startswith("last") for key in feeds.children()), "its objects are gone")
            control_plane.kubectl("delete", "services,statefulsets", "--all", space)
            control_plane.stop_api_server()
            control_plane.start_api_server()
            watch = control_plane.kubectl("get", f"--raw={services}?watch=1&resourceVersion={version}&timeoutSeconds=9")
            assert json.loads(watch)["object"]["code"] == 410, "no watch can go on where it was"
            operator.thaw()
            eventually(feeds.are_as_wanted, "the feeds are as wanted")
            control_plane.kubectl("delete", "services,statefulsets", "--all", space)
            eventually(feeds.are_settled, "the watches work again")
            feeds.delete("new")
        assert operator.is_running(), "and it is the same process still"


def test_a_storm_of_others_writes_to_a_feed_and_its_objects_holds_up_no_other_and_leaves_nothing_behind(
    control_plane: ControlPlane, namespace: str, kafka: str, operator: OperatorProcess
) -> None:
    feeds = Feeds(control_plane, namespace)
    feeds.apply("first", ["BTC-USD"], kafka)
    eventually(feeds.are_settled, "the feed is as wanted")
    feed = f"/apis/fulltape.dev/v1alpha1/namespaces/{namespace}/cryptofeeds/first"
    spoilt = {"metadata": {"labels": {"app.kubernetes.io/part-of": "another"}}}
    writes: list[tuple[str, Any]] = [
        (feed, {"metadata": {"finalizers": []}}),
        (f"{feed}/status", {"status": {"products": 0, "conditions": []}}),
        (f"/apis/apps/v1/namespaces/{namespace}/statefulsets/first-producer", {"spec": {"replicas": 3}}),
        (f"/api/v1/namespaces/{namespace}/services/first-producer", spoilt),
        (f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies/first-feed", None),
        (f"/apis/kafka.strimzi.io/v1/namespaces/{kafka}/kafkatopics/first.trades", {"spec": {"partitions": 99}}),
    ]
    over = threading.Event()
    with ThreadPoolExecutor(len(writes)) as others:
        storm = [others.submit(_write_again_and_again, control_plane, over, *write) for write in writes]
        try:
            ends = time.monotonic() + STORM_SECONDS
            feeds.apply("calm", ["ETH-USD"])
            eventually(lambda: feeds.is_settled("calm"), "another feed is made while the storm lasts")
            for number in itertools.count():
                feeds.apply("first", ["BTC-USD", "SOL-USD"][: 1 + number % 2], kafka)
                if time.monotonic() > ends:
                    break
        finally:
            over.set()
        assert all(one.result() for one in storm), "it blew"

    def is_well() -> bool:
        live = feeds.live()["first"]
        topic = control_plane.get("kafkatopic", "first.trades", f"--namespace={kafka}")
        service = control_plane.get("service", "first-producer", f"--namespace={namespace}")
        return (
            feeds.are_settled()
            and live["status"]["products"] == len(live["spec"]["products"])
            and FINALIZER in live["metadata"]["finalizers"]
            and topic["spec"]["partitions"] != 99
            and service["metadata"]["labels"]["app.kubernetes.io/part-of"] == "first"
        )

    eventually(is_well, f"all is as it shall be\n{operator.log()[-3000:]}")
    assert operator.is_running()
    feeds.delete("first")
    feeds.delete("calm")
    eventually(feeds.are_as_wanted, "nothing is left")


def _write_again_and_again(
    plane: ControlPlane, over: threading.Event, path: str, body: Mapping[str, Any] | None
) -> int:
    """Write to an object as tools do that do not look, or delete it where there is no ``body``; return how often."""
    written = 0
    while not over.is_set():
        written += 1
        # One more annotation makes each write a new version.
        annotations = {"annotations": {"example.org/round": str(written)}}
        patch = body and {**body, "metadata": {**body.get("metadata", {}), **annotations}}
        request = urllib.request.Request(
            plane.url + path,
            method="PATCH" if patch else "DELETE",
            data=json.dumps(patch).encode() if patch else None,
            headers={"Authorization": f"Bearer {plane.token}", "Content-Type": "application/merge-patch+json"},
        )
        try:
            urllib.request.urlopen(request, context=plane.ssl_context, timeout=30).close()
        except urllib.error.HTTPError as refusal:
            refusal.close()
            if refusal.code not in (404, 409, 429):  # another writer was quicker, or there are too many
                raise
    return written


def test_an_operator_that_is_replaced_leaves_every_program_as_it_is(
    plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    feeds = Feeds(plane, namespace)

    def versions() -> dict[Key, str]:
        return {key: child["metadata"]["resourceVersion"] for key, child in feeds.children(f"{KINDS},pods").items()}

    with OperatorProcess(plane.kubeconfig, tmp_path, name="old", lease_namespace=namespace) as old:
        for number in range(UPGRADE_FEEDS):
            feeds.apply(f"feed-{number}", ["BTC-USD", "ETH-USD"])
        eventually(feeds.are_settled, "the feeds are as wanted", 60 + UPGRADE_FEEDS)
        eventually(lambda: versions() == versions(), "the last writes are over")
        before, statuses = versions(), {name: feed["status"] for name, feed in feeds.live().items()}
        with OperatorProcess(plane.kubeconfig, tmp_path, name="new", lease_namespace=namespace) as new:
            old.stop()
            feeds.apply("later", ["SOL-USD"])
            eventually(feeds.are_settled, "the new one works")
            assert "new works now" in new.log()
            after = versions()
    assert {key: after.get(key) for key in before} == before
    assert {name: feed["status"] for name, feed in feeds.live().items() if name != "later"} == statuses


def test_the_one_of_two_that_waits_writes_nothing(control_plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    feeds, space = Feeds(control_plane, namespace), f"--namespace={namespace}"
    accounts = []
    for name in ("one", "other"):
        control_plane.kubectl("create", "serviceaccount", name, space)
        accounts.append(f"--serviceaccount={namespace}:{name}")
    control_plane.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=cluster-admin", *accounts)
    one, other = (
        OperatorProcess(control_plane.kubeconfig_for(name, namespace), tmp_path, name=name, lease_namespace=namespace)
        for name in ("one", "other")
    )

    def written(name: str) -> set[str]:
        return {
            event["objectRef"]["resource"]
            for event in control_plane.requests_of(name, namespace)
            if event["verb"] not in ("get", "list", "watch")
        }

    try:
        with one, other:
            feeds.apply("first", ["BTC-USD"])
            eventually(feeds.are_settled, "the feed is as wanted")
            [(working, _), (waiting, process)] = sorted(
                [("one", one), ("other", other)], key=lambda named: "works now" in named[1].log(), reverse=True
            )
            watched = "/apis/apps/v1/statefulsets"
            eventually(
                lambda: any(
                    event["verb"] == "watch" and event["requestURI"].startswith(watched)
                    for event in control_plane.requests_of(waiting, namespace)
                ),
                "the other watches",
            )
            control_plane.kubectl("delete", "statefulset", "first-producer", space)
            eventually(feeds.are_settled, "what is deleted comes back")
            assert process.is_running()
        assert {"statefulsets", "cryptofeeds", "leases"} <= written(working)
        assert written(waiting) <= {"leases"}
    finally:
        control_plane.kubectl("delete", "clusterrolebinding", namespace)
