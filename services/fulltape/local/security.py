"""Certificates and credentials for an embedded broker that is secured as a real one: a CA of its own, made at format.

The folder that clients get looks as the Secrets of a Strimzi KafkaUser and cluster CA do when mounted: ``ca/ca.crt``,
``user/user.crt``, ``user/user.key``, ``user/password`` and ``user/sasl.jaas.config``.
"""

import ipaddress
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

USER = "fulltape"
"""The one user: name of the SCRAM user and common name of the client certificate."""

_VALIDITY = timedelta(days=3650)


def write_credentials(clients: Path, broker_keystore: Path) -> str:
    """Make a CA, a certificate for the broker on 127.0.0.1 and localhost, and one for the user; return a new password.

    Args:
        clients: folder that clients read; it is made.
        broker_keystore: file that gets the broker's key and certificates, PEM.

    """
    ca_key = ec.generate_private_key(ec.SECP256R1())
    ca_name = _name("Fulltape embedded Kafka CA")
    ca = (
        _builder(ca_name, ca_name, ca_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    broker_key, user_key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    broker = (
        _builder(_name("localhost"), ca_name, broker_key.public_key())
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    user = _builder(_name(USER), ca_name, user_key.public_key()).sign(ca_key, hashes.SHA256())

    password = secrets.token_urlsafe(24)
    jaas = f'org.apache.kafka.common.security.scram.ScramLoginModule required username="{USER}" password="{password}";'
    _write_private(broker_keystore, _pem(broker_key) + _pem(broker) + _pem(ca))
    _write_private(clients / "ca" / "ca.crt", _pem(ca))
    _write_private(clients / "user" / "user.crt", _pem(user))
    _write_private(clients / "user" / "user.key", _pem(user_key))
    _write_private(clients / "user" / "password", password.encode())
    _write_private(clients / "user" / "sasl.jaas.config", jaas.encode())
    return password


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + _VALIDITY)
    )


def _pem(item: x509.Certificate | ec.EllipticCurvePrivateKey) -> bytes:
    if isinstance(item, x509.Certificate):
        return item.public_bytes(serialization.Encoding.PEM)
    return item.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(content)
