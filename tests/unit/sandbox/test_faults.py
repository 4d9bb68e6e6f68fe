"""Faults strike what they are told to, and nothing else; what they do can be told from the frames alone."""

import json
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fulltape.errors import ConfigurationError
from fulltape.sandbox.faults import (
    Close,
    Drop,
    Frame,
    FrameFault,
    FrameFaults,
    Garbage,
    Malformed,
    Reorder,
    Repeat,
    SlowRest,
    parse_fault_option,
    parse_faults,
)
from fulltape.sandbox.frames import payload_of, text_frame


def frame(number: int, product: str = "A-USD", *, is_match: bool = True) -> Frame:
    fields = {"type": "match", "trade_id": number, "price": "1", "size": "2", "side": "buy", "product_id": product}
    payload = json.dumps(fields | {"time": "2026-01-01T00:00:00.000000Z", "padding": "x" * 100})
    return Frame(product, text_frame(payload.encode()), is_match)


def struck(frames: list[Frame], *rules: FrameFault, seed: int = 1) -> list[Frame]:
    return FrameFaults(list(rules), "feed", Counter(), seed).apply(frames)


FRAMES = [frame(number, "AB"[number % 2] + "-USD") for number in range(20)]


def test_the_next_frames_of_a_product_are_dropped_and_the_fault_is_gone() -> None:
    rules: list[FrameFault] = [Drop(next=2, product="B-USD")]
    counts: Counter[str] = Counter()
    faults = FrameFaults(rules, "feed", counts, 1)
    assert faults.active
    assert faults.apply(FRAMES) == [FRAMES[0], FRAMES[2], *FRAMES[4:]]
    assert not faults.active
    assert counts == {"drop": 2}


def test_repeat_sends_twice() -> None:
    assert struck(FRAMES[:2], Repeat(next=1)) == [FRAMES[0], FRAMES[0], FRAMES[1]]


@given(st.integers(0, 2**32), st.floats(0, 1))
def test_reorder_loses_nothing_and_moves_a_frame_by_at_most_four_of_its_product(seed: int, probability: float) -> None:
    rules: list[FrameFault] = [Reorder(probability=probability)]
    faults = FrameFaults(rules, "feed", Counter(), seed)
    sent = faults.apply(FRAMES)
    rules.clear()
    sent += faults.apply(more := [frame(100 + number, "AB"[number % 2] + "-USD") for number in range(10)])
    assert sorted(sent) == sorted(FRAMES + more)
    assert not faults.active


def test_reorder_changes_the_order() -> None:
    assert struck(FRAMES[::2], Reorder(next=1))[0] == FRAMES[2]


@example(1016997)  # noise between two quotes
@given(st.integers(0, 2**32))
def test_garbage_is_no_match(seed: int) -> None:
    (spoiled,) = struck(FRAMES[:1], Garbage(next=1), seed=seed)
    with pytest.raises(json.JSONDecodeError):
        json.loads(payload_of(spoiled.data))


@given(st.integers(0, 2**32))
def test_malformed_is_json_with_one_field_amiss(seed: int) -> None:
    (spoiled,) = struck(FRAMES[:1], Malformed(next=1), seed=seed)
    was, now = json.loads(payload_of(FRAMES[0].data)), json.loads(payload_of(spoiled.data))
    assert sum(now.get(name, "missing") != value for name, value in was.items()) == 1


def test_only_matches_are_struck_and_only_by_the_scope_asked() -> None:
    ticker = frame(1, is_match=False)
    assert struck([ticker], Drop(probability=1)) == [ticker]
    assert struck(FRAMES, Drop(probability=1, scope="connection")) == FRAMES
    assert struck(FRAMES, Drop(probability=1)) == []


def test_a_probability_is_kept() -> None:
    many = FRAMES * 500
    assert len(struck(many, Drop(probability=0.1))) == pytest.approx(0.9 * len(many), rel=0.02)


def test_faults_are_read_from_json_and_from_options() -> None:
    assert parse_faults(b'{"fault":"drop","next":3}') == [Drop(next=3)]
    assert parse_faults(b'[{"fault":"close"},{"fault":"slow_rest","delay_seconds":2}]') == [
        Close(),
        SlowRest(delay_seconds=2),
    ]
    assert parse_fault_option("drop,probability=0.5,product=BTC-USD") == Drop(probability=0.5, product="BTC-USD")


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        (b"{", "not a fault"),
        (b'{"fault":"burn"}', "burn"),
        (b'{"fault":"drop"}', "either a probability or a number"),
        (b'{"fault":"drop","next":1,"probability":1}', "either a probability or a number"),
        (b'{"fault":"drop","probability":2}', "from 0 to 1"),
        (b'{"fault":"drop","next":0}', "next must be above 0"),
        (b'{"fault":"stall"}', "seconds"),
        (b'{"fault":"stall","seconds":-1}', "seconds must be above 0"),
        (b'{"fault":"drop","often":1}', "often"),
    ],
)
def test_a_wrong_fault_is_named(raw: bytes, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        parse_faults(raw)


def test_a_wrong_option_is_named() -> None:
    with pytest.raises(ConfigurationError, match=r"--fault drop,next=x: .*there are drop, repeat"):
        parse_fault_option("drop,next=x")
