"""A feed whose stream keeps its checkpoint on S3: what reads and writes it are a driver and executors in pods."""

from collections.abc import Iterator

import pytest

from tests.cluster.demo import give_s3_credentials, install_s3, make_namespace
from tests.control_plane.plane import Cluster
from tests.e2e.feeds import Feed

pytestmark = [pytest.mark.e2e, pytest.mark.long]

_BUCKET = "checkpoints"


@pytest.fixture(scope="module")
def afar(cluster: Cluster, feed: Feed) -> Iterator[Feed]:
    """Give a feed with its checkpoint on S3, which is ready, and room for it."""
    with feed.suspended():
        install_s3(cluster, _BUCKET)
        make_namespace(cluster, "afar")
        give_s3_credentials(cluster, "afar")
        afar = Feed(cluster, "afar", "afar")
        analytics = {"windows": ["1m"], "executors": 2, "checkpoint": {"uri": f"s3a://{_BUCKET}/feeds"}}
        afar.apply(analytics=analytics, alerts=[], alertmanagers=[])
        afar.wait_ready()
        yield afar
        cluster.kubectl("delete", "cryptofeed/afar", "--namespace=afar", "--timeout=120s")


def test_another_driver_goes_on_from_the_checkpoint(afar: Feed) -> None:
    with afar.going_on_from_checkpoint():
        with afar.replacing("panes") as pod:
            afar.delete_pod(pod)
        afar.wait_ready()
    afar.assert_right()


def test_another_executor_goes_on_from_the_checkpoint(afar: Feed) -> None:
    batch, driver = afar.wait_batch(), afar.lives("panes")
    with afar.replacing("executor") as pod:
        afar.delete_pod(pod)
    afar.wait_ready()
    afar.wait_batch(batch)
    assert afar.lives("panes") == driver
    afar.assert_right()
