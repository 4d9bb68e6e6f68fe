"""The embedded broker keeps what it acknowledged, leaves nothing behind, and says clearly why it can't start."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from fulltape.errors import ConfigurationError
from fulltape.kafka import ClientConfiguration, TopicSpec, ensure_topics
from fulltape.local.kafka import EmbeddedKafka, server_properties
from fulltape.local.security import USER

pytestmark = pytest.mark.integration

TOPIC = "numbers"
LOCAL_KAFKA = [sys.executable, "-c", "from fulltape.local.cli import local; local()", "kafka"]


def quiet(properties: dict[str, str | int], errors: list[KafkaError] | None = None) -> dict[str, Any]:
    """Add to a client's configuration that errors go to a list, not to stderr."""
    return {**properties, "error_cb": (errors if errors is not None else []).append, "log_level": 2}


def create_topic(servers: str, topic: str = TOPIC) -> None:
    ensure_topics(
        ClientConfiguration({"bootstrap.servers": servers}), [TopicSpec(topic, 1, 1, {"cleanup.policy": "delete"})]
    )


def produce_in_transactions(servers: str, numbers: range, topic: str = TOPIC) -> None:
    """Write the numbers, each in a transaction that is acknowledged."""
    producer = Producer(quiet({"bootstrap.servers": servers, "transactional.id": topic}))
    producer.init_transactions(30)
    for number in numbers:
        producer.begin_transaction()
        producer.produce(topic, str(number).encode())
        producer.commit_transaction(30)


def read_all(servers: str, topic: str = TOPIC) -> list[int]:
    """Read a topic's committed numbers up to its present end."""
    consumer = Consumer(
        quiet({"bootstrap.servers": servers, "group.id": "unused", "isolation.level": "read_committed"})
        | {"enable.auto.commit": False, "enable.partition.eof": True, "auto.offset.reset": "earliest"}
    )
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        numbers = []
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            message = consumer.poll(0.5)
            if message is None:
                continue
            error = message.error()
            if error is None:
                numbers.append(int(message.value() or b""))
            elif error.code() == KafkaError._PARTITION_EOF:
                return numbers
        pytest.fail(f"{topic} was not read to its end in 30 s")
    finally:
        consumer.close()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, f"not within 30 s: {what}"
        time.sleep(0.02)


def wait_for_numbers(servers: str, count: int) -> None:
    """Wait until so many numbers, each once and in order, are all that readers of committed data see."""
    wait_for(lambda: read_all(servers) == list(range(count)), f"{count} acknowledged numbers are visible")


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedKafka]:
    """Give a broker of this module's own, with a data folder that stays."""
    with EmbeddedKafka(tmp_path_factory.mktemp("kept") / "kafka") as broker:
        create_topic(broker.bootstrap_servers)
        yield broker


@pytest.fixture
def command() -> Iterator[Callable[..., tuple[subprocess.Popen[str], dict[str, object]]]]:
    """Start `fulltape local kafka --json` and return the process and what it said when ready."""
    processes = []

    def start(*arguments: str | Path) -> tuple[subprocess.Popen[str], dict[str, object]]:
        process = subprocess.Popen(
            [*LOCAL_KAFKA, "--json", *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    yield start
    for process in processes:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_what_is_produced_is_read_back(kafka: EmbeddedKafka, topic_prefix: str) -> None:
    create_topic(kafka.bootstrap_servers, topic_prefix)
    produce_in_transactions(kafka.bootstrap_servers, range(20), topic_prefix)
    assert read_all(kafka.bootstrap_servers, topic_prefix) == list(range(20))


def test_a_topic_that_nobody_made_is_not_made_by_a_typing_error(kafka: EmbeddedKafka, topic_prefix: str) -> None:
    producer = Producer(quiet({"bootstrap.servers": kafka.bootstrap_servers, "topic.metadata.propagation.max.ms": 500}))
    errors = []
    producer.produce(topic_prefix, b"1", on_delivery=lambda error, _: errors.append(error))
    assert producer.flush(30) == 0
    assert [error and error.code() for error in errors] == [KafkaError.UNKNOWN_TOPIC_OR_PART]


def test_acknowledged_transactions_survive_kill_9_and_an_orderly_restart(kept: EmbeddedKafka) -> None:
    servers = kept.bootstrap_servers
    for end in (10, 20, 30):  # a kill often comes between the acknowledgement of a commit and its marker in the topic
        produce_in_transactions(servers, range(end - 10, end))
        kept.kill()
        assert kept.pid is None
        kept.restart()
        wait_for_numbers(servers, end)
    kept.restart()
    assert kept.bootstrap_servers == servers
    assert read_all(servers) == list(range(30))


def test_a_broker_that_has_run_for_long_is_fenced_after_its_death_like_a_new_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its registration is then in a snapshot of the metadata, which Kafka otherwise writes after an hour."""

    def with_snapshots(*arguments: Any, **options: Any) -> dict[str, str | int]:
        return {**server_properties(*arguments, **options), "metadata.log.max.snapshot.interval.ms": 500}

    monkeypatch.setattr("fulltape.local.kafka.server_properties", with_snapshots)
    # A broker whose predecessor is not fenced waits for the end of its session, which takes longer than this start may.
    with EmbeddedKafka(start_seconds=40) as broker:
        metadata = broker.data / "log" / "__cluster_metadata-0"
        create_topic(broker.bootstrap_servers)
        wait_for(lambda: len(list(metadata.glob("*.checkpoint"))) > 1, "snapshots of the metadata")
        produce_in_transactions(broker.bootstrap_servers, range(10))
        broker.kill()
        broker.restart()
        wait_for_numbers(broker.bootstrap_servers, 10)


def test_two_brokers_run_side_by_side_and_share_nothing(kafka: EmbeddedKafka, kept: EmbeddedKafka) -> None:
    assert kafka.pid != kept.pid
    topics = AdminClient(quiet({"bootstrap.servers": kafka.bootstrap_servers})).list_topics(timeout=10).topics
    assert TOPIC not in topics


def test_a_data_folder_in_use_is_refused(kept: EmbeddedKafka) -> None:
    with pytest.raises(ConfigurationError, match=f"another embedded Kafka uses {kept.data}; stop it"):
        EmbeddedKafka(kept.data).start()
    assert kept.pid is not None


def test_a_port_in_use_is_refused_and_leaves_nothing_behind(kafka: EmbeddedKafka, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        broker = EmbeddedKafka(tmp_path / "data", port=port)
        with pytest.raises(ConfigurationError, match=f"port {port} is in use"):
            broker.start()
    assert broker.pid is None
    assert [path.name for path in broker.data.iterdir()] == ["lock"]


def test_a_port_taken_while_the_broker_was_down_is_refused(kept: EmbeddedKafka) -> None:
    host, port = kept.bootstrap_servers.split(":")
    kept.kill()
    with socket.create_server((host, int(port))), pytest.raises(ConfigurationError, match=f"port {port} is in use"):
        kept.restart()
    kept.restart()
    assert read_all(kept.bootstrap_servers)


def test_the_command_throws_ephemeral_data_away_on_sigterm(
    command: Callable[..., tuple[subprocess.Popen[str], dict[str, object]]],
) -> None:
    process, ready = command("--port", "0", "--ephemeral")
    create_topic(str(ready["bootstrap_servers"]))
    pid, data = int(str(ready["pid"])), Path(str(ready["data"]))
    assert runs(pid)
    assert data.is_dir()
    process.terminate()
    assert process.wait(30) == 0
    assert not runs(pid)
    assert not data.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a child with its parent")
def test_a_killed_command_leaves_no_broker_and_its_data_can_be_used_again(
    command: Callable[..., tuple[subprocess.Popen[str], dict[str, object]]], tmp_path: Path
) -> None:
    process, ready = command("--port", "0", "--data", tmp_path / "data")
    create_topic(str(ready["bootstrap_servers"]))
    produce_in_transactions(str(ready["bootstrap_servers"]), range(5))
    process.kill()
    wait_for(lambda: not runs(int(str(ready["pid"]))), "the broker ends with its parent")
    with EmbeddedKafka(tmp_path / "data") as broker:
        wait_for_numbers(broker.bootstrap_servers, 5)


def test_the_command_ends_with_an_error_where_its_broker_dies(
    command: Callable[..., tuple[subprocess.Popen[str], dict[str, object]]],
) -> None:
    process, ready = command("--port", "0", "--ephemeral")
    os.kill(int(str(ready["pid"])), signal.SIGKILL)
    assert process.wait(30) != 0
    assert not Path(str(ready["data"])).exists()


def test_a_secured_broker_lets_in_the_user_with_the_password_and_nobody_else() -> None:
    with EmbeddedKafka(security="scram-tls") as broker:
        right: dict[str, str | int] = {
            "bootstrap.servers": broker.bootstrap_servers,
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": USER,
            "sasl.password": (broker.credentials / "user" / "password").read_text(),
            "ssl.ca.location": str(broker.credentials / "ca" / "ca.crt"),
        }
        assert AdminClient(quiet(right)).list_topics(timeout=15).brokers
        assert_refused({**right, "sasl.password": "wrong"}, KafkaError._AUTHENTICATION)
        assert_refused({**right, "sasl.username": "nobody"}, KafkaError._AUTHENTICATION)
        without_ca = {key: value for key, value in right.items() if key != "ssl.ca.location"}
        assert_refused(without_ca, KafkaError._SSL)


def test_a_broker_with_client_certificates_lets_in_their_owner_and_nobody_else() -> None:
    with EmbeddedKafka(security="tls") as broker:
        user = broker.credentials / "user"
        anonymous: dict[str, str | int] = {
            "bootstrap.servers": broker.bootstrap_servers,
            "security.protocol": "SSL",
            "ssl.ca.location": str(broker.credentials / "ca" / "ca.crt"),
        }
        right = {
            **anonymous,
            "ssl.certificate.location": str(user / "user.crt"),
            "ssl.key.location": str(user / "user.key"),
        }
        assert AdminClient(quiet(right)).list_topics(timeout=15).brokers
        # The broker's alert and its closing of the connection race: librdkafka reports whichever it sees.
        assert_refused(anonymous, KafkaError._SSL, KafkaError._TRANSPORT)


def assert_refused(properties: dict[str, str | int], *codes: int) -> None:
    """Check that a client is told one of the codes, and is not let in meanwhile."""
    errors: list[KafkaError] = []
    client = AdminClient(quiet(properties, errors))
    deadline = time.monotonic() + 30
    while not any(error.code() in codes for error in errors):
        assert time.monotonic() < deadline, f"not refused with {codes} within 30 s, but: {errors}"
        with pytest.raises(KafkaException):
            client.list_topics(timeout=0.25)
        client.poll(0)
