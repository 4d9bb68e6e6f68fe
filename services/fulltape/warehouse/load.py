"""The load: batches that wait in the staging area, in their order, into a database, each once.

One transaction holds the look into the ledger, the rows and the ledger's new rows, so whoever dies or loses the
connection, and whenever, leaves either all of a load or nothing; what was loaded is known by the ledger alone. Batches
that can't be loaded are set aside with the reason, and the next ones go on.
"""

import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol
from uuid import uuid4

import msgspec

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape.warehouse import ledger, rollup
from fulltape.warehouse.connection import WarehouseUnavailableError
from fulltape.warehouse.ledger import Statement
from fulltape.warehouse.shape import alterations
from fulltape.warehouse.staging import KINDS, Batch, Kind, Staging, batch_path
from fulltape.warehouse.tables import TABLES, Table

LOG = logging.getLogger(__name__)

MOST_BATCHES = 10
"""Of one kind, in one load: enough to catch up with, few enough to do again when a load fails."""


class RejectedError(FulltapeError):
    """The database refused the rows themselves; the text says why. Trying again does not help."""


class Database(Protocol):
    """A database that rows are loaded into.

    Every method may raise `WarehouseUnavailableError`, or `ConfigurationError` where a person has to mend something;
    after any error the session is worth nothing but a `close`, and the transaction is undone.
    """

    @property
    def name(self) -> str:
        """What and where it is, for messages."""

    @property
    def keeps_minutes(self) -> bool:
        """Whether `rollup.MINUTES` is a table that loads keep in step; where not, the database does that by itself."""

    def open(self) -> None:
        """Begin to use it; does nothing while it is in use."""

    def close(self) -> None:
        """Let go of it; what was not committed is undone."""

    def rest(self) -> None:
        """Let others have it until the next `open`."""

    def begin(self) -> None:
        """Begin a transaction and make all other loads wait for its end."""

    def execute(self, statement: Statement) -> list[tuple[Any, ...]]:
        """Run a statement and return its rows.

        Raises:
            RejectedError: it does not like the rows.

        """

    def make_like(self, name: str, table: Table) -> None:
        """Make an empty temporary table with the table's columns, in place of one of that name."""

    def stage(self, table: Table, batches: Sequence[Batch], load: str) -> None:
        """Put the rows of all files of the batches into the temporary table `ledger.staged`.

        Raises:
            RejectedError: a file can't be read, or does not fit the table.

        """

    def commit(self) -> None:
        """End the transaction, for good."""

    def reason(self, batch: Batch, problem: RejectedError) -> str:
        """Return why the batch, loaded alone, was refused: in the database's own words where it keeps any."""


@dataclass(slots=True)
class Tally:
    """What a loader has done and what is before it."""

    batches: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Loaded, by kind."""
    rows: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Loaded, by kind."""
    quarantined: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Batches set aside by this process, by kind."""
    pending: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Batches that wait, by kind."""
    aside: dict[Kind, int] = field(default_factory=lambda: dict.fromkeys(KINDS, 0))
    """Batches in quarantine as of the last pass, whoever put them there."""
    tape_us: dict[Kind, int] = field(default_factory=dict)
    """Latest Kafka time of what was loaded, by kind."""
    loads: int = 0
    """Transactions committed."""
    failures: int = 0
    """Passes that ended early, as the database or the staging area failed."""
    load_seconds: float = 0.0
    """Spent in those."""


@dataclass(frozen=True, slots=True)
class Retention:
    """Which rows go when they are old."""

    products: Sequence[str]
    """Those of the feed: others in the same database have their own."""
    seconds: float

    def before(self, now: datetime) -> datetime:
        """Return the midnight (UTC, without a zone) before which rows are too old: days go as a whole."""
        oldest = now.astimezone(UTC) - timedelta(seconds=self.seconds)
        return datetime(oldest.year, oldest.month, oldest.day)  # noqa: DTZ001 - the columns have no zone


class Loader:
    """Loads one feed's batches. Of one database any number may run at once."""

    def __init__(
        self,
        feed: str,
        staging: Staging,
        database: Database,
        *,
        staged_seconds: float = 86_400.0,
        retention: Retention | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """Describe a loader; nothing is opened yet.

        Args:
            feed: what the names of the feed's topics begin with.
            staging: where its batches wait.
            database: where they go.
            staged_seconds: how long files stay after they were written, once they are loaded.
            retention: which rows go when they are old; None keeps all.
            stopping: asked between loads whether to end early.

        """
        self._feed = feed
        self._staging = staging
        self._database = database
        self._staged_seconds = staged_seconds
        self._retention = retention
        self._pruned_before = datetime.min  # noqa: DTZ901 - the columns have no zone
        self._stopping = stopping
        self._known: dict[Kind, set[str]] = {kind: set() for kind in KINDS}
        """Names of listed batches that the ledger has."""
        self.tally = Tally()

    def check(self) -> None:
        """Make sure that the staging area and the database can be used.

        Raises:
            ConfigurationError: they can't; says what, where and the mend.
            WarehouseUnavailableError: the database does not answer.
            StagingUnavailableError: the staging area does not.

        """
        self._staging.check()
        try:
            self._database.open()
            for table in TABLES.values():
                self._check_table(table)
            self._database.rest()
        except BaseException:
            self._database.close()
            raise

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    def run(self) -> int:
        """Load all that waits and delete what is loaded and old; return how many rows were loaded.

        Raises:
            ConfigurationError: a person has to mend something.
            WarehouseUnavailableError: the database went away; all loads up to there are done.
            StagingUnavailableError: the staging area did.

        """
        before = sum(self.tally.rows.values())
        try:
            for kind in KINDS:
                self._run_kind(kind)
            self._prune()
            self._database.rest()
        except BaseException:
            self._database.close()
            raise
        return sum(self.tally.rows.values()) - before

    def _run_kind(self, kind: Kind) -> None:
        listed = self._staging.listed(kind)
        known = self._known[kind] = self._known[kind] & listed.keys()
        pending = [name for name in listed if name not in known]
        if pending:
            self._database.open()
            since = ledger.ledger_name(self._feed, pending[0])
            there = {row[0] for row in self._database.execute(ledger.ledger_rows(kind, since))}
            known.update(name for name in pending if ledger.ledger_name(self._feed, name) in there)
            pending = [name for name in pending if name not in known]
        self.tally.pending[kind] = len(pending)
        for start in range(0, len(pending), MOST_BATCHES):
            if self._stopping():
                return
            names = pending[start : start + MOST_BATCHES]
            self._load_some(kind, list(self._described(kind, names)))
            self.tally.pending[kind] = len(pending) - start - len(names)
        self.tally.aside[kind] = self._staging.count_quarantined(kind)
        self._clean(kind, listed)

    def _described(self, kind: Kind, names: Iterable[str]) -> Iterator[Batch]:
        for name in names:
            try:
                yield self._staging.read(kind, name)
            except FileNotFoundError:  # another loader has set it aside, or deleted it after the load
                continue
            except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                self._quarantine(kind, name, f"its description can't be read: {problem}")

    def _load_some(self, kind: Kind, batches: list[Batch]) -> None:
        """Load batches in one transaction; where that is refused, one by one, to find which are to blame."""
        if not batches:
            return
        try:
            self._load(kind, batches)
        except RejectedError as problem:
            if len(batches) == 1:
                reason = self._database.reason(batches[0], problem)
                self._quarantine(kind, batches[0].name, reason)
                return
            for batch in batches:
                self._load_some(kind, [batch])

    def _load(self, kind: Kind, batches: list[Batch]) -> None:
        database, table = self._database, TABLES[kind]
        began = time.monotonic()
        load = uuid4().hex
        try:
            database.open()
            database.begin()
            since = ledger.ledger_name(self._feed, batches[0].name)
            there = {row[0] for row in database.execute(ledger.ledger_rows(kind, since))}
            wanted = [batch for batch in batches if ledger.ledger_name(self._feed, batch.name) not in there]
            if wanted:
                self._check_table(table)
                self._put(table, wanted, load)
                for statement in ledger.enter(self._feed, wanted, load, datetime.now(UTC).replace(tzinfo=None)):
                    database.execute(statement)
            database.commit()
        except BaseException:
            database.close()
            raise
        self._known[kind].update(batch.name for batch in batches)
        if wanted:
            self._count(kind, wanted, time.monotonic() - began)

    def _put(self, table: Table, batches: list[Batch], load: str) -> None:
        database = self._database
        database.make_like(ledger.staged(table), table)
        database.stage(table, [batch for batch in batches if batch.files], load)
        promised = sum(batch.rows for batch in batches)
        ((found,),) = database.execute(Statement(f"SELECT COUNT(*) FROM {ledger.staged(table)}"))  # noqa: S608
        if found != promised:
            raise RejectedError(f"the files hold {found} rows, and the descriptions say {promised}")
        database.make_like(ledger.newest(table), table)
        database.execute(ledger.dedupe(table))
        ((keys, first, last),) = database.execute(ledger.bounds(table))
        if not keys:
            return
        statements = ledger.merge(table, first, last)
        if table.name == "trades" and database.keeps_minutes:
            statements += rollup.keep_minutes(first, last)
        for statement in statements:
            database.execute(statement)
        # Databases have bugs: DuckDB is known to lose rows of large INSERTs in some transactions, and to say nothing.
        ((held,),) = database.execute(ledger.held(table, first, last))
        if held != keys:
            raise WarehouseUnavailableError(
                f"{database.name}: {table.qualified} holds {held} of the {keys} rows that were inserted; all of the "
                "load is undone, and tried again"
            )

    def _check_table(self, table: Table) -> None:
        differences = alterations(table, self._database.execute(ledger.columns_of(table)))
        if differences:
            raise ConfigurationError(
                f"{self._database.name} is not as Fulltape made it: {'; '.join(differences)}; run "
                "`fulltape warehouse migrate`, and undo what was changed by hand"
            )

    def _prune(self) -> None:
        """Delete rows older than the retention, once for each day that ends."""
        if self._retention is None:
            return
        before = self._retention.before(datetime.now(UTC))
        if before <= self._pruned_before or self._stopping():
            return
        database = self._database
        database.open()
        database.begin()
        tables = [TABLES[kind] for kind in KINDS] + ([rollup.MINUTES] if database.keeps_minutes else [])
        for table in tables:
            database.execute(ledger.prune(table, self._retention.products, before))
        database.commit()
        self._pruned_before = before
        LOG.info("deleted what is older than %s", before.date())

    def _count(self, kind: Kind, batches: Sequence[Batch], seconds: float) -> None:
        tally, rows = self.tally, sum(batch.rows for batch in batches)
        tally.batches[kind] += len(batches)
        tally.rows[kind] += rows
        tally.tape_us[kind] = max([tally.tape_us.get(kind, 0), *(batch.tape_us for batch in batches)])
        tally.loads += 1
        tally.load_seconds += seconds
        LOG.info("loaded %d rows of %s in %d batches in %.2f s", rows, kind, len(batches), seconds)

    def _quarantine(self, kind: Kind, name: str, reason: str) -> None:
        LOG.error("%s/%s can't be loaded and is set aside: %s", kind, name, reason)
        self._staging.quarantine(kind, name, reason)
        self.tally.quarantined[kind] += 1

    def _clean(self, kind: Kind, listed: dict[str, float]) -> None:
        """Delete what is loaded and older than the retention."""
        oldest = time.time() - self._staged_seconds
        for name, written in listed.items():
            if written >= oldest:
                continue
            if name in self._known[kind] and not self._stopping():
                try:
                    self._staging.remove_batch(self._staging.read(kind, name))
                except FileNotFoundError:
                    continue
                except (msgspec.DecodeError, UnicodeDecodeError) as problem:
                    LOG.warning("%s/%s is loaded, and its description can't be read: %s", kind, name, problem)
                    self._staging.remove(batch_path(kind, name))
