"""Where a Redshift is and who asks, from the files of a Secret; and the driver's connection to it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from fulltape.errors import ConfigurationError
from fulltape.feed.model import CryptoFeed
from fulltape.workloads import WAREHOUSE_VARIABLE

CREDENTIALS = Path("/etc/fulltape/warehouse")
"""Where a cluster mounts Redshift's Secret."""

Tls = Literal["verify-ca", "verify-full", "disable"]

_CONNECT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Address:
    """Where a Redshift is and who asks; never printed, for the password's sake."""

    host: str
    port: int
    database: str
    user: str
    password: str = field(repr=False)
    tls: Tls = "verify-ca"
    """``disable`` is for what has none."""

    def connect(self) -> Any:
        """Return a connection of the driver on which each statement is a transaction, until one says BEGIN."""
        import redshift_connector  # noqa: PLC0415 - takes a second, which DuckDB's users need not pay

        connection = redshift_connector.connect(
            host=self.host,
            port=self.port,
            database=self.database,
            user=self.user,
            password=self.password,
            ssl=self.tls != "disable",
            sslmode="verify-ca" if self.tls == "disable" else self.tls,
            timeout=_CONNECT_SECONDS,
            application_name="fulltape",
        )
        connection._usock.settimeout(None)  # noqa: SLF001 - the timeout is for connecting, not for long statements
        connection.autocommit = True
        return connection


def warehouse_of(feed: CryptoFeed, environment: Mapping[str, str]) -> Path | None:
    """Return where the feed's warehouse is: what the environment names, else the Secret; None where it has none."""
    if feed.spec.warehouse is None:
        return None
    return Path(environment.get(WAREHOUSE_VARIABLE) or CREDENTIALS)


def redshift_address(folder: Path) -> Address:
    """Return where Redshift is: files host, port, database, username and password, and sslmode if it is to be another.

    Raises:
        ConfigurationError: a file is missing or of no use.

    """
    host, port, database, user, password = (
        _read(folder / name) for name in ("host", "port", "database", "username", "password")
    )
    if not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigurationError(f"{folder / 'port'}: {port!r} is no port; write a number such as 5439")
    tls = _read(folder / "sslmode") if (folder / "sslmode").exists() else "verify-ca"
    if tls not in get_args(Tls):
        raise ConfigurationError(f"{folder / 'sslmode'}: write {', '.join(get_args(Tls))}")
    return Address(host, int(port), database, user, password, tls)  # type: ignore[arg-type]  # checked above


def _read(path: Path) -> str:
    try:
        text = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as problem:
        reason = "is missing" if isinstance(problem, FileNotFoundError) else f"can't be read ({problem})"
        raise ConfigurationError(
            f"{path}: {reason}; the Secret of spec.warehouse.redshift.secretRef is to hold host, port, database, "
            f"username and password, and to be mounted there or where {WAREHOUSE_VARIABLE} says"
        ) from None
    if not text or "\n" in text:
        raise ConfigurationError(f"{path}: should hold one line")
    return text
