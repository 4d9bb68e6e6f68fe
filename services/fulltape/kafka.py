"""How a feed's services reach Kafka: the client's settings, the topics that must exist, and a first word with a broker.

Credentials come from files alone, in a folder that holds ``user/`` (the Secret of `spec.kafka.authentication`) and
``ca/`` (the Secret with the brokers' CA). In a cluster it is mounted at `CREDENTIALS`; elsewhere the environment names
it. No secret appears in a message or a repr.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeVar

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its documented names, which it does not list
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from fulltape.errors import ConfigurationError, KafkaUnavailableError
from fulltape.feed.model import CryptoFeed

CREDENTIALS = Path("/etc/fulltape/kafka")
"""Where a cluster mounts the Secrets."""

CREDENTIALS_VARIABLE = "FULLTAPE_KAFKA_CREDENTIALS"
"""Environment variable that names another folder than `CREDENTIALS`."""

BOOTSTRAP_VARIABLE = "FULLTAPE_BOOTSTRAP_SERVERS"
"""Environment variable with brokers to use in place of the feed's, such as those of an embedded Kafka."""

FENCED = {KafkaError._FENCED, KafkaError.PRODUCER_FENCED, KafkaError.INVALID_PRODUCER_EPOCH}  # noqa: SLF001
"""What a transactional producer is told once another of its id has begun, or the broker gave its transaction up."""

_REFUSALS = {
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's local errors begin with an underscore
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.UNSUPPORTED_SASL_MECHANISM,
    KafkaError.ILLEGAL_SASL_STATE,
}

_PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.FENCED_LEADER_EPOCH,
    KafkaError.UNKNOWN_LEADER_EPOCH,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
}
"""What passes by itself soon after a topic was made or a broker came back."""

_POLL_SECONDS = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Where Kafka is, and where the files lie that open it."""

    bootstrap_servers: str
    authentication: Literal["none", "tls", "scram-sha-512"]
    encrypted: bool
    user_folder: Path
    """Holds user.crt and user.key (tls), or password and sasl.jaas.config or username (scram-sha-512)."""
    ca_file: Path | None
    """The CA of the brokers; None trusts the public authorities."""


class ClientConfiguration(dict[str, str | int]):
    """Properties of librdkafka as confluent-kafka takes them; its repr hides the password."""

    def __init__(self, properties: Mapping[str, str | int], source: str = "no credentials") -> None:
        super().__init__(properties)
        self.source = source
        """What the credentials were read from, for messages."""

    def __repr__(self) -> str:
        return repr({key: "(hidden)" if key == "sasl.password" else value for key, value in self.items()})


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it must be; ``configuration`` holds Kafka's topic settings by their names."""

    name: str
    partitions: int
    replicas: int
    configuration: Mapping[str, str]


def kafka_settings(feed: CryptoFeed, environment: Mapping[str, str]) -> KafkaSettings:
    """Resolve where a feed's Kafka is.

    Brokers named by the environment stand in for the feed's. They are reached without encryption and authentication,
    as an embedded broker is, unless the environment names a folder of credentials too.
    """
    kafka = feed.spec.kafka
    folder = Path(environment.get(CREDENTIALS_VARIABLE) or CREDENTIALS)
    override = environment.get(BOOTSTRAP_VARIABLE)
    if override and not environment.get(CREDENTIALS_VARIABLE):
        return KafkaSettings(override, "none", encrypted=False, user_folder=folder / "user", ca_file=None)
    if kafka.strimzi_cluster is not None:
        namespace = kafka.strimzi_cluster.namespace or feed.metadata.namespace
        servers = f"{kafka.strimzi_cluster.name}-kafka-bootstrap.{namespace}.svc:9093"
    else:
        assert kafka.bootstrap_servers is not None  # the model holds one of the two
        servers = kafka.bootstrap_servers
    own_ca = kafka.strimzi_cluster is not None or (kafka.tls is not None and kafka.tls.ca_secret_ref is not None)
    return KafkaSettings(
        bootstrap_servers=override or servers,
        authentication=kafka.authentication.type,
        encrypted=kafka.encrypted,
        user_folder=folder / "user",
        ca_file=folder / "ca" / "ca.crt" if own_ca else None,
    )


def client_configuration(settings: KafkaSettings) -> ClientConfiguration:
    """Read the credentials and return what every Kafka client of the feed is made with.

    Raises:
        ConfigurationError: a file is missing, unreadable, malformed or expired; says which and the mend.

    """
    properties: dict[str, str | int] = {"bootstrap.servers": settings.bootstrap_servers}
    source = "no credentials"
    if settings.encrypted:
        properties["security.protocol"] = "SSL"
        if settings.ca_file is not None:
            _check_ca(settings.ca_file)
            properties["ssl.ca.location"] = str(settings.ca_file)
    if settings.authentication == "tls":
        certificate, key = settings.user_folder / "user.crt", settings.user_folder / "user.key"
        _check_client_certificate(certificate, key)
        properties |= {"ssl.certificate.location": str(certificate), "ssl.key.location": str(key)}
        source = f"client certificate {certificate}"
    elif settings.authentication == "scram-sha-512":
        properties |= {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.username": _username(settings.user_folder),
            "sasl.password": _read_line(settings.user_folder / "password"),
        }
        source = f"username and password in {settings.user_folder}"
    return ClientConfiguration(properties, source)


def topic_specs(feed: CryptoFeed, replicas: int | None = None) -> list[TopicSpec]:
    """Return the topics of a feed; ``replicas`` in place of the feed's, as 1 for a single broker.

    With n replicas a write counts once n - 1 hold it, so that one broker may fail without stopping the feed.
    """
    settings = feed.spec.kafka.topics
    copies = replicas or settings.replicas
    durable = {"min.insync.replicas": str(max(1, copies - 1))}
    kept = {**durable, "cleanup.policy": "delete", "retention.ms": str(settings.retention.us // 1000)}
    specs = [TopicSpec(feed.topics.trades, settings.partitions, copies, kept)]
    if "ticker" in feed.spec.channels:
        specs.append(TopicSpec(feed.topics.ticker, settings.partitions, copies, kept))
    # A rejected frame may be as large as a WebSocket message, 1 MiB, and grows by a third in base64.
    specs.append(TopicSpec(feed.topics.rejected, 1, copies, {**kept, "max.message.bytes": str(2 * 1024 * 1024)}))
    # Small, soon closed segments: compaction leaves the open one alone, and a start reads all of the topic.
    compacted = {"cleanup.policy": "compact", "segment.bytes": str(16 * 1024 * 1024), "segment.ms": "600000"}
    specs.append(
        TopicSpec(feed.topics.cursors, 1, copies, {**durable, **compacted, "min.cleanable.dirty.ratio": "0.1"})
    )
    if feed.spec.analytics is not None:
        # Tables: of each pane and window the newest version lasts. They come many times a second, so that segments are
        # closed soon, and compaction keeps what a start reads back to one version each.
        table = {**kept, "cleanup.policy": "compact,delete", "segment.bytes": str(64 * 1024 * 1024)}
        specs += [
            TopicSpec(name, settings.partitions, copies, table) for name in (feed.topics.panes, feed.topics.windows)
        ]
        specs.append(TopicSpec(feed.topics.alerts, 1, copies, kept))
    return specs


def prepare_kafka(feed: CryptoFeed, environment: Mapping[str, str]) -> ClientConfiguration:
    """Return what a feed's clients are made with, after making its topics where no operator does.

    Raises:
        ConfigurationError: the credentials can't be read, or a topic is not as it must be.
        KafkaUnavailableError: no broker answers, or it refuses.

    """
    configuration = client_configuration(kafka_settings(feed, environment))
    if BOOTSTRAP_VARIABLE in environment:  # a laptop's one broker
        ensure_topics(configuration, topic_specs(feed, replicas=1))
    elif feed.spec.kafka.topics_managed_by == "Admin":
        ensure_topics(configuration, topic_specs(feed))
    return configuration


def probe_broker(configuration: ClientConfiguration, timeout_seconds: float) -> None:
    """Wait until a broker answers; a refusal of credentials or of TLS ends the wait at once.

    Raises:
        ConfigurationError: librdkafka can't use the configuration.
        KafkaUnavailableError: nothing answered in time, or it refused; says which and what was tried.

    """
    _connect(configuration, timeout_seconds)


def ensure_topics(
    configuration: ClientConfiguration, topics: Sequence[TopicSpec], timeout_seconds: float = 15.0
) -> list[str]:
    """Create the topics that are absent, check those that exist, and return the names of the created.

    More partitions than asked are left alone; other settings of an existing topic are its owner's.

    Raises:
        ConfigurationError: a topic exists with fewer partitions or another cleanup.policy, or the brokers refuse to
            make one as asked.
        KafkaUnavailableError: as `probe_broker`; or the credentials may not make or read the topics.

    """
    client, partitions = _connect(configuration, timeout_seconds)
    created = _create(
        client, [topic for topic in topics if topic.name not in partitions], configuration, timeout_seconds
    )
    existing = [topic for topic in topics if topic.name not in created]
    if any(topic.name not in partitions for topic in existing):  # made by another service since
        _, partitions = _connect(configuration, timeout_seconds)
    policies = _cleanup_policies(client, existing, configuration, timeout_seconds)
    for topic in existing:
        _check_topic(topic, partitions.get(topic.name, topic.partitions), policies[topic.name])
    return created


def delete_topics(configuration: ClientConfiguration, names: Sequence[str], timeout_seconds: float = 15.0) -> list[str]:
    """Delete those of the topics that exist, and return their names.

    Raises:
        ConfigurationError: the brokers refuse to delete one.
        KafkaUnavailableError: as `probe_broker`; or the credentials may not delete them.

    """
    client, partitions = _connect(configuration, timeout_seconds)
    there = [name for name in names if name in partitions]
    results: dict[str, Future[Any]] = client.delete_topics(
        there, operation_timeout=timeout_seconds, request_timeout=timeout_seconds
    )
    for name in there:
        try:
            results[name].result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.UNKNOWN_TOPIC_OR_PART:  # somebody else was quicker
                raise _refused(error.args[0], name, configuration, timeout_seconds, "delete") from error
    return there


def _connect(configuration: ClientConfiguration, timeout_seconds: float) -> tuple[AdminClient, dict[str, int]]:
    """Return a client that has reached a broker, and the number of partitions of each topic there."""
    errors: list[KafkaError] = []
    # Errors come by the callback; librdkafka's own lines on stderr would repeat them.
    properties: dict[str, Any] = {**configuration, "error_cb": errors.append, "log_level": 2}
    try:
        client = AdminClient(properties)
    except KafkaException as error:
        raise ConfigurationError(
            f"Kafka's client can't use its configuration: {error.args[0].str()}; credentials: {configuration.source}"
        ) from error
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            metadata = client.list_topics(timeout=_POLL_SECONDS)
        except KafkaException as error:
            last = error.args[0]
        else:
            return client, {name: len(topic.partitions) for name, topic in metadata.topics.items()}
        client.poll(0)  # serves the error callback
        refusal = next(filter(_ends_the_wait, errors), None)
        if refusal is not None or time.monotonic() >= deadline:
            raise unavailable(refusal or _first_cause(errors) or last, configuration, timeout_seconds)


def unavailable(error: KafkaError, configuration: ClientConfiguration, timeout_seconds: float) -> KafkaUnavailableError:
    """Say why Kafka can't be used, what was tried, and the mend."""
    servers = configuration["bootstrap.servers"]
    reason = error.str().rstrip(".")
    if error.code() in _REFUSALS:
        return KafkaUnavailableError(
            f"Kafka at {servers} refused the credentials ({configuration.source}): {reason}; check that the user "
            "exists there and that these are its current credentials"
        )
    if "SSL" in reason or error.code() == KafkaError._SSL:  # noqa: SLF001
        authority = configuration.get("ssl.ca.location", "a public authority")
        return KafkaUnavailableError(
            f"TLS with Kafka at {servers} failed: {reason}; check that this is its TLS listener, that {authority} "
            f"signed its certificate, and that it accepts ours ({configuration.source})"
        )
    return KafkaUnavailableError(
        f"no Kafka broker answered at {servers} within {timeout_seconds:g} s: {reason}; check that it runs, that this "
        "address is reachable from here, and whether it expects TLS"
    )


def _ends_the_wait(error: KafkaError) -> bool:
    """Tell a refusal, which waiting does not mend, from a broker that may yet come up.

    A broker refuses a client's certificate by a TLS alert, which librdkafka reports as any other lost connection.
    """
    return error.code() in {*_REFUSALS, KafkaError._SSL} or "SSL alert" in error.str()  # noqa: SLF001


def _first_cause(errors: Sequence[KafkaError]) -> KafkaError | None:
    """Return the first error that says more than that all brokers are down."""
    return next((error for error in errors if error.code() != KafkaError._ALL_BROKERS_DOWN), None)  # noqa: SLF001


def _create(
    client: AdminClient, topics: Sequence[TopicSpec], configuration: ClientConfiguration, timeout_seconds: float
) -> list[str]:
    """Create topics and return the names of those that did not exist."""
    if not topics:
        return []
    requests = [
        NewTopic(
            topic.name,
            num_partitions=topic.partitions,
            replication_factor=topic.replicas,
            config=dict(topic.configuration),
        )
        for topic in topics
    ]
    results: dict[str, Future[Any]] = client.create_topics(
        requests, operation_timeout=timeout_seconds, request_timeout=timeout_seconds
    )
    created = []
    for topic in topics:
        try:
            results[topic.name].result()
        except KafkaException as error:
            cause = error.args[0]
            if cause.code() == KafkaError.TOPIC_ALREADY_EXISTS:
                continue
            if cause.code() == KafkaError.INVALID_REPLICATION_FACTOR:
                raise ConfigurationError(
                    f"topic {topic.name} can't have {topic.replicas} replicas: {cause.str()}; set "
                    "spec.kafka.topics.replicas to the number of brokers or less"
                ) from error
            raise _refused(cause, topic.name, configuration, timeout_seconds) from error
        created.append(topic.name)
    return created


def _cleanup_policies(
    client: AdminClient, topics: Sequence[TopicSpec], configuration: ClientConfiguration, timeout_seconds: float
) -> dict[str, str]:
    """Return the cleanup.policy of each topic."""
    if not topics:
        return {}
    resources = [ConfigResource(ResourceType.TOPIC, topic.name) for topic in topics]
    policies = {}
    for resource, result in client.describe_configs(resources, request_timeout=timeout_seconds).items():
        try:
            policies[resource.name] = str(result.result()["cleanup.policy"].value)
        except KafkaException as error:
            raise _refused(error.args[0], resource.name, configuration, timeout_seconds) from error
    return policies


def _refused(
    cause: KafkaError, topic: str, configuration: ClientConfiguration, timeout_seconds: float, verb: str = "make"
) -> ConfigurationError | KafkaUnavailableError:
    """Say why a broker did not do what was asked for a topic."""
    if cause.code() in (KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.CLUSTER_AUTHORIZATION_FAILED):
        rights = "Create, Describe and DescribeConfigs" if verb == "make" else "Delete and Describe"
        return KafkaUnavailableError(
            f"Kafka does not allow {configuration.source} to {verb} topic {topic} and read its settings: "
            f"{cause.str()}; grant {rights} on it, or have someone else {verb} it"
        )
    if cause.code() < 0:  # librdkafka's own: the connection, not the broker's answer
        return unavailable(cause, configuration, timeout_seconds)
    return ConfigurationError(f"Kafka can't {verb} topic {topic}: {cause.str()}; see spec.kafka.topics")


def _check_topic(topic: TopicSpec, partitions: int, policy: str) -> None:
    if partitions < topic.partitions:
        raise ConfigurationError(
            f"topic {topic.name} has {partitions} partitions and {topic.partitions} are asked for; set "
            f"spec.kafka.topics.partitions to {partitions}, or begin new topics with another spec.kafka.topics.prefix "
            "(adding partitions would move products between them and break their order)"
        )
    wanted = topic.configuration["cleanup.policy"]
    if policy != wanted:
        raise ConfigurationError(
            f"topic {topic.name} has cleanup.policy={policy} and must have {wanted}; is it another program's? Choose "
            "another spec.kafka.topics.prefix, or set the policy with kafka-configs"
        )


def _username(folder: Path) -> str:
    """Read the name of a SCRAM user: from ``username`` (MSK), else from ``sasl.jaas.config`` (Strimzi)."""
    if (folder / "username").exists():
        return _read_line(folder / "username")
    path = folder / "sasl.jaas.config"
    match = re.search(r'\busername="((?:[^"\\]|\\.)+)"', _read_line(path))
    if match is None:
        raise ConfigurationError(f'{path}: holds no username="..."; mount the Secret of a KafkaUser, or add username')
    return re.sub(r"\\(.)", r"\1", match[1])


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"{path}: can't be read: {error.strerror}; mount the Secret there, or set {CREDENTIALS_VARIABLE} to a "
            f"folder that holds {path.parent.name}/{path.name}"
        ) from error


def _read_line(path: Path) -> str:
    """Read a file that holds one value; an editor's line break at its end is not part of it."""
    try:
        text = _read(path).decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path}: is not UTF-8 text; write the value alone into it") from None
    if not text:
        raise ConfigurationError(f"{path}: is empty; write the value into it")
    return text


def _certificates(path: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(_read(path))
    except ValueError:
        raise ConfigurationError(f"{path}: holds no PEM certificate; mount the right Secret there") from None


def _expiry_mistake(certificate: x509.Certificate) -> str | None:
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc < now:
        return f"expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC; renew the certificate"
    if certificate.not_valid_before_utc > now:
        return f"is valid only from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC; check this machine's clock"
    return None


def _check_ca(path: Path) -> None:
    """Accept a bundle of which one is valid: during a renewal it holds the old CA and the new one."""
    mistakes = [_expiry_mistake(certificate) for certificate in _certificates(path)]
    if all(mistakes):
        raise ConfigurationError(f"{path}: {mistakes[-1]}")


def _check_client_certificate(certificate_path: Path, key_path: Path) -> None:
    certificate = _certificates(certificate_path)[0]  # the client's own comes first, then those that signed it
    mistake = _expiry_mistake(certificate)
    if mistake:
        raise ConfigurationError(f"{certificate_path}: {mistake}")
    try:
        key = serialization.load_pem_private_key(_read(key_path), password=None)
    except TypeError:
        raise ConfigurationError(f"{key_path}: is encrypted; give the key without a password") from None
    except ValueError:
        raise ConfigurationError(f"{key_path}: holds no PEM private key; mount the right Secret there") from None
    if key.public_key() != certificate.public_key():
        raise ConfigurationError(f"{key_path}: is not the key of {certificate_path}; take both from the same Secret")


def patiently(ask: Callable[[], T], timeout_seconds: float = 15.0) -> T:
    """Ask a broker until it answers: of a topic made just now, or after its return, it may not lead yet.

    Raises:
        KafkaException: it did not answer well in time.

    """
    deadline = time.monotonic() + timeout_seconds
    while True:
        try:
            return ask()
        except KafkaException as problem:
            error = problem.args[0]
            if not (error.retriable() or error.code() in _PASSING) or time.monotonic() > deadline:
                raise
        time.sleep(_POLL_SECONDS)


def partition_of(key: str, partitions: int) -> int:
    """Return the partition that Kafka's default partitioner gives ``key``: murmur2 of its bytes, sign dropped.

    Source: A. Appleby, MurmurHash2 (2008), with the seed of org.apache.kafka.common.utils.Utils.murmur2.
    """
    data = key.encode()
    mask, multiplier = 0xFFFFFFFF, 0x5BD1E995
    value = (0x9747B28C ^ len(data)) & mask
    whole = len(data) - len(data) % 4
    for at in range(0, whole, 4):
        word = int.from_bytes(data[at : at + 4], "little") * multiplier & mask
        word = (word ^ word >> 24) * multiplier & mask
        value = value * multiplier & mask ^ word
    if whole < len(data):
        value = (value ^ int.from_bytes(data[whole:], "little")) * multiplier & mask
    value = (value ^ value >> 13) * multiplier & mask
    return ((value ^ value >> 15) & 0x7FFFFFFF) % partitions
