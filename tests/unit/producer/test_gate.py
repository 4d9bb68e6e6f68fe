"""The gate: contiguous, ascending, once; whatever order things come in, and however little may be held."""

from hypothesis import given
from hypothesis import strategies as st

from fulltape.producer.gate import Gate, Hole


@st.composite
def arrivals(draw: st.DrawFn) -> tuple[int, int, list[int]]:
    """A first id, a last id, and those ids in any order, with repeats and with ids from before the first."""
    first = draw(st.integers(1, 10**9))
    count = draw(st.integers(1, 60))
    ids = draw(st.permutations(range(first, first + count)))
    repeats = draw(st.lists(st.integers(max(1, first - 5), first + count - 1), max_size=30))
    mixed = draw(st.permutations([*ids, *repeats]))
    return first, first + count - 1, list(mixed)


@given(arrivals())
def test_any_order_with_repeats_leaves_ascending_contiguous_and_once(case: tuple[int, int, list[int]]) -> None:
    first, last, ids = case
    gate: Gate[int] = Gate(first, capacity=1000)
    emitted = [item for item_id in ids for item in gate.offer(item_id, item_id)]
    assert emitted == list(range(first, last + 1))
    assert gate.hole() is None
    assert gate.duplicates == len(ids) - len(emitted)


@given(arrivals(), st.integers(0, 8))
def test_a_full_buffer_forgets_trades_but_not_that_they_exist(case: tuple[int, int, list[int]], capacity: int) -> None:
    first, last, ids = case
    gate: Gate[int] = Gate(first, capacity)
    emitted: list[int] = []
    for item_id in ids:
        emitted += gate.offer(item_id, item_id)
        assert gate.held <= capacity
    while (hole := gate.hole()) is not None:  # what a backfill does: ask for the first hole's ids
        for item_id in range(hole.first, hole.last + 1):
            emitted += gate.offer(item_id, item_id)
    assert emitted == list(range(first, last + 1))


@given(arrivals(), st.data())
def test_ids_given_up_are_skipped_and_everything_else_is_emitted(
    case: tuple[int, int, list[int]], data: st.DataObject
) -> None:
    first, last, ids = case
    lost = data.draw(st.sets(st.integers(first, last)))
    gate: Gate[int] = Gate(first, capacity=1000)
    emitted = [item for item_id in ids if item_id not in lost for item in gate.offer(item_id, item_id)]
    gate.knows_of(last)
    while (hole := gate.hole()) is not None:
        emitted += gate.give_up(hole.last)
    assert emitted == [item_id for item_id in range(first, last + 1) if item_id not in lost]
    assert gate.next_id == last + 1


def test_a_heartbeat_reveals_a_loss_at_the_tail() -> None:
    gate: Gate[str] = Gate(10, capacity=4)
    assert gate.offer(10, "a") == ["a"]
    gate.knows_of(10)
    assert gate.hole() is None
    gate.knows_of(12)
    assert gate.hole() == Hole(11, 12)


def test_before_its_start_a_gate_holds_and_then_drops_what_came_before_it() -> None:
    gate: Gate[int] = Gate(None, capacity=10)
    for item_id in (7, 5, 6, 9):
        assert gate.offer(item_id, item_id) == []
    assert gate.hole() is None
    assert gate.first_held == 5
    assert gate.start_at(6) == [6, 7]
    assert gate.hole() == Hole(8, 8)


@given(arrivals(), st.integers(0, 70))
def test_what_is_disbelieved_is_forgotten_and_believed_again_when_told_again(
    case: tuple[int, int, list[int]], back: int
) -> None:
    first, last, ids = case
    gate: Gate[int] = Gate(first, capacity=1000)
    half = len(ids) // 2
    emitted = [item for item_id in ids[:half] for item in gate.offer(item_id, item_id)]
    gate.disbelieve(last - back)
    hole = gate.hole()
    assert hole is None or hole.last <= max(last - back, gate.next_id or 0)
    for item_id in (*ids[half:], *range(first, last + 1)):
        emitted += gate.offer(item_id, item_id)
    assert emitted == list(range(first, last + 1))


def test_the_hole_reaches_to_the_first_that_is_held() -> None:
    gate: Gate[int] = Gate(1, capacity=10)
    gate.offer(4, 4)
    gate.offer(9, 9)
    assert gate.hole() == Hole(1, 3)
    for item_id in (1, 2, 3):
        gate.offer(item_id, item_id)
    assert gate.hole() == Hole(5, 8)
