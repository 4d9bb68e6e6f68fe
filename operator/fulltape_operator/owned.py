"""What of an object is ours: the fields that our field manager set, as the API server keeps account of them.

Server-side apply records for each manager which fields it set, and takes a field from that record when somebody else
changes it. So "nothing drifted" means: the fields that are ours, at their present values, are the manifest that we
want. Fields that others added are theirs, and stay. Source of the format: Kubernetes API, FieldsV1.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec

from fulltape_operator.desired.child import Manifest

MANAGER = "fulltape-operator"
"""Our name as a field manager."""

_encoder = msgspec.json.Encoder(order="deterministic")


def digest(manifest: Manifest) -> str:
    """Return a digest of a manifest; the order of its fields does not matter."""
    return hashlib.blake2b(_encoder.encode(manifest), digest_size=12).hexdigest()


def owned(live: Manifest) -> Manifest | None:
    """Return the part of an object that we applied, as a manifest; None where we applied nothing."""
    metadata = live["metadata"]
    for entry in metadata.get("managedFields", ()):
        if entry["manager"] == MANAGER and entry["operation"] == "Apply" and not entry.get("subresource"):
            ours = _part(live, entry.get("fieldsV1", {}))
            ours["apiVersion"], ours["kind"] = live["apiVersion"], live["kind"]
            ours.setdefault("metadata", {})
            ours["metadata"] |= {"name": metadata["name"], "namespace": metadata["namespace"]}
            return dict(ours)
    return None


def _part(value: Any, fields: Mapping[str, Any]) -> Any:
    """Return of ``value`` what the set of fields names: all of it where the set is a leaf."""
    if not fields:
        return value
    if isinstance(value, dict):
        return {
            name: _part(value[name], below)
            for key, below in fields.items()
            if key.startswith("f:") and (name := key[2:]) in value
        }
    if isinstance(value, list):
        wanted = [(key, below) for key, below in fields.items() if key != "."]
        return [_part(item, below) for item in value for key, below in wanted if _names(key, item)]
    return value


def _names(key: str, item: Any) -> bool:
    """Tell whether a key of a set of fields names this item of a list: by its key fields, or by its value."""
    kind, text = key[:2], key[2:]
    if kind == "k:":
        return isinstance(item, dict) and all(
            item.get(name) == value for name, value in msgspec.json.decode(text).items()
        )
    return kind == "v:" and bool(msgspec.json.decode(text) == item)
