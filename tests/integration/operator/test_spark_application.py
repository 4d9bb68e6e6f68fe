"""Streams on a cluster with Kubeflow's Spark operator: its objects on a real API server, and what Spark makes of them.

What that operator does is done here by hand, step by step as in its release: it makes the driver's pod and says so.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml

from fulltape.feed.load import feed_of
from fulltape.local.java import find_java
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import Child
from fulltape_operator.owned import MANAGER
from fulltape_operator.platform import Platform
from tests.control_plane.kubelet import Fate, Kubelet
from tests.control_plane.plane import Cluster, ControlPlane
from tests.integration.operator.processes import OperatorProcess, eventually
from tests.integration.operator.test_feeds import Feed

pytestmark = pytest.mark.integration

KUBEFLOW = Platform(spark_backend="kubeflow")
APPLICATIONS = "sparkapplications.sparkoperator.k8s.io"
ENTRYPOINT = Path(__file__).parents[3] / "images" / "spark" / "entrypoint"


class Stream:
    """A stream of a feed, and what the Spark operator does with it."""

    def __init__(self, feed: Feed, number: int = 0) -> None:
        self.feed = feed
        self.name = f"majors-panes-{number}"

    def exists(self) -> bool:
        space = f"--namespace={self.feed.namespace}"
        found = self.feed.plane.get(APPLICATIONS, space)["items"]
        return any(one["metadata"]["name"] == self.name for one in found)

    def application(self) -> dict[str, Any]:
        return self.feed.child(APPLICATIONS, self.name)

    def say(self, state: str, **more: str) -> None:
        """Say how the application does."""
        # Its CRD asks for these.
        status = {"applicationState": {"state": state, **more}, "driverInfo": {}, "lastSubmissionAttemptTime": None}
        self.feed.plane.kubectl(
            "patch",
            APPLICATIONS,
            self.name,
            "--subresource=status",
            "--type=merge",
            f"--patch={json.dumps({'status': status | {'terminationTime': None}})}",
            f"--namespace={self.feed.namespace}",
        )

    def start(self) -> None:
        """Make the driver's pod, in place of the one that there is, and say that it runs."""
        self.end()
        found = self.application()
        driver, metadata = found["spec"]["driver"], found["metadata"]
        pod = json.loads(json.dumps(driver["template"]))
        # A pod of this policy goes on in this cluster, where nothing runs in it.
        pod["spec"]["restartPolicy"] = "Always"
        pod["spec"]["containers"][0]["image"] = found["spec"]["image"]
        owner = {"apiVersion": found["apiVersion"], "kind": found["kind"], "name": self.name, "uid": metadata["uid"]}
        pod["metadata"] |= {
            "name": f"{self.name}-driver",
            "namespace": self.feed.namespace,
            "labels": driver["labels"],
            "ownerReferences": [owner | {"controller": True, "blockOwnerDeletion": True}],
        }
        self.feed.plane.kubectl("create", "--filename=-", input=json.dumps({"apiVersion": "v1", "kind": "Pod", **pod}))
        self.say("RUNNING")

    def end(self) -> None:
        space = f"--namespace={self.feed.namespace}"
        self.feed.plane.kubectl("delete", "pod", f"{self.name}-driver", "--ignore-not-found", "--wait=true", space)


@pytest.fixture(scope="module")
def operator(plane: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorProcess]:
    folder = tmp_path_factory.mktemp("operator")
    platform = folder / "platform.yaml"
    platform.write_text(KUBEFLOW.model_dump_json(by_alias=True))
    arguments = [f"--platform={platform}"]
    with OperatorProcess(plane.kubeconfig, folder, lease_namespace="default", arguments=arguments) as process:
        yield process


@pytest.fixture
def feed(plane: Cluster, namespace: str, operator: OperatorProcess, kubelet: Kubelet) -> Feed:
    assert operator is not None
    assert kubelet is not None
    return Feed(plane, namespace, kafka={"bootstrapServers": "kafka.example:9092"}, retain="Retain")


def says(feed: Feed, condition: str, words: str) -> bool:
    """Tell whether a condition of a feed is there and says something."""
    return words in feed.conditions().get(condition, {}).get("message", "")


def test_a_feed_is_ready_once_its_driver_is_and_says_what_ails_it_until_then(feed: Feed, kubelet: Kubelet) -> None:
    stream = Stream(feed)
    feed.apply()
    eventually(stream.exists, "the stream is made")
    eventually(lambda: says(feed, "AnalyticsReady", "not looked at it"), "nobody looks at it")
    stream.say("SUBMISSION_FAILED", errorMessage="no such image")
    eventually(lambda: says(feed, "AnalyticsReady", "no such image"), "why is said")
    kubelet.treat(f"{feed.namespace}/majors-panes-0-driver", Fate.UNREADY)
    stream.start()
    eventually(lambda: says(feed, "AnalyticsReady", "0 of 1 ready"), "it runs and is not ready")
    kubelet.treat(f"{feed.namespace}/majors-panes-0-driver", Fate.WELL)
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")


def test_what_is_edited_or_deleted_by_hand_comes_back(feed: Feed) -> None:
    stream = Stream(feed)
    feed.apply()
    eventually(stream.exists, "the stream is made")
    space = f"--namespace={feed.namespace}"
    edit = '--patch={"spec":{"executor":{"instances":9,"template":{"spec":{"enableServiceLinks":true}}}}}'
    feed.plane.kubectl("patch", APPLICATIONS, stream.name, "--type=merge", edit, space)

    def is_mended() -> bool:
        executor = stream.application()["spec"]["executor"]
        return (executor["instances"], executor["template"]["spec"]["enableServiceLinks"]) == (2, False)

    eventually(is_mended, "the edit is taken back")
    uid = stream.application()["metadata"]["uid"]
    feed.plane.kubectl("delete", APPLICATIONS, stream.name, space)
    eventually(lambda: stream.exists() and stream.application()["metadata"]["uid"] != uid, "it is made anew")


def test_the_second_stream_is_changed_once_the_first_s_driver_is_of_the_change_and_ready(feed: Feed) -> None:
    first, second = Stream(feed, 0), Stream(feed, 1)
    feed.apply(analytics={"replicas": 2})
    for stream in (first, second):
        eventually(stream.exists, "the stream is made")
        stream.start()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    before = [stream.application()["spec"] for stream in (first, second)]
    feed.apply(analytics={"replicas": 2, "slide": "2s"})
    eventually(lambda: first.application()["spec"] != before[0], "the first is changed")
    eventually(lambda: feed.reason("Reconciling") == "Waiting", "the second waits")
    assert "of before the last change" in feed.conditions()["AnalyticsReady"]["message"]
    assert second.application()["spec"] == before[1]
    first.start()
    eventually(lambda: second.application()["spec"] != before[1], "the second is changed")
    second.start()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")


def test_a_suspended_feed_suspends_its_stream_and_goes_on_with_it(feed: Feed) -> None:
    stream = Stream(feed)
    feed.apply()
    eventually(stream.exists, "the stream is made")
    stream.start()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    feed.apply(suspend=True)
    eventually(lambda: stream.application()["spec"]["suspend"], "the stream is suspended")
    stream.end()
    stream.say("SUSPENDED")
    eventually(lambda: feed.reason() == "Suspended", "it is said")
    assert "Reconciling" not in feed.conditions()
    feed.apply(suspend=False)
    eventually(lambda: not stream.application()["spec"]["suspend"], "the stream goes on")
    stream.start()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")


def test_topics_are_deleted_once_no_driver_runs_any_more(feed: Feed, kubelet: Kubelet) -> None:
    stream = Stream(feed)
    feed.apply(retain="Delete")
    eventually(stream.exists, "the stream is made")
    stream.start()
    eventually(lambda: feed.reason() == "Ready", "the feed is ready")
    kubelet.treat(f"{feed.namespace}/majors-cleanup-*", Fate.PENDING)
    feed.delete()
    space = f"--namespace={feed.namespace}"
    eventually(lambda: feed.plane.get("jobs", space)["items"], "the Job is there")
    assert not stream.exists()
    pods = [pod["metadata"]["name"] for pod in feed.plane.get("pods", space)["items"]]
    assert all(name.startswith("majors-cleanup-") for name in pods)
    kubelet.treat(f"{feed.namespace}/majors-cleanup-*", Fate.WELL)
    eventually(lambda: not feed.exists() and not feed.children(), "nothing is left")


def test_a_driver_without_a_spark_operator_ends_before_one_with_it_begins(
    plane: Cluster, namespace: str, feed: Feed
) -> None:
    """Take the place of an operator that made the feed's objects natively."""
    space = f"--namespace={namespace}"
    native = {child.key: child for child in desired_state(feed_of(feed.manifest), Platform())}
    of_panes: list[Child] = [child for key, child in native.items() if child.component == "panes"]
    for child in of_panes:
        manager = f"--field-manager={MANAGER}"
        plane.kubectl("apply", "--server-side", manager, "--filename=-", input=json.dumps(child.manifest))
    # A pod that takes its time to drain.
    hold = '--patch={"metadata":{"finalizers":["example.org/drains"]}}'
    pods = ("pods", "--selector=fulltape.dev/program=panes-0", space)
    eventually(lambda: plane.get(*pods)["items"], "the driver runs")
    pod = plane.get(*pods)["items"][0]["metadata"]["name"]
    plane.kubectl("patch", "pod", pod, "--type=merge", hold, space)
    stream = Stream(feed)
    feed.apply()
    eventually(lambda: says(feed, "Reconciling", "is to end first"), "it is waited for")
    eventually(lambda: "deletionTimestamp" in plane.get("pod", pod, space)["metadata"], "the driver is told to end")
    assert not stream.exists()
    plane.kubectl("patch", "pod", pod, "--type=merge", '--patch={"metadata":{"finalizers":null}}', space)
    eventually(stream.exists, "the stream is made")
    assert not plane.get(*pods)["items"]


def submitted(plane: Cluster, application: Mapping[str, Any], folder: Path) -> Any:
    """Submit an application as Kubeflow's operator does, by Spark's own program; return the driver's pod."""
    spec, metadata = application["spec"], application["metadata"]
    conf = {
        "spark.kubernetes.namespace": metadata["namespace"],
        "spark.kubernetes.submission.waitAppCompletion": "false",
        "spark.kubernetes.driver.pod.name": f"{metadata['name']}-driver",
        "spark.kubernetes.container.image": spec["image"],
        "spark.kubernetes.container.image.pullPolicy": spec["imagePullPolicy"],
        "spark.kubernetes.pyspark.pythonVersion": spec["pythonVersion"],
        "spark.kubernetes.authenticate.driver.serviceAccountName": spec["driver"]["serviceAccount"],
        "spark.executor.instances": spec["executor"]["instances"],
        **spec["sparkConf"],
    }
    for role in ("driver", "executor"):
        pod = spec[role]
        template = folder / f"{role}.yaml"
        template.write_text(yaml.safe_dump(pod["template"]))
        conf |= {
            f"spark.{role}.cores": pod["cores"],
            f"spark.{role}.memory": pod["memory"],
            f"spark.{role}.memoryOverhead": pod["memoryOverhead"],
            f"spark.kubernetes.{role}.request.cores": pod["coreRequest"],
            f"spark.kubernetes.{role}.podTemplateFile": template,
            f"spark.kubernetes.{role}.podTemplateContainerName": f"spark-kubernetes-{role}",
        }
        given = metadata["labels"] | pod["labels"]
        conf |= {f"spark.kubernetes.{role}.label.{name}": value for name, value in given.items()}
    assert isinstance(plane, ControlPlane)
    command = [
        Path(pyspark.__file__).parent / "bin" / "spark-submit",
        f"--master=k8s://{plane.url}",
        "--deploy-mode=cluster",
        f"--name={metadata['name']}",
        *(part for name, value in conf.items() for part in ("--conf", f"{name}={value}")),
        spec["mainApplicationFile"],
        *spec["arguments"],
    ]
    environment = os.environ | {
        "KUBECONFIG": str(plane.kubeconfig),
        "JAVA_HOME": str(find_java().executable.resolve().parents[1]),
    }
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return plane.get("pod", f"{metadata['name']}-driver", f"--namespace={metadata['namespace']}")


def test_what_spark_makes_of_a_stream_is_admitted_and_starts_the_program_with_spark_s_settings(
    plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    """The namespace enforces the restricted Pod Security Standard. The program here is one that tells what it sees."""
    feed = feed_of(Feed(plane, namespace, analytics={"executors": 3}).manifest)
    children = {child.key.kind: child.manifest for child in desired_state(feed, KUBEFLOW)}
    account = [child.manifest for child in desired_state(feed, KUBEFLOW) if child.key.kind == "ServiceAccount"]
    plane.kubectl("apply", "--filename=-", input=yaml.safe_dump_all(account))
    application = children["SparkApplication"]
    pod = submitted(plane, application, tmp_path)
    (container,) = pod["spec"]["containers"]
    assert pod["metadata"]["labels"].items() >= application["spec"]["driver"]["labels"].items()
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "probes", "scheme": "HTTP"}
    assert "command" not in container
    given = container["args"]
    assert given[0] == "driver"
    assert given[-len(application["spec"]["arguments"]) :] == application["spec"]["arguments"]

    mounted = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    of_volume = {volume["name"]: volume.get("configMap", {}).get("name") for volume in pod["spec"]["volumes"]}
    settings = Path(given[given.index("--properties-file") + 1])
    config_map = of_volume[mounted[str(settings.parent)]]
    data = plane.get("configmap", config_map, f"--namespace={namespace}")["data"]
    local = tmp_path / "spark.properties"
    text = data[settings.name]
    master = next(line for line in text.splitlines() if line.startswith("spark.master="))
    local.write_text(text.replace(master, "spark.master=local[1]"))
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    replaced = {str(settings): str(local), application["spec"]["mainApplicationFile"]: f"local://{program}"}
    done = subprocess.run(
        ["bash", ENTRYPOINT, *(replaced.get(one, one) for one in given)],
        env=os.environ
        | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "SPARK_DRIVER_BIND_ADDRESS": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["arguments"] == application["spec"]["arguments"]
    assert told["spark.executor.instances"] == "3"
    assert told["spark.kubernetes.driver.pod.name"] == "majors-panes-0-driver"
    assert told["spark.driver.port"] == "7078"
    assert told["spark.submit.deployMode"] == "client"


PROGRAM = """
import json, sys
from fulltape_spark.session import Spark
with Spark(slots=1, settings={}, heap_mib=512) as spark:
    found = dict(spark.session.sparkContext.getConf().getAll())
print(json.dumps({"arguments": sys.argv[1:], **found}))
"""


def test_the_image_says_what_it_can_t_be_the_driver_of() -> None:
    done = subprocess.run(
        ["bash", ENTRYPOINT, "driver", "--properties-file", "a", "--class", "org.example.Main", "local:///a.jar"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "this image runs Python applications alone" in done.stderr
