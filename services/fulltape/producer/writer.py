"""The writer: makes tape records durable and visible, in order and once, by fenced Kafka transactions.

Two transactional producers, the pens, take turns: while one commits, the other already writes the next batch. That
hides the commit's round trips and the time the broker needs to finish a transaction before the same producer may begin
another. Order holds because a pen begins to write only when the other's records are all in the log, and begins to
commit only when the other has committed: what is visible is always a prefix of what was submitted.

Every error that the client library does not mend by itself takes one road: throw the pens away, take the products over
again as a new process would (`claims`), see in the tape what became durable, and write the rest. Unless another process
has claimed the products since: then this one must end.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import chain, count, cycle
from typing import Any
from uuid import uuid4

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fulltape.coinbase.rest import backoff_seconds
from fulltape.errors import FencedError, KafkaUnavailableError, TapeLostRecordsError
from fulltape.kafka import FENCED, partition_of
from fulltape.messages import TapeRecord, Trade
from fulltape.producer.claims import (
    FOUND,
    SEARCHED,
    Claims,
    TapeEnd,
    TapeReader,
    best_end,
    cursor_key,
    id_range,
    rivals,
)
from fulltape.topics import Topics

LOG = logging.getLogger(__name__)

Entry = tuple[TapeRecord, bytes]
"""A record and how it stands on the wire."""

_PENS = 2
_BATCH_RECORDS = 4000
_IDLE_SECONDS = 0.5
_PACE_SECONDS = 0.008
"""No sooner than this after the last does a transaction begin that is not full: each costs the broker, this process and
every reader the same however little it holds."""
_CHECKPOINT_SECONDS = 10.0
_TRANSACTION_TIMEOUT_SECONDS = 10.0
"""After so long, and the broker's interval of looking, an abandoned transaction is aborted by the broker. Until then it
hides what other shards write behind it in the same partitions."""
_TAKE_OVER_TRIES = 3
_SUCCESSOR_SECONDS = 2.0
_REFUSED = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
    KafkaError.MSG_SIZE_TOO_LARGE,
    KafkaError.RECORD_LIST_TOO_LARGE,
}
_encode = msgspec.json.Encoder().encode


class Pen:
    """One transactional producer."""

    def __init__(self, kafka: Mapping[str, Any], transactional_id: str) -> None:
        """Fence every earlier holder of the id, and abort what it left open.

        Raises:
            KafkaException: the broker could not be reached, or refused.

        """
        self.producer = Producer(
            dict(kafka)
            | {
                "transactional.id": transactional_id,
                "transaction.timeout.ms": int(_TRANSACTION_TIMEOUT_SECONDS * 1000),
                "compression.type": "lz4",
                "linger.ms": 1,
                "queue.buffering.max.messages": 10 * _BATCH_RECORDS,
            }
        )
        self.producer.init_transactions(_TRANSACTION_TIMEOUT_SECONDS)

    def close(self) -> None:
        """Forget whatever is unsent."""
        self.producer.purge()
        self.producer.flush(0)


def pen_ids(topics: Topics, owner: str) -> list[str]:
    """Return the transactional ids of a shard's pens."""
    return [f"{topics.trades}.{owner}.{number}" for number in range(_PENS)]


class Writer:
    """Writes what `submit` is given, in a thread of its own, from `start` to `stop`.

    In that thread ``failed`` is called with the error that ends it, and ``commit_delay_us`` for each transaction with
    the time that its oldest trade took from the socket to visible.
    """

    def __init__(
        self,
        kafka: Mapping[str, Any],
        topics: Topics,
        owner: str,
        products: Sequence[str],
        *,
        failed: Callable[[Exception], None],
        commit_delay_us: Callable[[int], None],
    ) -> None:
        self._kafka = kafka
        self._topics = topics
        self._owner = owner
        self._products = products
        self._failed = failed
        self._commit_delay_us = commit_delay_us
        self._incarnation = uuid4().hex
        self._took_over = False
        self._pens: list[Pen] = []
        self._ends: dict[str, TapeEnd] = {}
        self._places: dict[str, int] = {}  # the partition of each product
        self._partitions = 0
        self._pending: deque[Entry] = deque()
        self._unconfirmed: deque[list[Entry]] = deque()
        self._committing: Future[int] | None = None
        self._committer = ThreadPoolExecutor(1, "committer")
        self._work = threading.Condition()
        self._stopping = False
        self._paced_until = 0.0
        self._checkpoint_due = 0.0
        self._saved_transactions = -1
        self._saved_places: set[str] = set()  # products whose saved cursor names a partition
        self._failures_in_a_row = 0
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self._submitted = 0  # counted by the thread that submits
        self._settled = 0  # counted by this one's: submitted and durable
        self._busy_since = time.monotonic()
        self.recoveries = 0
        """How often the pens had to be replaced."""
        self.transactions = 0
        self.committed = 0
        """Records durable and visible, since the start."""
        self.last_commit = time.monotonic()
        self.last_sign = time.monotonic()
        """Monotonic seconds of the last step of the thread, be it only another try."""

    @property
    def backlog(self) -> int:
        """Records submitted and not yet known to be durable."""
        return self._submitted - self._settled

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def waiting_seconds(self) -> float:
        """How long records have been waiting with none becoming durable."""
        return time.monotonic() - max(self._busy_since, self.last_commit) if self.backlog else 0.0

    def start(self) -> dict[str, TapeEnd]:
        """Take the products over, start writing, and return where the tape of each ends. Blocks.

        Raises:
            KafkaUnavailableError: no broker answered in time, or it refused; or `stop` was called meanwhile.

        """
        for tries_left in reversed(range(_TAKE_OVER_TRIES)):
            try:
                self._take_over()
                break
            except KafkaException as problem:
                # A predecessor that still lives may take being fenced for a mishap and fence back, once.
                if tries_left and problem.args[0].code() in FENCED:
                    continue
                raise KafkaUnavailableError(f"can't become the producer of {self._topics.trades}: {problem}") from None
        self._thread.start()
        return {product: replace(self._ends[product]) for product in self._products}

    def submit(self, entries: Sequence[Entry]) -> None:
        """Queue records that continue their product's tape. Called from one thread."""
        if not self.backlog:
            self._busy_since = time.monotonic()
        self._submitted += len(entries)
        self._pending.extend(entries)
        with self._work:
            self._work.notify()

    def stop(self, timeout_seconds: float) -> bool:
        """Write all that was submitted, checkpoint, and end. Return whether that was done in time. Blocks."""
        with self._work:
            self._stopping = True
            self._work.notify()
        if self._thread.ident is not None:
            self._thread.join(timeout_seconds)
        return not self._thread.is_alive() and not self.backlog

    def _run(self) -> None:
        try:
            turns = cycle(range(_PENS))
            while not self._stopping or self._pending or self._unconfirmed:
                self.last_sign = time.monotonic()
                try:
                    self._write_next(next(turns))
                except KafkaException as problem:
                    self._recover(problem)
            try:
                self._checkpoint()
            except KafkaException as problem:  # the tape is complete; only the shortcut to its end is old
                LOG.warning("the last checkpoint failed: %s", problem)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the service must hear of it
            self._failed(problem)
        finally:
            self._committer.shutdown(wait=False)

    def _write_next(self, turn: int) -> None:
        """Write one batch with the pen whose turn it is, and begin its commit once the other's is done."""
        batch = self._take()
        if batch:
            self._paced_until = time.monotonic() + _PACE_SECONDS
            self._unconfirmed.append(batch)
            producer, topic, places = self._pens[turn].producer, self._topics.trades, self._places
            newest = {record.product: index for index, (record, _) in enumerate(batch)}
            producer.begin_transaction()
            for index, (record, value) in enumerate(batch):
                product = record.product
                if newest[product] == index:
                    producer.produce(topic, value, product, places[product], on_delivery=self._delivered(product))
                else:
                    producer.produce(topic, value, product, places[product])
            producer.flush()
            self._finish_commit()
            self._committing = self._committer.submit(_commit, producer)
        else:
            self._finish_commit()
        if time.monotonic() >= self._checkpoint_due:
            self._finish_commit()
            self._checkpoint()

    def _take(self) -> list[Entry]:
        """Return what is pending, at most one transaction's worth; nothing, after a wait, where nothing comes."""
        pending = self._pending
        if not pending:
            # A commit under way is waited for where nothing else is to be done, so it is not left alone for long.
            wait_seconds = 0.0 if self._committing is not None else _IDLE_SECONDS
            with self._work:
                self._work.wait_for(lambda: pending or self._stopping, wait_seconds)
        if len(pending) < _BATCH_RECORDS and (early_seconds := self._paced_until - time.monotonic()) > 0:
            time.sleep(early_seconds)
        return [pending.popleft() for _ in range(min(len(pending), _BATCH_RECORDS))]

    def _delivered(self, product: str) -> Callable[[KafkaError | None, Message], None]:
        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is None:
                end = self._ends[product]
                end.partition, end.offset = message.partition(), (message.offset() or 0) + 1

        return delivered

    def _finish_commit(self) -> None:
        """Wait for the commit under way, if there is one, and account for its records."""
        if self._committing is None:
            return
        committing, self._committing = self._committing, None
        committed_us = committing.result()
        batch = self._unconfirmed.popleft()
        oldest_us = committed_us
        for record, _ in batch:
            self._ends[record.product].advance(record)
            if isinstance(record, Trade) and record.received_us < oldest_us:
                oldest_us = record.received_us
            if record.product not in self._saved_places:
                self._checkpoint_due = 0.0  # from now on the search for its end need not begin at the tape's start
        self.transactions += 1
        self.committed += len(batch)
        self._settled += len(batch)
        self._failures_in_a_row = 0
        self.last_commit = time.monotonic()
        self._commit_delay_us(committed_us - oldest_us)

    def _checkpoint(self) -> None:
        """Save where the tape ends, where that changed, with nothing else under way."""
        self._checkpoint_due = time.monotonic() + _CHECKPOINT_SECONDS
        if self.transactions == self._saved_transactions:
            return
        if self._reader().partitions() != self._partitions:
            LOG.warning("%s has got more partitions; finding every product's place anew", self._topics.trades)
            self._take_over()
            return
        self._write_claims(self._pens[0], {(product, self._owner): self._ends[product] for product in self._products})
        self._saved_transactions = self.transactions
        self._saved_places = {product for product in self._products if self._ends[product].partition is not None}

    def _write_claims(self, pen: Pen, claims: Mapping[tuple[str, str], TapeEnd | None]) -> None:
        """Write claims in one transaction; None takes one back."""
        producer, topic = pen.producer, self._topics.cursors
        producer.begin_transaction()
        for (product, owner), end in claims.items():
            value = None if end is None else _encode(end.cursor(product, owner, self._incarnation))
            producer.produce(topic, value, cursor_key(product, owner))
        producer.commit_transaction(_TRANSACTION_TIMEOUT_SECONDS)

    def _reader(self) -> TapeReader:
        """Make a new client: one that saw the broker go may stick to what it then knew of the leaders."""
        return TapeReader(self._kafka, self._topics.trades, self._topics.cursors, stopped=lambda: self._stopping)

    def _take_over(self) -> None:
        """Become the only writer of the products and learn where their tape ends. See `claims` for why it is safe.

        A process that starts fences whoever else claims the products; one that recovers yields to whoever has claimed
        them since, so that the two do not fence each other for ever.

        Raises:
            FencedError: another process claimed the products after this one had.
            KafkaException, KafkaUnavailableError: no broker, or it refused.

        """
        reader = self._reader()
        before = reader.claims()
        self._yield_to_successors(before)
        for pen in self._pens:
            pen.close()
        first_id, *other_ids = pen_ids(self._topics, self._owner)
        self._pens = [Pen(self._kafka, first_id)]
        partitions = reader.partitions()
        claims = {
            (product, self._owner): best_end(product, before) or TapeEnd(partitions) for product in self._products
        }
        self._write_claims(self._pens[0], claims)
        self._pens += [Pen(self._kafka, other_id) for other_id in other_ids]

        after = reader.claims()
        self._yield_to_successors(after)
        others = rivals(self._products, self._owner, after)
        for owner in others - {FOUND}:
            LOG.warning("fencing shard %s, which also claims products of shard %s", owner, self._owner)
            for name in pen_ids(self._topics, owner):
                Pen(self._kafka, name).close()
        known = {key: cursor for key, cursor in after.items() if key[1] != self._owner or key in before}
        ends = reader.ends(self._products, known, partitions)
        claimed = {product for product, _ in after}
        found = {(product, FOUND): end for product, end in ends.items() if product not in claimed}
        released = {(product, owner): None for product in self._products for owner in others}
        mine = {(product, self._owner): ends[product] for product in self._products}
        self._write_claims(self._pens[0], {**released, **found, **mine, SEARCHED: TapeEnd(partitions)})
        self._ends = {product: ends[product] for product in self._products}
        self._places = {product: partition_of(product, partitions) for product in self._products}
        self._partitions = partitions
        self._saved_transactions = self.transactions
        self._saved_places = {product for product, end in self._ends.items() if end.partition is not None}
        self._checkpoint_due = time.monotonic() + _CHECKPOINT_SECONDS
        self._took_over = True

    def _yield_to_successors(self, claims: Claims) -> None:
        """End, where this process once had the products and somebody else claims them now."""
        if not self._took_over:
            return
        claimants = rivals(self._products, self._owner, claims) - {FOUND}
        for product in self._products:
            claim = claims.get((product, self._owner))
            if claim is None or claim.incarnation != self._incarnation:
                claimants.add(self._owner)
        if claimants:
            raise FencedError(
                f"the shard {' and '.join(sorted(claimants))} of another process now writes to {self._topics.trades}"
                f" what shard {self._owner} of this one did; this one ends"
            )

    def _recover(self, problem: KafkaException) -> None:
        """Take the products over again, until that works, and keep of what is unwritten what the tape lacks.

        Raises:
            FencedError: another process writes the products now.
            TapeLostRecordsError: the broker lost what it had acknowledged.
            KafkaUnavailableError: it refuses what no waiting mends, or this was told to stop.

        """
        error = problem.args[0]
        if error.code() in _REFUSED:
            raise KafkaUnavailableError(
                f"Kafka refuses to write {self._topics.trades}: {error.str()}. Grant Write on its topics and"
                " transactional ids, or mend the limits of its topics"
            ) from None
        LOG.warning("writing to %s failed, taking over anew: %s", self._topics.trades, problem)
        self.recoveries += 1
        if self._committing is not None:
            self._committing.exception()  # wait; how it ended is read from the tape
            self._committing = None
        if error.code() in FENCED or self._failures_in_a_row:
            # Whoever fenced this process is about to claim its products; what fails again and again is not rushed.
            self._pause(_SUCCESSOR_SECONDS)
        self._failures_in_a_row += 1
        acknowledged = {product: end.next_id for product, end in self._ends.items()}
        for attempt in count():
            self.last_sign = time.monotonic()
            try:
                self._take_over()
                break
            except (KafkaException, KafkaUnavailableError) as again:
                if self._stopping:
                    raise KafkaUnavailableError(f"stopped with {self.backlog} records unwritten: {again}") from None
                LOG.warning("no Kafka to write to (try %d): %s", attempt + 1, again)
                self._pause(backoff_seconds(attempt, first=0.1, most=2.0))
        check_continuity(acknowledged, self._ends, chain.from_iterable(self._unconfirmed))
        unwritten = still_missing(chain.from_iterable(self._unconfirmed), self._ends)
        durable = sum(map(len, self._unconfirmed)) - len(unwritten)
        self.committed += durable
        self._settled += durable
        self._unconfirmed.clear()
        self._pending.extendleft(reversed(unwritten))
        LOG.warning("writing to %s again; %d records to catch up", self._topics.trades, len(self._pending))

    def _pause(self, seconds: float) -> None:
        with self._work:
            self._work.wait_for(lambda: self._stopping, seconds)


def _commit(producer: Producer) -> int:
    """Commit, and return when that was done, in microseconds since the epoch."""
    producer.commit_transaction(_TRANSACTION_TIMEOUT_SECONDS)
    return time.time_ns() // 1000


def check_continuity(
    acknowledged: Mapping[str, int | None], ends: Mapping[str, TapeEnd], unconfirmed: Iterable[Entry]
) -> None:
    """Hold the end of the tape, as found after a failure, between what was acknowledged and what was sent.

    Raises:
        TapeLostRecordsError: the tape ends before what was acknowledged.
        FencedError: it ends behind what was sent, so somebody else has written.

    """
    sent = {product: next_id or 0 for product, next_id in acknowledged.items()}
    for record, _ in unconfirmed:
        sent[record.product] = id_range(record)[1] + 1
    for product, next_id in acknowledged.items():
        end_id = ends[product].next_id or 0
        if end_id < (next_id or 0):
            raise TapeLostRecordsError(
                f"the tape of {product} ends before id {end_id}, though {(next_id or 0) - 1} had been acknowledged;"
                " was the topic truncated, or does it keep too few replicas?"
            )
        if end_id > sent[product]:
            raise FencedError(f"another process has written {product} up to id {end_id - 1}; this one ends")


def still_missing(unconfirmed: Iterable[Entry], ends: Mapping[str, TapeEnd]) -> list[Entry]:
    """Return those of ``unconfirmed`` that the tape does not hold, by where it ends for each product."""
    missing: list[Entry] = []
    for entry in unconfirmed:
        next_id = ends[entry[0].product].next_id
        if next_id is None or id_range(entry[0])[0] >= next_id:
            missing.append(entry)
    return missing
