"""Asks a DuckDB warehouse again and again, as its readers do, and notes how far each answer reaches."""

import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self

from fulltape.bench.arrivals import Marks, marks
from fulltape.errors import FulltapeError
from fulltape.warehouse.connection import open_warehouse
from fulltape.warehouse.tables import TABLES

_PAUSE_SECONDS = 0.2
_PATIENCE_SECONDS = 120.0
_NEWEST = f"SELECT product, MAX(trade_id) FROM {TABLES['trades'].qualified} WHERE traded_at >= :since GROUP BY product"  # noqa: S608 - of constants


class QueryWatch:
    """Opens the file to read, asks for the newest trade of each product, and closes it; while the context lasts."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._seen: list[tuple[str, int, int]] = []
        self._stop = threading.Event()
        self._problem: FulltapeError | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def marks(self) -> dict[str, Marks]:
        """Return the newest ids that could be read, by product, and when the answers were there.

        Raises:
            FulltapeError: the warehouse could not be asked any more.

        """
        if self._problem is not None:
            raise self._problem
        return marks(list(self._seen))

    def _watch(self) -> None:
        since = datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
        try:
            while not self._stop.wait(_PAUSE_SECONDS):
                connection = open_warehouse(self._file, read_only=True, patience_seconds=_PATIENCE_SECONDS)
                try:
                    rows = connection.run(_NEWEST, {"since": since}).rows
                finally:
                    connection.close()
                at_us = time.time_ns() // 1000
                self._seen += [(product, trade_id, at_us) for product, trade_id in rows]
        except FulltapeError as problem:
            self._problem = problem
