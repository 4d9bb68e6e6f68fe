"""What a pass does, from what is wanted and what is there."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape_operator.desired.child import COMPONENT_LABEL, Child, Key, Stage
from fulltape_operator.health import Health
from fulltape_operator.observed import Seen
from fulltape_operator.plan import WORKLOADS, Plan, Wanted, plan, program_health

STAGES = {"producer": Stage.PRODUCERS, "panes": Stage.ANALYTICS, "archive": Stage.ANALYTICS, "monitor": Stage.SERVING}
WELL = Health()
ROLLING = Health(ready=0, rolling=True)


def wanted(kind: str, component: str, name: str, digest: str = "new") -> Wanted:
    metadata = {"name": name, "namespace": "n", "labels": {COMPONENT_LABEL: component}}
    stage = STAGES[component] if kind in WORKLOADS else Stage.FOUNDATION
    return Wanted(Child(stage, {"kind": kind, "metadata": metadata}), digest)


def there(one: Wanted, digest: str | None = "new", health: Health = WELL, *, deleting: bool = False) -> Seen:
    return Seen(one.child.key, one.child.key.name, 1, digest, (), deleting, health)


def seen(*found: Seen) -> dict[Key, Seen]:
    return {one.key: one for one in found}


def applied(found: Plan) -> list[str]:
    return [one.child.key.name for one in found.apply]


PRODUCER = wanted("StatefulSet", "producer", "producer")
PANES = [wanted("Deployment", "panes", f"panes-{number}") for number in (0, 1)]
MONITOR = wanted("Deployment", "monitor", "monitor")
SETTINGS = wanted("ConfigMap", "producer", "settings")
ALL = [SETTINGS, PRODUCER, *PANES, MONITOR]


def test_what_is_as_wanted_is_left_alone() -> None:
    assert plan(ALL, seen(*map(there, ALL)), {}) == Plan()


def test_all_that_is_missing_is_made_at_once_in_the_order_of_stages() -> None:
    assert applied(plan(ALL, {}, {})) == ["settings", "producer", "panes-0", "panes-1", "monitor"]


def test_what_differs_is_applied_unless_the_server_is_known_to_keep_it_so() -> None:
    drifted = seen(*map(there, ALL)) | seen(there(SETTINGS, "other"))
    assert applied(plan(ALL, drifted, {})) == ["settings"]
    assert plan(ALL, drifted, {SETTINGS.child.key: ("new", "other")}) == Plan()


def test_what_is_not_wanted_any_more_is_deleted_but_never_what_is_not_of_our_making() -> None:
    old = wanted("Service", "monitor", "old")
    pod = wanted("Pod", "monitor", "pod")
    assert [one.key.name for one in plan(ALL, seen(*map(there, ALL), there(old)), {}).delete] == ["old"]
    assert plan(ALL, seen(*map(there, ALL), there(old, None), there(pod)), {}) == Plan()
    assert plan(ALL, seen(*map(there, ALL), there(old)), {}, [old.child.key]) == Plan()


def test_spark_changes_after_the_producers_and_one_stream_after_the_other() -> None:
    old = seen(*(there(one, "old") for one in ALL))
    first = plan(ALL, old, {})
    assert applied(first) == ["settings", "producer", "monitor"]
    assert set(first.waiting) == {one.child.key for one in PANES}
    rolling = old | seen(there(SETTINGS), there(MONITOR), there(PRODUCER, "new", ROLLING))
    assert applied(plan(ALL, rolling, {})) == []
    done = rolling | seen(there(PRODUCER))
    assert applied(plan(ALL, done, {})) == ["panes-0"]
    assert applied(plan(ALL, done | seen(there(PANES[0], "new", ROLLING)), {})) == []
    assert applied(plan(ALL, done | seen(there(PANES[0])), {})) == ["panes-1"]


def test_a_stream_that_does_not_run_is_changed_without_waiting() -> None:
    old = seen(*map(there, ALL)) | seen(there(PRODUCER, "new", ROLLING), there(PANES[0], "old", ROLLING))
    assert applied(plan(ALL, old, {})) == ["panes-0"]


def test_a_stream_that_runs_is_not_changed_while_the_other_is_down_whichever_comes_first() -> None:
    old = seen(*map(there, ALL)) | seen(there(PANES[0], "old"), there(PANES[1], "old", ROLLING))
    first = plan(ALL, old, {})
    assert applied(first) == ["panes-1"]
    assert set(first.waiting) == {PANES[0].child.key}
    assert applied(plan(ALL, old | seen(there(PANES[1], "new", ROLLING)), {})) == []
    assert applied(plan(ALL, old | seen(there(PANES[1])), {})) == ["panes-0"]


def test_streams_that_are_both_down_are_changed_at_once() -> None:
    old = seen(*map(there, ALL)) | seen(*(there(one, "old", ROLLING) for one in PANES))
    assert applied(plan(ALL, old, {})) == ["panes-0", "panes-1"]


def test_a_stream_that_is_on_its_way_itself_does_not_wait_for_itself() -> None:
    still_up = Health(ready=1, wanted=1, rolling=True)
    assert applied(plan(ALL, seen(*map(there, ALL)) | seen(there(PANES[0], "old", still_up)), {})) == ["panes-0"]


@pytest.mark.parametrize(("gone", "changed"), [(PANES[1], PANES[0]), (PRODUCER, PANES[0])], ids=["stream", "producers"])
def test_a_stream_that_runs_is_not_changed_while_what_it_waits_for_is_gone(gone: Wanted, changed: Wanted) -> None:
    present = seen(*(there(one) for one in ALL if one is not gone)) | seen(there(changed, "old"))
    found = plan(ALL, present, {})
    assert applied(found) == [gone.child.key.name]
    assert set(found.waiting) == {changed.child.key}


def test_making_anew_what_is_gone_waits_for_nothing() -> None:
    present = seen(*(there(one, "old", ROLLING) for one in (PRODUCER, PANES[0])))
    assert "panes-1" in applied(plan(ALL, present, {}))


def test_settings_stay_while_a_change_still_waits() -> None:
    old = wanted("ConfigMap", "panes", "settings-before")
    present = seen(*map(there, ALL), there(old)) | seen(there(PRODUCER, "new", ROLLING), there(PANES[0], "old"))
    found = plan(ALL, present, {})
    assert set(found.waiting) == {PANES[0].child.key}
    assert not found.delete


def test_settings_stay_while_pods_may_still_be_started_with_them() -> None:
    old = wanted("ConfigMap", "producer", "settings-before")
    present = seen(*map(there, ALL), there(old))
    assert not plan(ALL, present | seen(there(PRODUCER, "new", ROLLING)), {}).delete
    assert [one.key.name for one in plan(ALL, present, {}).delete] == ["settings-before"]


def test_settings_stay_while_their_program_is_being_deleted_to_be_made_anew() -> None:
    old = wanted("ConfigMap", "monitor", "settings-before")
    present = seen(*map(there, ALL), there(old)) | seen(there(MONITOR, "old", deleting=True))
    assert not plan(ALL, present, {}).delete


def test_what_no_pod_is_started_with_is_deleted_while_pods_are_on_their_way() -> None:
    old = wanted("Service", "monitor", "old")
    present = seen(*map(there, ALL), there(old)) | seen(there(PRODUCER, "new", ROLLING))
    assert [one.key.name for one in plan(ALL, present, {}).delete] == ["old"]


def test_what_is_being_deleted_is_waited_for() -> None:
    found = plan(ALL, seen(*map(there, ALL)) | seen(there(MONITOR, "old", deleting=True)), {})
    assert not found.apply
    assert not found.delete
    assert MONITOR.child.key in found.waiting


def carry_out(found: Plan, present: Mapping[Key, Seen]) -> dict[Key, Seen]:
    """Do what a plan says, and let everything that was changed become ready."""
    after = {key: replace(one, health=WELL) for key, one in present.items() if one not in found.delete}
    after |= {one.child.key: there(one, one.digest) for one in found.apply}
    return {key: one for key, one in after.items() if not one.deleting}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(ALL), unique_by=lambda one: one.child.key),
    st.lists(
        st.sampled_from([wanted("Service", "monitor", "x"), wanted("ConfigMap", "panes", "y")]),
        unique_by=lambda one: one.child.key,
    ),
    st.lists(st.tuples(st.sampled_from(["old", "new"]), st.sampled_from([WELL, ROLLING]), st.booleans()), min_size=7),
)
def test_passes_end_in_what_is_wanted_from_any_state(
    some: list[Wanted], others: list[Wanted], states: list[tuple[str, Health, bool]]
) -> None:
    present = seen(
        *(
            there(one, digest, health, deleting=deleting)
            for one, (digest, health, deleting) in zip([*some, *others], states, strict=False)
        )
    )
    for _ in range(10):
        found = plan(ALL, present, {})
        stopped = {one.child.key for one in found.apply} & present.keys()
        for one, other in (PANES, reversed(PANES)):
            if one.child.key in stopped and present[one.child.key].health.ready and other.child.key in present:
                assert other.child.key not in stopped
                assert present[other.child.key].health.ready
        present = carry_out(found, present)
    assert {key: one.digest for key, one in present.items()} == {one.child.key: "new" for one in ALL}


STREAMS = [wanted("SparkApplication", "panes", f"panes-{number}") for number in (0, 1)]
ON_SPARK_OPERATOR = [SETTINGS, PRODUCER, *STREAMS, MONITOR]
BEGUN = Health(ready=0, rolling=True, problem="SUBMITTED")


def stream(one: Wanted, revision: str = "b", digest: str = "new", health: Health = WELL) -> Seen:
    return replace(there(one, digest, health), revision=revision)


def driver(one: Wanted, revision: str = "b", health: Health = WELL, *, deleting: bool = False) -> Seen:
    key = Key("Pod", "n", f"{one.child.key.name}-driver")
    return Seen(key, "driver", 1, None, (), deleting, health, revision=revision)


def test_a_stream_on_a_spark_operator_is_as_ready_as_its_driver_s_pod() -> None:
    one = STREAMS[0]

    def found(*there: Seen) -> Health:
        return program_health(one.child.key, seen(*there))

    assert found(stream(one), driver(one)) == WELL
    assert found(stream(one)) == ROLLING
    assert found(stream(one), driver(one, health=Health(ready=0))) == ROLLING
    assert found(stream(one), driver(one, deleting=True)) == ROLLING
    assert found(stream(one, health=BEGUN), driver(one)) == BEGUN
    old = found(stream(one), driver(one, "a"))
    assert (old.ready, old.rolling) == (1, True)
    assert old.problem.startswith("Pod n/panes-0-driver is of before the last change")
    asleep = Health(ready=0, wanted=0)
    assert found(stream(one, health=asleep)) == asleep


def test_a_change_waits_until_the_driver_of_the_other_stream_is_of_its_own_change_and_ready() -> None:
    first, second = STREAMS
    old = seen(*(there(one) for one in (SETTINGS, PRODUCER, MONITOR)))
    for one in STREAMS:
        old |= seen(stream(one, "a", "old"), driver(one, "a"))
    assert applied(plan(ON_SPARK_OPERATOR, old, {})) == ["panes-0"]
    for now in (
        [stream(first), driver(first, "a")],  # nobody has noticed
        [stream(first, health=BEGUN), driver(first, "a", deleting=True)],
        [stream(first), driver(first, health=Health(ready=0))],
    ):
        found = plan(ON_SPARK_OPERATOR, old | seen(*now), {})
        assert applied(found) == []
        assert set(found.waiting) == {second.child.key}
    assert applied(plan(ON_SPARK_OPERATOR, old | seen(stream(first), driver(first)), {})) == ["panes-1"]


def running(one: Wanted, *, deleting: bool = False) -> list[Seen]:
    """Return a stream that does as it should, on either backend."""
    if one.child.key.kind == "Deployment":
        return [there(one, deleting=deleting)]
    return [replace(stream(one), deleting=deleting), driver(one)]


OTHERS = [there(one) for one in (SETTINGS, PRODUCER, MONITOR)]
both_ways = pytest.mark.parametrize(("before", "after"), [(PANES, STREAMS), (STREAMS, PANES)])


@both_ways
@pytest.mark.parametrize("deleting", [False, True])
def test_what_comes_in_a_program_s_place_waits_until_that_has_ended(
    before: list[Wanted], after: list[Wanted], *, deleting: bool
) -> None:
    all_of_it = [SETTINGS, PRODUCER, after[0], MONITOR]
    former, key = before[0].child.key, after[0].child.key
    found = plan(all_of_it, seen(*OTHERS, *running(before[0], deleting=deleting)), {})
    assert (applied(found), found.rehearse) == ([], after[:1])
    assert found.waiting == {key: f"{former} is to end first"}
    assert [one.key for one in found.delete] == ([] if deleting else [former])
    assert applied(plan(all_of_it, seen(*OTHERS), {})) == [key.name]


@both_ways
def test_one_stream_goes_over_to_another_backend_after_the_other(before: list[Wanted], after: list[Wanted]) -> None:
    all_of_it = [SETTINGS, PRODUCER, *after, MONITOR]
    waits = {after[1].child.key: f"{after[0].child.key} is not ready yet"}

    def found(*streams: Seen) -> Plan:
        return plan(all_of_it, seen(*OTHERS, *streams), {})

    begun = found(*running(before[0]), *running(before[1]))
    assert (begun.rehearse, [one.key for one in begun.delete]) == (after[:1], [before[0].child.key])
    ending = found(*running(before[0], deleting=True), *running(before[1]))
    assert (ending.delete, ending.waiting.items() >= waits.items()) == ([], True)
    ended = found(*running(before[1]))
    assert (applied(ended), ended.delete, ended.waiting) == (["panes-0"], [], waits)
    starting = found(there(after[0], health=BEGUN), *running(before[1]))
    assert (starting.delete, starting.waiting) == ([], waits)
    over = found(*running(after[0]), *running(before[1]))
    assert (over.rehearse, [one.key for one in over.delete]) == (after[1:], [before[1].child.key])


@both_ways
def test_no_stream_goes_over_while_producers_are_on_their_way(before: list[Wanted], after: list[Wanted]) -> None:
    present = seen(there(SETTINGS), there(PRODUCER, health=ROLLING), there(MONITOR), *running(before[0]))
    found = plan([SETTINGS, PRODUCER, after[0], MONITOR], present, {})
    assert (applied(found), found.rehearse, found.delete) == ([], [], [])
    assert found.waiting == {after[0].child.key: f"{PRODUCER.child.key} is not ready yet"}
