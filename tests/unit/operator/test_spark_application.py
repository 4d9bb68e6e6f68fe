"""A stream on Kubeflow's Spark operator: what it is told, and that it is what runs without one."""

import json
import os
from pathlib import Path
from typing import Any

import pyspark
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.feed.load import load_feed
from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import REVISION_LABEL, Key, Manifest
from fulltape_operator.platform import Platform
from tests.unit.operator.feeds import EVERYTHING, EXAMPLES, KUBEFLOW, STRIMZI, changed, feeds

GOLDEN = Path(__file__).parent / "golden" / "kubeflow.yaml"
any_feed = st.one_of(st.sampled_from([load_feed(path) for path in EXAMPLES]), feeds())
quickly = settings(max_examples=20, deadline=None)
SPARK_WRITES = {"image", "imagePullPolicy", "command", "args", "resources"}
TELLS_NATIVE_DRIVERS = {
    "FULLTAPE_SPARK_MASTER", "FULLTAPE_SPARK_ADDRESS", "FULLTAPE_POD_NAME", "FULLTAPE_SPARK_SETTINGS",
}  # fmt: skip
STREAM = Key("SparkApplication", "markets", "majors-panes-0")


def state(feed: CryptoFeed, platform: Platform = KUBEFLOW) -> dict[Key, Manifest]:
    return {child.key: child.manifest for child in desired_state(feed, platform)}


def spec_of(feed: CryptoFeed, platform: Platform = KUBEFLOW) -> Any:
    return state(feed, platform)[STREAM]["spec"]


def revision(feed: CryptoFeed, platform: Platform = KUBEFLOW) -> Any:
    return spec_of(feed, platform)["driver"]["labels"][REVISION_LABEL]


def applications(feed: CryptoFeed) -> list[tuple[str, Any]]:
    """Return the SparkApplications that a feed becomes, by their names."""
    return [(key.name, one["spec"]) for key, one in state(feed).items() if key.kind == "SparkApplication"]


def native_template(feed: CryptoFeed, name: str = STREAM.name) -> Any:
    return state(feed, EVERYTHING)[Key("Deployment", feed.metadata.namespace, name)]["spec"]["template"]


def native_executor(feed: CryptoFeed, name: str) -> tuple[Any, Any]:
    """Return the pod that a driver without a Spark operator makes its executors from, and Spark's settings."""
    (volume,) = (one for one in native_template(feed, name)["spec"]["volumes"] if one["name"] == "spark")
    files = state(feed, EVERYTHING)[Key("ConfigMap", feed.metadata.namespace, volume["configMap"]["name"])]["data"]
    return json.loads(files["executor.json"]), json.loads(files["settings.json"])


def test_the_streams_of_the_examples_become_what_the_golden_file_says() -> None:
    """Write the file anew with FULLTAPE_WRITE_GOLDEN=1, and read the difference before committing it."""
    children = [child for path in EXAMPLES for child in desired_state(load_feed(path), KUBEFLOW)]
    found = [child.manifest for child in children if child.key.kind == "SparkApplication"]
    if os.environ.get("FULLTAPE_WRITE_GOLDEN"):
        GOLDEN.write_text(yaml.safe_dump_all(found, sort_keys=True, width=1000))
    assert found == list(yaml.load_all(GOLDEN.read_text(), yaml.CSafeLoader))


def test_streams_alone_are_run_otherwise_and_need_no_settings_of_their_own() -> None:
    native, other = state(STRIMZI, EVERYTHING), state(STRIMZI)
    assert {(key.kind, key.name) for key in other.keys() - native.keys()} == {
        ("SparkApplication", f"majors-panes-{stream}") for stream in (0, 1)
    }
    gone = native.keys() - other.keys()
    assert {key.kind for key in gone} == {"Deployment", "ConfigMap"}
    assert all("settings.json" in native[key]["data"] for key in gone if key.kind == "ConfigMap")
    assert all(native[key] == other[key] for key in native.keys() & other.keys())


@quickly
@given(any_feed)
def test_the_driver_is_the_program_s_pod_but_for_what_spark_writes_itself(feed: CryptoFeed) -> None:
    for name, spec in applications(feed):
        native = native_template(feed, name)
        pod, native_pod = spec["driver"]["template"]["spec"], native["spec"]
        (container,), (native_container,) = pod["containers"], native_pod["containers"]
        assert {**pod, "containers": []} == {
            **native_pod,
            "containers": [],
            "volumes": [volume for volume in native_pod["volumes"] if volume["name"] != "spark"],
        }
        assert container == {
            **{field: value for field, value in native_container.items() if field not in SPARK_WRITES},
            "name": "spark-kubernetes-driver",
            "env": [one for one in native_container["env"] if one["name"] not in TELLS_NATIVE_DRIVERS],
            "volumeMounts": [mount for mount in native_container["volumeMounts"] if mount["name"] != "spark"],
        }
        assert spec["driver"]["serviceAccount"] == native_pod["serviceAccountName"]
        assert (spec["image"], spec["imagePullPolicy"]) == (
            native_container["image"],
            native_container["imagePullPolicy"],
        )
        assert native_container["args"] == ["-m", "fulltape_spark.panes", *spec["arguments"]]
        assert spec["mainApplicationFile"] == "local:///opt/fulltape/fulltape_spark/panes.py"
        labels = native["metadata"]["labels"]
        assert spec["driver"]["labels"] == {**labels, REVISION_LABEL: spec["driver"]["labels"][REVISION_LABEL]}


@quickly
@given(any_feed)
def test_executors_are_those_that_a_driver_makes_without_a_spark_operator(feed: CryptoFeed) -> None:
    for name, spec in applications(feed):
        executor, (native, told) = spec["executor"], native_executor(feed, name)
        native["spec"]["containers"][0]["name"] = "spark-kubernetes-executor"
        assert executor["template"] == {"spec": native["spec"]}
        assert executor["labels"] == native["metadata"]["labels"]
        # Spark heeds this above what the template says.
        assert executor["serviceAccount"] == native["spec"]["serviceAccountName"]
        asked = {
            "spark.executor.instances": executor["instances"],
            "spark.executor.cores": executor["cores"],
            "spark.kubernetes.executor.request.cores": executor["coreRequest"],
            "spark.executor.memory": executor["memory"],
            "spark.executor.memoryOverhead": executor["memoryOverhead"],
            **spec["sparkConf"],
        }
        assert {key: str(value) for key, value in asked.items()}.items() <= told.items()


def test_the_version_of_spark_is_that_of_the_image() -> None:
    assert spec_of(STRIMZI)["sparkVersion"] == pyspark.__version__


def test_the_driver_asks_for_what_it_asks_for_without_a_spark_operator() -> None:
    driver = spec_of(STRIMZI)["driver"]
    (container,) = native_template(STRIMZI)["spec"]["containers"]
    requests = container["resources"]["requests"]
    assert driver["coreRequest"] == requests["cpu"]
    assert "coreLimit" not in driver
    mib = sum(int(driver[part].removesuffix("m")) for part in ("memory", "memoryOverhead"))
    assert {"2Gi": 2048}[requests["memory"]] == mib


def test_suspending_a_feed_suspends_its_streams_and_changes_nothing_else() -> None:
    running, suspended = spec_of(STRIMZI), spec_of(changed(STRIMZI, suspend=True))
    assert (running["suspend"], suspended["suspend"]) == (False, True)
    assert running == {**suspended, "suspend": False}


def test_whatever_alters_a_driver_or_its_executors_alters_its_revision_and_nothing_else_does() -> None:
    analytics: dict[str, Any] = STRIMZI.to_dict()["spec"]["analytics"]
    others = [changed(STRIMZI, analytics=analytics | change) for change in ({"slide": "2s"}, {"executors": 7})]
    images = KUBEFLOW.images.model_copy(update={"spark": "fulltape-spark:next"})
    elsewhere = KUBEFLOW.model_copy(update={"images": images})
    found = [revision(STRIMZI), *map(revision, others), revision(STRIMZI, elsewhere)]
    assert len(set(found)) == len(found)
    assert revision(changed(STRIMZI, alerts=[])) == revision(STRIMZI)
