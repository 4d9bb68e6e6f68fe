"""How Spark's Kafka clients, which are Java's, reach the feed's Kafka.

No secret becomes an option, where a plan or a message could show it: an option names the file, and Kafka's own client
reads that (`DirectoryConfigProvider`) when it is made. So executors need the files too, at the same place.
"""

from collections.abc import Mapping
from pathlib import Path

from fulltape.errors import ConfigurationError
from fulltape.kafka import KafkaSettings, client_configuration

_PROVIDER = "org.apache.kafka.common.config.provider.DirectoryConfigProvider"


def java_client_options(settings: KafkaSettings) -> Mapping[str, str]:
    """Return the options of Spark's Kafka source and sink that open a connection.

    Raises:
        ConfigurationError: a file is missing, unreadable, malformed or expired.

    """
    checked = client_configuration(settings)
    options = {"bootstrap.servers": settings.bootstrap_servers}
    user = settings.user_folder
    if settings.encrypted:
        options["security.protocol"] = str(checked["security.protocol"])
        if settings.ca_file is not None:
            options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(settings.ca_file)}
    if settings.authentication == "tls":
        options |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _content_of(user / "user.crt"),
            "ssl.keystore.key": _content_of(user / "user.key"),
        }
    elif settings.authentication == "scram-sha-512":
        options |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": _login(user, str(checked["sasl.username"])),
        }
    if settings.authentication != "none":
        options |= {"config.providers": "directory", "config.providers.directory.class": _PROVIDER}
    return {f"kafka.{name}": value for name, value in options.items()}


def _login(user: Path, username: str) -> str:
    """Return the JAAS configuration: the file where there is one (Strimzi), else made of username and password."""
    if (user / "sasl.jaas.config").exists():
        return _content_of(user / "sasl.jaas.config")
    password = user / "password"
    if set(password.read_text()) & set('"\\\r\n'):
        raise ConfigurationError(
            f"{password}: holds a quote, a backslash or a line break, which Java's clients can't take from it; choose "
            "another password, write it without a line break at its end, or add sasl.jaas.config"
        )
    return (
        "org.apache.kafka.common.security.scram.ScramLoginModule required "
        f'username="{username}" password="{_content_of(password)}";'
    )


def _content_of(file: Path) -> str:
    return f"${{directory:{file.parent}:{file.name}}}"
