"""Where a stream of panes begins: where its checkpoint ends, or else at a time that the tape is searched for.

A checkpoint is in a folder, or on S3 (`fulltape_spark.checkpoint_s3`). The folder holds ``current/``, which is Spark's
own (``spark/``) beside `Beginning` (``beginning.json``), and ``unusable/``, the last checkpoint that was set aside.
"""

import hashlib
import os
import shutil
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, TopicDescription  # type: ignore[attr-defined]  # its documented names

from fulltape.errors import ConfigurationError
from fulltape.kafka import ClientConfiguration, patiently, unavailable
from fulltape.messages import UNDECODABLE, Gap, Trade
from fulltape.offsets import offsets_since

_TIMEOUT_SECONDS = 15.0
_LOOK_BACK = 2000
"""So many offsets before the beginning are read, to see which panes had begun by then. Trades of one moment are
written together, so that this is far more than a second holds open."""


class Beginning(msgspec.Struct, frozen=True):
    """What a stream was begun with. A checkpoint continues only a stream that was begun as it would be today."""

    identity: str
    """Digest of what the state depends on: the columns, the partitions, the topic itself."""
    offsets: dict[str, int]
    """The offset in each partition of the tape at which the stream began."""
    complete_from_us: int
    """Panes from this exchange time on are read from their first trade on."""


class Tape:
    """The tape's topic, as much of it as a start must know.

    Raises:
        KafkaUnavailableError: no broker answers.

    """

    def __init__(self, configuration: ClientConfiguration, topic: str) -> None:
        self._configuration = configuration
        self.topic = topic
        client = AdminClient(dict(configuration))

        def describe() -> TopicDescription:
            asked = client.describe_topics(TopicCollection([topic]), request_timeout=_TIMEOUT_SECONDS)
            description: TopicDescription = asked[topic].result()
            return description

        try:
            found = patiently(describe)
        except KafkaException as error:
            raise unavailable(error.args[0], configuration, _TIMEOUT_SECONDS) from error
        self.partitions = len(found.partitions)
        self.topic_id = str(found.topic_id)

    def identity(self, *settings: object) -> str:
        """Return a digest of this topic and of what else a stream's state depends on."""
        parts = (self.topic, self.topic_id, self.partitions, *settings)
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def first_offsets(self) -> dict[str, int]:
        """Return the offset of the oldest record of each partition.

        Raises:
            KafkaUnavailableError: no broker answers.

        """
        consumer = Consumer({**self._configuration, "group.id": f"{self.topic}.beginning", "enable.auto.commit": False})
        try:
            places = [TopicPartition(self.topic, number) for number in range(self.partitions)]
            return {
                str(place.partition): patiently(
                    partial(consumer.get_watermark_offsets, place, timeout=_TIMEOUT_SECONDS)
                )[0]
                for place in places
            }
        except KafkaException as error:
            raise unavailable(error.args[0], self._configuration, _TIMEOUT_SECONDS) from error
        finally:
            consumer.close()

    def begin(self, identity: str, since_us: int) -> Beginning:
        """Find where the tape stood at a time; a partition with nothing written since begins at its end.

        Raises:
            KafkaUnavailableError: no broker answers.

        """
        consumer = Consumer(
            {
                **self._configuration,
                "group.id": f"{self.topic}.beginning",  # joined by nobody: nothing is committed or subscribed
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "error",
            }
        )
        try:
            found = offsets_since(self._configuration, self.topic, range(self.partitions), since_us // 1000)
            offsets, newest_us = {}, -1
            for partition, begun in found.items():
                place = TopicPartition(self.topic, partition)
                low, high = patiently(partial(consumer.get_watermark_offsets, place, timeout=_TIMEOUT_SECONDS))
                offset = high if begun is None else begun
                offsets[str(partition)] = offset
                newest_us = max(newest_us, _newest_before(consumer, place, max(low, offset - _LOOK_BACK), offset))
        except KafkaException as error:
            raise unavailable(error.args[0], self._configuration, _TIMEOUT_SECONDS) from error
        finally:
            consumer.close()
        return Beginning(identity, offsets, (newest_us // 1_000_000 + 1) * 1_000_000)


def _newest_before(consumer: Consumer, place: TopicPartition, start: int, end: int) -> int:
    """Return the newest exchange time of the trades from ``start`` to before ``end``; -1 where there is none."""
    newest_us = -1
    if start >= end:
        return newest_us
    decoder = msgspec.json.Decoder(Trade | Gap)
    consumer.assign([TopicPartition(place.topic, place.partition, start)])
    deadline = time.monotonic() + _TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():  # the end of the partition, or of what is committed
            break
        offset = message.offset()
        if offset is None or offset >= end:
            break
        try:
            record = decoder.decode(message.value() or b"")
        except UNDECODABLE:
            continue
        if isinstance(record, Trade):
            newest_us = max(newest_us, record.time_us)
    return newest_us


OTHERWISE = "it was made from another tape, or by a version that computes panes otherwise"
"""Why a checkpoint of another identity can't be continued."""


class Checkpoint(Protocol):
    """Where one stream keeps its checkpoint.

    Its methods raise `FulltapeError` where the place can't be used.
    """

    @property
    def place(self) -> str:
        """The whole of it, for a person."""

    @property
    def spark(self) -> Path | str:
        """Spark's own part; known once it was read as one to continue, or begun."""

    def check(self) -> None:
        """Make sure that it can be read and written."""

    def confirm(self) -> None:
        """Make sure that no other process has taken it over."""

    def read(self, identity: str) -> Beginning | str | None:
        """Return what the kept stream was begun with, or what is wrong with it; None where there is none."""

    def begin(self, beginning: Beginning) -> None:
        """Begin a new checkpoint, in place of none."""

    def set_aside(self) -> Path | str:
        """Make room for a new checkpoint; of those set aside the last is kept. Returns where."""


class CheckpointFolder:
    """The folder in which one stream keeps its checkpoint.

    Raises:
        ConfigurationError: it can't be made or written.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._current = folder / "current"
        self.check()

    @property
    def place(self) -> str:
        """The whole of it, for a person."""
        return str(self.folder)

    def check(self) -> None:
        """Make sure that it can be written.

        Raises:
            ConfigurationError: it can't.

        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = self.folder / f"probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"the checkpoint folder {self.folder} can't be written: {error.strerror}; choose another with "
                "--checkpoint"
            ) from error

    def confirm(self) -> None:
        """Do nothing: a volume is mounted on one node, and one process of a machine is started at a time."""

    @property
    def spark(self) -> Path:
        """Spark's own part."""
        return self._current / "spark"

    def read(self, identity: str) -> Beginning | str | None:
        """Return what the kept stream was begun with, or what is wrong with it; None where there is none."""
        if not self._current.exists():
            return None
        path = self._current / "beginning.json"
        try:
            beginning = msgspec.json.decode(path.read_bytes(), type=Beginning)
        except OSError as error:
            return f"{path}: {error.strerror}"
        except UNDECODABLE as error:
            return f"{path}: {error}"
        if beginning.identity != identity:
            return OTHERWISE
        return beginning

    def begin(self, beginning: Beginning) -> None:
        """Begin a new checkpoint, in place of none."""
        self._current.mkdir()
        part = self._current / "beginning.part"
        part.write_bytes(msgspec.json.encode(beginning))
        part.rename(self._current / "beginning.json")

    def set_aside(self) -> Path:
        """Make room for a new checkpoint; of those set aside the last is kept."""
        aside = self.folder / "unusable"
        shutil.rmtree(aside, ignore_errors=True)
        self._current.rename(aside)
        return aside


def starting_offsets(topic: str, offsets: Mapping[str, int]) -> str:
    """Write offsets as Spark's Kafka source takes them."""
    return msgspec.json.encode({topic: offsets}).decode()
