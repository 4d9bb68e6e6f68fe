"""What a feed gives its users on a real cluster: a complete tape, a page, alerts; and what changing it does."""

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from fulltape.local.kafka import free_port
from fulltape_operator.desired.spark import PORTS as SPARK_PORTS
from fulltape_operator.readings import PORT
from tests.browser import chromium, visit
from tests.cluster.demo import DATA_NAMESPACE, OPERATOR_NAMESPACE, install_fulltape, run_helm
from tests.cluster.images import TAG
from tests.cluster.jobs import BOOTSTRAP_SERVERS, FILES, run_job
from tests.cluster.node import Node
from tests.control_plane.plane import Cluster, KubectlError
from tests.e2e.feeds import PATIENCE_SECONDS, Feed

pytestmark = pytest.mark.e2e

_EXAMPLES = Path(__file__).parents[2] / "examples"
_LIST_TOPICS = f"""
import json
from confluent_kafka.admin import AdminClient
print(json.dumps(list(AdminClient({{"bootstrap.servers": "{BOOTSTRAP_SERVERS}"}}).list_topics(timeout=15).topics)))
"""
_TRY_PORTS = Path(__file__).with_name("try_ports.py")


def test_every_trade_of_a_feed_that_is_ready_is_on_its_tape_and_in_its_windows(feed: Feed) -> None:
    feed.assert_right()


def test_the_status_says_how_a_feed_does(feed: Feed) -> None:
    began = datetime.now(UTC)

    def says_it() -> bool:
        status = feed.live()["status"]
        said = {"tradesPerSecond", "lastTradeTime", "missingTrades", "consumerLag", "p99Milliseconds"}
        return status.keys() >= said and datetime.fromisoformat(status["lastTradeTime"]) > began

    feed.wait_until(says_it, "the figures of trades that come now")
    status = feed.live()["status"]
    assert status["missingTrades"] == 0
    assert status["tradesPerSecond"] > 0


def test_spark_has_the_executors_that_the_feed_asks_for(feed: Feed) -> None:
    assert len(feed.pods("executor")) == 2


def test_who_is_not_of_the_feed_may_read_metrics_and_not_talk_to_spark(feed: Feed) -> None:
    (driver,) = feed.pods("panes")
    ports = [PORT, *map(int, SPARK_PORTS.values())]
    where = [driver["status"]["podIP"], *map(str, ports)]
    program = _TRY_PORTS.read_text()
    monitor = feed.pods("monitor")[0]["metadata"]["name"]
    inside = ["exec", "--stdin", monitor, f"--namespace={feed.namespace}", "--", "python3", "-", *where]
    assert json.loads(feed.cluster.kubectl(*inside, input=program)) == ports
    outside = ["python3", f"{FILES}/{_TRY_PORTS.name}", *where]
    said = run_job(feed.cluster, {"try": outside}, PATIENCE_SECONDS, {_TRY_PORTS.name: program})
    assert json.loads(said["try"]) == [PORT]


@contextmanager
def _forwarded(feed: Feed, service: str, port: int) -> Iterator[str]:
    """Reach a Service of the feed as a person with kubectl does; gives the address."""
    own = free_port()
    command = [
        feed.cluster._kubectl,
        "port-forward",
        f"service/{service}",
        f"{own}:{port}",
        f"--namespace={feed.namespace}",
    ]
    with subprocess.Popen([*command, f"--kubeconfig={feed.cluster.kubeconfig}"], stdout=subprocess.DEVNULL) as process:
        try:
            feed.wait_until(lambda: _answers(own), f"{service} to be forwarded")
            yield f"http://127.0.0.1:{own}/"
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_the_page_shows_the_products_through_a_port_forward(feed: Feed) -> None:
    with _forwarded(feed, "majors-dashboard", 8080) as address:
        async with chromium() as browser, visit(browser, address) as page:
            for product in ("BTC-USD", "ETH-USD", "SOL-USD"):
                await page.get_by_text(product).first.wait_for(timeout=30_000)


def test_an_alert_of_the_feed_reaches_alertmanager(feed: Feed) -> None:
    def came_live() -> bool:
        return any("source" not in labels for labels in feed.alerts("BusyMarket"))

    feed.wait_until(came_live, "the alert")


def test_producers_go_from_one_to_three_and_back_with_every_trade_once(feed: Feed) -> None:
    for replicas in (3, 1):
        feed.cluster.kubectl("scale", "cryptofeed/majors", f"--replicas={replicas}", f"--namespace={feed.namespace}")
        feed.wait_until(lambda count=replicas: len(feed.pods("producer")) == count, f"{replicas} producers")  # type: ignore[misc]
        feed.wait_ready()
        feed.wait_until(lambda count=replicas: feed.live()["status"]["shards"] == count, "the shards to be told")  # type: ignore[misc]
    feed.assert_right()


def test_an_upgrade_of_the_operator_touches_no_pod_of_a_feed(cluster: Cluster, helm: Path, feed: Feed) -> None:
    before = feed.lives()
    install_fulltape(cluster, helm, "podAnnotations.upgraded=yes")
    feed.wait_ready()
    assert feed.lives() == before
    run_helm(cluster, helm, "test", "fulltape", f"--namespace={OPERATOR_NAMESPACE}")
    feed.assert_right()


@pytest.mark.long
def test_windows_and_alerts_may_change_and_producers_do_not_notice(feed: Feed) -> None:
    before = {pod["metadata"]["uid"] for pod in feed.pods("producer")}
    spec = feed.live()["spec"]
    busier = {"name": "BusierMarket", "measure": "trades", "window": "2m", "above": 2, "severity": "info"}
    feed.patch({"analytics": {"windows": ["1m", "2m", "5m"]}, "alerts": [*spec["alerts"], busier]})
    feed.wait_ready()
    feed.wait_until(lambda: bool(feed.alerts("BusierMarket")), "an alert of the new window")
    assert {pod["metadata"]["uid"] for pod in feed.pods("producer")} == before
    feed.assert_right()


@pytest.mark.long
def test_another_image_is_rolled_out_with_every_trade_once(cluster: Cluster, helm: Path, feed: Feed) -> None:
    if not isinstance(cluster, Node):
        pytest.skip("a cluster that is named has the images that it has")
    for image in ("fulltape", "fulltape-spark"):
        cluster.tag_image(f"localhost/{image}:{TAG}", f"localhost/{image}:next")
    install_fulltape(cluster, helm, "image.tag=next,sparkImage.tag=next")

    def runs_everywhere() -> bool:
        images = [one["image"] for pod in feed.pods() for one in pod["spec"]["containers"]]
        return bool(images) and all(image.endswith(":next") for image in images)

    feed.wait_until(runs_everywhere, "all pods to be of the next image")
    feed.wait_ready()
    feed.assert_right()


@pytest.mark.long
def test_a_suspended_feed_runs_nothing_and_goes_on_with_every_trade(feed: Feed) -> None:
    with feed.suspended():
        assert feed.condition("ProducersReady")["reason"] == "Suspended"
    feed.assert_right()


def test_a_benchmark_of_a_running_feed_sees_every_trade_in_a_window(feed: Feed) -> None:
    options = [f"--bootstrap-servers={BOOTSTRAP_SERVERS}", "--seconds=5", "--json"]
    said = run_job(feed.cluster, {"bench": ["fulltape", "bench", "feed", feed.name, *options]}, PATIENCE_SECONDS)
    results = json.loads(said["bench"].splitlines()[-1])["results"]
    assert results["unseen"] == 0
    assert results["trade_to_window"]["count"] == pytest.approx(results["trades_per_second"] * 5, rel=0.01)
    assert results["trade_to_window"]["p50_ms"] > 0


def test_who_has_no_rights_gets_nothing_nor_do_a_feeds_own_programs(feed: Feed) -> None:
    own = {f"{feed.namespace}:{pod['spec']['serviceAccountName']}" for pod in feed.pods()}
    suspend = ["--type=merge", '--patch={"spec":{"suspend":true}}', "--dry-run=server"]
    for account in (f"{DATA_NAMESPACE}:default", *own):
        for command in (
            ["get", "cryptofeeds"],
            ["patch", f"cryptofeed/{feed.name}", *suspend],
            ["delete", f"cryptofeed/{feed.name}", "--dry-run=server"],
            ["get", "secrets"],
        ):
            with pytest.raises(KubectlError, match="forbidden"):
                feed.cluster.kubectl(*command, f"--namespace={feed.namespace}", f"--as=system:serviceaccount:{account}")


@pytest.mark.parametrize("example", sorted(_EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_the_examples_are_taken(feed: Feed, example: Path) -> None:
    manifest = yaml.safe_load(example.read_text())
    manifest["metadata"]["namespace"] = DATA_NAMESPACE  # where there is none yet that it would change
    said = feed.cluster.kubectl("apply", "--filename=-", "--dry-run=server", input=yaml.safe_dump(manifest))
    assert "created (server dry run)" in said


@pytest.mark.long
def test_a_second_feed_elsewhere_lives_takes_another_product_and_dies_by_itself(cluster: Cluster, feed: Feed) -> None:
    other = Feed(cluster, "single", "research")
    other.apply(products=["BTC-USD"], analytics=None, alerts=[], alertmanagers=[])
    other.wait_ready()
    other.patch({"products": ["BTC-USD", "ETH-USD"]})
    other.wait_ready()
    other.assert_right()
    cluster.kubectl("delete", "cryptofeed/single", "--namespace=research", "--timeout=120s")
    left = "pods,services,configmaps,statefulsets,deployments,persistentvolumeclaims,secrets,roles,networkpolicies"

    def nothing_is_left() -> bool:
        return not cluster.get(left, "--namespace=research", "--selector=fulltape.dev/feed=single")["items"]

    other.wait_until(nothing_is_left, "nothing to be left")
    said = run_job(cluster, {"topics": ["python3", "-c", _LIST_TOPICS]}, PATIENCE_SECONDS)
    topics = json.loads(said["topics"])
    assert f"{feed.name}.trades" in topics
    assert not [topic for topic in topics if topic.startswith("single.")]
    feed.wait_ready()
