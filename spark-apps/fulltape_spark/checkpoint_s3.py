"""The checkpoint of one stream below an S3 prefix, by the rules of `CheckpointFolder`.

S3 renames nothing: it copies and deletes, and a crash in between would leave half of a checkpoint. So nothing is moved.
Each checkpoint of Spark has a folder of its own, ``spark/<id>/``, and ``beginning.json`` names the one that counts and
the process that it belongs to. Who replaces that object must have read its present version (a conditional write).

This is the fence between two drivers of a stream: who starts takes the checkpoint over, and who finds that another has
done so ends. What it wrote before it looked is nowhere read where the other began anew. Where both continue the same
checkpoint, a file of Spark's logs is written only where there is none, and names the files of state that go with it.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import msgspec
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark.sql import SparkSession

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.messages import UNDECODABLE
from fulltape.s3 import s3_endpoint, s3_region
from fulltape_spark.checkpoint import OTHERWISE, Beginning

SCHEME = "s3a://"
"""Begins the address of a checkpoint on S3, as Hadoop's file system for it is called."""

_IF_NONE = "fs.option.create.conditional.overwrite"
_IF_VERSION = "fs.option.create.conditional.overwrite.etag"
_NO_BUCKET = "org.apache.hadoop.fs.s3a.UnknownStoreException"
_MISSING = "java.io.FileNotFoundException"
_REFUSED = {
    "java.nio.file.AccessDeniedException",
    "org.apache.hadoop.fs.s3a.auth.NoAuthWithAWSException",
    "org.apache.hadoop.fs.s3a.CredentialInitializationException",
}
_TAKEN_OVER = "another process has taken this stream over; let one alone run"
_TAKEN = {"org.apache.hadoop.fs.s3a.RemoteFileChangedException", "org.apache.hadoop.fs.FileAlreadyExistsException"}


class CheckpointUnavailableError(FulltapeError):
    """S3 did not answer; trying again may help."""


class CheckpointTakenError(FulltapeError):
    """Another process has taken the stream over; this one must stop."""

    exit_code = 75


class _Kept(msgspec.Struct, frozen=True):
    """What ``beginning.json`` says."""

    beginning: Beginning
    spark: str
    """Spark's folder, relative to the prefix."""
    owner: str
    """Id of the process that writes there."""


def s3_settings(environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return what Spark is told of S3. Credentials are none of it: every JVM finds its own."""
    found = {
        "aws.credentials.provider": "software.amazon.awssdk.auth.credentials.DefaultCredentialsProvider",
        # A local file is then sent as all else is, and not by a client that needs an older Netty than Spark has.
        "optimized.copy.from.local.enabled": "false",
        # Small files are read whole; the default is made for columns of large ones.
        "input.stream.type": "classic",
    }
    if (endpoint := s3_endpoint(environment)) is not None:
        found |= {"endpoint": endpoint, "path.style.access": "true"}
    if (region := s3_region(environment)) is not None:
        found["endpoint.region"] = region
    return {
        **{f"spark.hadoop.fs.s3a.{name}": value for name, value in found.items()},
        # What is sent stands in a local file first, and Hadoop's S3 takes no other local file system than the default.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.LocalFileSystem",
    }


class CheckpointPrefix:
    """The S3 prefix below which one stream keeps its checkpoint.

    Raises:
        ConfigurationError: there is no such bucket, or it may not be read and written.
        CheckpointUnavailableError: S3 does not answer.

    """

    def __init__(self, uri: str, session: SparkSession) -> None:
        """Look whether the prefix can be used, by the settings and the credentials of a running Spark."""
        self.place = uri.rstrip("/")
        context = session.sparkContext
        self._jvm: Any = context._jvm  # noqa: SLF001 - pyspark gives no other way
        self._object = f"{self.place}/beginning.json"
        self._owner = uuid4().hex
        self._version: str | None = None
        self._kept: str | None = None
        with self._explained("reach", self.place):
            self._files: Any = self._path(self.place).getFileSystem(context._jsc.hadoopConfiguration())  # noqa: SLF001
        self.check()

    @property
    def spark(self) -> str:
        """Spark's own part."""
        assert self._kept is not None  # it was read, or begun
        return f"{self.place}/{self._kept}"

    def check(self) -> None:
        """Make sure that it can be written.

        Raises:
            ConfigurationError, CheckpointUnavailableError: it can't.

        """
        probe = self._path(f"{self.place}/probe-{uuid4().hex}")
        with self._explained("write and delete", str(probe)):
            self._files.create(probe).close()
            self._delete(probe)

    def confirm(self) -> None:
        """Make sure that no other process has taken it over.

        Raises:
            CheckpointTakenError: one has.
            ConfigurationError, CheckpointUnavailableError: it can't be read.

        """
        try:
            content = self._content()
        except FileNotFoundError:
            content = b""
        try:
            owner = msgspec.json.decode(content, type=_Kept).owner
        except UNDECODABLE:
            owner = ""
        if owner != self._owner:
            raise CheckpointTakenError(f"{self._object} is not this process's any more: {_TAKEN_OVER}")

    def read(self, identity: str) -> Beginning | str | None:
        """Return what the kept stream was begun with, or what is wrong with it; None where there is none.

        One that can be continued is taken over.

        Raises:
            CheckpointTakenError: another process takes it over at the same time.
            ConfigurationError, CheckpointUnavailableError: it can't be read or written.

        """
        self._version = self._kept = None
        try:
            content = self._content()
        except FileNotFoundError:
            return None
        try:
            kept = msgspec.json.decode(content, type=_Kept)
        except UNDECODABLE as error:
            return f"{self._object}: {error}"
        self._kept = kept.spark
        if kept.beginning.identity != identity:
            return OTHERWISE
        self._replace(kept.beginning, kept.spark)
        return kept.beginning

    def begin(self, beginning: Beginning) -> None:
        """Begin a new checkpoint in place of what was read; of those before the last is kept.

        Raises:
            CheckpointTakenError: another process did so meanwhile.
            ConfigurationError, CheckpointUnavailableError: it can't be written.

        """
        # What is there by now, and is not the last, can be nobody's once this write was allowed. Where what was read
        # did not say which is the last, all are kept.
        known = self._version is None or self._kept is not None
        old = [folder for folder in self._folders() if known and folder != self._kept]
        self._kept = f"spark/{uuid4().hex}"
        self._replace(beginning, self._kept)
        for folder in old:
            with self._explained("delete", folder):
                self._delete(self._path(f"{self.place}/{folder}"))

    def set_aside(self) -> str:
        """Return where the checkpoint stays that the next `begin` replaces."""
        return self.place if self._kept is None else self.spark

    def _content(self) -> bytes:
        """Read ``beginning.json``, and remember which version it is.

        Raises:
            FileNotFoundError: there is none.

        """
        path = self._path(self._object)
        with self._explained("read", self._object):
            # The version first: of one that is replaced in between nothing can be written in the place.
            self._version = self._files.getFileStatus(path).getETag()
            stream = self._files.open(path)
            content = bytes(self._jvm.org.apache.commons.io.IOUtils.toByteArray(stream))
            stream.close()
        return content

    def _replace(self, beginning: Beginning, spark: str) -> None:
        """Write ``beginning.json`` as this process's, in place of the version that was read, or of none."""
        with self._explained("write", self._object):
            builder = self._files.createFile(self._path(self._object))
            if self._version is None:
                builder = builder.must(_IF_NONE, "true")
            else:
                builder = builder.overwrite(True).must(_IF_VERSION, self._version)  # noqa: FBT003 - Java has no names
            stream = builder.build()
            stream.write(bytearray(msgspec.json.encode(_Kept(beginning, spark, self._owner))))
            stream.close()
        self.confirm()

    def _folders(self) -> list[str]:
        folder = f"{self.place}/spark"
        try:
            with self._explained("list", folder):
                return [f"spark/{found.getPath().getName()}" for found in self._files.listStatus(self._path(folder))]
        except FileNotFoundError:
            return []

    def _delete(self, path: Any) -> None:
        self._files.delete(path, True)  # noqa: FBT003 - with all that is below it

    def _path(self, uri: str) -> Any:
        return self._jvm.org.apache.hadoop.fs.Path(uri)

    @contextmanager
    def _explained(self, what: str, where: str) -> Iterator[None]:
        """Turn what Hadoop raises into what a person can mend; that something is not there into `FileNotFoundError`."""
        try:
            yield
        except Py4JJavaError as error:
            raise _explanation(what, where, self.place, error) from error


def _explanation(what: str, where: str, place: str, error: Py4JJavaError) -> Exception:
    causes = list(_causes(error.java_exception))
    kinds = {kind for kind, _ in causes}
    text = " ".join(causes[0][1].split())[:500]
    problem = f"can't {what} {where}"
    if _NO_BUCKET in kinds:
        bucket = place.removeprefix(SCHEME).partition("/")[0]
        return ConfigurationError(
            f"{problem}: there is no bucket {bucket}; make it, or name another in spec.analytics.checkpoint.uri"
        )
    if kinds & _REFUSED:
        return ConfigurationError(
            f"{problem}: not permitted; give this program credentials that may list, read, write and delete there "
            f"({text})"
        )
    if kinds & _TAKEN:
        return CheckpointTakenError(f"{problem}: {_TAKEN_OVER}")
    if _MISSING in kinds:
        return FileNotFoundError(where)
    return CheckpointUnavailableError(f"{problem}: {text}")


def _causes(error: Any) -> Iterator[tuple[str, str]]:
    """Return the kind and the text of a Java exception and of those behind it."""
    while error is not None:
        yield error.getClass().getName(), error.getMessage() or error.getClass().getName()
        error = error.getCause()
