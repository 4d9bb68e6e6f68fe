"""What a broker is told, and which data folders it refuses."""

import json
import socket
from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape.local.jars import KAFKA_VERSION
from fulltape.local.kafka import (
    EmbeddedKafka,
    Security,
    check_folder,
    free_port,
    is_free,
    no_broker_leads,
    server_properties,
)


@pytest.mark.parametrize(
    ("security", "protocol", "client_auth"),
    [("plain", "PLAINTEXT", None), ("tls", "SSL", "required"), ("scram-tls", "SASL_SSL", "none")],
)
def test_listeners_are_on_this_machine_alone(security: Security, protocol: str, client_auth: str | None) -> None:
    settings = server_properties(Path("/data"), 9092, (9093, 9094), security)
    assert settings["listeners"] == "CLIENT://127.0.0.1:9092,INTERNAL://127.0.0.1:9093,CONTROLLER://127.0.0.1:9094"
    assert f"CLIENT:{protocol}," in str(settings["listener.security.protocol.map"])
    assert settings.get("listener.name.client.ssl.client.auth") == client_auth


def test_a_broker_that_is_advertised_listens_everywhere_but_for_what_is_its_own() -> None:
    settings = server_properties(Path("/data"), 9092, (9093, 9094), advertise="kafka.data.svc")
    assert settings["listeners"] == "CLIENT://0.0.0.0:9092,INTERNAL://127.0.0.1:9093,CONTROLLER://127.0.0.1:9094"
    assert settings["advertised.listeners"] == "CLIENT://kafka.data.svc:9092,INTERNAL://127.0.0.1:9093"


def write_marker(folder: Path, text: str) -> None:
    (folder / "format.json").write_text(text)


def marker(version: str, security: str = "plain") -> str:
    return json.dumps({"kafka_version": version, "security": security})


def test_an_empty_folder_and_one_left_by_an_interrupted_format_are_accepted(tmp_path: Path) -> None:
    check_folder(tmp_path, "plain")
    (tmp_path / "log").mkdir()
    (tmp_path / "server.properties").touch()
    check_folder(tmp_path, "plain")


@pytest.mark.parametrize("version", [KAFKA_VERSION, "4.0.0", "3.9.12"])
def test_data_of_this_version_or_an_earlier_one_is_accepted(tmp_path: Path, version: str) -> None:
    write_marker(tmp_path, marker(version))
    check_folder(tmp_path, "plain")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (marker("5.0.0"), r"was written by Kafka 5\.0\.0, and this is .* choose another"),
        (marker("4.10.0"), r"was written by Kafka 4\.10\.0"),  # 4.10 is later than 4.3
        (marker(KAFKA_VERSION, "scram-tls"), r"formatted for security 'scram-tls', not 'plain'"),
        ("{", r"format\.json is damaged"),
        ("[]", r"format\.json is damaged"),
        ('{"kafka_version": "new", "security": "plain"}', r"format\.json is damaged"),
    ],
)
def test_data_that_this_broker_can_not_read_is_refused(tmp_path: Path, text: str, says: str) -> None:
    write_marker(tmp_path, text)
    with pytest.raises(ConfigurationError, match=says):
        check_folder(tmp_path, "plain")


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.odt").write_text("mine")
    with pytest.raises(ConfigurationError, match=r"holds other things \(thesis\.odt\); choose"):
        check_folder(tmp_path, "plain")
    assert (tmp_path / "thesis.odt").read_text() == "mine"


def test_a_port_counts_as_free_until_somebody_listens() -> None:
    port = free_port()
    assert is_free(port)
    with socket.create_server(("127.0.0.1", port)):
        assert not is_free(port)
    assert is_free(port)


def test_a_broker_that_is_not_started_says_so() -> None:
    broker = EmbeddedKafka()
    assert broker.pid is None
    broker.stop()  # nothing to stop: no error
    with pytest.raises(RuntimeError, match="not started"):
        broker.restart()
    with pytest.raises(RuntimeError, match="not started"):
        broker.wait()


ACTIVE = "WARN QuorumController: [QuorumController id=1] Performing controller activation.\n"
REGISTRATION = "RegisterBrokerRecord(brokerId=1, brokerEpoch=12, rack=null, fenced=true, inControlledShutdown=false)\n"
FIRST = f"INFO ClusterControlManager: Replayed initial RegisterBrokerRecord for broker 1: {REGISTRATION}"
AGAIN = "INFO ClusterControlManager: Replayed RegisterBrokerRecord establishing a new incarnation of broker 1: "
AGAIN += REGISTRATION
SNAPSHOT = FIRST.replace("fenced=true", "fenced=false")
"""A snapshot holds what the records before it came to: a broker at work is registered as such."""
WRITTEN = "DEBUG QuorumController: Read-write operation maybeFenceStaleBroker(7) will be completed when the log reaches"
WRITTEN += " offset 18.\n"


def changed(fenced: int) -> str:
    return (
        "INFO ClusterControlManager: Replayed BrokerRegistrationChangeRecord modifying the registration for broker 1: "
        f"BrokerRegistrationChangeRecord(brokerId=1, brokerEpoch=12, fenced={fenced}, inControlledShutdown=0)\n"
    )


def committed(offset: int) -> str:
    return f"DEBUG QuorumController: Completing purgatory items up to offset {offset} and epoch 2.\n"


@pytest.mark.parametrize(
    ("log", "nobody"),
    [
        ("", False),
        (FIRST + changed(-1), False),  # still replaying
        (ACTIVE, True),  # the crash came before the first registration
        (FIRST + ACTIVE, True),
        (SNAPSHOT + ACTIVE, False),
        (FIRST + changed(-1) + changed(0) + ACTIVE, False),
        (FIRST + changed(-1) + changed(1) + AGAIN + changed(-1) + ACTIVE, False),
        (FIRST + changed(-1) + changed(1) + AGAIN + ACTIVE, True),
        (changed(1) + ACTIVE + changed(0), True),  # 0 is no change
        (SNAPSHOT + ACTIVE + committed(16) + changed(1), False),
        (SNAPSHOT + ACTIVE + changed(1) + WRITTEN, False),
        (SNAPSHOT + ACTIVE + changed(1) + WRITTEN + committed(16), False),
        (SNAPSHOT + ACTIVE + changed(1) + WRITTEN + committed(16) + committed(18), True),
        (SNAPSHOT + ACTIVE + changed(1) + WRITTEN + committed(19), True),
    ],
)
def test_a_dead_broker_leads_until_the_active_controller_has_durably_fenced_it(log: str, *, nobody: bool) -> None:
    assert no_broker_leads(log) is nobody
