"""The Helm chart: what it makes is taken by an API server, its values are checked, and its rights are those needed."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL
from fulltape_operator.owned import MANAGER
from tests.control_plane.plane import Cluster, ControlPlane
from tests.integration.operator.processes import OperatorProcess, eventually

pytestmark = pytest.mark.integration

CHART = Path(__file__).parents[3] / "charts" / "fulltape"
AWS = f"--values={CHART / 'values-aws.yaml'}"
EVERYTHING = (
    "--set=replicas=2,podMonitor.enabled=true,prometheusRule.enabled=true,priorityClassName=system-cluster-critical",
    "--set=platform.podMonitors=true,platform.networkPolicies=false,image.digest=sha256:" + 64 * "0",
    "--set=imagePullSecrets[0].name=registry,platform.imagePullSecrets[0]=registry,serviceAccount.name=mine",
)


@pytest.fixture
def helm(programs: Path) -> Callable[..., str]:
    def run(*arguments: str | Path) -> str:
        done = subprocess.run([programs / "helm", *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
        return done.stdout

    return run


def manifests(text: str) -> dict[tuple[str, str], Any]:
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def job_of_a_former_feed(namespace: str) -> dict[str, Any]:
    """Return the Job that deleted its topics, which the garbage collector has not come to yet."""
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": "majors-cleanup",
            "namespace": namespace,
            "labels": {FEED_LABEL: "majors", FEED_NAMESPACE_LABEL: namespace},
        },
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "one", "image": "fulltape"}]}},
        },
    }


@pytest.mark.parametrize("values", [(), (AWS,), EVERYTHING, ("--set=watchNamespaces={default}",)])
def test_the_chart_is_sound_and_an_api_server_takes_all_of_it(
    helm: Callable[..., str], plane: Cluster, namespace: str, values: tuple[str, ...]
) -> None:
    helm("lint", "--strict", CHART, *values)
    text = helm("template", "release", CHART, f"--namespace={namespace}", *values)
    # The namespace admits pods of the restricted standard alone.
    warnings = plane.kubectl("apply", "--dry-run=server", "--filename=-", input=text)
    assert "operator" in warnings


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ("replicas=2", "PodDisruptionBudget"),
        ("podMonitor.enabled=true", "PodMonitor"),
        ("prometheusRule.enabled=true", "PrometheusRule"),
    ],
)
def test_what_is_asked_for_is_made_and_nothing_of_it_otherwise(helm: Callable[..., str], value: str, kind: str) -> None:
    def made(*values: str) -> set[tuple[str, str]]:
        return set(manifests(helm("template", "release", CHART, *values)))

    assert made(f"--set={value}") - made() == {(kind, "release-operator")}


def test_the_rights_of_an_operator_of_some_namespaces_hold_in_these_alone(helm: Callable[..., str]) -> None:
    text = helm("template", "release", CHART, "--namespace=own", "--set=watchNamespaces={one,two}")
    rights = [one for one in yaml.safe_load_all(text) if one and one["kind"] in ("ClusterRole", "Role")]
    everywhere = [rule for one in rights if one["kind"] == "ClusterRole" for rule in one["rules"]]
    assert [(rule["resources"], rule["verbs"]) for rule in everywhere] == [
        (["customresourcedefinitions"], ["list", "watch"]),
        (["namespaces"], ["list", "watch"]),
    ]
    assert {one["metadata"]["namespace"] for one in rights if one["kind"] == "Role"} == {"own", "one", "two"}
    [lease] = [one for one in rights if one["metadata"].get("namespace") == "own"]
    assert {resource for rule in lease["rules"] for resource in rule["resources"]} == {"leases"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("replicas=many", "replicas"),
        ("replica=1", "replica"),
        ("platform.podMonitor=true", "podMonitor"),
        ("image.digest=abc", "digest"),
        ("watchNamespaces={Markets}", "watchNamespaces"),
        ("podMonitor.interval=often", "interval"),
    ],
)
def test_values_that_can_t_be_right_are_refused_by_name(programs: Path, value: str, words: str) -> None:
    command = [programs / "helm", "template", "release", CHART, f"--set={value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert words in done.stderr


def test_a_change_of_the_platform_starts_the_operator_anew_and_its_own_image_leaves_the_feeds_alone(
    helm: Callable[..., str],
) -> None:
    def rendered(*values: str) -> dict[tuple[str, str], Any]:
        return manifests(helm("template", "release", CHART, *values))

    def template(found: dict[tuple[str, str], Any]) -> Any:
        return found["Deployment", "release-operator"]["spec"]["template"]

    def platform(found: dict[tuple[str, str], Any]) -> Any:
        return yaml.safe_load(found["ConfigMap", "release-operator-platform"]["data"]["platform.yaml"])

    plain = rendered()
    assert template(plain) != template(rendered("--set=platform.networkPolicies=false"))
    kept = "--set=platform.images.services=fulltape:old,platform.images.spark=fulltape-spark:old"
    assert platform(rendered(kept)) == platform(rendered(kept, "--set=image.tag=new,sparkImage.tag=new"))


@pytest.fixture(params=["cluster", "namespaces"])
def installed(
    request: pytest.FixtureRequest, helm: Callable[..., str], control_plane: ControlPlane, namespace: str
) -> Iterator[str]:
    """Install the chart's rights, for all of the cluster or for the namespace alone, and give the release's."""
    served = [f"--set=watchNamespaces={{{namespace}}}"] if request.param == "namespaces" else []
    text = helm("template", "release", CHART, f"--namespace={namespace}", "--set=replicas=0", *served)
    rights = [
        one
        for one in yaml.safe_load_all(text)
        if one and one["kind"] in ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    ]
    control_plane.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(rights))
    yield namespace
    control_plane.kubectl("delete", "clusterrole,clusterrolebinding", f"{namespace}-release-operator")


def test_the_chart_s_rights_are_enough_for_the_life_of_a_feed(
    request: pytest.FixtureRequest, installed: str, control_plane: ControlPlane, tmp_path: Path
) -> None:
    namespace = installed
    space = f"--namespace={namespace}"
    account = control_plane.kubeconfig_for("release-operator", namespace)
    platform = tmp_path / "platform.yaml"
    platform.write_text("podMonitors: true\nprometheusRules: true\n")
    served = [space] if "namespaces" in request.node.name else []
    arguments = [f"--platform={platform}", *served]
    spec: dict[str, Any] = {
        "products": ["BTC-USD", "ETH-USD"],
        "channels": ["matches", "ticker"],
        "producer": {"replicas": 2},
        "kafka": {"strimziCluster": {"name": "feeds"}, "authentication": {"type": "tls"}},
        "analytics": {},
    }

    def apply(**changes: Any) -> None:
        feed = {
            "apiVersion": "fulltape.dev/v1alpha1",
            "kind": "CryptoFeed",
            "metadata": {"name": "majors", "namespace": namespace},
            "spec": spec | changes,
        }
        control_plane.kubectl("replace", "--force", "--filename=-", input=json.dumps(feed))

    def names(kind: str) -> set[str]:
        return set(control_plane.kubectl("get", kind, "--output=name", space).split())

    with OperatorProcess(account, tmp_path, lease_namespace=namespace, arguments=arguments) as operator:
        apply()
        eventually(lambda: len(names("deployments")) == 3 and names("prometheusrules"), "all is made")
        control_plane.kubectl("delete", "statefulset", "majors-producer", space)
        eventually(lambda: names("statefulsets"), "drift is mended")
        left = json.dumps(job_of_a_former_feed(namespace))
        control_plane.kubectl("apply", "--server-side", f"--field-manager={MANAGER}", "--filename=-", input=left)
        eventually(lambda: not names("jobs"), "what a former feed of that name left is deleted")
        control_plane.kubectl(
            "patch", "cryptofeed", "majors", "--type=merge", '--patch={"spec":{"analytics":null}}', space
        )
        eventually(
            lambda: not names("deployments") and "role.rbac.authorization.k8s.io/majors-panes" not in names("roles"),
            "less is wanted",
        )
        apply(kafka={"bootstrapServers": "kafka.example:9092"})
        eventually(lambda: names("deployments") and not names("kafkatopics"), "it is another feed")
        control_plane.kubectl("delete", "cryptofeed", "majors", "--wait=false", space)
        eventually(lambda: not names("cryptofeeds"), "it has ended in good order")
        assert "orbidden" not in operator.log()
    refused = {
        (event["verb"], event["objectRef"]["resource"])
        for event in control_plane.requests_of("release-operator", namespace)
        if event.get("responseStatus", {}).get("code") == 403
    }
    assert not refused
