"""Every pod that a feed becomes, its programs', its executors' and its clean-up's: let in anywhere, bounded, probed."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import CREDENTIALS
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import Child
from fulltape_operator.desired.deletion import deletion
from fulltape_operator.desired.kafka import kafka_secrets, required_secrets
from fulltape_operator.desired.pods import cpu, mebibytes, shortest
from fulltape_operator.plan import WORKLOADS
from tests.unit.operator.feeds import EVERYTHING, EXAMPLES, KUBEFLOW, feeds
from tests.unit.operator.pod_security import violations

Pod = dict[str, Any]

any_feed = st.one_of(st.sampled_from([load_feed(path) for path in EXAMPLES]), feeds())
quickly = settings(max_examples=20, deadline=None)

RECOMMENDED = {"name", "instance", "component", "part-of", "managed-by"}
_UNITS = {"m": 0.001, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "": 1}


def children(feed: CryptoFeed) -> list[Child]:
    return [*desired_state(feed, EVERYTHING), *deletion(feed, EVERYTHING)]


def programs(feed: CryptoFeed) -> list[Pod]:
    """Return the templates of what runs for good."""
    return [child.manifest["spec"]["template"] for child in children(feed) if child.key.kind in WORKLOADS]


def pods(feed: CryptoFeed) -> Iterator[Pod]:
    """Return all templates: of programs, of the Job, and those of Spark's drivers and executors on either backend."""
    on_spark_operator = [child for child in desired_state(feed, KUBEFLOW) if child.key.kind == "SparkApplication"]
    for child in [*children(feed), *on_spark_operator]:
        if child.key.kind == "SparkApplication":
            for role in ("driver", "executor"):
                pod = child.manifest["spec"][role]
                yield {"metadata": {"labels": pod["labels"]}, "spec": pod["template"]["spec"]}
        elif child.key.kind in {*WORKLOADS, "Job"}:
            yield child.manifest["spec"]["template"]
        elif child.key.kind == "ConfigMap" and "executor.json" in child.manifest["data"]:
            yield json.loads(child.manifest["data"]["executor.json"])


def kafka_files(pod: Pod) -> dict[str, str]:
    """Return the Secrets that a pod finds Kafka's credentials in, by their folders."""
    secrets = {one["name"]: one["secret"]["secretName"] for one in pod["spec"]["volumes"] if "secret" in one}
    [container] = pod["spec"]["containers"]
    mounts = {one["mountPath"]: one["name"] for one in container["volumeMounts"]}
    return {path: secrets[name] for path, name in mounts.items() if path.startswith(str(CREDENTIALS))}


def quantity(text: str) -> float:
    number, unit = re.fullmatch("([0-9.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return float(number) * _UNITS[unit]


@quickly
@given(any_feed)
def test_every_pod_passes_the_restricted_pod_security_standard(feed: CryptoFeed) -> None:
    for pod in pods(feed):
        assert violations(pod["spec"]) == []
        assert all(container["securityContext"]["readOnlyRootFilesystem"] for container in pod["spec"]["containers"])


@quickly
@given(any_feed)
def test_who_talks_to_kafka_finds_what_opens_it_at_one_place(feed: CryptoFeed) -> None:
    wanted = {f"{CREDENTIALS}/{folder}": secret for folder, secret in kafka_secrets(feed).items()}
    assert [kafka_files(pod) for pod in pods(feed)] == [wanted] * len(list(pods(feed)))


@pytest.mark.parametrize(
    ("of_pod", "of_container", "found"),
    [
        ({"hostNetwork": True}, {}, "hostNetwork"),
        ({"volumes": [{"name": "a", "hostPath": {"path": "/"}}]}, {}, "volumes.hostPath"),
        ({"securityContext": {"runAsNonRoot": False}}, {}, "runAsNonRoot"),
        ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, {}, "seccompProfile"),
        ({}, {"securityContext": {}}, "allowPrivilegeEscalation"),
        ({}, {"securityContext": {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}}, "capabilities.add"),
        ({}, {"securityContext": {"runAsUser": 0}}, "runAsUser"),
        ({}, {"ports": [{"hostPort": 80}]}, "hostPort 80"),
        ({}, {"livenessProbe": {"httpGet": {"host": "10.0.0.1"}}}, "probes.host"),
    ],
)
def test_the_standard_as_it_is_written_here_finds_what_it_forbids(of_pod: Pod, of_container: Pod, found: str) -> None:
    pod = programs(load_feed(EXAMPLES[0]))[0]["spec"]
    assert found in violations({**pod, **of_pod, "containers": [{**pod["containers"][0], **of_container}]})


@quickly
@given(any_feed)
def test_every_program_asks_for_what_it_needs_and_no_processor_is_throttled(feed: CryptoFeed) -> None:
    for pod in programs(feed):
        [container] = pod["spec"]["containers"]
        asked, most = container["resources"]["requests"], container["resources"]["limits"]
        assert quantity(asked["cpu"]) > 0
        assert 0 < quantity(asked["memory"]) <= quantity(most["memory"])
        assert "cpu" not in most


@quickly
@given(any_feed)
def test_every_program_is_probed_at_a_port_that_it_has(feed: CryptoFeed) -> None:
    for pod in programs(feed):
        [container] = pod["spec"]["containers"]
        ports = {port["name"] for port in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["port"] in ports
        assert container["startupProbe"]["httpGet"]["path"] == container["livenessProbe"]["httpGet"]["path"]
        assert container["readinessProbe"]["httpGet"]["path"] != container["livenessProbe"]["httpGet"]["path"]


@quickly
@given(any_feed)
def test_only_spark_s_drivers_are_given_a_token_of_the_api_server(feed: CryptoFeed) -> None:
    for pod in pods(feed):
        is_driver = pod["metadata"]["labels"]["app.kubernetes.io/component"] == "panes"
        assert pod["spec"]["automountServiceAccountToken"] == is_driver
    for child in children(feed):
        if child.key.kind == "ServiceAccount":
            assert child.manifest["automountServiceAccountToken"] is False


@quickly
@given(any_feed)
def test_every_object_and_pod_carries_the_recommended_labels_in_the_form_that_labels_have(feed: CryptoFeed) -> None:
    for metadata in [child.manifest["metadata"] for child in children(feed)] + [pod["metadata"] for pod in pods(feed)]:
        assert {f"app.kubernetes.io/{name}" for name in RECOMMENDED} <= metadata["labels"].keys()
        for value in metadata["labels"].values():
            assert re.fullmatch("([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", value)


@quickly
@given(any_feed)
def test_selectors_match_the_pods_of_their_own_workload_and_no_other(feed: CryptoFeed) -> None:
    selectors = {
        child.key.name: child.manifest["spec"]["selector"]["matchLabels"]
        for child in children(feed)
        if child.key.kind in WORKLOADS
    }
    for pod in pods(feed):
        labels = pod["metadata"]["labels"]
        matching = [name for name, selector in selectors.items() if selector.items() <= labels.items()]
        runs = labels["app.kubernetes.io/component"] not in ("executor", "cleanup")
        assert matching == ([f"{feed.metadata.name}-{labels['fulltape.dev/program']}"] if runs else [])


LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


@quickly
@given(any_feed)
def test_names_have_the_form_and_length_of_their_kind(feed: CryptoFeed) -> None:
    """A StatefulSet's name and a revision's hash must fit into one label, as must a Deployment's and a pod's."""
    lengths = {"Service": 63, "Job": 63 - 11, "StatefulSet": 63 - 11, "Deployment": 63 - 11}
    for child in children(feed):
        most, pattern = lengths.get(child.key.kind, 253), f"{LABEL}(\\.{LABEL})*"
        assert len(child.key.name) <= most, child.key
        assert re.fullmatch(LABEL if most <= 63 else pattern, child.key.name), child.key
    for pod in pods(feed):
        for volume in pod["spec"]["volumes"]:
            assert re.fullmatch(LABEL, volume["name"])


def names_in(value: Any) -> Iterator[str]:
    """Return all texts within a value."""
    if isinstance(value, Mapping):
        for below in value.values():
            yield from names_in(below)
    elif isinstance(value, (list, tuple)):
        for below in value:
            yield from names_in(below)
    else:
        yield str(value)


@quickly
@given(any_feed)
def test_secrets_reach_programs_as_files_that_they_may_only_read(feed: CryptoFeed) -> None:
    known = {*kafka_secrets(feed).values(), *required_secrets(feed), EVERYTHING.s3.secret_name}
    for pod in pods(feed):
        for container in pod["spec"]["containers"]:
            assert "envFrom" not in container
            assert not any("secretKeyRef" in one.get("valueFrom", {}) for one in container.get("env", ()))
            assert not known & {*names_in(container.get("args", [])), *names_in(container.get("env", []))}
            read_only = {mount["name"]: mount.get("readOnly", False) for mount in container["volumeMounts"]}
            for volume in pod["spec"]["volumes"]:
                if "secret" in volume:
                    assert volume["secret"]["secretName"] in known
                    assert volume["secret"]["defaultMode"] & 0o007 == 0
                    assert read_only[volume["name"]]


@quickly
@given(any_feed)
def test_what_a_container_mounts_is_a_volume_and_every_configmap_and_claim_is_wanted_too(feed: CryptoFeed) -> None:
    there = {(child.key.kind, child.key.name) for child in children(feed)}
    for pod in pods(feed):
        volumes = {volume["name"]: volume for volume in pod["spec"]["volumes"]}
        assert len(volumes) == len(pod["spec"]["volumes"])
        for container in pod["spec"]["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes.keys()
            paths = [mount["mountPath"] for mount in container["volumeMounts"]]
            assert len(paths) == len(set(paths))
        for volume in volumes.values():
            if "configMap" in volume:
                assert ("ConfigMap", volume["configMap"]["name"]) in there
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in there
        if "serviceAccountName" in pod["spec"]:
            assert ("ServiceAccount", pod["spec"]["serviceAccountName"]) in there


@given(st.integers(1, 10_000_000))
def test_quantities_are_exact_and_in_their_shortest_form(amount: int) -> None:
    assert quantity(cpu(amount)) == pytest.approx(amount / 1000)
    assert quantity(mebibytes(amount)) == amount * 2**20
    assert not re.fullmatch("[0-9]*000m", cpu(amount))


@given(st.integers(1, 999_999), st.sampled_from(["Mi", "Gi", "Ti"]))
def test_sizes_of_volumes_are_written_as_the_api_server_keeps_them(number: int, unit: str) -> None:
    found = shortest(f"{number}{unit}")
    assert quantity(found) == quantity(f"{number}{unit}")
    assert int(found[:-2]) % 1024 != 0
