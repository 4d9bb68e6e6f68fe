"""A real Kafka broker for one machine: started, waited for, stopped, killed and started again by one class.

It is one KRaft node, broker and controller, on 127.0.0.1. Nothing here knows a feed: clients get `bootstrap_servers`
and, from a secured broker, a folder of credentials.

The data folder holds ``format.json`` (what wrote it), ``log/`` (Kafka's own), ``broker.log``, ``lock``, ``tmp/``, the
broker's settings and, where it is secured, ``tls/`` and ``credentials/``.
"""

import atexit
import base64
import contextlib
import fcntl
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Collection, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, NoReturn, Self

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from fulltape.errors import ConfigurationError, KafkaUnavailableError
from fulltape.local.child import start_child
from fulltape.local.jars import KAFKA, KAFKA_VERSION, ensure_jars
from fulltape.local.java import Java, find_java
from fulltape.local.security import USER, write_credentials

Security = Literal["plain", "tls", "scram-tls"]
"""How clients come in: no encryption; TLS with a client certificate; TLS with SCRAM-SHA-512."""

_HOST = "127.0.0.1"
_STOP_SECONDS = 30.0
_MINIMUM_FREE_BYTES = 256 * 1024 * 1024
_OURS = {
    "format.json",
    "log",
    "broker.log",
    "lock",
    "server.properties",
    "controller.properties",
    "log4j2.yaml",
    "tls",
    "tmp",
    "credentials",
}
_FREE_PORTS = range(20_000, 32_000)
"""Below the ports that systems give to outgoing connections: a client that keeps trying to reach a stopped broker's
port can otherwise be given that very port and connect to itself."""

_LOG4J = """\
Configuration:
  Appenders: {Console: {name: C, PatternLayout: {pattern: "%d %p %c{1}: %m%n"}}}
  Loggers:
    Logger: {name: org.apache.kafka.controller, level: "${sys:fulltape.controller.level:-WARN}"}
    Root: {level: WARN, AppenderRef: {ref: C}}
"""

_CAUSES = {
    "Address already in use": "port {port} is in use; stop its user or choose another port",
    "No space left on device": "the disk that holds {data} is full; free some room and start again",
    "Failed to acquire lock on file": "another broker uses {data}; stop it or choose another data folder",
    "OutOfMemoryError": "its heap of {heap_mib} MiB is too small; start it with more",
}
"""What a person can mend, by the words in the broker's log."""


class EmbeddedKafka:
    """One broker. A context manager that starts and stops it; every method blocks (from async code: to_thread).

    Args:
        data: folder that keeps the data; it is made. None: a temporary one that `stop` deletes.
        port: port for clients; 0 takes a free one, which then stays the same for all starts of this object.
        advertise: name by which other machines reach it; it then listens on all addresses. None: only on 127.0.0.1.
        security: how clients come in. The broker's own, internal listener stays plain, on 127.0.0.1.
        heap_mib: limit of the JVM's heap.
        cpus: CPUs that the broker may run on (Linux); empty for all.
        start_seconds: how long a start may take.

    """

    def __init__(
        self,
        data: Path | None = None,
        *,
        port: int = 0,
        advertise: str | None = None,
        security: Security = "plain",
        heap_mib: int = 512,
        cpus: Collection[int] = (),
        start_seconds: float = 60.0,
    ) -> None:
        self.ephemeral = data is None
        self._data = data.absolute() if data else None
        self._port = port
        self._advertise = advertise
        self._internal_ports: tuple[int, int] | None = None
        self._security: Security = security
        self._heap_mib = heap_mib
        self._cpus = tuple(cpus)
        self._start_seconds = start_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._archive: Path | None = None
        """Where this run writes the class archive that makes later starts quicker; None where there is one."""

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients; known once started."""
        return f"{self._advertise or _HOST}:{self._port}"

    @property
    def data(self) -> Path:
        """The data folder; an ephemeral one exists from `start` to `stop`."""
        if self._data is None:
            raise RuntimeError("an ephemeral broker has a data folder only while it is started")
        return self._data

    @property
    def credentials(self) -> Path:
        """The folder that opens a secured broker to clients: ``user/`` and ``ca/``."""
        return self.data / "credentials"

    @property
    def log_path(self) -> Path:
        """The broker's log of warnings and errors."""
        return self.data / "broker.log"

    @property
    def pid(self) -> int | None:
        """The broker's process id; None where it does not run."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the broker and return once it answers clients.

        Raises:
            ConfigurationError: no Java or jars, a port or the folder in use, a folder of another program or of a newer
                Kafka, no room on the disk.
            KafkaUnavailableError: it ended or did not answer in time; holds the end of its log.

        """
        if self._process is not None:
            raise RuntimeError("the broker is started already; restart() starts it again")
        java, jars = find_java(), ensure_jars(KAFKA)
        try:
            if self._data is None:
                self._data = Path(tempfile.mkdtemp(prefix="fulltape-kafka-"))
            atexit.register(self.stop)
            self._claim_folder()
            self._claim_ports()
            flags = self._java_flags(java, jars)
            self._write_settings()
            if not (self.data / "format.json").exists():
                self._format([*flags, "kafka.tools.StorageTool"])
            self._launch(flags)
        except BaseException:
            self.kill()
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the broker in order, or kill it where that takes too long; delete an ephemeral folder. Idempotent."""
        atexit.unregister(self.stop)
        try:
            self._terminate()
        finally:
            self._process = None
            if self._lock is not None:
                self._lock.close()
                self._lock = None
            if self.ephemeral and self._data is not None:
                shutil.rmtree(self._data, ignore_errors=True)
                self._data = None

    def kill(self) -> None:
        """End the broker as a crash would (SIGKILL). The data stays; `restart` brings it back, `stop` cleans up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def restart(self) -> None:
        """Stop the broker where it still runs, then start it on the same data and ports.

        Raises:
            ConfigurationError: as `start`.
            KafkaUnavailableError: as `start`.

        """
        if self._process is None:
            raise RuntimeError("the broker is not started; start() does that")
        self._terminate()
        self._claim_ports()
        java, jars = find_java(), ensure_jars(KAFKA)
        flags = self._java_flags(java, jars)
        self._write_settings()
        self._launch(flags)

    def wait(self) -> NoReturn:
        """Wait until the broker ends by itself.

        Raises:
            KafkaUnavailableError: it has ended; holds the end of its log.

        """
        if self._process is None:
            raise RuntimeError("the broker is not started")
        self._process.wait()
        raise self._failure(f"Kafka on {self.bootstrap_servers} ended")

    def _claim_folder(self) -> None:
        """Make the folder, lock it, and check that it may be used."""
        try:
            self.data.mkdir(parents=True, exist_ok=True)
            self._lock = (self.data / "lock").open("w")
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"another embedded Kafka uses {self.data}; stop it or choose another data folder"
            ) from None
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {self.data} can't be used: {error.strerror}; choose another"
            ) from error
        check_folder(self.data, self._security)
        free_bytes = shutil.disk_usage(self.data).free
        if free_bytes < _MINIMUM_FREE_BYTES:
            raise ConfigurationError(
                f"the disk that holds {self.data} has {free_bytes // 2**20} MiB left and Kafka needs at least "
                f"{_MINIMUM_FREE_BYTES // 2**20}; free some room or choose another data folder"
            )

    def _claim_ports(self) -> None:
        if self._port == 0:
            self._port = free_port()
        elif not is_free(self._port):
            raise ConfigurationError(f"port {self._port} is in use; stop its user or choose another (0: any free port)")
        if self._internal_ports is None or not all(map(is_free, self._internal_ports)):
            self._internal_ports = (free_port(), free_port())

    def _java_flags(self, java: Java, jars: list[Path]) -> list[str]:
        """Return how Java is started, up to the class to run."""
        archive = jars[0].parent / f"java-{java.build}.jsa"
        # Class data sharing: parsed and verified classes, mapped from a file, take about a second off each start. The
        # JVM ignores an archive that is not of its own build or of these jars.
        flags = [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []
        self._archive = None if flags else archive.with_suffix(f".{os.getpid()}-{id(self)}")
        return [
            str(java.executable),
            *flags,
            "-Xlog:cds=off",
            "-Xlog:cds+dynamic=off",
            f"-Xmx{self._heap_mib}m",
            # The JVM would take the serial collector on one CPU; G1's pauses measured half as long.
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=20",
            "-XX:+ExitOnOutOfMemoryError",
            f"-Dlog4j2.configurationFile={self.data / 'log4j2.yaml'}",
            # Libraries unpack native code there, which a killed JVM leaves behind.
            f"-Djava.io.tmpdir={self.data / 'tmp'}",
            "-cp",
            os.pathsep.join(map(str, jars)),
        ]

    def _write_settings(self) -> None:
        assert self._internal_ports is not None
        settings = server_properties(
            self.data, self._port, self._internal_ports, self._security, advertise=self._advertise
        )
        (self.data / "server.properties").write_text(_render(settings))
        alone = controller_properties(self.data, self._internal_ports[1])
        (self.data / "controller.properties").write_text(_render(alone))
        (self.data / "log4j2.yaml").write_text(_LOG4J)
        shutil.rmtree(self.data / "tmp", ignore_errors=True)
        (self.data / "tmp").mkdir()

    def _format(self, storage_tool: list[str]) -> None:
        """Prepare an empty log folder, and credentials where the broker is secured."""
        shutil.rmtree(self.data / "log", ignore_errors=True)  # left by a format that was interrupted
        cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        command = [*storage_tool, "format", f"--cluster-id={cluster_id}"]
        command += ["--config", str(self.data / "server.properties")]
        if self._security != "plain":
            password = write_credentials(self.credentials, self.data / "tls" / "broker.pem")
            command += ["--add-scram", f'SCRAM-SHA-512=[name="{USER}",password="{password}"]']
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if result.returncode:
            with self.log_path.open("a") as log:
                log.write(result.stdout)
            raise self._failure("Kafka's storage can't be formatted")
        marker = {"kafka_version": KAFKA_VERSION, "security": self._security}
        (self.data / "format.json").write_text(json.dumps(marker))

    def _launch(self, flags: list[str]) -> None:
        """Start the broker and wait until it answers clients."""
        deadline = time.monotonic() + self._start_seconds
        log_folder = self.data / "log"
        if (log_folder / "__cluster_metadata-0").exists() and not (log_folder / ".kafka_cleanshutdown").exists():
            self._fence_the_dead(flags, deadline)
        if self._archive is not None:
            flags = [flags[0], f"-XX:ArchiveClassesAtExit={self._archive}", *flags[1:]]
        process = self._spawn([*flags, "kafka.Kafka", str(self.data / "server.properties")])
        assert self._internal_ports is not None
        # What librdkafka would say on stderr while nothing listens yet is no news.
        admin = AdminClient(
            {
                "bootstrap.servers": f"{_HOST}:{self._internal_ports[0]}",
                "reconnect.backoff.ms": 20,
                "reconnect.backoff.max.ms": 100,
                "log_level": 0,
            }
        )
        while True:
            with contextlib.suppress(KafkaException):
                if admin.list_topics(timeout=0.2).brokers:  # none until the controller lets the broker serve
                    return
            self._check(process, deadline)

    def _fence_the_dead(self, flags: list[str], deadline: float) -> None:
        """After a crash, run the controller alone until it has durably taken the leadership from the broker that died.

        Started as usual, a broker that was killed believes that it leads what it led before. Its coordinator loads the
        transactions whose commit was acknowledged and not yet marked in the topics, and can't deliver the markers, as
        its own listener is still closed. When the controller then ends the dead broker's session, the coordinator takes
        topics without a leader for deleted ones and calls the transactions complete without marking them; readers of
        committed data wait behind them for ever. (Kafka 4.3.1, about every third kill under a stream of transactions.)
        """
        process = self._spawn(
            [
                flags[0],
                "-Dfulltape.controller.level=DEBUG",
                *flags[1:],
                "kafka.Kafka",
                str(self.data / "controller.properties"),
            ]
        )
        while not no_broker_leads(self.log_path.read_text(errors="replace")):
            self._check(process, deadline)
            time.sleep(0.02)
        self._terminate()

    def _spawn(self, command: list[str]) -> subprocess.Popen[bytes]:
        """Start Java as this object's process, with a new log."""
        assert self._lock is not None
        self.log_path.write_bytes(b"")
        # The folder stays locked for as long as the process lives.
        self._process = start_child(command, output=self.log_path, cpus=self._cpus, inherit=[self._lock.fileno()])
        return self._process

    def _check(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        """Raise where a process that is being waited for has ended or the time is over."""
        if process.poll() is not None:
            raise self._failure(f"Kafka ended with code {process.returncode} before it answered")
        if time.monotonic() > deadline:
            raise self._failure(f"Kafka did not answer within {self._start_seconds:g} s")

    def _terminate(self) -> None:
        """End the process in order, or by force where it takes too long, and keep the class archive it wrote."""
        if self._process is not None:
            try:
                self._process.terminate()
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                pass
            finally:  # an impatient second Ctrl-C leaves no broker behind either
                self.kill()
            if self._archive is not None and self._archive.exists():
                if self._process.returncode == -signal.SIGKILL:  # perhaps in the middle of writing it
                    self._archive.unlink()
                else:
                    self._archive.rename(self._archive.with_suffix(".jsa"))

    def _failure(self, what: str) -> ConfigurationError | KafkaUnavailableError:
        log = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        context = {"port": self._port, "data": self.data, "heap_mib": self._heap_mib}
        if cause := next((mend for words, mend in _CAUSES.items() if words in log), None):
            return ConfigurationError(f"{what}: {cause.format(**context)}")
        tail = "\n".join(log.splitlines()[-15:]) or "(empty)"
        return KafkaUnavailableError(f"{what}; the end of its log:\n{tail}")


def check_folder(folder: Path, security: Security) -> None:
    """Check that a data folder is empty or was made by an embedded Kafka of this version or an earlier one.

    Raises:
        ConfigurationError: it is another program's, a newer Kafka's, or formatted for other security.

    """
    marker = folder / "format.json"
    if not marker.exists():
        if foreign := sorted(path.name for path in folder.iterdir() if path.name not in _OURS):
            raise ConfigurationError(
                f"the data folder {folder} holds other things ({', '.join(foreign[:3])}); choose an empty or new one"
            )
        return
    try:
        written = json.loads(marker.read_text())
        version, secured = str(written["kafka_version"]), written["security"]
        newer = _version(version) > _version(KAFKA_VERSION)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigurationError(f"{marker} is damaged; choose another data folder, or delete this one") from error
    if newer:
        raise ConfigurationError(
            f"the data folder {folder} was written by Kafka {version}, and this is {KAFKA_VERSION}, which can't read "
            "it; choose another data folder, or delete this one"
        )
    if secured != security:
        raise ConfigurationError(
            f"the data folder {folder} was formatted for security {secured!r}, not {security!r}; choose another one"
        )


def server_properties(
    data: Path,
    port: int,
    internal_ports: tuple[int, int],
    security: Security = "plain",
    *,
    advertise: str | None = None,
) -> Mapping[str, str | int]:
    """Return the broker's settings; ``internal_ports`` are those of the broker's own listener and the controller's."""
    internal, controller = internal_ports
    protocol = {"plain": "PLAINTEXT", "tls": "SSL", "scram-tls": "SASL_SSL"}[security]
    own = f"INTERNAL://{_HOST}:{internal}"
    listens_on = _HOST if advertise is None else "0.0.0.0"  # noqa: S104 - other machines were asked for
    settings: dict[str, str | int] = {
        "process.roles": "broker,controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{_HOST}:{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CLIENT://{listens_on}:{port},{own},CONTROLLER://{_HOST}:{controller}",
        "advertised.listeners": f"CLIENT://{advertise or _HOST}:{port},{own}",
        "inter.broker.listener.name": "INTERNAL",
        "listener.security.protocol.map": f"CLIENT:{protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": str(data / "log"),
        # One node: every internal topic has one copy, and few partitions start and stop quicker.
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 5,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 5,
        "share.coordinator.state.topic.replication.factor": 1,
        "share.coordinator.state.topic.min.isr": 1,
        "share.coordinator.state.topic.num.partitions": 1,
        # No other broker could take over, so ending the session of one that stalled only does harm (_fence_the_dead
        # says which). Not longer, as a start must outlast a session that an imperfect stop left open.
        "broker.session.timeout.ms": 45_000,
        "group.initial.rebalance.delay.ms": 0,
        "auto.create.topics.enable": "false",
        # A transaction that nobody will end holds up read_committed readers: look for one every second, not every ten.
        "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1000,
        # A laptop's share of threads and memory: the defaults are for a machine that does nothing else.
        "num.network.threads": 2,
        "num.io.threads": 4,
        "log.cleaner.dedupe.buffer.size": 16 * 1024 * 1024,
        "log.segment.bytes": 128 * 1024 * 1024,
        "log.segment.delete.delay.ms": 5000,
        "log.retention.hours": 168,
    }
    if security != "plain":
        secured = "listener.name.client"
        settings |= {
            f"{secured}.ssl.keystore.type": "PEM",
            f"{secured}.ssl.keystore.location": str(data / "tls" / "broker.pem"),
            f"{secured}.ssl.truststore.type": "PEM",
            f"{secured}.ssl.truststore.location": str(data / "credentials" / "ca" / "ca.crt"),
            f"{secured}.ssl.client.auth": "required" if security == "tls" else "none",
        }
    if security == "scram-tls":
        module = "org.apache.kafka.common.security.scram.ScramLoginModule"
        settings |= {
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
            "listener.name.client.scram-sha-512.sasl.jaas.config": f"{module} required;",
        }
    return settings


def controller_properties(data: Path, port: int) -> Mapping[str, str | int]:
    """Return the settings of the controller alone, which gives a broker that died half a second to come back."""
    return {
        "process.roles": "controller",
        "node.id": 1,
        "controller.quorum.voters": f"1@{_HOST}:{port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"CONTROLLER://{_HOST}:{port}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT",
        "log.dirs": str(data / "log"),
        "broker.session.timeout.ms": 500,
        "broker.heartbeat.interval.ms": 100,
    }


def no_broker_leads(log: str) -> bool:
    """Tell from a controller's log (level DEBUG) whether it is active and the last known broker is durably fenced.

    True also where no broker is known. The controller logs each registration record as it replays or writes it:
    ``fenced`` is a boolean in the record of a registration, and 1, -1 or 0 (fenced, unfenced, no change) in that of a
    change. One that it writes is lost if it stops before the record is committed, which it logs with the offset.
    """
    active = log.find("Performing controller activation")
    if active < 0:
        return False
    states = list(
        re.finditer(
            r"Replayed (?:initial )?(?:RegisterBroker|BrokerRegistrationChange)Record.*\bfenced=(true|false|1|-1)\b",
            log,
        )
    )
    if not states:
        return True
    last = states[-1]
    if last[1] not in {"true", "1"}:
        return False
    if last.start() < active:  # replayed from the disk
        return True
    after = log[last.end() :]
    written = re.search(r"Read-write operation .* when the log reaches offset (\d+)", after)
    committed = re.findall(r"Completing purgatory items up to offset (\d+)", after)
    return written is not None and any(int(offset) >= int(written[1]) for offset in committed)


def _render(settings: Mapping[str, str | int]) -> str:
    return "".join(f"{key}={value}\n" for key, value in settings.items())


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on now.

    Raises:
        ConfigurationError: none of many tried is free.

    """
    for port in random.sample(_FREE_PORTS, k=200):
        if is_free(port):
            return port
    raise ConfigurationError(f"no free port found from {_FREE_PORTS.start} to {_FREE_PORTS.stop}; stop some listener")


def is_free(port: int) -> bool:
    """Tell whether a server could listen on a port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As Java does, so that connections which linger after a stop (TIME_WAIT) don't count as a user.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            return False
        return True


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))
