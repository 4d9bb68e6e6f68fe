"""The named questions below ``sql/queries``: found, understood, and asked of any warehouse with bound parameters.

A file begins with comments: the question, then its parameters as ``-- name: kind = default -- what it means``. Kinds
are text, integer and time. A time is ISO 8601 (UTC), or ``now`` or ``latest``, less a duration if wanted, as in
``latest - 1h``. Latest is just after the newest trade, so that a question fits a live market and a recorded day.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal, get_args

from sqlglot import exp, parse
from sqlglot.errors import SqlglotError

from fulltape.errors import ConfigurationError
from fulltape.feed.duration import Duration
from fulltape.warehouse.connection import Connection, Dialect, Result
from fulltape.warehouse.migrations import sql_folder
from fulltape.warehouse.tables import TABLES

Kind = Literal["text", "integer", "time"]
Value = str | int | datetime

_PARAMETER = re.compile(r"-- (\w+): (\w+) = (.*?) -- (.+)")
_RELATIVE = re.compile(r"(now|latest)(?: *- *(\w+))?")
_MOST_INTEGER = 2**31 - 1

_SIDE_EFFECTS = re.compile(r"(pg_|lo_|dblink|set_config|setval|nextval)", re.IGNORECASE)
"""Functions that act, or reach beyond the tables, even in a transaction that is read-only."""


class QueryError(ConfigurationError):
    """There is no such question, a parameter does not fit it, or SQL that may only read would do more."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """What a question may be told."""

    name: str
    kind: Kind
    default: str
    description: str


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """A question with its SQL."""

    name: str
    question: str
    parameters: tuple[Parameter, ...]
    sql: str


def read_query(path: Path) -> NamedQuery:
    """Read one question.

    Raises:
        QueryError: its first lines are not as they should be.

    """
    text = path.read_text()
    question: list[str] = []
    parameters: list[Parameter] = []
    for line in text.splitlines():
        if not line.startswith("--"):
            break
        match = _PARAMETER.fullmatch(line)
        if match is None and not parameters:
            question.append(line.removeprefix("--").strip())
        elif match is None or match[2] not in get_args(Kind):
            raise QueryError(f"{path}: {line!r} should be: -- name: text, integer or time = default -- what it means")
        else:
            kind: Kind = match[2]  # type: ignore[assignment]  # checked above
            parameters.append(Parameter(match[1], kind, match[3], match[4]))
    if not question:
        raise QueryError(f"{path}: begin with a comment that holds the question")
    return NamedQuery(path.stem, " ".join(question), tuple(parameters), text)


def named_queries(folder: Path | None = None) -> dict[str, NamedQuery]:
    """Return all questions by name."""
    paths = sorted((folder or sql_folder() / "queries").glob("*.sql"))
    return {path.stem: read_query(path) for path in paths}


def ask(connection: Connection, query: NamedQuery, given: Mapping[str, str] | None = None) -> Result:
    """Ask a question; parameters that are not given have their defaults.

    Raises:
        QueryError: a parameter is unknown or is not of its kind.
        StatementError: the database refuses.

    """
    return connection.run(query.sql, values(connection, query, given or {}))


def values(connection: Connection, query: NamedQuery, given: Mapping[str, str]) -> dict[str, Value]:
    """Return the values to bind, as the kinds of the parameters have them.

    Raises:
        QueryError: a parameter is unknown or is not of its kind.

    """
    names = [parameter.name for parameter in query.parameters]
    for name in given:
        if name not in names:
            raise QueryError(f"{query.name} has no parameter {name!r}; it has {', '.join(names) or 'none'}")
    texts = {parameter.name: given.get(parameter.name, parameter.default) for parameter in query.parameters}
    now = datetime.now(UTC).replace(tzinfo=None)
    latest = now
    if any(parameter.kind == "time" and "latest" in texts[parameter.name] for parameter in query.parameters):
        newest = connection.run(f"SELECT MAX(traded_at) FROM {TABLES['trades'].qualified}").rows[0][0]  # noqa: S608
        latest = now if newest is None else newest + timedelta(microseconds=1)
    return {parameter.name: value_of(parameter, texts[parameter.name], now, latest) for parameter in query.parameters}


def value_of(parameter: Parameter, text: str, now: datetime, latest: datetime) -> Value:
    """Return a parameter's value from its text; ``now`` and ``latest`` are UTC without a zone.

    Raises:
        QueryError: the text is none of its kind.

    """
    text = text.strip()
    if parameter.kind == "text":
        return text
    if parameter.kind == "integer":
        if not re.fullmatch(r"[0-9]{1,10}", text, re.ASCII) or not 0 < int(text) <= _MOST_INTEGER:
            raise QueryError(f"{parameter.name}: {text!r} is no whole number from 1 to {_MOST_INTEGER}")
        return int(text)
    try:
        match = _RELATIVE.fullmatch(text)
        if match is not None:
            start = now if match[1] == "now" else latest
            return start - timedelta(microseconds=Duration(match[2]).us) if match[2] else start
        moment = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise QueryError(
            f"{parameter.name}: {text!r} is no time; write 2025-10-10T21:00:00, now, latest, or latest - 1h"
        ) from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def check_read_only(sql: str, dialect: Dialect) -> None:
    """Let nothing pass but one statement that reads.

    This is the courteous half: it says what is wrong. The connection is read-only as well, whatever passes here.

    Raises:
        QueryError: it is no SQL, more than one statement, or would do more than read.

    """
    try:
        statements = [statement for statement in parse(sql, dialect=dialect) if statement is not None]
    except (SqlglotError, RecursionError) as error:
        raise QueryError(f"this is no SQL that can be read: {str(error).splitlines()[0]}") from None
    if len(statements) != 1:
        raise QueryError(f"give one statement; these are {len(statements)}")
    root = statements[0]
    if not isinstance(root, exp.Query):
        raise QueryError(f"only questions are allowed, which begin with SELECT or WITH; this is {root.key.upper()}")
    for node in root.walk():
        if isinstance(node, exp.DML | exp.DDL | exp.Command | exp.Into | exp.Lock) and not isinstance(node, exp.Query):
            raise QueryError(f"only questions are allowed; this one holds {node.key.upper()}")
        if isinstance(node, exp.Func) and _SIDE_EFFECTS.match(node.name or node.sql_name()):
            raise QueryError(f"only questions are allowed; the function {node.name or node.sql_name()} may do more")
