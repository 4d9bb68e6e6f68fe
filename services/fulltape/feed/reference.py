"""The feed's schema in one piece, and docs/feed.md, both made from the model.

The schema has no references, no titles and no null: the form that a CustomResourceDefinition asks for.
"""

from collections.abc import Iterator
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from fulltape.feed.model import CryptoFeed, dotted

Schema = dict[str, Any]

_DROPPED = {"$ref", "$defs", "anyOf", "title", "propertyNames"}

_INTRODUCTION = """\
# The CryptoFeed

<!-- Made by `fulltape schema --feed --markdown > docs/feed.md`; edit services/fulltape/feed/model.py instead. -->

One file says all about a feed. Every service reads it as it is, on a laptop and in a cluster. `fulltape validate FEED`
checks one, and says each mistake with its line; in a cluster `kubectl apply` refuses the same mistakes.

Durations are a whole number and a unit: `500ms`, `10s`, `5m`, `168h`, `7d`. A field without a default and not marked
as required may be left out. Anchors, aliases, tags and null are not used in feeds.
"""


def feed_schema() -> Schema:
    """Return the JSON schema of a `CryptoFeed` with every reference written out.

    What JSON schema can't express stands beside it: bounds of durations as ``x-minimum`` and ``x-maximum``, what is
    said of a text that does not match its pattern as ``x-mend``, and what the keys of a map must match as ``x-keys``.
    The default of an object is ``{}``: its fields have their own.
    """
    schema = CryptoFeed.model_json_schema(schema_generator=_Generator)
    written_out: Schema = _write_out(schema, schema.get("$defs", {}))
    return written_out


def fields(schema: Schema, where: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Schema, bool]]:
    """Yield each field below a schema: where it is (items of a list as position 0), its schema, whether required."""
    for name, child in schema.get("properties", {}).items():
        place = (*where, name)
        yield place, child, name in schema.get("required", ())
        yield from fields(child, place)
        if "items" in child:
            yield from fields(child["items"], (*place, 0))


def feed_markdown() -> str:
    """Return docs/feed.md: every field with its type, default, bounds and description."""
    lines = [_INTRODUCTION, "| field | type | default | allowed | what |", "|---|---|---|---|---|"]
    lines += [
        f"| `{dotted(where).replace('[0]', '[]')}` | {_type(schema)} | {_default(schema, required=required)} "
        f"| {_allowed(schema)} | {_cell(schema.get('description', ''))} |"
        for where, schema, required in fields(feed_schema())
    ]
    return "\n".join([*lines, ""])


class _Generator(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """Encode a default item by item: pydantic does not ask the items of a tuple for their own form."""
        return [self.encode_default(item) for item in dft] if isinstance(dft, tuple) else super().encode_default(dft)


def _write_out(node: Schema, definitions: Schema) -> Schema:
    """Replace references, drop what a CustomResourceDefinition does not allow."""
    merged: Schema = {}
    for part in (node, *node.get("anyOf", ())):
        if "$ref" in part:
            merged.update(_write_out(definitions[part["$ref"].removeprefix("#/$defs/")], definitions))
        elif part is not node and part != {"type": "null"}:
            merged.update(_write_out(part, definitions))
    for key, value in node.items():
        if key not in _DROPPED and value is not None:
            merged.update(_write_out_keyword(key, value, definitions))
    for pattern in node.get("patternProperties", ()):
        merged["x-keys"] = {"pattern": pattern, **node["propertyNames"]}
    if merged.get("type") == "object" and "default" in merged:
        merged["default"] = {}
    return merged


def _write_out_keyword(key: str, value: Any, definitions: Schema) -> Schema:
    match key, value:
        case "properties", _:
            return {key: {name: _write_out(child, definitions) for name, child in value.items()}}
        case (("items" | "additionalProperties"), dict()):
            return {key: _write_out(value, definitions)}
        case "patternProperties", _:  # a map whose keys have a pattern
            return {"additionalProperties": _write_out(next(iter(value.values())), definitions)}
        case "const", _:
            return {"enum": [value]}
        case "description", _:
            return {key: " ".join(value.split())}
        case _:
            return {key: value}


def _type(schema: Schema) -> str:
    if schema["type"] == "array":
        return f"list of {_type(schema['items'])}"
    if schema["type"] == "object" and "properties" not in schema:
        return f"map to {_type(schema['additionalProperties'])}"
    return "duration" if "x-minimum" in schema else str(schema["type"])


def _default(schema: Schema, *, required: bool) -> str:
    if required:
        return "required"
    default = schema.get("default")
    if default is None or default in ({}, []):
        return ""
    if isinstance(default, list):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def _allowed(schema: Schema) -> str:
    """Say the bounds of a field, and of the items where it is a list."""
    allowed = []
    for least, most, unit in (
        ("minimum", "maximum", ""),
        ("x-minimum", "x-maximum", ""),
        ("minItems", "maxItems", " items"),
        ("minProperties", "maxProperties", " entries"),
    ):
        if least in schema and most in schema:
            allowed.append(f"{schema[least]} to {schema[most]}{unit}")
        elif least in schema:
            allowed.append(f"at least {schema[least]}{unit}")
        elif most in schema:
            allowed.append(f"at most {schema[most]}{unit}")
    if "enum" in schema:
        allowed.append(", ".join(f"`{value}`" for value in schema["enum"]))
    if "pattern" in schema and "x-minimum" not in schema:
        allowed.append(f"`{schema['pattern']}`, at most {schema['maxLength']} characters")
    if "x-keys" in schema:
        allowed.append(f"keys `{schema['x-keys']['pattern']}`, at most {schema['x-keys']['maxLength']} characters")
    if schema["type"] == "array" and "properties" not in schema["items"]:
        allowed.append(f"each {_allowed(schema['items'])}")
    return _cell("; ".join(allowed))


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
