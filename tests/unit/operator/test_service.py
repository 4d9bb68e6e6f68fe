"""The operator's parts run together: where one ends, all end, and what failed is said."""

import asyncio

import pytest

from fulltape_operator.service import OperatorError, _until_one_ends


async def forever(ended: list[str], name: str) -> None:
    try:
        await asyncio.Event().wait()
    finally:
        ended.append(name)


async def fail() -> None:
    raise ValueError("what nobody thought of")


async def test_where_one_part_fails_the_others_end_and_it_is_named() -> None:
    ended: list[str] = []
    parts = [
        asyncio.create_task(forever(ended, "one")),
        asyncio.create_task(fail(), name="the lists"),
        asyncio.create_task(forever(ended, "another")),
    ]
    with pytest.raises(OperatorError, match="the lists failed: ValueError: what nobody thought of"):
        await _until_one_ends(parts)
    assert ended == ["one", "another"]


async def test_where_one_part_is_done_the_others_end_too() -> None:
    ended: list[str] = []
    await _until_one_ends([asyncio.create_task(forever(ended, "one")), asyncio.create_task(asyncio.sleep(0))])
    assert ended == ["one"]
