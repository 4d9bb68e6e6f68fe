"""The cluster of the end-to-end tests: the one that FULLTAPE_TEST_KUBECONFIG opens, or a node of their own.

The nodes of a cluster that is named must have the images already: see `tests.cluster.images`.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from tests.cluster.build import ensure_node_programs
from tests.cluster.demo import install_fulltape, install_surroundings
from tests.cluster.images import build_images, load_images
from tests.cluster.node import Node, check_machine
from tests.control_plane.build import ensure_programs
from tests.control_plane.plane import Cluster
from tests.e2e.feeds import Feed
from tests.lacking import lacking

# What looks at the cluster goes on while tests take its API server away.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

_TRADES_PER_SECOND = 60
"""Of the exchange: whole tapes are read again and again beside what is tested, on two cores."""


@pytest.fixture(scope="session")
def helm() -> Path:
    """Give the program."""
    return _programs() / "helm"


@pytest.fixture(scope="session")
def cluster(helm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a cluster with Kafka, a sandbox exchange, Alertmanager and Fulltape."""
    if named := os.environ.get("FULLTAPE_TEST_KUBECONFIG"):
        cluster = Cluster(Path(named), helm.with_name("kubectl"), tmp_path_factory.mktemp("cluster"))
        install_surroundings(cluster, _TRADES_PER_SECOND)
        install_fulltape(cluster, helm)
        yield cluster
        return
    try:
        check_machine()
        names, node_programs = build_images(), ensure_node_programs()
    except ConfigurationError as error:
        lacking(f"needs a cluster: {error}")
    with Node(helm.parent, node_programs) as node:
        load_images(names, node_programs)
        install_surroundings(node, _TRADES_PER_SECOND)
        install_fulltape(node, helm)
        yield node


@pytest.fixture(scope="session")
def feed(cluster: Cluster) -> Feed:
    """Give a feed that is ready. Tests disturb it and leave it ready."""
    feed = Feed(cluster, "majors", "markets")
    feed.apply()
    feed.wait_ready()
    return feed


def _programs() -> Path:
    try:
        return ensure_programs()
    except ConfigurationError as error:
        lacking(f"needs a cluster: {error}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let what makes nodes come before what holds one to the end.

    Kubernetes' client leaves sockets to the garbage collector where the API server is taken from it.
    """
    items.sort(key=lambda item: item.path.name != "test_node.py")
    for item in (one for one in items if one.get_closest_marker("e2e")):
        item.add_marker(pytest.mark.filterwarnings("ignore:.*SSLSocket:pytest.PytestUnraisableExceptionWarning"))
