"""What a feed becomes: the manifests of every example, and what follows from a change of a feed."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fulltape.feed.load import load_feed, parse_feed
from fulltape.feed.model import CryptoFeed
from fulltape.workloads import workloads
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import Child, Manifest, Stage
from fulltape_operator.desired.settings import FEED_FILE, feed_settings
from fulltape_operator.platform import Platform

EXAMPLES = sorted((Path(__file__).parents[3] / "examples").glob("*.yaml"))
GOLDEN = Path(__file__).parent / "golden"
EVERYTHING = Platform(
    image_pull_secrets=("registry",),
    service_account_annotations={"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/feeds"},
    node_selector={"disk": "fast"},
    priority_class_name="market-data",
    pod_monitors=True,
    prometheus_rules=True,
)


def state(feed: CryptoFeed) -> dict[str, Child]:
    return {str(child.key): child for child in desired_state(feed, EVERYTHING)}


def changed(path: Path, **spec: Any) -> CryptoFeed:
    data = load_feed(path).to_dict()
    return CryptoFeed.model_validate({**data, "spec": data["spec"] | spec})


def pods(manifests: Iterator[Manifest]) -> Iterator[dict[str, Any]]:
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            yield manifest["spec"]["template"]


def rolled(before: CryptoFeed, after: CryptoFeed) -> set[str]:
    """Return the workloads whose pods a change restarts."""
    old, new = state(before), state(after)
    return {
        key.rpartition("/")[2]
        for key, child in old.items()
        if key in new
        and child.key.kind in ("Deployment", "StatefulSet")
        and child.manifest["spec"]["template"] != new[key].manifest["spec"]["template"]
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_becomes_what_its_golden_file_says(path: Path) -> None:
    """Write the files anew with FULLTAPE_WRITE_GOLDEN=1, and read the difference before committing it."""
    found = [child.manifest for child in desired_state(load_feed(path), EVERYTHING)]
    golden = GOLDEN / path.name
    if os.environ.get("FULLTAPE_WRITE_GOLDEN"):
        golden.write_text(yaml.safe_dump_all(found, sort_keys=True, width=1000))
    assert found == list(yaml.safe_load_all(golden.read_text()))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_program_is_given_a_feed_that_is_valid(path: Path) -> None:
    feed = load_feed(path)
    for workload in workloads(feed):
        text = feed_settings(feed, workload).manifest["data"][FEED_FILE]
        given = parse_feed(text.encode(), workload.name)
        whole, read = feed.to_dict()["spec"], given.to_dict()["spec"]
        assert {field: read[field] for field in workload.reads if field in read} == {
            field: whole[field] for field in workload.reads if field in whole
        }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_every_pod_is_restricted_bounded_in_memory_probed_and_told_no_secret(path: Path) -> None:
    for template in pods(child.manifest for child in desired_state(load_feed(path), EVERYTHING)):
        spec, [container] = template["spec"], template["spec"]["containers"]
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]
        assert {"startupProbe", "livenessProbe", "readinessProbe"} <= container.keys()
        assert not any("secretKeyRef" in str(variable) for variable in container["env"])
        is_driver = template["metadata"]["labels"]["app.kubernetes.io/component"] == "panes"
        assert spec["automountServiceAccountToken"] == is_driver


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_names_fit_and_topics_come_before_what_writes_to_them(path: Path) -> None:
    children = desired_state(load_feed(path), EVERYTHING)
    assert all(len(child.key.name) <= 63 for child in children)
    assert [child.stage for child in children] == sorted(child.stage for child in children)
    assert len({child.key for child in children}) == len(children)
    stages = {child.key.kind: child.stage for child in children}
    assert stages.get("KafkaTopic", Stage.TOPICS) < stages["StatefulSet"] < stages["Deployment"]


def test_a_change_rolls_only_the_programs_that_read_it() -> None:
    path = Path(__file__).parents[3] / "examples" / "strimzi.yaml"
    feed = load_feed(path)
    whole = feed.to_dict()["spec"]
    panes = {"majors-panes-0", "majors-panes-1"}
    assert rolled(feed, changed(path, alerts=[])) == {"majors-monitor"}
    assert rolled(feed, changed(path, products=[*whole["products"], "LTC-USD"])) == {
        "majors-producer",
        "majors-monitor",
        "majors-dashboard",
    }
    assert rolled(feed, changed(path, retain="Delete")) == set()
    assert rolled(feed, changed(path, suspend=True)) == set()
    slower = whole["analytics"] | {"slide": "2s"}
    assert rolled(feed, changed(path, analytics=slower)) == {*panes, "majors-monitor", "majors-dashboard"}


def test_labels_and_annotations_of_the_feed_change_nothing() -> None:
    path = Path(__file__).parents[3] / "examples" / "strimzi.yaml"
    data = load_feed(path).to_dict()
    data["metadata"] |= {"annotations": {"note": "new"}, "labels": {"team": "other"}}
    assert state(CryptoFeed.model_validate(data)) == state(load_feed(path))


def test_a_suspended_feed_differs_in_the_number_of_its_pods_alone() -> None:
    path = Path(__file__).parents[3] / "examples" / "aws-msk.yaml"
    running, suspended = state(load_feed(path)), state(changed(path, suspend=True))
    assert running.keys() == suspended.keys()
    for key, child in suspended.items():
        manifest = child.manifest
        if child.key.kind in ("Deployment", "StatefulSet"):
            assert manifest["spec"]["replicas"] == 0
            replicas = running[key].manifest["spec"]["replicas"]
            manifest = {**manifest, "spec": {**manifest["spec"], "replicas": replicas}}
        assert manifest == running[key].manifest
