"""What is wrong is said before anything starts, with exit code 2; what a run leaves behind is its logs alone."""

import socket
import tempfile
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.local import java, run
from fulltape.local.compose import log_folder
from fulltape.local.kafka import free_port
from fulltape.sandbox.config import Scenario

FEED = """\
apiVersion: fulltape.dev/v1alpha1
kind: CryptoFeed
metadata: {name: test}
spec:
  products: [BTC-USD]
  kafka: {bootstrapServers: "127.0.0.1:9092"}
  analytics: {}
"""


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep every folder that a run may make in the test's own."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))


def refusal(tmp_path: Path, feed: str = FEED, *options: str) -> FulltapeError:
    """Run a feed that can't run, and return why; nothing may have been started or made."""
    (tmp_path / "feed.yaml").write_text(feed)
    command = [str(tmp_path / "feed.yaml"), "--exchange", "sandbox", *options]
    problem = CliRunner().invoke(run.run_command, command).exception
    assert isinstance(problem, FulltapeError), problem
    assert problem.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["feed.yaml", "tmp"]
    assert not list((tmp_path / "tmp").iterdir())
    return problem


def test_a_typo_in_the_feed_is_said_with_its_line_and_field(tmp_path: Path) -> None:
    text = str(refusal(tmp_path, FEED.replace("products", "product")))
    assert "feed.yaml:5" in text
    assert "spec.product" in text


def test_a_feed_that_is_not_there_is_said(tmp_path: Path) -> None:
    problem = CliRunner().invoke(run.run_command, [str(tmp_path / "none.yaml")]).exception
    assert isinstance(problem, FulltapeError)
    assert "none.yaml" in str(problem)


def test_a_suspended_feed_is_said(tmp_path: Path) -> None:
    assert "set spec.suspend to false" in str(refusal(tmp_path, FEED + "  suspend: true\n"))


def test_the_pages_port_in_use_is_said_with_the_option_that_mends_it(tmp_path: Path) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        text = str(refusal(tmp_path, FEED, "--port", str(port)))
    assert f"port {port}" in text
    assert "--port" in text


def test_no_java_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_INSTALLED", ())
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    assert "Java 17 or later; found none" in str(refusal(tmp_path))


def test_too_little_memory_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "available_memory_mib", lambda: 1000)
    assert "1,000 MiB of memory are available" in str(refusal(tmp_path))


def test_pyspark_is_needed_only_for_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(names: object) -> None:
        raise ConfigurationError("pyspark is missing")

    monkeypatch.setattr(run, "check_packages", missing)
    assert "pyspark is missing" in str(refusal(tmp_path))
    monkeypatch.setattr(run, "available_memory_mib", lambda: 1)
    assert "memory" in str(refusal(tmp_path, FEED.replace("  analytics: {}\n", "")))


def test_a_scenario_of_coinbase_is_refused(tmp_path: Path) -> None:
    (tmp_path / "feed.yaml").write_text(FEED)
    command = [str(tmp_path / "feed.yaml"), "--exchange", "coinbase", "--scenario", "spike"]
    result = CliRunner().invoke(run.run_command, command)
    assert result.exit_code == 2
    assert "give one of them" in result.output


def test_every_scenario_of_the_sandbox_is_offered() -> None:
    (option,) = [option for option in run.run_command.params if option.name == "scenario"]
    assert tuple(option.type.choices) == get_args(Scenario)  # type: ignore[attr-defined]


def test_logs_stay_until_the_next_run_of_the_feed(tmp_path: Path) -> None:
    with log_folder("majors") as first:
        (first / "monitor.log").write_text("x")
    assert (first / "monitor.log").exists()
    assert first == tmp_path / "state" / "fulltape" / "majors"
    with log_folder("majors") as again:
        assert again == first
        assert not (first / "monitor.log").exists()


def test_runs_of_one_feed_at_the_same_time_have_their_own_logs() -> None:
    with log_folder("majors") as first, log_folder("majors") as second:
        (first / "monitor.log").write_text("x")
        assert second != first
        with log_folder("majors") as third:
            assert third not in {first, second}
        assert (first / "monitor.log").exists()
