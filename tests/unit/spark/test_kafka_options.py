"""Java's clients get what opens the feed's Kafka, and no option holds a secret."""

from pathlib import Path

import pytest

from fulltape.errors import ConfigurationError
from fulltape.kafka import KafkaSettings
from fulltape.local.security import USER, write_credentials
from fulltape_spark.kafka_options import java_client_options


@pytest.fixture
def credentials(tmp_path: Path) -> Path:
    folder = tmp_path / "credentials"
    write_credentials(folder, tmp_path / "broker.pem")
    return folder


def settings(folder: Path, authentication: str, *, own_ca: bool = True) -> KafkaSettings:
    return KafkaSettings(
        "broker:9093",
        authentication,  # type: ignore[arg-type]
        encrypted=authentication != "none",
        user_folder=folder / "user",
        ca_file=folder / "ca" / "ca.crt" if own_ca else None,
    )


def secrets(folder: Path) -> list[str]:
    return [
        (folder / "user" / "password").read_text(),
        "PRIVATE KEY",
        (folder / "user" / "user.key").read_text().splitlines()[1],
    ]


def test_a_plain_broker_needs_its_address_alone(tmp_path: Path) -> None:
    assert java_client_options(settings(tmp_path, "none")) == {"kafka.bootstrap.servers": "broker:9093"}


def test_a_client_certificate_is_named_by_its_files(credentials: Path) -> None:
    options = java_client_options(settings(credentials, "tls"))
    assert options["kafka.security.protocol"] == "SSL"
    assert options["kafka.ssl.truststore.type"] == options["kafka.ssl.keystore.type"] == "PEM"
    assert options["kafka.ssl.truststore.location"] == str(credentials / "ca" / "ca.crt")
    assert options["kafka.ssl.keystore.key"] == f"${{directory:{credentials / 'user'}:user.key}}"
    assert options["kafka.ssl.keystore.certificate.chain"] == f"${{directory:{credentials / 'user'}:user.crt}}"


def test_strimzis_jaas_file_is_used_as_it_is(credentials: Path) -> None:
    options = java_client_options(settings(credentials, "scram-sha-512"))
    assert options["kafka.security.protocol"] == "SASL_SSL"
    assert options["kafka.sasl.mechanism"] == "SCRAM-SHA-512"
    assert options["kafka.sasl.jaas.config"] == f"${{directory:{credentials / 'user'}:sasl.jaas.config}}"


def test_username_and_password_become_a_jaas_configuration_that_names_the_file(credentials: Path) -> None:
    (credentials / "user" / "sasl.jaas.config").unlink()
    (credentials / "user" / "username").write_text(USER)
    login = java_client_options(settings(credentials, "scram-sha-512"))["kafka.sasl.jaas.config"]
    assert f'username="{USER}"' in login
    assert f'password="${{directory:{credentials / "user"}:password}}"' in login


@pytest.mark.parametrize("password", ['with"quote', "with\\backslash", "with line break\n"])
def test_a_password_that_java_would_misread_is_refused(credentials: Path, password: str) -> None:
    (credentials / "user" / "sasl.jaas.config").unlink()
    (credentials / "user" / "username").write_text(USER)
    (credentials / "user" / "password").write_text(password)
    with pytest.raises(ConfigurationError, match=r"user/password: holds a quote") as refusal:
        java_client_options(settings(credentials, "scram-sha-512"))
    assert password not in str(refusal.value)


def test_public_authorities_are_javas_own(credentials: Path) -> None:
    assert not [
        name for name in java_client_options(settings(credentials, "tls", own_ca=False)) if "truststore" in name
    ]


@pytest.mark.parametrize("authentication", ["tls", "scram-sha-512"])
def test_no_option_holds_a_secret(credentials: Path, authentication: str) -> None:
    written = repr(java_client_options(settings(credentials, authentication)))
    assert not [secret for secret in secrets(credentials) if secret in written]
