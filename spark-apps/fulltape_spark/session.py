"""Starts Spark for a streaming application: its JVM, what that is told, and what makes its start short.

A JVM that has read, verified and linked some 15,000 classes once can map them from a file (class data sharing), which
halves a start. A child process writes that file, at low priority, after a start that had none; an image, whose files
can't be written later, gets it by ``python -m fulltape_spark.session``.
"""

import contextlib
import hashlib
import json
import logging
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyspark
from pyspark.sql import SparkSession

from fulltape.local.jars import SPARK_KAFKA, SPARK_S3, JarSet, cache_folder, ensure_jars, is_fetched
from fulltape.local.java import find_java

MASTER_VARIABLE = "FULLTAPE_SPARK_MASTER"
"""Environment variable with a Spark master, such as ``k8s://https://...``, in place of threads of the driver."""

SETTINGS_VARIABLE = "FULLTAPE_SPARK_SETTINGS"
"""Environment variable with the path of further settings: a JSON object of texts.

Spark's own file for them would be in a folder on the class path, and a class archive is of one class path alone."""

POD_VARIABLE = "FULLTAPE_POD_NAME"
"""Environment variable with the name of the driver's pod."""

ADDRESS_VARIABLE = "FULLTAPE_SPARK_ADDRESS"
"""Environment variable with the driver's address as executors reach it: in a cluster, the pod's."""

_LOG4J = Path(__file__).with_name("log4j2.properties")

_STALE_SECONDS = 3600

_log = logging.getLogger(__name__)


class Spark:
    """A running Spark; a context manager that ends it.

    Args:
        slots: how many tasks can run at the same time, where the driver runs them.
        settings: Spark's settings beside those that every application has.
        heap_mib: limit of the driver's heap.
        with_s3: whether it reads or writes S3.

    Raises:
        ConfigurationError: no Java, or the jars can't be had.

    """

    def __init__(self, slots: int, settings: Mapping[str, str], heap_mib: int, *, with_s3: bool = False) -> None:
        java = find_java()
        jars = [jar for jar_set in _jar_sets(with_s3=with_s3) for jar in ensure_jars(jar_set)]
        self._archive = _ClassArchive(java.executable, java.build, jars)
        flags = [
            *self._archive.flags,
            f"-Dlog4j2.configurationFile={_LOG4J}",
            # On one CPU the JVM would take the serial collector, whose pauses are longer.
            "-XX:+UseG1GC",
            "-XX:MaxGCPauseMillis=10",
            "-XX:+ExitOnOutOfMemoryError",
            "-Xss8m",  # Spark looks through long plans by regular expressions, which recurse
            "-XX:-DontCompileHugeMethods",  # some of the code that Spark generates is; it would stay interpreted
        ]
        address = os.environ.get(ADDRESS_VARIABLE, "127.0.0.1")
        builder = SparkSession.builder
        for key, value in {
            "spark.app.name": "fulltape",
            "spark.master": os.environ.get(MASTER_VARIABLE) or f"local[{slots}]",
            "spark.driver.memory": f"{heap_mib}m",
            "spark.driver.extraClassPath": os.pathsep.join(map(str, jars)),
            # Executors are of the driver's image, and what is slow there is as slow.
            "spark.executor.extraJavaOptions": shlex.join(flags),
            "spark.driver.extraJavaOptions": shlex.join(flags),
            "spark.driver.bindAddress": address,
            "spark.driver.host": address,
            "spark.ui.enabled": "false",
            "spark.ui.showConsoleProgress": "false",
            "spark.sql.catalogImplementation": "in-memory",
            **settings,
            **_cluster_settings(),
        }.items():
            builder = builder.config(key, value)
        # What pyspark's own shell scripts need to find the same Java, and to start their small helper JVM quickly.
        os.environ["JAVA_HOME"] = str(java.executable.resolve().parents[1])
        os.environ["SPARK_LAUNCHER_OPTS"] = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
        logging.getLogger("py4j").setLevel(logging.CRITICAL)  # it logs each connection of a JVM that ends
        self.session: SparkSession = builder.getOrCreate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def jvm(self) -> Any:
        """The driver's JVM, by py4j."""
        return self.session.sparkContext._jvm  # noqa: SLF001 - pyspark gives no other way

    def running_tasks(self) -> int:
        """Return how many tasks run now."""
        tracker = self.session.sparkContext.statusTracker()
        stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
        return sum(stage.numActiveTasks for stage in stages if stage is not None)

    def free_slots(self) -> int:
        """Return how many more tasks could run now, on the executors that there are."""
        context = self.session.sparkContext._jsc.sc()  # noqa: SLF001 - pyspark gives no other way
        profile = context.resourceProfileManager().defaultResourceProfile()
        return int(context.maxNumConcurrentTasks(profile)) - self.running_tasks()

    def quicken_next_start(self) -> "subprocess.Popen[bytes] | None":
        """Write the class archive where there is none, without waiting for it; return the process that does."""
        return self._archive.write(self.jvm.java.lang.System.getProperty("java.class.path"))

    def stop(self) -> None:
        """End Spark and its JVM; says nothing of what is lost with it."""
        gateway = self.session.sparkContext._gateway  # noqa: SLF001
        with contextlib.suppress(Exception):  # the JVM may have died, which is no news by now
            self.session.stop()
        if gateway is None or gateway.proc is None:
            return
        gateway.proc.stdin.close()  # that ends it
        try:
            gateway.proc.wait(3)
        except subprocess.TimeoutExpired:
            gateway.proc.kill()


def _jar_sets(*, with_s3: bool) -> list[JarSet]:
    """Return what is on the class path beside pyspark's own jars.

    Jars for S3 are on it once they are there, as they are in an image: a class archive is of one class path alone.
    """
    return [SPARK_KAFKA, SPARK_S3] if with_s3 or is_fetched(SPARK_S3) else [SPARK_KAFKA]


def _cluster_settings() -> Mapping[str, str]:
    """Return what a driver in a pod is told besides."""
    settings: dict[str, str] = {}
    if path := os.environ.get(SETTINGS_VARIABLE):
        settings |= json.loads(Path(path).read_text())
    if pod := os.environ.get(POD_VARIABLE):
        # Executors then belong to the driver's pod, and go with it however it ends.
        settings["spark.kubernetes.driver.pod.name"] = pod
    return settings


class _ClassArchive:
    """The file that holds a JVM's classes, for one build of Java, one place of pyspark's jars and the jars beside."""

    def __init__(self, java: Path, build: str, jars: Sequence[Path]) -> None:
        self._java = java
        parts = (pyspark.__file__, pyspark.__version__, *(jar.name for jar in jars))
        place = hashlib.sha256(" ".join(parts).encode()).hexdigest()[:12]
        self._archive = cache_folder() / SPARK_KAFKA.name / f"java-{build}-{place}.jsa"
        self._classes = self._archive.with_suffix(f".{os.getpid()}.classes")

    @property
    def flags(self) -> list[str]:
        """What the JVM is told: to use the archive, or to note which classes it would hold."""
        for left in self._archive.parent.glob("*.classes"):  # by a start that was killed
            if time.time() - left.stat().st_mtime > _STALE_SECONDS:
                left.unlink(missing_ok=True)
        if self._archive.exists():
            return [f"-XX:SharedArchiveFile={self._archive}", "-Xlog:cds=off"]
        return [f"-XX:DumpLoadedClassList={self._classes}"]

    def write(self, class_path: str) -> "subprocess.Popen[bytes] | None":
        """Start a JVM that writes the archive from the classes noted so far."""
        if not self._classes.exists():
            return None
        part = self._archive.with_suffix(f".{os.getpid()}.part")
        command = [
            *("nice", "-n", "19", self._java, "-Xshare:dump", "-Xlog:disable", "-Xmx512m", "-XX:+UseG1GC"),
            *("--add-modules=jdk.incubator.vector", f"-XX:SharedClassListFile={self._classes}"),
            *(f"-XX:SharedArchiveFile={part}", "-cp", class_path),
        ]
        script = f"{shlex.join(map(str, command))} && mv {shlex.quote(str(part))} {shlex.quote(str(self._archive))}"
        _log.info("writing the class archive that makes later starts quicker: %s", self._archive)
        return subprocess.Popen(
            ["/bin/sh", "-c", f"{script}; rm -f {shlex.quote(str(self._classes))} {shlex.quote(str(part))}"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )


def _main() -> None:
    """Write the class archive of this installation from what a small stream loads, and wait for it.

    Executors map it too; what class path it is of is written beside it, for them to have the same.
    """
    with Spark(slots=1, settings={}, heap_mib=512) as spark:
        stream = spark.session.readStream.format("rate").load().groupBy("value").count()
        query = stream.writeStream.format("noop").outputMode("update").trigger(once=True).start()
        query.awaitTermination()
        class_path = spark.jvm.java.lang.System.getProperty("java.class.path")
        writer = spark.quicken_next_start()
    if writer is not None and writer.wait():
        sys.exit("the class archive could not be written")
    (cache_folder() / "spark.classpath").write_text(class_path)


if __name__ == "__main__":
    _main()
