"""A run is put together of what the feed asks for and what a cluster would have, in the order of the data's way."""

from pathlib import Path

import pytest

from fulltape.feed.load import parse_feed
from fulltape.local import compose
from fulltape.local.compose import Composition, Plan
from fulltape.workloads import workloads

FEED = """\
apiVersion: fulltape.dev/v1alpha1
kind: CryptoFeed
metadata: {name: test}
spec:
  products: [BTC-USD, ETH-USD]
  kafka: {bootstrapServers: "127.0.0.1:9092"}
  producer: {replicas: 2}
"""


def composed(folder: Path, feed: str, *, sandbox: bool = True) -> Composition:
    loaded = parse_feed(feed.encode(), "test")
    plan = Plan(
        feed=loaded,
        file=folder / "feed.yaml",
        programs=workloads(loaded),
        sandbox=("--rate", "7") if sandbox else None,
        data=None if sandbox else folder / "kafka",
        page_port=8080,
    )
    for name in ("scratch", "logs"):
        (folder / name).mkdir()
    return compose.compose(plan, scratch=folder / "scratch", logs=folder / "logs")


def names(composition: Composition) -> list[list[str]]:
    return [[part.name for part in group] for group in composition.groups]


def test_parts_stop_in_the_order_of_the_datas_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "find_alertmanager", lambda: Path("/usr/bin/alertmanager"))
    assert names(composed(tmp_path, FEED + "  analytics: {replicas: 2}\n  warehouse: {}\n")) == [
        ["sandbox"],
        ["producer-0", "producer-1"],
        ["panes-0", "panes-1"],
        ["monitor"],
        ["dashboard"],
        ["archive"],
        ["warehouse"],
        ["alertmanager"],
        ["kafka"],
    ]


def test_without_windows_there_is_no_page_and_nothing_to_alert(tmp_path: Path) -> None:
    composition = composed(tmp_path, FEED, sandbox=False)
    assert names(composition) == [["producer-0", "producer-1"], ["kafka"]]
    assert composition.page_part is None
    assert composition.alerts_topic is None


def test_that_no_alertmanager_is_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "find_alertmanager", lambda: None)
    composition = composed(tmp_path, FEED + "  analytics: {}\n")
    assert ["alertmanager"] not in names(composition)
    assert any("no Alertmanager is installed" in note for note in composition.notes)


def test_spark_starts_beside_kafka_and_what_needs_kafka_waits(tmp_path: Path) -> None:
    composition = composed(tmp_path, FEED + "  analytics: {}\n")
    after = {part.name: part.after for group in composition.groups for part in group}
    waiting = [name for name, first in after.items() if first is composition.kafka]
    assert waiting == ["producer-0", "producer-1", "monitor", "dashboard"]
    assert after["panes-0"] is None


def test_what_is_stored_waits_for_what_is_seen_and_is_kept_with_the_tape(tmp_path: Path) -> None:
    composition = composed(tmp_path, FEED + "  analytics: {}\n  warehouse: {}\n", sandbox=False)
    after = {part.name: part.after for group in composition.groups for part in group}
    assert after["archive"] is not None
    assert after["archive"].name == "panes-0"
    assert after["warehouse"] is composition.kafka
    assert composition.warehouse == tmp_path / "kafka" / "warehouse" / "test.duckdb"
    assert (tmp_path / "kafka" / "warehouse" / "checkpoints" / "test").is_dir()


def test_no_two_parts_share_a_port_and_where_the_data_and_logs_are_is_said(tmp_path: Path) -> None:
    composition = composed(tmp_path, FEED + "  analytics: {}\n", sandbox=False)
    probes = [part.probe for group in composition.groups for part in group if part.probe]
    assert len(set(probes)) == len(probes) == 5
    assert composition.page_url == "http://127.0.0.1:8080"
    said = " ".join([composition.title, *composition.notes])
    for words in ("Coinbase", f"kept in {tmp_path / 'kafka'}", f"logs are in {tmp_path / 'logs'}", "fulltape audit"):
        assert words in said
