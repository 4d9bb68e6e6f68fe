"""A feed's Kafka settings come from the feed, the environment and files, and every fault in them is said clearly."""

import socket
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fulltape.errors import ConfigurationError, KafkaUnavailableError
from fulltape.feed.model import CryptoFeed
from fulltape.kafka import (
    ClientConfiguration,
    KafkaSettings,
    client_configuration,
    kafka_settings,
    probe_broker,
    topic_specs,
    unavailable,
)

STRIMZI = {"strimziCluster": {"name": "feeds"}}
SCRAM = {"type": "scram-sha-512", "secretRef": {"name": "user"}}
PASSWORD = "hunter2-and-more"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


def feed(kafka: dict[str, Any], channels: tuple[str, ...] = ("matches",)) -> CryptoFeed:
    """Return a small feed on this Kafka."""
    return CryptoFeed.model_validate(
        {
            "apiVersion": "fulltape.dev/v1alpha1",
            "kind": "CryptoFeed",
            "metadata": {"name": "majors", "namespace": "markets"},
            "spec": {"products": ["BTC-USD"], "channels": list(channels), "kafka": kafka},
        }
    )


def key_pem(key: ec.EllipticCurvePrivateKey, password: bytes | None = None) -> bytes:
    """Return a private key as PEM."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def certificate_pem(key: ec.EllipticCurvePrivateKey, begins: datetime = NOW - DAY, ends: datetime = NOW + DAY) -> bytes:
    """Return a self-signed certificate as PEM."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(begins).not_valid_after(ends)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder laid out as a cluster mounts the Secrets of a KafkaUser and of the cluster's CA."""
    key = ec.generate_private_key(ec.SECP256R1())
    for name, content in {
        "user/user.crt": certificate_pem(key),
        "user/user.key": key_pem(key),
        "user/password": PASSWORD.encode(),
        "user/sasl.jaas.config": (
            f'org.apache.kafka.common.security.scram.ScramLoginModule required username="al\\"ice" '
            f'password="{PASSWORD}";'
        ).encode(),
        "ca/ca.crt": certificate_pem(key),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
    return tmp_path


def configured(kafka: dict[str, Any], folder: Path) -> ClientConfiguration:
    """Return the configuration of clients of a feed on this Kafka, with credentials in this folder."""
    return client_configuration(kafka_settings(feed(kafka), {"FULLTAPE_KAFKA_CREDENTIALS": str(folder)}))


def test_a_strimzi_cluster_is_reached_at_its_bootstrap_service_in_the_feeds_namespace() -> None:
    assert kafka_settings(feed(STRIMZI), {}) == KafkaSettings(
        bootstrap_servers="feeds-kafka-bootstrap.markets.svc:9093",
        authentication="none",
        encrypted=True,
        user_folder=Path("/etc/fulltape/kafka/user"),
        ca_file=Path("/etc/fulltape/kafka/ca/ca.crt"),
    )


def test_a_strimzi_cluster_may_be_in_another_namespace() -> None:
    settings = kafka_settings(feed({"strimziCluster": {"name": "feeds", "namespace": "kafka"}}), {})
    assert settings.bootstrap_servers == "feeds-kafka-bootstrap.kafka.svc:9093"


def test_the_environments_brokers_are_reached_plainly_as_an_embedded_broker_is() -> None:
    settings = kafka_settings(
        feed({**STRIMZI, "authentication": {"type": "tls"}}), {"FULLTAPE_BOOTSTRAP_SERVERS": "127.0.0.1:9092"}
    )
    assert client_configuration(settings) == {"bootstrap.servers": "127.0.0.1:9092"}


def test_the_environments_brokers_keep_the_feeds_authentication_where_credentials_are_given(folder: Path) -> None:
    environment = {"FULLTAPE_BOOTSTRAP_SERVERS": "localhost:9094", "FULLTAPE_KAFKA_CREDENTIALS": str(folder)}
    configuration = client_configuration(
        kafka_settings(feed({**STRIMZI, "authentication": {"type": "tls"}}), environment)
    )
    assert configuration["bootstrap.servers"] == "localhost:9094"
    assert configuration["security.protocol"] == "SSL"


def test_plain_brokers_need_no_more_than_their_addresses(folder: Path) -> None:
    assert configured({"bootstrapServers": "b-1:9092,b-2:9092"}, folder) == {"bootstrap.servers": "b-1:9092,b-2:9092"}


def test_public_authorities_are_trusted_unless_a_ca_is_named(folder: Path) -> None:
    public = configured({"bootstrapServers": "b:9094", "tls": {}}, folder)
    assert public == {"bootstrap.servers": "b:9094", "security.protocol": "SSL"}
    private = configured({"bootstrapServers": "b:9094", "tls": {"caSecretRef": {"name": "ca"}}}, folder)
    assert private == {**public, "ssl.ca.location": str(folder / "ca" / "ca.crt")}


def test_a_client_certificate_is_given_by_its_files(folder: Path) -> None:
    assert configured({**STRIMZI, "authentication": {"type": "tls"}}, folder) == {
        "bootstrap.servers": "feeds-kafka-bootstrap.markets.svc:9093",
        "security.protocol": "SSL",
        "ssl.ca.location": str(folder / "ca" / "ca.crt"),
        "ssl.certificate.location": str(folder / "user" / "user.crt"),
        "ssl.key.location": str(folder / "user" / "user.key"),
    }


def test_a_scram_user_is_read_from_a_kafka_users_secret(folder: Path) -> None:
    configuration = configured({"bootstrapServers": "b:9096", "authentication": SCRAM}, folder)
    assert configuration == {
        "bootstrap.servers": "b:9096",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": 'al"ice',
        "sasl.password": PASSWORD,
    }


def test_a_scram_user_is_read_from_an_msk_secret(folder: Path) -> None:
    (folder / "user" / "sasl.jaas.config").unlink()
    (folder / "user" / "username").write_text("bob\n")
    assert configured({"bootstrapServers": "b:9096", "authentication": SCRAM}, folder)["sasl.username"] == "bob"


def test_the_password_is_in_no_repr(folder: Path) -> None:
    configuration = configured({"bootstrapServers": "b:9096", "authentication": SCRAM}, folder)
    assert PASSWORD not in f"{configuration} {configuration!r} {configuration.source}"


KEY = ec.generate_private_key(ec.SECP256R1())


@pytest.mark.parametrize(
    ("kind", "name", "content", "said"),
    [
        ("tls", "ca/ca.crt", None, "can't be read: No such file or directory; mount the Secret there, or set "),
        ("tls", "user/user.crt", None, "can't be read: No such file or directory; mount the Secret there, or set "),
        ("tls", "user/user.key", None, "can't be read: No such file or directory; mount the Secret there, or set "),
        ("tls", "ca/ca.crt", b"no PEM", "holds no PEM certificate; mount the right Secret there"),
        ("tls", "user/user.crt", b"", "holds no PEM certificate; mount the right Secret there"),
        ("tls", "user/user.key", b"no PEM", "holds no PEM private key; mount the right Secret there"),
        ("tls", "user/user.key", key_pem(KEY, b"pw"), "is encrypted; give the key without a password"),
        ("tls", "user/user.key", key_pem(KEY), "is not the key of "),
        ("tls", "user/user.crt", certificate_pem(KEY, NOW - 9 * DAY, NOW - DAY), "expired on "),
        ("tls", "user/user.crt", certificate_pem(KEY, NOW + DAY, NOW + 9 * DAY), "is valid only from "),
        ("tls", "ca/ca.crt", certificate_pem(KEY, NOW - 9 * DAY, NOW - DAY), "expired on "),
        ("scram-sha-512", "user/password", None, "can't be read: No such file or directory; mount the Secret there"),
        ("scram-sha-512", "user/password", b"\n", "is empty; write the value into it"),
        ("scram-sha-512", "user/password", b"hunter2-and-more\xff", "is not UTF-8 text; write the value alone into it"),
        ("scram-sha-512", "user/sasl.jaas.config", b'password="hunter2-and-more"', 'holds no username="..."; mount '),
    ],
)
def test_a_fault_in_a_credential_file_is_said_with_its_path_and_the_mend_and_no_secret(
    folder: Path, kind: str, name: str, content: bytes | None, said: str
) -> None:
    path = folder / name
    path.unlink() if content is None else path.write_bytes(content)
    with pytest.raises(ConfigurationError) as caught:
        configured({**STRIMZI, "authentication": {"type": kind}}, folder)
    assert str(caught.value).startswith(f"{path}: {said}")
    assert PASSWORD not in str(caught.value)


def test_a_ca_bundle_may_still_hold_the_expired_one_after_a_renewal(folder: Path) -> None:
    expired = certificate_pem(KEY, NOW - 9 * DAY, NOW - DAY)
    (folder / "ca" / "ca.crt").write_bytes(expired + certificate_pem(KEY))
    assert configured(STRIMZI, folder)["ssl.ca.location"] == str(folder / "ca" / "ca.crt")


def test_the_topics_of_a_feed_carry_its_retention_and_survive_one_broker() -> None:
    kafka = {**STRIMZI, "topics": {"partitions": 12, "replicas": 3, "retention": "2h"}}
    trades, ticker, rejected, cursors = topic_specs(feed(kafka, ("matches", "ticker")))
    assert [spec.name for spec in (trades, ticker, rejected, cursors)] == [
        "majors.trades",
        "majors.ticker",
        "majors.rejected",
        "majors.cursors",
    ]
    assert [spec.partitions for spec in (trades, ticker, rejected, cursors)] == [12, 12, 1, 1]
    assert {spec.replicas for spec in (trades, ticker, rejected, cursors)} == {3}
    assert trades.configuration == {
        "min.insync.replicas": "2",
        "cleanup.policy": "delete",
        "retention.ms": "7200000",
    }
    assert rejected.configuration["retention.ms"] == "7200000"
    assert cursors.configuration["cleanup.policy"] == "compact"


def test_a_single_broker_gets_one_replica_and_no_ticker_topic_is_made_for_nothing() -> None:
    specs = topic_specs(feed(STRIMZI), replicas=1)
    assert "majors.ticker" not in {spec.name for spec in specs}
    assert {(spec.replicas, spec.configuration["min.insync.replicas"]) for spec in specs} == {(1, "1")}


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Return a port that refuses connections: bound, so that nobody else takes it, and not listened on."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield bound.getsockname()[1]


def test_a_broker_that_is_not_there_is_said_with_its_address_and_the_reason(closed_port: int) -> None:
    with pytest.raises(KafkaUnavailableError) as caught:
        probe_broker(ClientConfiguration({"bootstrap.servers": f"127.0.0.1:{closed_port}"}), timeout_seconds=0.3)
    assert f"no Kafka broker answered at 127.0.0.1:{closed_port} within 0.3 s" in str(caught.value)
    assert "Connection refused" in str(caught.value)


def test_a_configuration_that_the_client_can_not_use_is_said() -> None:
    with pytest.raises(ConfigurationError, match=r"Kafka's client can't use its configuration: .*client certificate x"):
        probe_broker(
            ClientConfiguration(
                {"bootstrap.servers": "127.0.0.1:1", "security.protocol": "SSL", "ssl.ca.location": "/absent"},
                "client certificate x",
            ),
            timeout_seconds=0.1,
        )


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (KafkaError._AUTHENTICATION, "Kafka at b:1 refused the credentials (password in /x): "),
        (KafkaError.SASL_AUTHENTICATION_FAILED, "Kafka at b:1 refused the credentials (password in /x): "),
        (KafkaError._SSL, "TLS with Kafka at b:1 failed: "),
        (KafkaError._RESOLVE, "no Kafka broker answered at b:1 within 5 s: "),
    ],
)
def test_each_reason_for_no_connection_has_its_own_words(code: int, said: str) -> None:
    configuration = ClientConfiguration({"bootstrap.servers": "b:1", "sasl.password": PASSWORD}, "password in /x")
    text = str(unavailable(KafkaError(code), configuration, 5))
    assert text.startswith(said)
    assert PASSWORD not in text
