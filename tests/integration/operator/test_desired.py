"""Whatever a feed may ask for, a real API server takes all that becomes of it, strictly and as it is."""

import json

import pytest
from hypothesis import HealthCheck, example, given, settings

from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired import desired_state
from fulltape_operator.owned import MANAGER, owned
from fulltape_operator.platform import Platform
from tests.control_plane.plane import Cluster
from tests.unit.operator.feeds import EVERYTHING, KUBEFLOW, MAJORS, MSK, STRIMZI, feeds

pytestmark = pytest.mark.integration


PLATFORMS = [one.model_copy(update={"tolerations": ({"operator": "Exists"},)}) for one in (EVERYTHING, KUBEFLOW)]


@pytest.mark.parametrize("platform", PLATFORMS, ids=["native", "kubeflow"])
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(feed=feeds())
@example(feed=MAJORS)
@example(feed=STRIMZI)
@example(feed=MSK)
def test_all_that_a_feed_becomes_is_taken_and_kept_as_it_was_written(
    plane: Cluster, namespace: str, platform: Platform, feed: CryptoFeed
) -> None:
    wanted = [child.manifest for child in desired_state(feed, platform)]
    for one in wanted:
        one["metadata"]["namespace"] = namespace
    taken = plane.kubectl(
        "apply",
        "--server-side",
        "--dry-run=server",
        f"--field-manager={MANAGER}",
        "--output=json",
        "--show-managed-fields",
        "--filename=-",
        input=json.dumps({"apiVersion": "v1", "kind": "List", "items": wanted}),
    )
    assert [owned(live) for live in json.loads(taken)["items"]] == wanted
