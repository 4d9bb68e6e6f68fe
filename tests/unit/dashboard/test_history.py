"""What the history tab is told: values without loss, a bounded number of rows, and why there is no answer."""

import asyncio
import json
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from fulltape.dashboard.history import MOST_ROWS, History, described, encoded, exact, form, limited
from fulltape.warehouse.connection import Result
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.queries import NamedQuery, Parameter, named_queries

AT = datetime(2025, 10, 10, 21, 0)  # noqa: DTZ001 - the warehouse's times have no zone
SLOW = NamedQuery(
    "slow",
    "How long?",
    (),
    "SELECT SUM(one.range * two.range) FROM range(9000000) AS one(range), range(9000) AS two(range)",
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fulltape.duckdb"
    make_duckdb(path)
    return path


def answered(history: History, query: NamedQuery, **given: str) -> tuple[int, dict[str, Any]]:
    try:
        answer = history.answer(query, given)
    finally:
        history.close()
    return answer.status, json.loads(answer.body)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (Decimal("1E-8"), "0.00000001"),
        (Decimal("12345678901234567890.123"), "12345678901234567890.123"),
        (AT, "2025-10-10T21:00:00.000000"),
        (2**53, 2**53),
        (2**53 + 1, "9007199254740993"),
        (True, True),
        (None, None),
        (0.25, 0.25),
    ],
)
def test_a_value_loses_nothing(value: object, told: object) -> None:
    assert exact(value) == told


@pytest.mark.parametrize(
    ("values", "told"),
    [([None, AT], "time"), ([Decimal(1)], "number"), ([2**60], "number"), ([True], "text"), ([None], "text")],
)
def test_a_columns_form_is_that_of_its_values(values: list[object], told: str) -> None:
    assert form(iter(values)) == told


def test_rows_that_are_left_out_are_told() -> None:
    whole = json.loads(encoded(Result(("n",), [(1,)] * MOST_ROWS), 0.5))
    assert (len(whole["rows"]), whole["truncated"], whole["forms"]) == (MOST_ROWS, False, ["number"])
    cut = json.loads(encoded(Result(("n",), [(1,)] * (MOST_ROWS + 1)), 0.5))
    assert (len(cut["rows"]), cut["truncated"]) == (MOST_ROWS, True)


@pytest.mark.parametrize("query", named_queries().values(), ids=lambda query: query.name)
def test_every_named_question_is_bounded_and_answered(query: NamedQuery, file: Path) -> None:
    sql, told = limited(query, {"top": 2**31 - 1} if "top" in [part.name for part in query.parameters] else {})
    assert sql.rstrip().endswith(f"LIMIT {MOST_ROWS + 1}") or told["top"] == MOST_ROWS + 1
    status, body = answered(History(file), query)
    assert (status, len(body["columns"]), body["truncated"]) == (200, len(body["forms"]), False)


def test_a_question_is_described_with_its_defaults() -> None:
    query = NamedQuery("one", "Which?", (Parameter("top", "integer", "10", "how many"),), "SELECT 1")
    told = {"name": "top", "kind": "integer", "default": "10", "description": "how many"}
    assert described(query) == {"name": "one", "question": "Which?", "parameters": [told]}


def test_a_bad_parameter_is_the_askers_fault_and_is_never_sql(file: Path) -> None:
    movers = named_queries()["movers"]
    for given in ({"since": "yesterday"}, {"top": "1; DROP TABLE fulltape.trades"}, {"nonsense": "1"}):
        status, body = answered(History(file), movers, **given)
        assert status == 400
        assert next(iter(given)) in body["error"]
    assert answered(History(file), movers, product="' OR 1 = 1 --")[0] == 200


def test_a_question_that_takes_too_long_is_broken_off(file: Path) -> None:
    status, body = answered(History(file, answer_seconds=0.1), SLOW)
    assert status == 503, body
    assert "no answer within 0.1 s" in body["error"]


async def test_questions_at_once_take_turns_and_none_waits_without_end(file: Path) -> None:
    async def told(history: History, *names: str) -> list[str]:
        app = web.Application()
        app.add_routes(history.routes())
        async with TestClient(TestServer(app)) as client:
            answers = await asyncio.gather(*(client.get(f"/history/query/{name}") for name in names))
            bodies = [await answer.json() for answer in answers]
        history.close()
        return sorted(body.get("error", "answered") for body in bodies)

    assert await told(History(file), *["movers"] * 5) == ["answered"] * 5
    impatient = History(file, answer_seconds=1, busy_seconds=0.1)
    impatient._queries["slow"] = SLOW
    broken_off, turned_away = await told(impatient, "slow", "slow")
    assert "no answer within 1 s" in broken_off
    assert "others are asking" in turned_away


async def test_who_waits_as_the_server_ends_is_told_so(file: Path) -> None:
    history = History(file, answer_seconds=30, busy_seconds=30)
    history._queries["slow"] = SLOW
    app = web.Application()
    app.add_routes(history.routes())
    async with TestClient(TestServer(app)) as client:
        asked = [asyncio.create_task(client.get("/history/query/slow")) for _ in range(2)]
        while not history._turn._waiters:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(history.close)
        for answer in asked:
            assert "the server is going down" in (await (await answer).json())["error"]


def test_a_file_that_a_loader_has_yet_to_make_is_waited_for(tmp_path: Path) -> None:
    status, body = answered(History(tmp_path / "absent.duckdb"), SLOW)
    assert status == 503
    assert "not there yet" in body["error"]


@pytest.mark.parametrize("sql", ["CREATE TABLE fulltape.mine (a INT)", "SELECT * FROM read_csv('/etc/passwd')"])
def test_a_session_can_reach_nothing_but_the_file_and_only_read(file: Path, sql: str) -> None:
    history = History(file)
    with history._session() as connection, pytest.raises(Exception, match=r"read-only|disabled"):
        connection.run(sql)
    history.close()
