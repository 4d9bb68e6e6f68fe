"""Feeds wait for a kind that their cluster lacks, and go on once it is there.

On a control plane of its own: with a CRD go all objects of its kind, whoever's they are.
"""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from fulltape_operator.platform import Platform
from tests.control_plane.discovery import hiding
from tests.control_plane.plane import ControlPlane
from tests.integration.operator.processes import OperatorProcess, eventually
from tests.integration.operator.test_feeds import Feed

pytestmark = pytest.mark.integration

TOPICS = "kafkatopics.kafka.strimzi.io"
STREAMS = "sparkapplications.sparkoperator.k8s.io"


@pytest.fixture
def plane(programs: Path, crds: list[Path]) -> Iterator[ControlPlane]:
    with ControlPlane(programs, crds) as plane:
        yield plane


@pytest.fixture
def operator(plane: ControlPlane, tmp_path: Path) -> Iterator[OperatorProcess]:
    with OperatorProcess(plane.kubeconfig, tmp_path, lease_namespace="default") as process:
        yield process


def test_without_the_kind_of_topics_what_runs_goes_on_nothing_is_begun_and_all_heals_when_it_is_back(
    plane: ControlPlane, operator: OperatorProcess, crds: list[Path]
) -> None:
    plane.kubectl("create", "namespace", "later")
    running, later = Feed(plane, "default"), Feed(plane, "later")

    def lacks_the_kind(feed: Feed) -> bool:
        return feed.reason() == "KindMissing"

    def is_made(feed: Feed) -> bool:
        return bool(feed.conditions()) and not lacks_the_kind(feed) and feed.is_complete()

    running.apply()
    eventually(partial(is_made, running), "the feed is made")
    producer = running.child("statefulset", "majors-producer")["metadata"]["uid"]
    plane.kubectl("delete", "crd", TOPICS)
    later.apply()
    for feed in (running, later):
        eventually(partial(lacks_the_kind, feed), f"it is reported in {feed.namespace}")
        assert "install Strimzi" in feed.conditions()["Ready"]["message"]
    assert running.child("statefulset", "majors-producer")["metadata"]["uid"] == producer
    assert not plane.get("statefulsets,deployments", "--namespace=later")["items"]

    (strimzi,) = (path for path in crds if path.stem == "kafka.strimzi.io_kafkatopics")
    plane.install_crds([strimzi])

    def is_kept_running_and_has_made(feed: Feed) -> bool:
        if not operator.is_running():  # where the API server told of the kind too late for it to be watched
            assert "no watch tells" in operator.log().splitlines()[-1], "it ends for nothing else"
            operator.start()
        return is_made(feed)

    for feed in (running, later):
        eventually(partial(is_kept_running_and_has_made, feed), f"all is made in {feed.namespace}")
        events = plane.get("events.events.k8s.io", f"--namespace={feed.namespace}")["items"]
        assert [event["reason"] for event in events].count("KindMissing") == 1, "it was told once"
    assert running.child("statefulset", "majors-producer")["metadata"]["uid"] == producer
    plane.kubectl("delete", "kafkatopic", "majors.trades", "--namespace=later")
    eventually(partial(is_kept_running_and_has_made, later), "topics are watched again")


def test_the_operator_ends_where_a_kind_is_not_watched_as_the_api_server_told_of_it_too_late_and_then_watches_it(
    plane: ControlPlane, tmp_path: Path
) -> None:
    feed = Feed(plane, "default")
    with (
        hiding(plane, "kafka.strimzi.io", tmp_path) as way,
        OperatorProcess(way.kubeconfig, tmp_path, lease_namespace="default") as operator,
    ):
        eventually(lambda: "Unresolved resources" in operator.log(), "it looked for kinds in vain")
        feed.apply()
        eventually(feed.is_complete, "the feed is made")
        eventually(lambda: not operator.is_running(), "it ends")
        assert "no watch tells of what was written of KafkaTopic" in operator.log().splitlines()[-1]
        way.hidden = False
        operator.start()
        for topic in ("majors.trades", "majors.panes"):  # the first may be found by the list with which it starts
            plane.kubectl("delete", "kafkatopic", topic, "--namespace=default")
            eventually(feed.is_complete, "topics are watched")
        assert operator.is_running()


def test_streams_run_on_where_their_platform_names_a_spark_operator_that_the_cluster_lacks(
    plane: ControlPlane, operator: OperatorProcess, crds: list[Path], tmp_path: Path
) -> None:
    feed, space = Feed(plane, "default"), "--namespace=default"
    feed.apply()
    eventually(feed.is_complete, "the feed is made")
    stream = feed.child("deployment", "majors-panes-0")["metadata"]
    plane.kubectl("delete", "crd", STREAMS)
    operator.stop()
    file = tmp_path / "platform.yaml"
    file.write_text(Platform(spark_backend="kubeflow").model_dump_json(by_alias=True))
    arguments = [f"--platform={file}"]
    with OperatorProcess(plane.kubeconfig, tmp_path, name="next", lease_namespace="default", arguments=arguments):

        def says(words: str) -> bool:
            return words in feed.conditions()["AnalyticsReady"]["message"]

        eventually(lambda: says("install Kubeflow's Spark operator"), "the mend is said")
        assert feed.child("deployment", "majors-panes-0")["metadata"]["uid"] == stream["uid"]
        assert "deletionTimestamp" not in feed.child("deployment", "majors-panes-0")["metadata"]

        (crd,) = (path for path in crds if path.stem == "sparkoperator.k8s.io_sparkapplications")
        plane.install_crds([crd])
        eventually(lambda: plane.get(STREAMS, space)["items"], "the stream goes over to it")
        left = plane.get("deployments", space)["items"]
        assert not [one for one in left if one["metadata"]["name"] == "majors-panes-0"]
