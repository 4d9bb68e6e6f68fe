"""What a feed runs: all that it asks for, nothing else, and commands that the programs understand."""

import importlib
import re
from pathlib import Path

import click
import pytest

from fulltape.cli import fulltape
from fulltape.feed.load import load_feed, parse_feed
from fulltape.feed.model import CryptoFeed, Spec
from fulltape.workloads import PAGE, PROBES, Workload, workloads

EXAMPLES = Path(__file__).parents[2] / "examples"


def feed(spec: str = "") -> CryptoFeed:
    text = f"""
apiVersion: fulltape.dev/v1alpha1
kind: CryptoFeed
metadata: {{name: test}}
spec:
  products: [BTC-USD, ETH-USD]
  kafka: {{bootstrapServers: "127.0.0.1:9092"}}
{spec}"""
    return parse_feed(text.encode(), "test")


def names(of: CryptoFeed) -> list[str]:
    return [workload.name for workload in workloads(of)]


def command(workload: Workload) -> list[str]:
    ports = dict(zip(workload.ports, range(1, 9), strict=False))
    return workload.command(feed=str(EXAMPLES / "majors.yaml"), host="127.0.0.1", ports=ports, state="/state")


def test_a_feed_without_analytics_runs_its_producers_alone() -> None:
    assert names(feed("  producer: {replicas: 2}")) == ["producer-0", "producer-1"]


def test_analytics_add_a_stream_for_each_replica_and_what_reads_it_in_the_order_of_the_datas_way() -> None:
    assert names(feed("  analytics: {replicas: 2}")) == ["producer-0", "panes-0", "panes-1", "monitor", "dashboard"]


def test_a_warehouse_adds_what_stores_and_what_loads_with_or_without_analytics() -> None:
    assert names(feed("  warehouse: {}")) == ["producer-0", "archive", "warehouse"]
    assert names(feed("  analytics: {}\n  warehouse: {}"))[-2:] == ["archive", "warehouse"]


def test_a_suspended_feed_runs_nothing() -> None:
    assert names(feed("  suspend: true\n  analytics: {}")) == []


def test_each_replica_is_told_which_it_is_and_each_stream_keeps_its_own_state() -> None:
    by_name = {
        workload.name: workload for workload in workloads(feed("  producer: {replicas: 2}\n  analytics: {replicas: 2}"))
    }
    assert " --shard 1" in " ".join(command(by_name["producer-1"]))
    assert " --stream 1 --checkpoint /state" in " ".join(command(by_name["panes-1"]))
    assert [name for name, workload in by_name.items() if workload.keeps_state] == ["panes-0", "panes-1"]


def monitors_mib(products: int, analytics: str) -> int:
    """Return what the monitor of so many products asks for."""
    of = feed(f"  analytics: {analytics}")
    many = of.spec.model_copy(update={"products": tuple(f"P{number}-USD" for number in range(products))})
    return workloads(of.model_copy(update={"spec": many}))[2].memory_mib


def test_the_monitor_asks_for_memory_by_its_products_and_by_how_long_their_windows_need_a_second() -> None:
    measured_mib = {'{windows: ["1m", "5m"], watermark: 10m}': 3.4, '{windows: ["1m", "1h"], watermark: 10m}': 16.9}
    for analytics, product_mib in measured_mib.items():
        of_hundred_mib = monitors_mib(200, analytics) - monitors_mib(100, analytics)
        assert 1 < of_hundred_mib / (100 * product_mib) < 2, analytics


@pytest.mark.parametrize("example", sorted(path.name for path in EXAMPLES.glob("*.yaml")))
def test_of_every_example_names_are_unique_places_are_filled_in_and_probes_have_a_port(example: str) -> None:
    found = workloads(load_feed(EXAMPLES / example))
    assert len({workload.name for workload in found}) == len(found)
    for workload in found:
        assert PROBES in workload.ports
        words = command(workload)
        assert words[0] == "-m"
        assert not [word for word in words if "{" in word], words
    assert [workload.name for workload in found if PAGE in workload.ports] == ["dashboard"]


EVERYTHING = workloads(feed("  analytics: {}\n  warehouse: {}"))


@pytest.mark.parametrize("workload", EVERYTHING, ids=lambda workload: workload.name)
def test_every_program_exists_and_has_the_options_it_is_given(workload: Workload) -> None:
    _, module, *words = command(workload)
    if module == "fulltape.cli":
        found = fulltape.get_command(click.Context(fulltape), words.pop(0))
    else:
        found = importlib.import_module(module).main
    assert isinstance(found, click.Command)
    found.make_context(workload.name, words)


PACKAGES = {
    "producer": ("fulltape/producer",),
    "panes": ("fulltape_spark/panes.py", "fulltape_spark/checkpoint*.py", "fulltape_spark/warmup.py"),
    "monitor": ("fulltape/monitor",),
    "dashboard": ("fulltape/dashboard",),
    "archive": ("fulltape_spark/archive*.py", "fulltape/warehouse/staging.py"),
    "warehouse": ("fulltape/warehouse/cli.py", "fulltape/warehouse/credentials.py", "fulltape/warehouse/staging.py"),
}
"""The sources of each program that look into a feed."""


@pytest.mark.parametrize(
    "workload", workloads(load_feed(EXAMPLES / "aws-msk.yaml")), ids=lambda workload: workload.name
)
def test_a_program_reads_no_field_of_the_feed_that_it_is_not_said_to_read(workload: Workload) -> None:
    root = Path(__file__).parents[2]
    sources = [
        path
        for pattern in PACKAGES[workload.component]
        for folder in (root / "services", root / "spark-apps")
        for path in (folder / pattern).parent.glob(Path(pattern).name)
    ]
    texts = [text.read_text() for path in sources for text in ([path] if path.is_file() else path.rglob("*.py"))]
    fields = {name for text in texts for name in re.findall(r"\bspec\.([a-z_]+)", text)}
    assert texts
    assert fields & set(Spec.model_fields) <= workload.reads
