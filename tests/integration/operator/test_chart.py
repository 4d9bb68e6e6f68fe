"""The Helm chart: what it makes is taken by an API server, its values are checked, and its rights are those needed."""

import json
import re
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from fulltape.feed.load import feed_of
from fulltape_operator.cluster import CHILDREN
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import FEED_LABEL, FEED_NAMESPACE_LABEL, Key
from fulltape_operator.desired.kafka import copied_secrets
from fulltape_operator.owned import MANAGER
from fulltape_operator.platform import Platform
from tests.control_plane.plane import Cluster, ControlPlane, KubectlError
from tests.integration.operator.processes import OperatorProcess, eventually
from tests.integration.operator.rights import Right, granted_by, refused, used_by

pytestmark = pytest.mark.integration

CHART = Path(__file__).parents[3] / "charts" / "fulltape"
AWS = f"--values={CHART / 'values-aws.yaml'}"
EVERYTHING = (
    "--set=replicas=2,podMonitor.enabled=true,prometheusRule.enabled=true,priorityClassName=system-cluster-critical",
    "--set=platform.podMonitors=true,platform.networkPolicies=false,image.digest=sha256:" + 64 * "0",
    "--set=imagePullSecrets[0].name=registry,platform.imagePullSecrets[0]=registry,serviceAccount.name=mine",
    "--set=grafanaDashboards.enabled=true",
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
    taken = plane.kubectl("apply", "--dry-run=server", "--filename=-", input=text)
    assert taken.count("\n") == len(manifests(text))


@pytest.mark.parametrize("values", [(), EVERYTHING])
def test_the_chart_s_pods_satisfy_the_restricted_standard(
    helm: Callable[..., str], plane: Cluster, namespace: str, values: tuple[str, ...]
) -> None:
    found = manifests(helm("template", "release", CHART, f"--namespace={namespace}", *values))
    template = found["Deployment", "release-operator"]["spec"]["template"]
    pods = [template["spec"], found["Pod", "release-operator-test"]["spec"]]

    def admit(spec: dict[str, Any]) -> None:
        # The namespace enforces the standard on pods themselves; of a Deployment it would only warn.
        account = {"serviceAccountName": "default"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": namespace}}
        plane.kubectl("create", "--dry-run=server", "--filename=-", input=json.dumps({**pod, "spec": spec | account}))

    for spec in pods:
        admit(spec)
        with pytest.raises(KubectlError, match="restricted"):
            admit(spec | {"securityContext": {}})


def test_what_the_chart_s_test_asks_is_the_operator_and_not_the_test_itself(helm: Callable[..., str]) -> None:
    found = manifests(helm("template", "release", CHART))
    asked = found["Service", "release-operator"]["spec"]["selector"].items()
    assert asked <= found["Deployment", "release-operator"]["spec"]["template"]["metadata"]["labels"].items()
    assert not asked <= found["Pod", "release-operator-test"]["metadata"]["labels"].items()


@pytest.mark.parametrize(
    ("value", "made"),
    [
        ("replicas=2", ("PodDisruptionBudget", "release-operator")),
        ("podMonitor.enabled=true", ("PodMonitor", "release-operator")),
        ("prometheusRule.enabled=true", ("PrometheusRule", "release-operator")),
        ("grafanaDashboards.enabled=true", ("ConfigMap", "release-operator-dashboards")),
    ],
)
def test_what_is_asked_for_is_made_and_nothing_of_it_otherwise(
    helm: Callable[..., str], value: str, made: tuple[str, str]
) -> None:
    def rendered(*values: str) -> set[tuple[str, str]]:
        return set(manifests(helm("template", "release", CHART, *values)))

    assert rendered(f"--set={value}") - rendered() == {made}


def test_dashboards_have_the_labels_that_a_sidecar_asks_for_and_are_as_their_files_are(
    helm: Callable[..., str],
) -> None:
    def dashboards(*values: str) -> Any:
        text = helm("template", "release", CHART, "--set=grafanaDashboards.enabled=true", *values)
        return manifests(text)["ConfigMap", "release-operator-dashboards"]

    plain, other = dashboards(), dashboards("--set-string=grafanaDashboards.labels.team=desk")
    assert plain["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert other["metadata"]["labels"]["team"] == "desk"
    assert plain["data"] == {path.name: path.read_text() for path in (CHART / "dashboards").iterdir()}


ALL_ON = [f"--set-json={name}.enabled=true" for name in ("podMonitor", "prometheusRule", "grafanaDashboards")]
OPERATOR, TEST = ("Deployment", "release-operator"), ("Pod", "release-operator-test")
PLATFORM = ("ConfigMap", "release-operator-platform")
EVERY_VALUE: Mapping[str, tuple[Any, set[tuple[str, str]]]] = {
    **{f"image.{name}": ("1", {OPERATOR, TEST, PLATFORM}) for name in ("repository", "tag")},
    "image.digest": (f"sha256:{64 * '0'}", {OPERATOR, TEST, PLATFORM}),
    "image.pullPolicy": ("Always", {OPERATOR, TEST}),
    **{f"sparkImage.{name}": ("1", {OPERATOR, PLATFORM}) for name in ("repository", "tag")},
    "sparkImage.digest": (f"sha256:{64 * '0'}", {OPERATOR, PLATFORM}),
    "imagePullSecrets": ([{"name": "registry"}], {OPERATOR, TEST}),
    "replicas": (2, {OPERATOR, ("PodDisruptionBudget", "release-operator")}),
    "watchNamespaces": (
        ["one"],
        {
            OPERATOR,
            ("ClusterRole", "own-release-operator"),
            ("Role", "release-operator"),
            ("RoleBinding", "release-operator"),
        },
    ),
    "platform": ({"podMonitors": True}, {OPERATOR, PLATFORM}),
    "serviceAccount.name": (
        "mine",
        {
            OPERATOR,
            ("ServiceAccount", "release-operator"),
            ("ServiceAccount", "mine"),
            ("ClusterRoleBinding", "own-release-operator"),
            ("RoleBinding", "release-operator-lease"),
        },
    ),
    "serviceAccount.annotations": ({"team": "desk"}, {("ServiceAccount", "release-operator")}),
    **{f"resources.{name}": ({"cpu": "7"}, {OPERATOR}) for name in ("requests", "limits")},
    "nodeSelector": ({"disk": "fast"}, {OPERATOR}),
    "tolerations": ([{"operator": "Exists"}], {OPERATOR}),
    "affinity": ({"podAntiAffinity": {}}, {OPERATOR}),
    "topologySpreadConstraints": ([{"maxSkew": 1}], {OPERATOR}),
    "priorityClassName": ("high", {OPERATOR}),
    "podAnnotations": ({"team": "desk"}, {OPERATOR}),
    **{
        f"podMonitor.{name}": (value, {("PodMonitor", "release-operator")})
        for name, value in {"enabled": False, "labels": {"team": "desk"}, "interval": "7s"}.items()
    },
    **{
        f"prometheusRule.{name}": (value, {("PrometheusRule", "release-operator")})
        for name, value in {"enabled": False, "labels": {"team": "desk"}}.items()
    },
    **{
        f"grafanaDashboards.{name}": (value, {("ConfigMap", "release-operator-dashboards")})
        for name, value in {"enabled": False, "labels": {"team": "desk"}}.items()
    },
}
"""Of each value another than the default, and what it changes."""


@pytest.mark.parametrize("name", EVERY_VALUE)
def test_a_value_changes_what_it_is_for_and_nothing_else(helm: Callable[..., str], name: str) -> None:
    def rendered(*values: str) -> dict[tuple[str, str], Any]:
        return manifests(helm("template", "release", CHART, "--namespace=own", *ALL_ON, *values))

    value, changes = EVERY_VALUE[name]
    plain, other = rendered(), rendered(f"--set-json={name}={json.dumps(value)}")
    assert {key for key in plain.keys() | other.keys() if plain.get(key) != other.get(key)} == changes


def test_there_is_such_a_test_for_every_value() -> None:
    table = (CHART / "README.md").read_text()
    assert set(EVERY_VALUE) == set(re.findall(r"^\| `([\w.]+)` \|", table, re.MULTILINE))


def test_a_digest_goes_before_a_tag(helm: Callable[..., str]) -> None:
    digest = f"sha256:{64 * 'a'}"
    found = manifests(helm("template", "release", CHART, f"--set=image.tag=old,image.digest={digest}"))
    assert found[OPERATOR]["spec"]["template"]["spec"]["containers"][0]["image"] == f"fulltape@{digest}"


def test_whoever_installs_it_is_told_what_it_serves_and_the_next_command(helm: Callable[..., str]) -> None:
    def told(*values: str) -> str:
        return helm("install", "release", CHART, "--dry-run=client", *values).partition("NOTES:")[2]

    assert "serves all namespaces" in told()
    assert "serves the namespaces one, two" in told("--set=watchNamespaces={one,two}")
    assert "kubectl apply -f examples/strimzi.yaml" in told()


def test_the_longest_name_of_a_release_is_taken(helm: Callable[..., str], plane: Cluster, namespace: str) -> None:
    text = helm("template", "x" * 53, CHART, f"--namespace={namespace}", *EVERYTHING)
    plane.kubectl("apply", "--dry-run=server", "--filename=-", input=text)


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
        ("platform.sparkBackend=apache", "sparkBackend"),
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


@dataclass(frozen=True)
class Installed:
    """The chart's rights in a cluster, and where a feed lives with them."""

    namespace: str
    """The release's and the feed's."""
    kafka: str
    """The namespace of the feed's Strimzi cluster."""
    arguments: Sequence[str]
    """The operator's."""
    granted: frozenset[Right]


@pytest.fixture(params=["cluster", "namespaces"])
def installed(
    request: pytest.FixtureRequest, helm: Callable[..., str], control_plane: ControlPlane, namespace: str
) -> Iterator[Installed]:
    """Install the chart's rights, for all of the cluster or for two namespaces alone."""
    kafka = f"{namespace}-kafka"
    control_plane.kubectl("create", "namespace", kafka)
    some = request.param == "namespaces"
    values = [f"--set=watchNamespaces={{{namespace},{kafka}}}"] if some else []
    text = helm("template", "release", CHART, f"--namespace={namespace}", *values)
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    rights = [one for one in yaml.safe_load_all(text) if one and one["kind"] in kinds]
    control_plane.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(rights))
    arguments = [f"--namespace={one}" for one in (namespace, kafka)] if some else []
    yield Installed(namespace, kafka, arguments, frozenset(granted_by(rights)))
    control_plane.kubectl("delete", "clusterrole,clusterrolebinding", f"{namespace}-release-operator")
    control_plane.kubectl("delete", "namespace", kafka, "--wait=false")


class Life:
    """A feed with every option on, and what is done to it and around it."""

    def __init__(self, plane: ControlPlane, where: Installed) -> None:
        self._plane = plane
        self._where = where
        self._space = f"--namespace={where.namespace}"
        strimzi = {"name": "feeds", "namespace": where.kafka}
        self.manifest: dict[str, Any] = {
            "apiVersion": "fulltape.dev/v1alpha1",
            "kind": "CryptoFeed",
            "metadata": {"name": "majors", "namespace": where.namespace},
            "spec": {
                "products": ["BTC-USD", "ETH-USD"],
                "channels": ["matches", "ticker"],
                "producer": {"replicas": 2},
                "kafka": {"strimziCluster": strimzi, "authentication": {"type": "tls"}},
                "analytics": {"replicas": 2},
                "dashboard": {"ingress": {"host": "majors.example.com"}},
                "warehouse": {
                    "redshift": {"secretRef": {"name": "redshift"}},
                    "staging": {"uri": "s3://staging/prefix", "iamRole": "arn:aws:iam::123456789012:role/loader"},
                },
            },
        }

    def apply(self, manifest: Mapping[str, Any], *flags: str) -> None:
        self._plane.kubectl("apply", "--server-side", *flags, "--filename=-", input=json.dumps(manifest))

    def make(self, kind: str, name: str, namespace: str = "", **fields: Any) -> None:
        metadata = {"name": name, "namespace": namespace or self._where.namespace}
        self.apply({"apiVersion": "v1", "kind": kind, "metadata": metadata, **fields})

    def change(self, **spec: Any) -> None:
        """Change fields of the feed; those that are None are left out from now on."""
        merged = {**self.manifest["spec"], **spec}
        self.manifest["spec"] = {name: value for name, value in merged.items() if value is not None}
        self.apply(self.manifest)

    def delete(self, kind: str, name: str) -> None:
        self._plane.kubectl("delete", kind, name, self._space, "--wait=false")

    def exists(self) -> bool:
        return bool(self._plane.get("cryptofeeds", self._space)["items"])

    def there(self) -> set[Key]:
        selector = f"--selector={FEED_LABEL}=majors,{FEED_NAMESPACE_LABEL}={self._where.namespace}"
        kinds = ",".join(resource.plural for resource in CHILDREN.values())
        return {
            Key(item["kind"], item["metadata"]["namespace"], item["metadata"]["name"])
            for item in self._plane.get(kinds, "--all-namespaces", selector)["items"]
        }

    def is_as_wanted(self, platform: Platform) -> bool:
        """Tell whether all is there that the feed wants, and nothing else.

        No Spark operator is here that would start a stream: until one is up, settings of before a change stay.
        """
        feed = feed_of(self.manifest)
        copies = {Key("Secret", self._where.namespace, name) for name in copied_secrets(feed)}
        wanted, there = copies | {child.key for child in desired_state(feed, platform)}, self.there()
        may_stay = {"ConfigMap"} if platform.spark_backend == "kubeflow" else set()
        return wanted <= there and {key.kind for key in there - wanted} <= may_stay

    def says(self, words: str) -> bool:
        """Tell whether a condition of the feed says something."""
        status = self._plane.get("cryptofeed", "majors", self._space).get("status", {})
        return any(words in condition["message"] for condition in status.get("conditions", ()))


EVERYTHING_OFFERED = Platform(pod_monitors=True, prometheus_rules=True, spark_backend="kubeflow")
NOTHING_OFFERED = Platform(network_policies=False)


def test_the_chart_s_rights_are_those_that_the_life_of_a_feed_needs_and_no_others(
    installed: Installed, control_plane: ControlPlane, tmp_path: Path
) -> None:
    namespace, kafka = installed.namespace, installed.kafka
    account = control_plane.kubeconfig_for("release-operator", namespace)
    life = Life(control_plane, installed)
    feed = feed_of(life.manifest)

    def operator(name: str, platform: Platform) -> OperatorProcess:
        file = tmp_path / f"{name}.yaml"
        file.write_text(platform.model_dump_json(by_alias=True))
        arguments = [f"--platform={file}", *installed.arguments]
        return OperatorProcess(account, tmp_path, name=name, lease_namespace=namespace, arguments=arguments)

    with operator("first", EVERYTHING_OFFERED) as first:
        life.make("ServiceAccount", "majors-feed")
        life.change()
        eventually(lambda: life.says("is not of this feed"), "what is another's is seen")
        life.delete("serviceaccount", "majors-feed")
        life.make("Secret", "redshift")
        for secret in copied_secrets(feed).values():
            life.make("Secret", secret, kafka, stringData={"ca.crt": "of Strimzi", "user.crt": "of Strimzi"})
        life.change(alerts=[{"name": "WideSpread", "measure": "spread", "window": "1m", "above": 5}])
        eventually(lambda: life.is_as_wanted(EVERYTHING_OFFERED), "all is made")
        life.delete("statefulset", "majors-producer")
        eventually(lambda: life.is_as_wanted(EVERYTHING_OFFERED), "drift is mended")
        life.apply(job_of_a_former_feed(namespace), f"--field-manager={MANAGER}")
        eventually(lambda: life.is_as_wanted(EVERYTHING_OFFERED), "what a former feed of that name left is deleted")
        life.change(dashboard={"httpRoute": {"host": "majors.example.com", "parentRefs": [{"name": "web"}]}})
        eventually(lambda: life.is_as_wanted(EVERYTHING_OFFERED), "browsers come another way")
        first.stop()
    with operator("second", NOTHING_OFFERED) as second:
        eventually(lambda: life.is_as_wanted(NOTHING_OFFERED), "another goes on, with what the platform offers now")
        elsewhere = {"bootstrapServers": "kafka.example:9092"}
        life.change(kafka=elsewhere, **dict.fromkeys(("producer", "analytics", "dashboard", "alerts", "warehouse")))
        eventually(lambda: life.is_as_wanted(NOTHING_OFFERED), "less is wanted, and another Kafka")
        life.change(suspend=True)
        eventually(lambda: life.says("suspend is true"), "it is suspended")
        life.make("ResourceQuota", "tight", spec={"hard": {"pods": "0"}})
        life.change(suspend=None)
        eventually(lambda: life.says("exceeded quota"), "why there are no pods is said")
        life.delete("resourcequota", "tight")
        life.delete("cryptofeed", "majors")
        eventually(lambda: not life.exists(), "it has ended in good order")
        assert "orbidden" not in first.log() + second.log()
    requests = list(control_plane.requests_of("release-operator", namespace))
    assert not refused(requests)
    [driver] = [child.manifest for child in desired_state(feed, NOTHING_OFFERED) if child.key.kind == "Role"]
    # Nobody may give a right that he does not have: the operator gives these to Spark's drivers.
    given_on = granted_by([driver])
    assert sorted(installed.granted - used_by(requests) - given_on) == [], "these are spare"
