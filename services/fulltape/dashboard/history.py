"""The history tab's answers: the warehouse's named questions, each asked in a session as short as it can be.

A DuckDB file has one writer or many readers, so a session is opened for a question and closed after it, and a question
may take no longer than the loader waits for its turn. Everything but the counting is done in threads of its own, so
that the live page goes on meanwhile.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from aiohttp import web

from fulltape.errors import ConfigurationError
from fulltape.warehouse.connection import (
    Connection,
    Result,
    StatementError,
    WarehouseUnavailableError,
    open_duckdb,
    open_redshift,
)
from fulltape.warehouse.queries import NamedQuery, QueryError, named_queries, values

LOG = logging.getLogger(__name__)

MOST_ROWS = 5000
_ANSWER_SECONDS = 10.0
"""The loader waits twice as long for the file."""
_BUSY_SECONDS = 3.0
"""How long to wait for a loader that has the file, as for a question that was asked before; most take less."""
_LOOK_SECONDS = 0.05
_RETRY_SECONDS = 1
_MOST_EXACT = 2**53
"""Up to here JavaScript's numbers hold every integer."""
_OWN_PAGE = ("same-origin", "none")
_GOING_DOWN = "the server is going down"

_SETTINGS = (
    "threads = 1",
    "memory_limit = '256MB'",
    "temp_directory = ''",  # the dashboard writes nothing, anywhere
)


class Answer(NamedTuple):
    """An answer to a browser: its status, and its body as JSON."""

    status: int
    body: bytes


class History:
    """Answers browsers' questions to one warehouse.

    Args:
        warehouse: a DuckDB file, or a folder of Redshift's credentials.
        answer_seconds: how long a question may take.
        busy_seconds: how long to wait for another process to be done with the DuckDB file, and for the questions that
            were asked before.

    """

    def __init__(
        self, warehouse: Path, *, answer_seconds: float = _ANSWER_SECONDS, busy_seconds: float = _BUSY_SECONDS
    ) -> None:
        self._warehouse = warehouse
        self._answer_seconds = answer_seconds
        self._busy_seconds = busy_seconds
        self._queries = named_queries()
        # One at once: locks of a file are the process's, so a session that ends would take away the lock of another.
        self._executor = ThreadPoolExecutor(1, "history")
        self._turn = asyncio.Lock()
        self._closing = threading.Event()

    def routes(self) -> list[web.RouteDef]:
        """Return what is served."""
        return [web.get("/history/queries", self._list), web.get("/history/query/{name}", self._query)]

    def close(self) -> None:
        """Break off what is being asked, and wait for its end."""
        self._closing.set()
        self._executor.shutdown(cancel_futures=True)

    async def _list(self, _: web.Request) -> web.Response:
        return _response(Answer(200, msgspec.json.encode([described(query) for query in self._queries.values()])))

    async def _query(self, request: web.Request) -> web.Response:
        if request.headers.get("Sec-Fetch-Site", "none") not in _OWN_PAGE:  # such as an image of another page
            return _response(refusal(403, "only this server's own page may ask"))
        name = request.match_info["name"]
        query = self._queries.get(name)
        if query is None:
            return _response(refusal(404, f"there is no question {name!r}; there are {', '.join(self._queries)}"))
        # A browser that left has its question run to the end all the same, and the next one waits for that.
        try:
            async with asyncio.timeout(self._busy_seconds):
                await self._turn.acquire()
        except TimeoutError:
            return _response(refusal(503, "others are asking just now; try again in a moment"))
        if self._closing.is_set():  # while it waited
            self._turn.release()
            return _response(refusal(503, _GOING_DOWN))
        asked = self._executor.submit(self.answer, query, dict(request.query))
        loop = asyncio.get_running_loop()
        asked.add_done_callback(lambda _: loop.call_soon_threadsafe(self._turn.release))
        return _response(await asyncio.wrap_future(asked))

    def answer(self, query: NamedQuery, given: Mapping[str, str]) -> Answer:
        """Ask a question in a session of its own and return what a browser is told."""
        began = time.monotonic()
        try:
            with self._session() as connection:
                told = values(connection, query, given)
                result = connection.run(*limited(query, told))
        except QueryError as error:
            return refusal(400, str(error))
        except (WarehouseUnavailableError, ConfigurationError) as error:
            return refusal(503, str(error))
        except StatementError as error:
            LOG.warning("%s: %s", query.name, error)
            if "Out of Memory" in str(error):
                return refusal(400, "this needs more memory than a page may use; ask for less time or one product")
            return refusal(503, f"{error}; if a table is missing, run `fulltape warehouse migrate`")
        return Answer(200, encoded(result, time.monotonic() - began))

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        """Yield a session that can only read, and whose statements end when the time is over."""
        if self._warehouse.is_dir():
            with closing(open_redshift(self._warehouse, read_only=True)) as redshift:
                redshift.run(f"SET statement_timeout TO {round(self._answer_seconds * 1000)}")
                with self._deadline(None):
                    yield redshift
            return
        if not self._warehouse.is_file():
            raise WarehouseUnavailableError(f"{self._warehouse} is not there yet; the first load makes it")
        opened = open_duckdb(self._warehouse, read_only=True, patience_seconds=self._busy_seconds, settings=_SETTINGS)
        with closing(opened) as file, self._deadline(file.interrupt):
            yield file

    @contextmanager
    def _deadline(self, interrupt: Callable[[], None] | None) -> Iterator[None]:
        """Break off what the context runs when its time is over or the server ends, and say so.

        ``interrupt`` ends the statement that runs just then, and is called until the context is left; None where the
        database watches the time by itself.
        """
        until = time.monotonic() + self._answer_seconds
        done = threading.Event()

        def watch() -> None:
            while interrupt is not None and not done.wait(_LOOK_SECONDS):
                if self._closing.is_set() or time.monotonic() >= until:
                    interrupt()

        watcher = threading.Thread(target=watch, name="history-deadline")
        watcher.start()
        try:
            yield
        except StatementError as error:
            if self._closing.is_set():
                raise WarehouseUnavailableError(_GOING_DOWN) from error
            if time.monotonic() >= until:
                raise WarehouseUnavailableError(
                    f"no answer within {self._answer_seconds:g} s; ask for less time, or for one product"
                ) from error
            raise
        finally:
            done.set()
            watcher.join()


def described(query: NamedQuery) -> dict[str, Any]:
    """Return a question as the page lists it."""
    return {
        "name": query.name,
        "question": query.question,
        "parameters": [
            {"name": told.name, "kind": told.kind, "default": told.default, "description": told.description}
            for told in query.parameters
        ],
    }


def limited(query: NamedQuery, told: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the statement and its values, so that one row more than `MOST_ROWS` comes at most.

    A question's own limit is its parameter ``top``; it ends with that, or has none.
    """
    if "top" in told:
        return query.sql, {**told, "top": min(told["top"], MOST_ROWS + 1)}
    return f"{query.sql.rstrip()}\nLIMIT {MOST_ROWS + 1}\n", dict(told)


def encoded(result: Result, seconds: float) -> bytes:
    """Return a result as JSON: columns and their forms, rows, whether rows were left out, and how long it took.

    Decimals, and integers that JavaScript can't hold, are text; times are ISO 8601 (UTC, without a zone) with
    microseconds, so that their order is that of their text.
    """
    rows = result.rows[:MOST_ROWS]
    return msgspec.json.encode(
        {
            "columns": result.columns,
            "forms": [form(row[at] for row in rows) for at in range(len(result.columns))],
            "rows": [[exact(value) for value in row] for row in rows],
            "truncated": len(result.rows) > MOST_ROWS,
            "seconds": round(seconds, 3),
        }
    )


def form(found: Iterator[object]) -> str:
    """Return what a column holds: time, number or text."""
    value = next((value for value in found if value is not None), None)
    if isinstance(value, datetime):
        return "time"
    return "number" if isinstance(value, int | float | Decimal) and not isinstance(value, bool) else "text"


def exact(value: object) -> object:
    """Return a value as JSON has it, without loss."""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime):
        return value.replace(tzinfo=None).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, int) and abs(value) > _MOST_EXACT:
        return str(value)
    return value if value is None or isinstance(value, bool | int | float | str) else str(value)


def refusal(status: int, text: str) -> Answer:
    """Return an answer that says why there is none."""
    return Answer(status, msgspec.json.encode({"error": text}))


def _response(answer: Answer) -> web.Response:
    headers = {"Retry-After": str(_RETRY_SECONDS)} if answer.status == 503 else None
    return web.Response(status=answer.status, body=answer.body, content_type="application/json", headers=headers)
