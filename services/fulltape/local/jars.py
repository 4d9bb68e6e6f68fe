"""Fetches named sets of jars once, each verified against a lock that is committed beside this file.

Apache Ivy, which comes with pyspark, resolves and downloads them. The lock (one line a jar, in the format of sha256sum)
decides what is accepted. To change a set: edit its dependencies below, then write its lock anew with
``python -m fulltape.local.jars --write-locks`` and read the difference before committing it.
"""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import quoteattr

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fulltape.errors import ConfigurationError
from fulltape.local.java import find_java

_STALL_SECONDS = 300
"""Ivy itself waits for ever for a server that does not answer."""


@dataclass(frozen=True, slots=True)
class JarSet:
    """Maven artifacts and all that they need."""

    name: str
    """Names the folder in the cache; holds the version."""
    dependencies: Sequence[tuple[str, str, str]]
    """Group, artifact and version."""
    lock: Path
    transitive: bool = True
    """Whether what the dependencies need comes along."""


KAFKA_VERSION = "4.3.1"

KAFKA = JarSet(
    name=f"kafka-{KAFKA_VERSION}",
    dependencies=(
        ("org.apache.kafka", "kafka_2.13", KAFKA_VERSION),
        ("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4"),  # else the broker's log goes nowhere
    ),
    lock=Path(__file__).with_name("kafka-jars.lock"),
)
"""A broker with its storage tool, and no Connect, REST or command-line tools."""

SPARK_KAFKA_VERSION = "4.2.0"

SPARK_KAFKA = JarSet(
    name=f"spark-kafka-{SPARK_KAFKA_VERSION}",
    dependencies=(
        ("org.apache.spark", "spark-sql-kafka-0-10_2.13", SPARK_KAFKA_VERSION),
        ("org.apache.spark", "spark-token-provider-kafka-0-10_2.13", SPARK_KAFKA_VERSION),
        ("org.apache.kafka", "kafka-clients", "3.9.2"),
        ("org.apache.commons", "commons-pool2", "2.13.1"),
    ),
    lock=Path(__file__).with_name("spark-kafka-jars.lock"),
    transitive=False,
)
"""Spark's Kafka connector, of the newest versions that were published. All else that it needs pyspark brings along."""

HADOOP_VERSION = "3.5.0"
AWS_VERSION = "2.35.4"

_AWS_MODULES = (
    "annotations", "apache-client", "arns", "auth", "aws-core", "aws-query-protocol", "aws-xml-protocol", "checksums",
    "checksums-spi", "crt-core", "endpoints-spi", "http-auth", "http-auth-aws", "http-auth-aws-eventstream",
    "http-auth-spi", "http-client-spi", "identity-spi", "json-utils", "metrics-spi", "netty-nio-client", "profiles",
    "protocol-core", "regions", "retries", "retries-spi", "s3", "s3-transfer-manager", "sdk-core", "sts",
    "third-party-jackson-core", "utils", "utils-lite",
)  # fmt: skip

SPARK_S3 = JarSet(
    name=f"spark-s3-{HADOOP_VERSION}",
    dependencies=(
        ("org.apache.hadoop", "hadoop-aws", HADOOP_VERSION),
        ("software.amazon.s3.analyticsaccelerator", "analyticsaccelerator-s3", "1.3.1"),
        # Writes a checkpoint's files in place. Of 4.2 and 4.3 none was published.
        ("org.apache.spark", "spark-hadoop-cloud_2.13", "4.1.1"),
        *(("software.amazon.awssdk", module, AWS_VERSION) for module in _AWS_MODULES),
        ("software.amazon.eventstream", "eventstream", "1.0.1"),
        ("org.reactivestreams", "reactive-streams", "1.0.4"),
    ),
    lock=Path(__file__).with_name("spark-s3-jars.lock"),
    transitive=False,
)
"""What Spark reads and writes S3 with: Hadoop's file system, of pyspark's own version of Hadoop, and the modules of
Amazon's SDK that it uses, in the version that it was made with. The bundle of all modules has more than 600 MB. HTTP
clients and Netty pyspark brings along."""

JAR_SETS = (KAFKA, SPARK_KAFKA, SPARK_S3)

_EVERYWHERE = (KAFKA, SPARK_KAFKA)
"""What `make setup` fetches. The others are fetched by who needs them."""


def cache_folder() -> Path:
    """Return the folder of everything that can be fetched again: $XDG_CACHE_HOME/fulltape, or ~/.cache/fulltape."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fulltape"


def ensure_jars(jar_set: JarSet) -> list[Path]:
    """Return the jars of a set, in the lock's order, after fetching them where they are absent or damaged.

    A set appears whole or not at all, and processes that want it at the same time fetch it once.

    Raises:
        ConfigurationError: no Java, no pyspark, no network, no room, or what was fetched is not what the lock names.

    """
    lock = read_lock(jar_set.lock)
    folder = cache_folder() / jar_set.name
    try:
        if mistakes(folder, lock):
            with _exclusive(jar_set):
                if mistakes(folder, lock):  # nobody else mended it meanwhile
                    _replace(folder, jar_set, lock)
    except OSError as error:
        raise ConfigurationError(
            f"the jars of {jar_set.name} can't be kept in {cache_folder()}: {error.strerror}; make 200 MB of room "
            "there that this user may write, or set XDG_CACHE_HOME to another folder"
        ) from error
    return [folder / name for name in lock]


def is_fetched(jar_set: JarSet) -> bool:
    """Tell whether a set was fetched once."""
    return (cache_folder() / jar_set.name).is_dir()


def read_lock(path: Path) -> dict[str, str]:
    """Return the sha256 of each jar by its file name.

    Raises:
        ConfigurationError: a line is not of the form ``sha256  name.jar``.

    """
    lock = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = re.fullmatch(r"([0-9a-f]{64})  ([\w.-]+\.jar)", line)
        if match is None:
            raise ConfigurationError(f"{path}:{number}: is not 'sha256  name.jar': {line!r}; restore the file")
        lock[match[2]] = match[1]
    return lock


def mistakes(folder: Path, lock: Mapping[str, str]) -> list[str]:
    """Return in words how a folder's jars differ from a lock; empty where they are the same."""
    found = digests(folder)
    return (
        [f"{name} is missing" for name in lock.keys() - found.keys()]
        + [f"{name} is not in the lock" for name in found.keys() - lock.keys()]
        + [f"{name} has another content" for name in lock.keys() & found.keys() if lock[name] != found[name]]
    )


def digests(folder: Path) -> dict[str, str]:
    """Return the sha256 of each jar in a folder, by file name, ascending; nothing for a folder that does not exist."""
    result = {}
    for path in sorted(folder.glob("*.jar")):
        with path.open("rb") as file:
            result[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return result


def write_lock(jar_set: JarSet) -> int:
    """Resolve a set anew and make what comes the lock; return the number of jars."""
    with _exclusive(jar_set), _scratch_folder(jar_set) as scratch:
        _resolve(jar_set, scratch, expected=len(jar_set.dependencies))
        found = digests(scratch / "jars")
    jar_set.lock.write_text("".join(f"{digest}  {name}\n" for name, digest in found.items()))
    return len(found)


def _replace(folder: Path, jar_set: JarSet, lock: Mapping[str, str]) -> None:
    """Fetch a set beside its folder, verify it, and only then let it take the folder's place."""
    with _scratch_folder(jar_set) as scratch:
        _resolve(jar_set, scratch, expected=len(lock))
        fetched = scratch / "jars"
        if wrong := mistakes(fetched, lock):
            raise ConfigurationError(
                f"the jars of {jar_set.name} are not those of {jar_set.lock}: {'; '.join(sorted(wrong)[:5])}; nothing "
                "was installed. Try again; if it stays so, what the network serves was changed"
            )
        if folder.exists():
            folder.rename(scratch / "damaged")
        fetched.rename(folder)


def _resolve(jar_set: JarSet, scratch: Path, expected: int) -> None:
    """Have Ivy put a set's jars into ``scratch/jars``."""
    dependencies = "".join(
        f"<dependency org={quoteattr(group)} name={quoteattr(artifact)} rev={quoteattr(version)}"
        f' conf="default" transitive="{str(jar_set.transitive).lower()}"/>'
        for group, artifact, version in jar_set.dependencies
    )
    (scratch / "ivy.xml").write_text(
        f'<ivy-module version="2.0"><info organisation="fulltape" module={quoteattr(jar_set.name)}/>'
        f'<configurations><conf name="default"/></configurations><dependencies>{dependencies}</dependencies>'
        "</ivy-module>"
    )
    command = [
        *(find_java().executable, "-jar", _ivy()),
        *("-ivy", scratch / "ivy.xml", "-cache", scratch / "ivy"),
        *("-retrieve", f"{scratch}/jars/[artifact]-[revision](-[classifier]).[ext]"),
        *("-types", "jar", "bundle", "--"),
    ]
    with _progress(jar_set.name, expected) as advance:
        code, lines = _run(list(map(str, command)), advance)
        if code:
            raise ConfigurationError(_failure(jar_set, code, lines))


def _run(command: Sequence[str], advance: Callable[[], None]) -> tuple[int, list[str]]:
    """Run Ivy, count the jars as they come, and return its exit code and what it said."""
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout is not None
        try:
            watchdog = threading.Timer(_STALL_SECONDS, process.kill)
            watchdog.start()
            for line in process.stdout:
                watchdog.cancel()
                watchdog = threading.Timer(_STALL_SECONDS, process.kill)
                watchdog.start()
                lines.append(line.strip())
                if "[SUCCESSFUL ]" in line:
                    advance()
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.cancel()
    return process.returncode, lines


def _failure(jar_set: JarSet, code: int, lines: Sequence[str]) -> str:
    reasons = [line.strip(": ") for line in lines if re.search(r"not found|Server access|Exception|No space", line)]
    reason = "; ".join(reasons[:3]) or f"Ivy ended with code {code}"
    if code < 0:
        reason = f"nothing came for {_STALL_SECONDS // 60} minutes"
    return (
        f"the jars of {jar_set.name} can't be fetched from Maven Central: {reason}; check the network and the disk "
        "(Java takes a proxy from JAVA_TOOL_OPTIONS='-Dhttps.proxyHost=... -Dhttps.proxyPort=...') and start again"
    )


def _ivy() -> Path:
    spec = importlib.util.find_spec("pyspark")
    locations = spec.submodule_search_locations if spec else None
    for location in locations or []:
        for path in sorted(Path(location).glob("jars/ivy-*.jar")):
            return path
    raise ConfigurationError(
        "the embedded Kafka is fetched by Apache Ivy, which comes with pyspark, and that is not installed; run "
        "pip install 'fulltape[spark]', or in the repository: make setup"
    )


@contextmanager
def _exclusive(jar_set: JarSet) -> Iterator[None]:
    """Keep other processes from fetching the same set."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"{jar_set.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # given up with the file, so also by a process that dies
        yield


@contextmanager
def _scratch_folder(jar_set: JarSet) -> Iterator[Path]:
    """Give an empty folder on the cache's own file system, where a rename into place is atomic."""
    path = cache_folder() / f"{jar_set.name}.fetching"
    shutil.rmtree(path, ignore_errors=True)  # left by a process that was killed
    path.mkdir()
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _progress(name: str, expected: int) -> Iterator[Callable[[], None]]:
    """Show a bar at a terminal, plain lines elsewhere; both on stderr."""
    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"fetching the jars of {name} (once, about a minute)", soft_wrap=True)
        yield lambda: None
        console.print(f"fetched the jars of {name}", soft_wrap=True)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(f"resolving and fetching the jars of {name}, once", total=expected)
        yield lambda: progress.advance(task)


@click.command()
@click.option("--write-locks", is_flag=True, help="Resolve every set anew and write its lock.")
def main(*, write_locks: bool) -> None:
    """Fetch the jar sets that every machine needs and that are not in the cache yet; damaged ones anew."""
    for jar_set in JAR_SETS if write_locks else _EVERYWHERE:
        try:
            if write_locks:
                click.echo(f"{jar_set.lock}: {write_lock(jar_set)} jars")
            else:
                ensure_jars(jar_set)
        except ConfigurationError as error:
            click.echo(f"error: {error}", err=True)
            sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
