"""Who writes a product, and where its tape ends: claims on the cursors topic, and the tape itself.

Kafka fences two producers of the same transactional id. When the number of shards changes, a product moves between
different ids, which Kafka knows nothing of; claims close that hole. Whoever takes a product over (1) commits its own
claim, (2) reads all claims, (3) fences every other claimant, and only then (4) reads the end of the tape. Of two that
do so at once, the one that commits its claim later sees the other's, so at least one of them is fenced: never do both
write. The argument is that of mutual exclusion by flags (E. W. Dijkstra, "Cooperating sequential processes", 1965):
raise your own before you look for others'.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # exported all the same

from fulltape.errors import KafkaUnavailableError
from fulltape.messages import UNDECODABLE, Cursor, Gap, TapeRecord, Trade

LOG = logging.getLogger(__name__)

Claims = dict[tuple[str, str], Cursor]
"""The newest cursor of each (product, owner)."""

SEARCHED = ("*", "searched")
"""Stands among the claims once the whole tape was searched, and every product found there was given a claim: from then
on a product without a claim was never written."""

FOUND = "found"
"""The owner of claims made for products that were found on a tape and belong to another shard."""

_READ_SECONDS = 30.0
_NO_LEADER_YET = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._NOENT,  # noqa: SLF001 - the client has no public name for it
}
_NO_LEADER_PAUSE_SECONDS = 0.1
_LATEST = OffsetSpec.latest()  # type: ignore[no-untyped-call]
_EARLIEST = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_PROGRESS_SECONDS = 5.0
_READ_MESSAGES = 1000
_READ_WAIT_SECONDS = 0.02
"""How long the client waits for a full batch, which at the end of a partition never comes."""
_decode_cursor = msgspec.json.Decoder(Cursor).decode
_record_decoder: msgspec.json.Decoder[TapeRecord] = msgspec.json.Decoder(TapeRecord)


@dataclass(slots=True)
class TapeEnd:
    """Where the tape of a product ends: what the next record must continue."""

    partitions: int
    partition: int | None = None
    offset: int = 0
    next_id: int | None = None
    last: Trade | None = None

    def advance(self, record: TapeRecord) -> None:
        """Move behind ``record``."""
        if isinstance(record, Trade):
            self.last = record
            self.next_id = record.trade_id + 1
        else:
            self.next_id = record.last_id + 1

    def cursor(self, product: str, owner: str, incarnation: str) -> Cursor:
        """Return this end as a claim of ``owner``."""
        return Cursor(
            product, owner, incarnation, self.partitions, self.partition, self.offset, self.next_id, self.last
        )


def id_range(record: TapeRecord) -> tuple[int, int]:
    """Return the first and the last trade id that ``record`` accounts for."""
    return (record.first_id, record.last_id) if isinstance(record, Gap) else (record.trade_id, record.trade_id)


def cursor_key(product: str, owner: str) -> str:
    """Return the Kafka key under which an owner's cursor of a product is kept."""
    return f"{product} {owner}"


def best_end(product: str, claims: Claims) -> TapeEnd | None:
    """Return the furthest end that any claim knows for ``product``; None where nobody ever claimed it."""
    known = [cursor for (claimed, _), cursor in claims.items() if claimed == product]
    if not known:
        return None
    furthest = max(known, key=lambda cursor: (cursor.next_id or 0, cursor.offset))
    return TapeEnd(furthest.partitions, furthest.partition, furthest.offset, furthest.next_id, furthest.last)


def rivals(products: Iterable[str], owner: str, claims: Claims) -> set[str]:
    """Return every other owner that claims one of ``products``."""
    mine = set(products)
    return {other for (product, other) in claims if product in mine and other != owner}


class TapeReader:
    """Reads claims and the tape's end. A call that finds itself ``stopped`` ends early, as if Kafka were away."""

    def __init__(
        self, kafka: Mapping[str, Any], trades_topic: str, cursors_topic: str, *, stopped: Callable[[], bool]
    ) -> None:
        self._admin = AdminClient(dict(kafka))
        self._stopped = stopped
        self._kafka = kafka
        self._trades_topic = trades_topic
        self._cursors_topic = cursors_topic

    def claims(self) -> Claims:
        """Read all claims, in the order in which they were committed.

        Raises:
            KafkaUnavailableError: no answer in time.

        """
        claims: Claims = {}
        # From offset 0: to ask for "the beginning" costs the client half a second, and compaction leaves the number be.
        for message in self._read({TopicPartition(self._cursors_topic, 0, 0)}):
            key, value = message.key(), message.value()
            if value is None:
                claims.pop(_owner_key(key), None)
                continue
            try:
                cursor = _decode_cursor(value)
            except UNDECODABLE as problem:
                LOG.warning("%s offset %s is no cursor: %s", self._cursors_topic, message.offset(), problem)
                continue
            claims[cursor.product, cursor.owner] = cursor
        return claims

    def ends(self, products: Iterable[str], claims: Claims, partitions: int) -> dict[str, TapeEnd]:
        """Read where the tape of each product ends, starting from what the claims know.

        A product that nobody ever claimed was never written, so nothing is searched for it; unless nobody has yet
        searched the whole tape (see `SEARCHED`): then all of it is, and the answer has every product that is on it. A
        product whose cursor and tape contradict each other, because the broker lost what it had acknowledged, is
        searched for everywhere too.

        Raises:
            KafkaUnavailableError: no answer in time.

        """
        every = dict.fromkeys(range(partitions), 0)
        starts = {} if SEARCHED in claims else dict(every)
        ends: dict[str, TapeEnd] = {}
        for product in products:
            end = best_end(product, claims)
            if end is None:
                ends[product] = TapeEnd(partitions)
            elif end.partition is None or end.partition >= partitions:  # it may have been written to; who knows where
                ends[product] = TapeEnd(partitions)
                starts |= every
            else:
                ends[product] = end
                at = max(0, end.offset - 1)  # the record before is to show that this is the same tape
                starts[end.partition] = min(at, starts.get(end.partition, at))
                starts |= dict.fromkeys(range(end.partitions, partitions), 0)
                end.partitions = partitions
        places = {
            product: (end.partition, end.offset - 1) for product, end in ends.items() if end.partition is not None
        }
        seen = self._read_on(ends, starts, others=SEARCHED not in claims, partitions=partitions)
        lost = [product for product, place in places.items() if place not in seen and self._should_hold(*place)]
        if lost:
            LOG.error(
                "%s does not hold what had been written of %s: the broker lost it, or the topic was made anew. The tape"
                " is continued from where it now ends",
                self._trades_topic,
                ", ".join(lost),
            )
            ends |= {product: TapeEnd(partitions) for product in lost}
            self._read_on({product: ends[product] for product in lost}, every, others=False, partitions=partitions)
        return ends

    def _should_hold(self, partition: int | None, offset: int) -> bool:
        """Tell whether retention has not yet passed an offset."""
        assert partition is not None
        at = TopicPartition(self._trades_topic, partition)
        return self._offsets([at], _EARLIEST)[partition] <= offset

    def _read_on(
        self, ends: dict[str, TapeEnd], starts: Mapping[int, int], *, others: bool, partitions: int
    ) -> set[tuple[int | None, int]]:
        """Move each end behind the last record of its product; with ``others``, add ends of the other products.

        Return the places of those records behind which an end already stood.
        """
        foreign = 0
        seen: set[tuple[int | None, int]] = set()
        for message in self._read({TopicPartition(self._trades_topic, number, at) for number, at in starts.items()}):
            try:
                record = _record_decoder.decode(message.value() or b"")
            except UNDECODABLE:
                foreign += 1
                continue
            end = ends.setdefault(record.product, TapeEnd(partitions)) if others else ends.get(record.product)
            if end is None:
                continue
            first_id, last_id = id_range(record)
            if end.next_id is None or first_id >= end.next_id:
                end.advance(record)
                end.partition, end.offset = message.partition(), (message.offset() or 0) + 1
            elif last_id + 1 == end.next_id:
                seen.add((message.partition(), message.offset() or 0))
        if foreign:
            LOG.warning(
                "%s holds %d messages that are no tape records, passed over here. Give the feed a topic of its own.",
                self._trades_topic,
                foreign,
            )
        return seen

    def partitions(self) -> int:
        """Return how many partitions the tape has.

        Raises:
            KafkaUnavailableError: no answer in time, or there is no such topic.

        """
        try:
            topic = self._admin.list_topics(self._trades_topic, timeout=_READ_SECONDS).topics[self._trades_topic]
        except KafkaException as problem:
            raise KafkaUnavailableError(f"can't read {self._trades_topic}: {problem}") from None
        if topic.error is not None:
            raise KafkaUnavailableError(f"can't read {self._trades_topic}: {topic.error}")
        return len(topic.partitions)

    def _read(self, starts: set[TopicPartition]) -> Iterator[Message]:
        """Yield the committed messages from ``starts`` to what is now the end of each partition."""
        ends = self._offsets(starts, _LATEST)
        consumer = Consumer(
            dict(self._kafka)
            | {
                "group.id": f"{self._trades_topic}.tape-reader",  # required by the client; no group is ever joined
                "enable.auto.commit": False,
                "isolation.level": "read_committed",
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",  # retention may have passed the start that a cursor names
                "fetch.wait.max.ms": 50,
            }
        )
        try:
            waiting = {at.partition: ends[at.partition] for at in starts if ends[at.partition] > 0}
            consumer.assign([at for at in starts if at.partition in waiting])
            quiet_since = shown = time.monotonic()
            count = 0
            while waiting:
                for message in consumer.consume(_READ_MESSAGES, _READ_WAIT_SECONDS):
                    partition, error = message.partition(), message.error()
                    if error is None:
                        quiet_since = time.monotonic()
                        count += 1
                        yield message
                        # On a busy partition the client never gets an empty answer, and so never tells of the end.
                        if partition in waiting and (message.offset() or 0) + 1 >= waiting[partition]:
                            del waiting[partition]
                    elif error.code() != KafkaError._PARTITION_EOF:  # noqa: SLF001 - the client has no public name for it
                        raise KafkaUnavailableError(f"can't read {message.topic()}: {error}")
                    elif partition in waiting and (message.offset() or 0) >= waiting[partition]:
                        del waiting[partition]
                now = time.monotonic()
                if self._stopped():
                    raise KafkaUnavailableError("told to stop while looking for the end of the tape")
                if now - quiet_since > _READ_SECONDS:
                    raise KafkaUnavailableError(
                        f"the end of {min(starts).topic} was not readable within {_READ_SECONDS:g} s; if that stays "
                        "so, a transaction hangs there: find it with kafka-transactions.sh find-hanging, and abort it"
                    )
                if now - shown > _PROGRESS_SECONDS:
                    shown = now
                    LOG.info("looking for the end of the tape: %d records read", count)
        finally:
            consumer.close()

    def _offsets(self, partitions: Iterable[TopicPartition], which: OffsetSpec) -> dict[int, int]:
        """Ask for an offset of each partition; the latest is the one before which all is, committed or not."""
        wanted = dict.fromkeys((TopicPartition(at.topic, at.partition) for at in partitions), which)
        deadline = time.monotonic() + _READ_SECONDS
        while True:
            futures = self._admin.list_offsets(
                wanted, isolation_level=IsolationLevel.READ_UNCOMMITTED, request_timeout=_READ_SECONDS
            )
            try:
                return {at.partition: future.result().offset for at, future in futures.items()}
            except KafkaException as problem:
                # A topic just created, or a broker just restarted, has no leader for a moment.
                if problem.args[0].code() not in _NO_LEADER_YET or time.monotonic() > deadline or self._stopped():
                    topic = next(iter(wanted)).topic
                    raise KafkaUnavailableError(
                        f"can't read {topic}: {problem}. Has the topic been made, and may this client read it?"
                    ) from None
                time.sleep(_NO_LEADER_PAUSE_SECONDS)


def _owner_key(key: bytes | None) -> tuple[str, str]:
    product, _, owner = (key or b"").decode(errors="replace").partition(" ")
    return product, owner
