"""What a user gets wrong about the producer is said in a line; what the exchange gets wrong is counted and kept."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from fulltape.bench.stage import ProducerProgram, wait_until
from fulltape.kafka import BOOTSTRAP_VARIABLE, CREDENTIALS_VARIABLE
from fulltape.local.kafka import EmbeddedKafka, free_port
from fulltape.messages import Rejected
from tests.integration.tape import Stage

pytestmark = pytest.mark.integration


@pytest.fixture
def stage(kafka: EmbeddedKafka, tmp_path: Path, topic_prefix: str) -> Iterator[Stage]:
    set_up = Stage(kafka, tmp_path, topic_prefix)
    yield set_up
    set_up.close()


def ended(producer: ProducerProgram) -> tuple[int, str]:
    return producer.wait(60), producer.tail()


def test_an_unknown_product_is_named_with_what_may_have_been_meant(stage: Stage) -> None:
    code, said = ended(stage.producer(stage.feed(products=["BTC-USD", "ETH-USS"], start={}), stage.sandbox()))
    assert code == 1
    assert "the exchange does not know ETH-USS (did you mean ETH-USD?); mend spec.products" in said


def test_no_broker_is_said_with_the_address_that_was_tried(stage: Stage) -> None:
    port = free_port()
    producer = ProducerProgram(stage.folder, stage.feed(), stage.sandbox(), f"127.0.0.1:{port}")
    code, said = ended(producer)
    assert code == 1
    assert f"127.0.0.1:{port}" in said
    assert "Traceback" not in said


def test_a_port_in_use_is_said(stage: Stage) -> None:
    sandbox = stage.sandbox()
    first = stage.producer(stage.feed(), sandbox)
    first.wait_ready()
    second = ProducerProgram(stage.folder, stage.feed(), sandbox, stage.broker.bootstrap_servers, port=first.port)
    code, said = ended(second)
    assert code == 2
    assert f"can't serve metrics on 127.0.0.1:{first.port}" in said


def test_a_shard_that_the_feed_has_not_is_refused(stage: Stage) -> None:
    code, said = ended(stage.producer(stage.feed(), stage.sandbox(), shard=3))
    assert code == 2
    assert "there is no shard 3: spec.producer.replicas is 1" in said


def test_foreign_messages_on_the_topic_stop_nobody_and_break_the_audit(stage: Stage) -> None:
    sandbox = stage.sandbox(rate=500, seconds=4)
    feed = stage.feed()
    producer = stage.producer(feed, sandbox)
    producer.wait_ready()
    other = Producer({"bootstrap.servers": stage.broker.bootstrap_servers})
    other.produce(feed.topics.trades, b"hello", "BTC-USD")
    other.produce(feed.topics.trades, None, "BTC-USD")
    assert other.flush(10) == 0
    producer.kill()
    stage.producer(feed, sandbox)
    audit = stage.proof(sandbox)
    assert audit.foreign == 2
    assert not audit.kept
    assert all(product.kept for product in audit.products)


def test_what_the_exchange_garbled_is_on_the_rejected_topic_with_reason_and_bytes(stage: Stage) -> None:
    sandbox = stage.sandbox("--fault", "garbage,next=3", rate=500, seconds=3)
    feed = stage.feed()
    producer = stage.producer(feed, sandbox)
    assert stage.proof(sandbox).kept
    wait_until(lambda: producer.metric("fulltape_rejected_total") >= 3, "three messages are rejected")
    assert producer.terminate() == 0
    consumer = Consumer({"bootstrap.servers": stage.broker.bootstrap_servers, "group.id": stage.name})
    partitions = consumer.list_topics(feed.topics.rejected, timeout=10).topics[feed.topics.rejected].partitions
    consumer.assign([TopicPartition(feed.topics.rejected, number, 0) for number in partitions])
    rejected: list[Rejected] = []

    def three() -> bool:
        message = consumer.poll(0.1)
        if message is not None and message.error() is None:
            rejected.append(msgspec.json.decode(message.value() or b"", type=Rejected))
        return len(rejected) == 3

    wait_until(three, "the three are on the topic")
    consumer.close()
    assert all(message.reason and message.raw and message.source == "stream" for message in rejected)


def audit_with(
    broker: EmbeddedKafka, feed_file: Path, credentials: Path, topic: str
) -> subprocess.CompletedProcess[str]:
    environment = {BOOTSTRAP_VARIABLE: broker.bootstrap_servers, CREDENTIALS_VARIABLE: str(credentials)}
    command = [sys.executable, "-m", "fulltape.cli", "audit", topic, "--feed", str(feed_file)]
    return subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, check=False, timeout=90
    )


def test_scram_over_tls_opens_the_tape_to_the_right_password_alone(tmp_path: Path, topic_prefix: str) -> None:
    with EmbeddedKafka(security="scram-tls") as broker:
        stage = Stage(broker, tmp_path, topic_prefix)
        feed = stage.feed(
            authentication={"type": "scram-sha-512", "secretRef": {"name": "user"}},
            tls={"caSecretRef": {"name": "ca"}},
        )
        sandbox = stage.sandbox(rate=500, seconds=3)
        environment = {CREDENTIALS_VARIABLE: str(broker.credentials)}
        producer = ProducerProgram(tmp_path, feed, sandbox, broker.bootstrap_servers, environment=environment)
        wait_until(lambda: bool(sandbox.state()["ended"]), "the exchange has said all")
        wait_until(lambda: producer.metric("fulltape_tape_records_total") >= 1500, "all is on the tape")
        assert producer.terminate() == 0
        right = audit_with(broker, producer.feed_file, broker.credentials, feed.topics.trades)
        assert right.returncode == 0, right.stderr
        wrong_folder = tmp_path / "wrong"
        (wrong_folder / "user").mkdir(parents=True)
        (wrong_folder / "ca").symlink_to(broker.credentials / "ca")
        for file in (broker.credentials / "user").iterdir():
            (wrong_folder / "user" / file.name).write_bytes(file.read_bytes())
        (wrong_folder / "user" / "password").write_text("not the password")
        wrong = ProducerProgram(
            tmp_path, feed, sandbox, broker.bootstrap_servers, environment={CREDENTIALS_VARIABLE: str(wrong_folder)}
        )
        code, said = ended(wrong)
        assert code == 1
        assert str(wrong_folder) in said
        assert "not the password" not in wrong.output.read_text()
        stage.end_programs()
