"""What of an object is ours, by the API server's account of fields; and what then is drift."""

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape_operator.owned import MANAGER, digest, owned


@dataclass(frozen=True)
class Applied:
    """A value that we applied, the account of its fields, and the value as it is since others added to it."""

    ours: Any
    account: dict[str, Any]
    live: Any


names = st.text("abcdefgh", min_size=1, max_size=4)
OTHERS = "theirs"  # no name of ours

leaves = st.one_of(
    st.integers(0, 9),
    st.booleans(),
    st.text("xyz", max_size=3),
    st.lists(st.integers(0, 9), max_size=3),  # a list that is replaced as a whole
    st.lists(st.dictionaries(names, st.integers(0, 9), max_size=2), max_size=2),
).map(lambda value: Applied(value, {}, value))


def _map(fields: dict[str, Applied], others: dict[str, Any]) -> Applied:
    return Applied(
        {name: field.ours for name, field in fields.items()},
        {f"f:{name}": field.account for name, field in fields.items()},
        {name: field.live for name, field in fields.items()} | others,
    )


def _items_by_name(fields: dict[str, Applied], others: list[dict[str, Any]]) -> Applied:
    """Return a list whose items are told apart by their ``name``, such as containers."""
    items = {name: _map({"value": field, "name": _plain(name)}, {OTHERS: 1}) for name, field in fields.items()}
    return Applied(
        [item.ours for item in items.values()],
        {f"k:{json.dumps({'name': name})}": {".": {}, **item.account} for name, item in items.items()},
        [*others, *(item.live for item in items.values())],
    )


def _set(values: list[str], others: list[str]) -> Applied:
    """Return a list whose items are told apart by themselves, such as finalizers."""
    return Applied(values, {f"v:{json.dumps(value)}": {} for value in values}, [*others, *values])


def _plain(value: Any) -> Applied:
    return Applied(value, {}, value)


others_of_a_map = st.sampled_from([{}, {OTHERS: 1}, {OTHERS: {"deep": []}}])


def _containers(inner: st.SearchStrategy[Applied]) -> st.SearchStrategy[Applied]:
    fields = st.dictionaries(names, inner, min_size=1, max_size=3)
    return st.one_of(
        st.builds(_map, fields, others_of_a_map),
        st.builds(_items_by_name, fields, st.sampled_from([[], [{"name": OTHERS}], [{"name": OTHERS, "value": 1}]])),
        st.builds(
            _set,
            st.lists(st.text("xyz", min_size=1, max_size=3), min_size=1, max_size=3, unique=True),
            st.sampled_from([[], [OTHERS]]),
        ),
    )


specs = st.builds(
    _map,
    st.dictionaries(names, st.recursive(leaves, _containers, max_leaves=6), min_size=1, max_size=3),
    others_of_a_map,
)
quickly = settings(max_examples=30, deadline=None)


def live(spec: Any, account: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Thing",
        "metadata": {
            "name": "a",
            "namespace": "b",
            "uid": "1",
            "labels": {"ours": "1", OTHERS: "2"},
            "managedFields": [
                {
                    "manager": MANAGER,
                    "operation": "Apply",
                    "subresource": "status",
                    "fieldsV1": {"f:status": {"f:ready": {}}},
                },
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {f"f:{OTHERS}": {}}}},
                {
                    "manager": MANAGER,
                    "operation": "Apply",
                    "fieldsV1": {"f:metadata": {"f:labels": {"f:ours": {}}}, "f:spec": account},
                },
                {"manager": MANAGER, "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}},
                {"manager": MANAGER, "operation": "Update", "fieldsV1": {"f:metadata": {"f:finalizers": {}}}},
            ],
        },
        "spec": spec,
        "status": {"ready": True},
    }


def wanted(spec: Any) -> dict[str, Any]:
    metadata = {"name": "a", "namespace": "b", "labels": {"ours": "1"}}
    return {"apiVersion": "v1", "kind": "Thing", "metadata": metadata, "spec": spec}


@quickly
@given(specs)
def test_what_was_applied_is_found_again_whatever_others_added(spec: Applied) -> None:
    found = owned(live(spec.live, spec.account))
    assert found == wanted(spec.ours)
    assert digest(found) == digest(wanted(spec.ours))


@quickly
@given(specs, st.data())
def test_a_field_that_somebody_else_has_taken_is_drift(spec: Applied, data: st.DataObject) -> None:
    account = dict(spec.account)
    del account[data.draw(st.sampled_from(sorted(account)))]
    # An account of no field would stand for the whole.
    found = owned(live(spec.live, account or {".": {}}))
    assert found is not None
    assert digest(found) != digest(wanted(spec.ours))


@quickly
@given(specs, st.data())
def test_a_value_of_ours_that_was_changed_or_removed_is_drift(spec: Applied, data: st.DataObject) -> None:
    field = data.draw(st.sampled_from(sorted(spec.ours)))
    edited = dict(spec.live)
    if data.draw(st.booleans()):
        edited[field] = "edited by hand"
    else:
        del edited[field]
    found = owned(live(edited, spec.account))
    assert found is not None
    assert digest(found) != digest(wanted(spec.ours))


@quickly
@given(st.dictionaries(names, st.integers(), min_size=2))
def test_the_order_of_fields_makes_no_difference(fields: dict[str, int]) -> None:
    assert digest(wanted(fields)) == digest(wanted(dict(reversed(fields.items()))))


def test_items_of_lists_are_ours_by_all_their_key_fields() -> None:
    spec = {"ports": [{"port": 80, "protocol": "UDP"}, {"name": "page", "port": 80, "protocol": "TCP", "nodePort": 1}]}
    key = json.dumps({"port": 80, "protocol": "TCP"})
    account: dict[str, Any] = {"f:ports": {f"k:{key}": {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}}}
    found = owned(live(spec, account))
    assert found is not None
    assert found["spec"] == {"ports": [{"name": "page", "port": 80, "protocol": "TCP"}]}


def test_an_empty_field_that_we_set_is_ours() -> None:
    found = owned(live({"emptyDir": {}, "policy": {"deep": {}}}, {"f:emptyDir": {}, "f:policy": {"f:deep": {}}}))
    assert found is not None
    assert found["spec"] == {"emptyDir": {}, "policy": {"deep": {}}}


def test_an_object_that_we_never_applied_has_nothing_of_ours() -> None:
    other = live({"a": 1}, {"f:spec": {"f:a": {}}})
    entries = other["metadata"]["managedFields"]
    other["metadata"]["managedFields"] = [entry for entry in entries if entry["operation"] != "Apply"]
    assert owned(other) is None
    del other["metadata"]["managedFields"]
    assert owned(other) is None
