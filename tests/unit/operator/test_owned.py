"""What of an object is ours, by the API server's account of fields; and what then is drift."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fulltape_operator.owned import MANAGER, digest, owned

names = st.text("abcdefgh", min_size=1, max_size=4)
leaves = st.one_of(
    st.integers(0, 9), st.booleans(), st.text("xyz", max_size=3), st.lists(st.integers(0, 9), max_size=3)
)
trees = st.recursive(leaves, lambda inner: st.dictionaries(names, inner, min_size=1, max_size=4), max_leaves=12)
specs = st.dictionaries(names, trees, min_size=1, max_size=4)


def fields(value: Any) -> dict[str, Any]:
    """Say which fields of a value were set, as the API server does: maps field by field, lists as a whole."""
    if isinstance(value, dict):
        return {f"f:{name}": fields(below) for name, below in value.items()}
    return {}


def live(spec: dict[str, Any], account: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Thing",
        "metadata": {
            "name": "a",
            "namespace": "b",
            "uid": "1",
            "managedFields": [
                {"manager": "kubectl", "operation": "Update", "fieldsV1": {"f:spec": {"f:other": {}}}},
                {"manager": MANAGER, "operation": "Apply", "fieldsV1": account},
                {"manager": MANAGER, "operation": "Update", "subresource": "status", "fieldsV1": {"f:status": {}}},
            ],
        },
        "spec": spec,
        "status": {"ready": True},
    }


def wanted(spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Thing", "metadata": {"name": "a", "namespace": "b"}, "spec": spec}


@given(specs)
def test_what_was_applied_is_found_again_whatever_others_added(spec: dict[str, Any]) -> None:
    found = owned(live({**spec, "other": {"of": "somebody"}}, {"f:spec": fields(spec)}))
    assert found is not None
    assert digest(found) == digest(wanted(spec))


@given(specs, st.data())
def test_a_field_that_somebody_else_has_taken_is_drift(spec: dict[str, Any], data: st.DataObject) -> None:
    account = fields(spec)
    del account[data.draw(st.sampled_from(sorted(account)))]
    # An account of no field would stand for the whole.
    found = owned(live(spec, {"f:spec": account or {".": {}}}))
    assert found is not None
    assert digest(found) != digest(wanted(spec))


def test_items_of_lists_are_ours_by_their_key_or_their_value() -> None:
    spec = {
        "ports": [{"name": "page", "port": 80, "protocol": "TCP", "nodePort": 30000}, {"name": "theirs", "port": 81}],
        "finalizers": ["ours", "theirs"],
    }
    key = json.dumps({"port": 80, "protocol": "TCP"})
    account = {
        "f:ports": {f"k:{key}": {".": {}, "f:name": {}, "f:port": {}, "f:protocol": {}}},
        "f:finalizers": {'v:"ours"': {}},
    }
    found = owned(live(spec, {"f:spec": account}))
    assert found is not None
    assert found["spec"] == {"ports": [{"name": "page", "port": 80, "protocol": "TCP"}], "finalizers": ["ours"]}


def test_an_object_that_we_never_applied_has_nothing_of_ours() -> None:
    other = live({"a": 1}, {"f:spec": {"f:a": {}}})
    other["metadata"]["managedFields"] = other["metadata"]["managedFields"][:1]
    assert owned(other) is None
