"""The second path: what PodMonitors and PrometheusRules ask for, as a Prometheus on the cluster reads and does it."""

from urllib.parse import quote

import pytest

from tests.cluster.demo import OPERATOR_NAMESPACE
from tests.e2e.feeds import Feed

pytestmark = pytest.mark.e2e


def test_prometheus_reads_the_metrics_of_the_operator_and_of_every_program_of_a_feed(feed: Feed) -> None:
    operators = feed.cluster.get("pods", f"--namespace={OPERATOR_NAMESPACE}", "--field-selector=status.phase=Running")

    def all_are_up() -> bool:
        targets = feed.ask("prometheus:9090", "api/v1/targets?state=active")["data"]["activeTargets"]
        health = {target["labels"]["pod"]: target["health"] for target in targets if "pod" in target["labels"]}
        wanted = [pod["metadata"]["name"] for pod in (*feed.pods(), *operators["items"]) if _has_metrics(pod)]
        return health.keys() >= set(wanted) and set(health.values()) == {"up"}

    feed.wait_until(all_are_up, "every target to be up")


def test_an_alert_of_the_feed_reaches_alertmanager_by_prometheus_too(feed: Feed) -> None:
    def came_both_ways() -> bool:
        return {labels.get("source") for labels in feed.alerts("BusyMarket")} == {None, "prometheus"}

    feed.wait_until(came_both_ways, "the alert by both paths")


def test_prometheus_can_evaluate_every_rule(feed: Feed) -> None:
    def all_are_evaluated() -> bool:
        groups = feed.ask("prometheus:9090", "api/v1/rules")["data"]["groups"]
        health = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
        assert "err" not in health.values(), health
        has_those_of_feed = f"{feed.namespace}-{feed.name}" in {group["name"] for group in groups}
        return has_those_of_feed and set(health.values()) == {"ok"}

    feed.wait_until(all_are_evaluated, "every rule to be evaluated")


def test_the_containers_of_a_feed_are_measured_by_the_kubelet(feed: Feed) -> None:
    asked = f'container_memory_working_set_bytes{{namespace="{feed.namespace}",container!=""}}'

    def are_measured() -> bool:
        result = feed.ask("prometheus:9090", f"api/v1/query?query={quote(asked)}")["data"]["result"]
        return {one["metric"]["pod"] for one in result} >= {pod["metadata"]["name"] for pod in feed.pods()}

    feed.wait_until(are_measured, "the kubelet's figures of every pod")


def _has_metrics(pod: dict[str, object]) -> bool:
    spec = pod["spec"]
    assert isinstance(spec, dict)
    ports = [port for container in spec["containers"] for port in container.get("ports", ())]
    return any(port.get("name") == "probes" for port in ports)
