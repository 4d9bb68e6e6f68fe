"""Which feeds need a look: each by one worker at a time, what fails later and later."""

import asyncio

import pytest

from fulltape_operator.queue import WorkQueue


async def taken(queue: WorkQueue[str], seconds: float = 0.05) -> str | None:
    try:
        async with asyncio.timeout(seconds):
            return await queue.get()
    except TimeoutError:
        return None


async def test_a_key_that_is_added_often_is_handed_out_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for _ in range(3):
        queue.add("a")
    assert await taken(queue) == "a"
    assert await taken(queue) is None


async def test_a_key_that_is_added_while_it_is_worked_on_comes_again_afterwards() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await taken(queue) == "a"
    queue.add("a")
    assert await taken(queue) is None
    queue.done("a")
    assert await taken(queue) == "a"


async def test_the_sooner_of_two_wishes_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a", 60)
    assert await taken(queue) is None
    queue.add("a")
    assert await taken(queue) == "a"


async def test_a_worker_that_waits_is_woken() -> None:
    queue: WorkQueue[str] = WorkQueue()
    waiting = asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add("a")
    assert await asyncio.wait_for(waiting, 5) == "a"


async def test_what_fails_waits_longer_each_time_until_it_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    queue: WorkQueue[str] = WorkQueue()
    now = 100.0
    monkeypatch.setattr("fulltape_operator.queue._now", lambda: now)
    waits = []
    for failed in (True, True, True, False, True):
        queue.add("a")
        assert await taken(queue) == "a"
        queue.done("a", failed=failed)
        waits.append(queue._due.pop("a", now) - now)
    assert 0 < waits[0] < waits[1] < waits[2]
    assert waits[3] == 0
    assert waits[4] < waits[1]


async def test_the_api_server_s_wish_to_be_left_alone_is_respected() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await taken(queue) == "a"
    queue.done("a", failed=True, at_least_seconds=60)
    assert queue._due["a"] > asyncio.get_running_loop().time() + 59
