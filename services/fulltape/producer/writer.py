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
from itertools import chain, count, cycle
from typing import Any
from uuid import uuid4

import msgspec
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from fulltape.coinbase.rest import backoff_seconds
from fulltape.errors import FencedError, FulltapeError, KafkaUnavailableError
from fulltape.messages import TapeRecord, Trade
from fulltape.producer.claims import Claims, TapeEnd, TapeReader, best_end, cursor_key, id_range, rivals
from fulltape.topics import Topics

LOG = logging.getLogger(__name__)

Entry = tuple[TapeRecord, bytes]
"""A record and how it stands on the wire."""

_PENS = 2
_BATCH_RECORDS = 4000
_IDLE_SECONDS = 0.5
_CHECKPOINT_SECONDS = 10.0
_TRANSACTION_TIMEOUT_SECONDS = 10.0
"""How long an abandoned transaction may hide what other shards write behind it in the same partitions."""
_encode = msgspec.json.Encoder().encode


class TapeLostRecordsError(FulltapeError):
    """The broker no longer has records that it had acknowledged; a restart refills the tape from its new end."""


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
                "partitioner": "murmur2_random",  # what Java's clients compute from the same key
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
        self._ends: dict[str, TapeEnd] = {}
        self._pens: list[Pen] = []
        self._pending: deque[Entry] = deque()
        self._unconfirmed: deque[list[Entry]] = deque()
        self._committing: Future[int] | None = None
        self._committer = ThreadPoolExecutor(1, "committer")
        self._work = threading.Condition()
        self._stopping = False
        self._checkpoint_due = 0.0
        self._saved_transactions = -1
        self._placed: set[str] = set()  # products whose saved cursor names a partition
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.recoveries = 0
        """How often the pens had to be replaced."""
        self.transactions = 0
        self.committed = 0
        """Records durable and visible, since the start."""
        self.last_commit = time.monotonic()

    @property
    def backlog(self) -> int:
        """Records submitted and not yet known to be durable."""
        return len(self._pending) + sum(len(batch) for batch in self._unconfirmed)

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def start(self) -> dict[str, TapeEnd]:
        """Take the products over, start writing, and return where the tape of each ends. Blocks.

        Raises:
            KafkaUnavailableError: no broker answered in time.

        """
        try:
            self._take_over()
        except KafkaException as problem:
            raise KafkaUnavailableError(f"can't become the producer of {self._topics.trades}: {problem}") from None
        ends = {
            product: TapeEnd(end.partitions, next_id=end.next_id, last=end.last) for product, end in self._ends.items()
        }
        self._thread.start()
        return ends

    def submit(self, entries: Iterable[Entry]) -> None:
        """Queue records that continue their product's tape. Called from one thread."""
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
            while not (self._stopping and not self._pending):
                try:
                    self._write_next(next(turns))
                except KafkaException as problem:
                    self._recover(problem)
            try:
                self._finish_commit()
                self._checkpoint()
            except KafkaException as problem:
                self._recover(problem)
        except Exception as problem:  # noqa: BLE001 - whatever it is, the service must hear of it
            self._failed(problem)
        finally:
            self._committer.shutdown(wait=False)

    def _write_next(self, turn: int) -> None:
        """Write one batch with the pen whose turn it is, and begin its commit once the other's is done."""
        batch = self._take()
        if batch:
            self._unconfirmed.append(batch)
            producer, topic = self._pens[turn].producer, self._topics.trades
            newest = {record.product: index for index, (record, _) in enumerate(batch)}
            producer.begin_transaction()
            for index, (record, value) in enumerate(batch):
                if newest[record.product] == index:
                    producer.produce(topic, value, record.product, on_delivery=self._delivered(record.product))
                else:
                    producer.produce(topic, value, record.product)
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
        for record, _ in batch:
            self._ends[record.product].advance(record)
            if record.product not in self._placed:
                self._checkpoint_due = 0.0  # from now on the search for its end need not begin at the tape's start
        self.last_commit = time.monotonic()
        self._account(batch, committed_us)

    def _account(self, batch: Sequence[Entry], committed_us: int) -> None:
        self.transactions += 1
        self.committed += len(batch)
        oldest = batch[0][0]
        if isinstance(oldest, Trade):
            self._commit_delay_us(committed_us - oldest.received_us)

    def _checkpoint(self, *, released: Iterable[str] = ()) -> None:
        """Save where the tape ends, where that changed, with nothing else under way; drop claims of fenced owners."""
        self._checkpoint_due = time.monotonic() + _CHECKPOINT_SECONDS
        if self.transactions == self._saved_transactions and not released:
            return
        producer, topic = self._pens[0].producer, self._topics.cursors
        producer.begin_transaction()
        for product, end in self._ends.items():
            cursor = end.cursor(product, self._owner, self._incarnation)
            producer.produce(topic, _encode(cursor), cursor_key(product, self._owner))
            for owner in released:
                producer.produce(topic, None, cursor_key(product, owner))
        producer.commit_transaction()
        self._saved_transactions = self.transactions
        self._placed = {product for product, end in self._ends.items() if end.partition is not None}

    def _take_over(self) -> None:
        """Become the only writer of the products and learn where their tape ends. See `claims` for why it is safe.

        A process that starts fences whoever else claims the products; one that recovers yields to whoever has claimed
        them since, so that the two do not fence each other for ever.

        Raises:
            FencedError: another process claimed the products after this one had.
            KafkaException, KafkaUnavailableError: no broker, or it refused.

        """
        # A new client each time: one that saw the broker go may stick to what it then knew of the leaders.
        reader = TapeReader(self._kafka, self._topics.trades, self._topics.cursors)
        before = reader.claims()
        self._yield_to_successors(before)
        for pen in self._pens:
            pen.close()
        self._pens = [Pen(self._kafka, name) for name in pen_ids(self._topics, self._owner)]
        partitions = reader.partitions()
        self._ends = {
            product: best_end(product, before, partitions) or TapeEnd(partitions) for product in self._products
        }
        self._saved_transactions = -1
        self._checkpoint()  # the claim

        after = reader.claims()
        self._yield_to_successors(after)
        others = rivals(self._products, self._owner, after)
        for owner in others:
            LOG.warning("fencing shard %s, which also claims products of shard %s", owner, self._owner)
            for name in pen_ids(self._topics, owner):
                Pen(self._kafka, name).close()
        known = {key: cursor for key, cursor in after.items() if key[1] != self._owner or key in before}
        self._ends = reader.ends(self._products, known, search_all=not before)
        self._saved_transactions = -1
        self._checkpoint(released=others)
        self._took_over = True

    def _yield_to_successors(self, claims: Claims) -> None:
        """End, where this process once had the products and somebody else claims them now."""
        if not self._took_over:
            return
        claimants = rivals(self._products, self._owner, claims)
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
        """Take the products over again, until that works, and keep of what is unwritten what the tape lacks."""
        LOG.warning("writing to %s failed, taking over anew: %s", self._topics.trades, problem)
        self.recoveries += 1
        if self._committing is not None:
            self._committing.exception()  # wait; how it ended is read from the tape
            self._committing = None
        acknowledged = {product: end.next_id for product, end in self._ends.items()}
        for attempt in count():
            try:
                self._take_over()
                break
            except (KafkaException, KafkaUnavailableError) as again:
                if self._stopping:
                    raise KafkaUnavailableError(f"stopped with {self.backlog} records unwritten: {again}") from None
                LOG.warning("no Kafka to write to (try %d): %s", attempt + 1, again)
                with self._work:
                    self._work.wait_for(lambda: self._stopping, backoff_seconds(attempt, first=0.1, most=2.0))
        check_continuity(acknowledged, self._ends, chain.from_iterable(self._unconfirmed))
        unwritten = still_missing(chain.from_iterable(self._unconfirmed), self._ends)
        self._unconfirmed.clear()
        self._pending.extendleft(reversed(unwritten))
        LOG.warning("writing to %s again; %d records to catch up", self._topics.trades, len(self._pending))


def _commit(producer: Producer) -> int:
    """Commit, and return when that was done, in microseconds since the epoch."""
    producer.commit_transaction()
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
