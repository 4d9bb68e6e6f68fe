"""A stand-in for Strimzi's operators: ``python3 strimzi.py NAMESPACE``, in a pod, as a file of its own.

It does for the Kafkas of a namespace what a feed needs of Strimzi 1.x, on Strimzi's own kinds: certificate authorities
and the brokers' certificates, topics, users with their Secrets, passwords and rights, and the status of each object.
Brokers themselves are somebody else's. Once a second it looks for objects that have changed or are not ready.
"""

import base64
import json
import logging
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from confluent_kafka import KafkaException, TopicCollection
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its documented names, which it does not list
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    ResourcePatternType,
    ResourceType,
    ScramCredentialInfo,
    ScramMechanism,
    UserScramCredentialDeletion,
    UserScramCredentialUpsertion,
)
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID
from kubernetes import client, config
from urllib3.exceptions import HTTPError

_log = logging.getLogger(__name__)
_GROUP, _VERSION = "kafka.strimzi.io", "v1"
_CLUSTER_LABEL = f"{_GROUP.removeprefix('kafka.')}/cluster"
_FINALIZER = "strimzi.io/topic-operator"
_PASS_SECONDS = 1.0
_ANSWER_SECONDS = 10.0
_VALIDITY = timedelta(days=365)
_INTERNAL_PORT = 9091
"""Where brokers talk to each other and to Strimzi's operators."""
_RESOURCES = {
    "topic": ResourceType.TOPIC,
    "group": ResourceType.GROUP,
    "cluster": ResourceType.BROKER,
    "transactionalId": ResourceType.TRANSACTIONAL_ID,
}
_PATTERNS = {"literal": ResourcePatternType.LITERAL, "prefix": ResourcePatternType.PREFIXED}

_Object = Mapping[str, Any]


class RefusedError(Exception):
    """Why an object can't be made true; its text is the condition's message."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Authority(NamedTuple):
    """A certificate authority, as PEM."""

    certificate: bytes
    key: bytes


class Access(NamedTuple):
    """What opens one Kafka: to the operators, and to its clients."""

    admin: AdminClient
    cluster_ca: Authority
    clients_ca: Authority


class Strimzi:
    """The operators of one namespace.

    Args:
        api: talks to the API server.
        namespace: where the Kafkas and their topics and users are.

    """

    def __init__(self, api: Any, namespace: str) -> None:
        self._core, self._custom = client.CoreV1Api(api), client.CustomObjectsApi(api)
        self._namespace = namespace
        self._access: dict[str, Access] = {}
        self._users: dict[str, set[str]] = {}

    def look(self) -> None:
        """Make what objects say true, one Kafka after the other; what fails is tried again by the next call."""
        for kafka in self._list("kafkas"):
            name = kafka["metadata"]["name"]
            if name not in self._access:
                self._access[name] = self._open(kafka)
            access = self._access[name]
            try:
                there = _partitions(access.admin)
            except KafkaException as error:
                problem = f"no broker answers: {error.args[0].str()}"
                self._tell(
                    "kafkas", kafka, {"type": "NotReady", "status": "True", "reason": "Creating", "message": problem}
                )
                continue
            listeners = [self._listener(kafka, one, access.cluster_ca) for one in kafka["spec"]["kafka"]["listeners"]]
            self._tell("kafkas", kafka, _READY, listeners=listeners)
            for topic in self._of_cluster("kafkatopics", name):
                if not _is_settled(topic):
                    self._tend_topic(access.admin, topic, there)
            users = self._of_cluster("kafkausers", name)
            names = {_username(user) for user in users}
            if names != self._users.get(name) or not all(map(_is_settled, users)):
                self._tend_users(access, users)
                self._users[name] = names

    def _open(self, kafka: _Object) -> Access:
        """Make what brokers, operators and clients of a Kafka believe each other by, where it is not there."""
        cluster_ca, clients_ca = (self._authority(kafka, kind) for kind in ("cluster", "clients"))
        self._certify_brokers(kafka, cluster_ca, clients_ca)
        return Access(self._admin(kafka["metadata"]["name"], cluster_ca), cluster_ca, clients_ca)

    def _tend_topic(self, admin: AdminClient, live: _Object, there: Mapping[str, int]) -> None:
        metadata, spec = live["metadata"], live.get("spec", {})
        name = spec.get("topicName", metadata["name"])
        finalizers = metadata.get("finalizers", [])
        if "deletionTimestamp" in metadata:
            if _FINALIZER in finalizers:
                if name in there:
                    _done(admin.delete_topics([name], operation_timeout=_ANSWER_SECONDS))
                self._set_finalizers(live, [one for one in finalizers if one != _FINALIZER])
            return
        if _FINALIZER not in finalizers:
            live = self._set_finalizers(live, [*finalizers, _FINALIZER])
        try:
            _make_topic(admin, name, spec, there)
        except RefusedError as refusal:
            condition = {"type": "Ready", "status": "False", "reason": refusal.reason, "message": str(refusal)}
            self._tell("kafkatopics", live, condition)
        else:
            with suppress(KafkaException):  # brokers may not know yet what they have just made
                self._tell("kafkatopics", live, _READY, topicName=name, topicId=_topic_id(admin, name))

    def _tend_users(self, access: Access, users: Sequence[_Object]) -> None:
        files = {_username(user): self._secret_of(user, access.clients_ca) for user in users}
        _set_passwords(access.admin, {user: held["password"] for user, held in files.items() if "password" in held})
        _set_rights(access.admin, {right for user in users for right in _rights(user)})
        for user in users:
            self._tell("kafkausers", user, _READY, username=_username(user), secret=user["metadata"]["name"])

    def _secret_of(self, user: _Object, clients_ca: Authority) -> dict[str, bytes]:
        """Return the content of a user's Secret, after making it where there is none of this CA."""
        name, kind = user["metadata"]["name"], user["spec"].get("authentication", {}).get("type")
        if kind == "tls":
            return self._secret(user, name, lambda: _client_files(name, clients_ca))
        if kind == "scram-sha-512":
            return self._secret(user, name, lambda: _password_files(name))
        return {}

    def _authority(self, kafka: _Object, kind: str) -> Authority:
        """Return a CA of a Kafka, after making it where there is none; brokers have one, and clients another."""
        name = f"{kafka['metadata']['name']}-{kind}-ca"

        def make() -> dict[str, bytes]:
            made = _new_authority(f"{kind}-ca v0")
            return {"ca.key": made.key, "ca.crt": made.certificate}

        # Strimzi's Secret of the key does not hold the certificate; here the two are never apart.
        kept = self._secret(kafka, name, make)
        self._secret(kafka, f"{name}-cert", lambda: {"ca.crt": kept["ca.crt"]})
        return Authority(kept["ca.crt"], kept["ca.key"])

    def _certify_brokers(self, kafka: _Object, cluster_ca: Authority, clients_ca: Authority) -> None:
        """Make the Secret that brokers mount: key and certificates as one file, and whom they believe."""
        name = kafka["metadata"]["name"]

        def make() -> dict[str, bytes]:
            names = ["localhost"]  # by which one broker finds its own controller
            for service in (f"{name}-kafka-bootstrap", f"{name}-kafka-brokers", f"{name}-kafka-0.{name}-kafka-brokers"):
                full = f"{service}.{self._namespace}.svc"
                names += [service, full.removesuffix(".svc"), full, f"{full}.cluster.local"]
            certificate, key = _certify(_internal(f"{name}-kafka"), cluster_ca, names)
            return {
                "broker.pem": key + certificate + cluster_ca.certificate,
                "cluster-ca.crt": cluster_ca.certificate,
                "clients-ca.crt": clients_ca.certificate,
            }

        self._secret(kafka, f"{name}-kafka", make)

    def _admin(self, name: str, cluster_ca: Authority) -> AdminClient:
        certificate, key = _certify(_internal(f"{name}-entity-operator"), cluster_ca)
        return AdminClient(
            {
                "bootstrap.servers": f"{name}-kafka-brokers.{self._namespace}.svc:{_INTERNAL_PORT}",
                "security.protocol": "SSL",
                "ssl.ca.pem": cluster_ca.certificate.decode(),
                "ssl.certificate.pem": certificate.decode(),
                "ssl.key.pem": key.decode(),
                "reconnect.backoff.max.ms": 500,
                "log_level": 2,
            }
        )

    def _listener(self, kafka: _Object, listener: _Object, cluster_ca: Authority) -> _Object:
        host = f"{kafka['metadata']['name']}-kafka-bootstrap.{self._namespace}.svc"
        return {
            "name": listener["name"],
            "addresses": [{"host": host, "port": listener["port"]}],
            "bootstrapServers": f"{host}:{listener['port']}",
            "certificates": [cluster_ca.certificate.decode()],
        }

    def _secret(self, owner: _Object, name: str, make: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
        """Return what a Secret holds, after making it, with an owner, where there is none."""
        try:
            found = self._core.read_namespaced_secret(name, self._namespace)
        except client.ApiException as error:
            if error.status != 404:
                raise
        else:
            return {key: base64.b64decode(value) for key, value in found.data.items()}
        content = make()
        metadata = owner["metadata"]
        cluster = metadata.get("labels", {}).get(_CLUSTER_LABEL, metadata["name"])
        owned = {key: owner[key] for key in ("apiVersion", "kind")} | {key: metadata[key] for key in ("name", "uid")}
        secret = {
            "metadata": {
                "name": name,
                "labels": {_CLUSTER_LABEL: cluster, "strimzi.io/kind": owner["kind"]},
                "ownerReferences": [{**owned, "controller": False, "blockOwnerDeletion": False}],
            },
            "data": {key: base64.b64encode(value).decode() for key, value in content.items()},
        }
        self._core.create_namespaced_secret(self._namespace, secret)
        return content

    def _list(self, plural: str) -> list[dict[str, Any]]:
        answer = self._custom.list_namespaced_custom_object(_GROUP, _VERSION, self._namespace, plural)
        return [{"apiVersion": f"{_GROUP}/{_VERSION}", **item} for item in answer["items"]]

    def _of_cluster(self, plural: str, cluster: str) -> list[dict[str, Any]]:
        return [
            item for item in self._list(plural) if item["metadata"].get("labels", {}).get(_CLUSTER_LABEL) == cluster
        ]

    def _set_finalizers(self, live: _Object, finalizers: list[str]) -> _Object:
        metadata = live["metadata"]
        body = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
        found: _Object = self._custom.patch_namespaced_custom_object(
            _GROUP, _VERSION, self._namespace, "kafkatopics", metadata["name"], body
        )
        return found

    def _tell(self, plural: str, live: _Object, condition: _Object, **said: Any) -> None:
        """Set an object's status where it says something else."""
        metadata, known = live["metadata"], live.get("status", {})
        said["observedGeneration"] = metadata["generation"]
        [before] = known.get("conditions") or [{}]
        same = {key: value for key, value in before.items() if key != "lastTransitionTime"} == condition
        if same and all(known.get(key) == value for key, value in said.items()):
            return
        _log.info("%s/%s: %s", plural, metadata["name"], json.dumps(condition))
        at = before["lastTransitionTime"] if same else datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        body = {"status": {**said, "conditions": [{**condition, "lastTransitionTime": at}]}}
        self._custom.patch_namespaced_custom_object_status(
            _GROUP, _VERSION, self._namespace, plural, metadata["name"], body
        )


_READY = {"type": "Ready", "status": "True"}


def _is_settled(live: _Object) -> bool:
    """Tell whether an object was made true as it is now."""
    metadata, status = live["metadata"], live.get("status", {})
    ready = any((one["type"], one["status"]) == ("Ready", "True") for one in status.get("conditions", ()))
    return ready and status["observedGeneration"] == metadata["generation"] and "deletionTimestamp" not in metadata


def _partitions(admin: AdminClient) -> dict[str, int]:
    """Return the number of partitions of each topic."""
    return {name: len(topic.partitions) for name, topic in admin.list_topics(timeout=_ANSWER_SECONDS).topics.items()}


def _make_topic(admin: AdminClient, name: str, spec: _Object, there: Mapping[str, int]) -> None:
    """Make a topic as its object says.

    Raises:
        RefusedError: it can't be; says why.

    """
    wanted, replicas = spec.get("partitions", -1), spec.get("replicas", -1)
    settings = {key: _text(value) for key, value in spec.get("config", {}).items()}
    try:
        if name not in there:
            _done(admin.create_topics([NewTopic(name, wanted, replicas, config=settings)]))
            return
        resource = ConfigResource(ResourceType.TOPIC, name)
        [described] = admin.describe_configs([resource]).values()
        entries = described.result().values()
        changes = _changes(settings, {entry.name: entry.value for entry in entries}, _set_on_topic(entries))
        if changes:
            _done(
                admin.incremental_alter_configs([ConfigResource(ResourceType.TOPIC, name, incremental_configs=changes)])
            )
        if there[name] < wanted:
            _done(admin.create_partitions([NewPartitions(name, wanted)]))
    except KafkaException as error:
        raise RefusedError("KafkaError", error.args[0].str()) from error
    if there[name] > wanted > 0:
        raise RefusedError("NotSupported", "Decreasing partitions not supported")
    copies = {len(one.replicas) for one in admin.list_topics(name, _ANSWER_SECONDS).topics[name].partitions.values()}
    if copies != {replicas} and replicas > 0:
        raise RefusedError("NotSupported", "Replication factor change not supported, but required for partitions of it")


def _set_on_topic(entries: Iterable[Any]) -> set[str]:
    """Return the names of a topic's settings that are its own, not the broker's."""
    own = ConfigSource.DYNAMIC_TOPIC_CONFIG
    return {entry.name for entry in entries if ConfigSource(entry.source) is own}


def _changes(wanted: Mapping[str, str], values: Mapping[str, str], own: set[str]) -> list[ConfigEntry]:
    """Return what makes a topic's settings those that are wanted, and the broker's where nothing is wanted."""
    stale = [key for key, value in wanted.items() if key not in own or values[key] != value]
    return [
        *(ConfigEntry(key, wanted[key], incremental_operation=AlterConfigOpType.SET) for key in stale),
        *(ConfigEntry(key, "", incremental_operation=AlterConfigOpType.DELETE) for key in own - wanted.keys()),
    ]


def _topic_id(admin: AdminClient, name: str) -> str:
    """Return a topic's id as Kafka's own tools write it."""
    [described] = admin.describe_topics(TopicCollection([name])).values()
    return str(described.result().topic_id).translate(str.maketrans("+/", "-_"))


def _username(user: _Object) -> str:
    """Return a user's name as brokers know it."""
    name: str = user["metadata"]["name"]
    return f"CN={name}" if user["spec"].get("authentication", {}).get("type") == "tls" else name


def _rights(user: _Object) -> list[AclBinding]:
    """Return what a user may do, one operation each."""
    return [
        AclBinding(
            _RESOURCES[acl["resource"]["type"]],
            acl["resource"].get("name", "kafka-cluster"),
            _PATTERNS[acl["resource"].get("patternType", "literal")],
            f"User:{_username(user)}",
            acl.get("host", "*"),
            AclOperation[_upper(operation)],
            AclPermissionType[acl.get("type", "allow").upper()],
        )
        for acl in user["spec"].get("authorization", {}).get("acls", ())
        for operation in acl["operations"]
    ]


def _upper(name: str) -> str:
    """Return DescribeConfigs as DESCRIBE_CONFIGS."""
    return "".join(f"_{letter}" if letter.isupper() and at else letter for at, letter in enumerate(name)).upper()


def _set_rights(admin: AdminClient, wanted: set[AclBinding]) -> None:
    """Give all users of a Kafka their rights, and take those away that no user has any more."""
    every = AclBindingFilter(
        ResourceType.ANY, None, ResourcePatternType.ANY, None, None, AclOperation.ANY, AclPermissionType.ANY
    )
    there = set(admin.describe_acls(every).result())
    if wanted - there:
        _done(admin.create_acls(list(wanted - there)))
    stale = [
        AclBindingFilter(
            right.restype, right.name, right.resource_pattern_type, right.principal, right.host, right.operation,
            right.permission_type,
        )
        for right in there - wanted
    ]  # fmt: skip
    if stale:
        _done(admin.delete_acls(stale))


def _set_passwords(admin: AdminClient, wanted: Mapping[str, bytes]) -> None:
    """Have a Kafka know these users by their passwords, and no others."""
    there = admin.describe_user_scram_credentials().result()
    sha512 = ScramMechanism.SCRAM_SHA_512
    changes: list[Any] = [
        UserScramCredentialUpsertion(name, ScramCredentialInfo(sha512, 4096), wanted[name])
        for name in wanted.keys() - there.keys()
    ]
    changes += [UserScramCredentialDeletion(name, sha512) for name in there.keys() - wanted.keys()]
    if changes:
        _done(admin.alter_user_scram_credentials(changes))


def _done(answers: Mapping[Any, Any]) -> None:
    """Wait until Kafka has done what it was asked.

    Raises:
        KafkaException: it refuses.

    """
    for answer in answers.values():
        answer.result()


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _password_files(user: str) -> dict[str, bytes]:
    password = secrets.token_urlsafe(24)
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    jaas = f'{module} required username="{user}" password="{password}";'
    return {"password": password.encode(), "sasl.jaas.config": jaas.encode()}


def _client_files(user: str, authority: Authority) -> dict[str, bytes]:
    certificate, key = _certify(_name(user), authority)
    password = secrets.token_urlsafe(9)
    store = pkcs12.serialize_key_and_certificates(
        user.encode(),
        serialization.load_pem_private_key(key, None),  # type: ignore[arg-type]  # an elliptic curve's
        x509.load_pem_x509_certificate(certificate),
        None,
        serialization.BestAvailableEncryption(password.encode()),
    )
    return {
        "ca.crt": authority.certificate,
        "user.crt": certificate,
        "user.key": key,
        "user.p12": store,
        "user.password": password.encode(),
    }


def _new_authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _internal(name)
    certificate = (
        _builder(subject, subject, key.public_key(), key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Authority(certificate.public_bytes(serialization.Encoding.PEM), _pem(key))


def _certify(subject: x509.Name, authority: Authority, names: Iterable[str] = ()) -> tuple[bytes, bytes]:
    """Return a new certificate and its key, as PEM, for who is reached by the names."""
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)  # _new_authority
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(subject, issuer.subject, key.public_key(), issuer_key.public_key())
    if reached := [x509.DNSName(name) for name in names]:
        builder = builder.add_extension(x509.SubjectAlternativeName(reached), critical=False)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM), _pem(key)


def _internal(name: str) -> x509.Name:
    """Return the subject of Strimzi's own, which no user of a KafkaUser can have."""
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, "io.strimzi"), *_name(name)])


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, issuer_key: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALIDITY)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def main(namespace: str) -> None:
    """Look again and again; the API server and the brokers may be away meanwhile."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    config.load_config()
    strimzi = Strimzi(client.ApiClient(), namespace)
    while True:
        try:
            strimzi.look()
        except (client.ApiException, HTTPError, OSError, KafkaException) as error:
            _log.warning("tried again: %s", " ".join(str(error).split())[:500])
        time.sleep(_PASS_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
