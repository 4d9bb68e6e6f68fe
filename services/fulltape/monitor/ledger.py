"""The ledger: which changes of alerts were made, and up to where the panes behind them were read.

Both are committed in one Kafka transaction, so that a restart goes on exactly where the last commit stands and no
change is lost or made twice. The windows, which are the same whenever they are derived anew, go by an ordinary
producer; a commit waits until those before it are durable, so that none is lost either.

Whoever opens the ledger fences every earlier holder. Every error takes one road: a new transactional producer, a look
at whether the commit in doubt was made after all, else once more.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition

from fulltape.errors import FencedError, KafkaUnavailableError
from fulltape.kafka import FENCED, patiently
from fulltape.messages import UNDECODABLE, Alert
from fulltape.monitor.reader import Place, ends_of, reading_consumer
from fulltape.topics import Topics

LOG = logging.getLogger(__name__)

_TRANSACTION_SECONDS = 10.0
_PATIENCE_SECONDS = 15.0
"""After which a call of the client that ignores its own timeout is given up."""
_EXPIRY_SECONDS = 60
"""The broker ends a transaction that takes longer, and fences whoever began it: a machine that stood still for some
seconds is no takeover. A successor need not wait for it, as it ends what its predecessor left open."""
_OPEN_TRIES = 3
_BACKOFF_SECONDS = (0.1, 3.0)
_FLUSH_SECONDS = 0.5
_encode = msgspec.json.Encoder().encode


class Mark(msgspec.Struct, frozen=True):
    """What is committed beside each offset."""

    commit: str
    """Names the commit."""
    clock: int
    """The feed's second, up to which windows were published."""
    written_ms: int
    """When the newest message was written that is reflected."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What one commit says."""

    alerts: Sequence[Alert]
    positions: Mapping[Place, int]
    clock: int
    written_ms: int


def windows_producer(kafka: Mapping[str, Any], failed: list[str]) -> Producer:
    """Return the producer of windows; what it could not deliver is added to ``failed``."""

    def delivered(error: KafkaError | None, _: Any) -> None:
        if error is not None:
            failed.append(error.str())

    return Producer(
        dict(kafka)
        | {
            "enable.idempotence": True,
            "partitioner": "murmur2_random",
            "compression.type": "lz4",
            "linger.ms": 1,
            "socket.nagle.disable": True,
            "reconnect.backoff.max.ms": 1000,
            "message.timeout.ms": 0,  # while a broker is away they wait for it
            "queue.buffering.max.messages": 50_000,
            "queue.buffering.max.kbytes": 48 * 1024,
            "delivery.report.only.error": True,
            "on_delivery": delivered,
        }
    )


class Ledger:
    """Commits entries one after another; all methods but `stop` belong to one thread at a time."""

    def __init__(
        self, kafka: Mapping[str, Any], topics: Topics, consumer: Consumer, windows: Producer, name: str
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._consumer = consumer
        self._windows = windows
        self._name = name
        # Asked for once: the group has no members, so it never changes, and the client takes its time to answer.
        self._group = consumer.consumer_group_metadata()
        self._stopped = threading.Event()
        self.commits = 0
        self.recoveries = 0
        """How often the transactional producer had to be replaced."""

    def open(self) -> None:
        """Fence every earlier holder, and end what it left open.

        Raises:
            KafkaUnavailableError: no broker answered, or it refused.

        """
        for tries_left in reversed(range(_OPEN_TRIES)):
            try:
                self._producer = self._new_producer()
                break
            except KafkaException as problem:
                # A predecessor that still lives may take being fenced for a mishap and fence back, once.
                if not tries_left or problem.args[0].code() not in FENCED:
                    raise KafkaUnavailableError(
                        f"can't become the monitor of {self._topics.panes}: {problem}"
                    ) from None

    def committed(self, places: Sequence[Place]) -> tuple[dict[Place, int], Mark | None]:
        """Return the committed offsets, and the mark beside them; none where nothing was ever committed.

        Raises:
            KafkaException: no broker answered.

        """
        wanted = [TopicPartition(*place) for place in places]
        known = patiently(lambda: self._consumer.committed(wanted, timeout=_TRANSACTION_SECONDS))
        offsets, marks = {}, []
        for place in known:
            if place.error is not None:
                raise KafkaException(place.error)
            if place.offset >= 0:
                offsets[place.topic, place.partition] = place.offset
                try:
                    marks.append(msgspec.json.decode(place.metadata or "", type=Mark))
                except UNDECODABLE:
                    LOG.warning("the committed offset of %s[%d] is not this program's", place.topic, place.partition)
        return offsets, max(marks, key=lambda mark: mark.clock, default=None)

    def alerts(self) -> list[Alert]:
        """Read back the last change of every alert.

        Raises:
            KafkaException: no broker answered.

        """
        consumer = reading_consumer(self._kafka, self._name)
        place = (self._topics.alerts, 0)
        last: dict[str, Alert] = {}
        try:
            end = ends_of(consumer, [place])[place]
            consumer.assign([TopicPartition(*place, 0)])
            deadline = time.monotonic() + 3 * _TRANSACTION_SECONDS
            while end and time.monotonic() < deadline and not self._stopped.is_set():
                message = consumer.poll(0.1)
                if message is None:
                    continue
                error = message.error()
                if error is None:
                    try:
                        alert = msgspec.json.decode(message.value() or b"", type=Alert)
                    except UNDECODABLE:
                        LOG.warning("%s holds something at offset %s that is no alert", place[0], message.offset())
                        continue
                    last[alert.fingerprint] = alert
                elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
                    return list(last.values())
            if end and not self._stopped.is_set():
                raise KafkaUnavailableError(f"{place[0]} could not be read to its end")
            return list(last.values())
        finally:
            consumer.close()

    def commit(self, entry: Entry) -> None:
        """Make an entry durable, however long that takes; returns without it only after `stop`.

        Raises:
            FencedError: another monitor has taken over.

        """
        mark = Mark(uuid4().hex, entry.clock, entry.written_ms)
        attempt = 0
        while not self._stopped.is_set():
            try:
                if self._windows.flush(_FLUSH_SECONDS):
                    continue
                if attempt:
                    self._producer = self._new_producer()
                    self.recoveries += 1
                    _, found = self.committed(list(entry.positions))
                    if found is not None and found.commit == mark.commit:
                        break
                self._write(entry, mark)
                break
            except KafkaException as problem:
                error = problem.args[0]
                if error.code() in FENCED:
                    raise FencedError(
                        f"another monitor of {self._topics.panes} has taken over; this one ends"
                    ) from None
                LOG.warning("a commit failed, trying again: %s", error.str())
                self._stopped.wait(min(_BACKOFF_SECONDS[1], _BACKOFF_SECONDS[0] * 2**attempt))
                attempt += 1
        else:
            return
        self.commits += 1

    def stop(self) -> None:
        """Let a commit under way end, done or not."""
        self._stopped.set()

    def _write(self, entry: Entry, mark: Mark) -> None:
        producer = self._producer
        beside = _encode(mark).decode()
        producer.begin_transaction()
        for alert in entry.alerts:
            producer.produce(self._topics.alerts, _encode(alert), alert.fingerprint)
        offsets = [TopicPartition(*place, offset, beside) for place, offset in entry.positions.items()]
        # librdkafka 2.16 may wait here for ever for a coordinator that died (librdkafka#5456, #5511).
        _within_patience(
            lambda: producer.send_offsets_to_transaction(offsets, self._group, _TRANSACTION_SECONDS),
            "the offsets of a commit were not taken",
        )
        producer.commit_transaction(_TRANSACTION_SECONDS)

    def _new_producer(self) -> Producer:
        """Make a producer that fences every earlier one, this process's own included."""
        producer = Producer(
            dict(self._kafka)
            | {
                "transactional.id": self._name,
                "transaction.timeout.ms": _EXPIRY_SECONDS * 1000,
                "partitioner": "murmur2_random",
                "linger.ms": 0,
                "socket.nagle.disable": True,
                "reconnect.backoff.max.ms": 1000,
            }
        )
        producer.init_transactions(_TRANSACTION_SECONDS)
        return producer


def _within_patience(call: Callable[[], object], failure: str) -> None:
    """Make a call in a thread of its own, which is left behind where the call does not return.

    Raises:
        KafkaException: the call did, or it did not return in time.

    """
    done: Future[None] = Future()

    def run() -> None:
        try:
            call()
        except BaseException as problem:  # noqa: BLE001 - raised in the caller's thread
            done.set_exception(problem)
        else:
            done.set_result(None)

    # A daemon, as an end of the process waits for all others.
    threading.Thread(target=run, name="ledger's offsets", daemon=True).start()
    try:
        done.result(_PATIENCE_SECONDS)
    except TimeoutError:
        reason = f"{failure} in {_PATIENCE_SECONDS:g} s"
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT, reason)) from None  # noqa: SLF001
