"""How an Alertmanager is found and configured, and what is said where it can't be had."""

import socket
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape.local.alertmanager import EmbeddedAlertmanager, configuration, find_alertmanager


def install(folder: Path, name: str, script: str = "") -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_it_is_found_by_debians_name_and_by_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_alertmanager() is None
    own = install(tmp_path, "alertmanager")
    assert find_alertmanager() == own
    debians = install(tmp_path, "prometheus-alertmanager")
    assert find_alertmanager() == debians


def test_where_none_is_installed_the_mend_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigurationError, match="no Alertmanager is installed; install it"):
        EmbeddedAlertmanager().start()


def test_a_port_in_use_is_said_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, "alertmanager", f"touch {tmp_path}/started")
    monkeypatch.setenv("PATH", str(tmp_path))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} is in use"):
            EmbeddedAlertmanager(port=port).start()
    assert not (tmp_path / "started").exists()


def test_one_that_ends_at_once_shows_its_log_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path, "alertmanager", "echo something is amiss; exit 1")
    monkeypatch.setenv("PATH", str(tmp_path))
    server = EmbeddedAlertmanager()
    with pytest.raises(ConfigurationError, match=r"did not become ready; the end of its log:\nsomething is amiss"):
        server.start()
    assert server.pid is None
    with pytest.raises(RuntimeError, match="only while it is started"):
        _ = server.data
    server.stop()  # nothing to stop: no error


def test_every_alert_is_told_by_itself_and_at_once() -> None:
    settings = configuration("http://127.0.0.1:1/")
    assert settings["route"]["group_by"] == ["..."]
    assert settings["route"]["group_wait"] == "0s"
    (receiver,) = settings["receivers"]
    assert receiver["webhook_configs"] == [{"url": "http://127.0.0.1:1/", "send_resolved": True}]


def test_without_a_webhook_alerts_are_kept_and_nobody_is_told() -> None:
    assert configuration(None)["receivers"] == [{"name": "fulltape"}]
