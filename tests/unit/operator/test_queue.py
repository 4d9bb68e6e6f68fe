"""Which feeds need a look: each by one worker at a time, none forgotten, what fails later and later."""

import asyncio
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape_operator.queue import WorkQueue
from tests.unit.operator.fake_time import in_fake_time


def now() -> float:
    return asyncio.get_running_loop().time()


async def taken(queue: WorkQueue[str], within_seconds: float = 0.0) -> str | None:
    """Return what is handed out within a time; None where nothing is."""
    try:
        async with asyncio.timeout(within_seconds):
            return await queue.get()
    except TimeoutError:
        return None


def test_a_key_that_is_added_often_is_handed_out_once() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for _ in range(3):
            queue.add("a")
        assert len(queue) == queue.waiting() == 1
        assert await taken(queue) == "a"
        queue.done("a")
        assert await taken(queue, 1000) is None

    in_fake_time(story())


def test_a_key_that_is_added_while_it_is_worked_on_comes_again_afterwards() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        assert await taken(queue) == "a"
        queue.add("a", 7)
        queue.add("a", 3)
        assert await taken(queue, 100) is None
        queue.done("a")
        assert await taken(queue) == "a"  # 3 seconds have passed meanwhile
        queue.done("a")
        assert await taken(queue, 1000) is None

    in_fake_time(story())


def test_the_sooner_of_two_wishes_counts() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for first, second in ((60, 5), (5, 60)):
            began = now()
            queue.add("a", first)
            queue.add("a", second)
            assert await queue.get() == "a"
            assert now() - began == 5
            queue.done("a")
            assert await taken(queue, 1000) is None

    in_fake_time(story())


def test_keys_are_handed_out_when_they_are_due_and_the_earliest_first() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        for key, delay_seconds in (("late", 9.0), ("at once", 0.0), ("soon", 2.0)):
            queue.add(key, delay_seconds)
        assert queue.waiting() == 1
        assert [(await queue.get(), now()) for _ in range(3)] == [("at once", 0), ("soon", 2), ("late", 9)]

    in_fake_time(story())


def test_a_worker_that_waits_is_woken_by_what_is_due_sooner() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("later", 1000)
        waiting = asyncio.create_task(queue.get())
        await asyncio.sleep(1)
        queue.add("now")
        assert await waiting == "now"
        assert now() == 1

    in_fake_time(story())


def test_what_fails_waits_longer_each_time_up_to_a_bound_until_it_succeeds() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        waits = []
        queue.add("a")
        await queue.get()
        for _ in range(40):
            began = now()
            queue.done("a", failed=True)
            await queue.get()
            waits.append(now() - began)
        assert waits[:6] == sorted(waits[:6])
        assert waits[0] < 1
        assert 60 < max(waits) < 150
        assert len(set(waits[-10:])) > 1  # so that what failed together is not repeated together
        queue.done("a")
        assert await taken(queue, 1000) is None
        queue.add("a")
        await queue.get()
        began = now()
        queue.done("a", failed=True)
        await queue.get()
        assert now() - began < 1

    in_fake_time(story())


def test_what_changed_while_its_pass_failed_does_not_wait_for_the_next_try() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        for _ in range(10):
            await queue.get()
            queue.done("a", failed=True)
        await queue.get()
        queue.add("a", 1)
        began = now()
        queue.done("a", failed=True)
        assert await queue.get() == "a"
        assert now() - began == 1
        queue.done("a", failed=True)
        assert await taken(queue, 60) is None  # it failed too often to be tried again soon by itself

    in_fake_time(story())


def test_the_api_server_s_wish_to_be_left_alone_is_respected() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        queue.add("a")
        await queue.get()
        queue.add("a")
        queue.done("a", failed=True, at_least_seconds=60)
        assert await taken(queue, 59) is None
        assert await taken(queue, 2) == "a"

    in_fake_time(story())


def test_it_is_known_for_how_long_the_oldest_is_worked_on() -> None:
    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        assert queue.longest_seconds() == 0
        queue.add("old")
        await queue.get()
        await asyncio.sleep(30)
        queue.add("new")
        await queue.get()
        await asyncio.sleep(5)
        assert queue.longest_seconds() == 35
        queue.done("old")
        assert queue.longest_seconds() == 5

    in_fake_time(story())


times = st.integers(0, 80).map(lambda quarters: quarters / 4)
wishes = st.lists(
    st.tuples(st.sampled_from("abc"), times, times),  # key, when, and with what delay
    min_size=1,
    max_size=30,
)


@settings(max_examples=30, deadline=None)
@given(wishes, st.lists(st.tuples(times, st.booleans()), min_size=1, max_size=30))
def test_each_key_is_worked_on_by_one_worker_and_after_every_wish(
    asked: list[tuple[str, float, float]], passes: list[tuple[float, bool]]
) -> None:
    """Three workers, passes that take their time, and some that fail."""

    async def story() -> None:
        queue: WorkQueue[str] = WorkQueue()
        busy: Counter[str] = Counter()
        begun: dict[str, float] = {}
        courses = iter(passes)

        async def ask(key: str, when: float, delay_seconds: float) -> None:
            await asyncio.sleep(when)
            queue.add(key, delay_seconds)

        async def work() -> None:
            while True:
                key = await queue.get()
                busy[key] += 1
                assert busy[key] == 1
                begun[key] = now()
                seconds, failed = next(courses, (0.0, False))
                await asyncio.sleep(seconds)
                busy[key] -= 1
                queue.done(key, failed=failed)

        workers = [asyncio.create_task(work()) for _ in range(3)]
        await asyncio.gather(*(ask(*wish) for wish in asked))
        await asyncio.sleep(10_000)
        assert not any(worker.done() for worker in workers)
        assert all(begun[key] >= when for key, when, _ in asked)
        assert len(queue) == 0
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    in_fake_time(story())
