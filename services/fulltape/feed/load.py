"""Reading a `CryptoFeed` from a YAML file: every mistake at once, each with its line, its field and the mend."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fulltape.errors import FeedError
from fulltape.feed.model import CrossFieldError, CryptoFeed, Mistake, dotted, shown
from fulltape.feed.reference import Schema, feed_schema, fields

Where = tuple[str | int, ...]

_MOST_BYTES = 1_000_000  # an object in the API server may not be much larger either
_MOST_DEPTH = 30  # the deepest field of a feed is at 7

_YAML_TYPES = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "a mapping",
}

_TAGS = {
    f"tag:yaml.org,2002:{name}"
    for name in ("null", "bool", "int", "float", "str", "timestamp", "value", "merge", "map", "seq")
}

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")

_WANTED = {
    "string_type": "write text, in quotes where YAML reads it as something else",
    "int_type": "write a whole number, without quotes",
    "float_type": "write a number, without quotes",
    "bool_type": "write true or false, without quotes",
    "tuple_type": "write a list, as in [a, b]",
    "dict_type": "write a mapping, as in {name: value}",
    "model_type": "write a mapping, as in {name: value}",
    "model_attributes_type": "write a mapping, as in {name: value}",
}


def load_feed(path: Path) -> CryptoFeed:
    """Read a feed.

    Raises:
        FeedError: the file can't be read or holds mistakes; a line for each, as ``FILE:LINE: FIELD: what, and the
            mend``. Rules across fields are looked at once each field by itself is right.

    """
    try:
        with path.open("rb") as file:
            raw = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise FeedError(f"{path}: can't be read: {error.strerror}; give the path of a CryptoFeed file") from error
    return parse_feed(raw, str(path))


def parse_feed(raw: bytes, name: str) -> CryptoFeed:
    """Read a feed from the bytes of a file; ``name`` is the file's in messages.

    Raises:
        FeedError: as `load_feed`.

    """
    if len(raw) > _MOST_BYTES:
        raise FeedError(f"{name}: is larger than {_MOST_BYTES:,} bytes; a feed is a small file, is this another one?")
    document = _read_yaml(raw, name)
    mistakes = document.mistakes
    try:
        feed = CryptoFeed.model_validate(document.data)
    except ValidationError as error:
        # A value that YAML itself got wrong has been reported; what the model thinks of it would only repeat that.
        reported = {mistake.where for mistake in mistakes}
        mistakes += [found for found in _mistakes(error) if found.where not in reported]
    if not mistakes:
        return feed
    lines = sorted((document.line(mistake.where), dotted(mistake.where), mistake.text) for mistake in mistakes)
    raise FeedError("\n".join(f"{name}:{line}: {place + ': ' if place else ''}{text}" for line, place, text in lines))


def feed_of(data: Mapping[str, Any]) -> CryptoFeed:
    """Return the feed that an object of the API server is.

    Raises:
        FeedError: it holds mistakes: each as ``FIELD: what, and the mend``, with semicolons between.

    """
    try:
        return CryptoFeed.model_validate(data)
    except ValidationError as error:
        text = "; ".join(f"{dotted(mistake.where)}: {mistake.text}" for mistake in _mistakes(error))
        raise FeedError(text) from error


@dataclass
class _Document:
    """What a file says, on which line each value stands, and what YAML allows but a feed does not."""

    data: Any = None
    lines: dict[Where, int] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)

    def line(self, where: Where) -> int:
        """Return the line of a value, or of what should contain it where it is missing."""
        while where and where not in self.lines:
            where = where[:-1]
        return self.lines.get(where, 1)


def _read_yaml(raw: bytes, name: str) -> _Document:
    try:
        _refuse_depth(raw, name)
        roots = [node for node in yaml.compose_all(raw, _Loader) if not _is_empty(node)]
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise FeedError(f"{name}:{line}: is not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:  # bytes that are no text
        raise FeedError(f"{name}:1: is not YAML: {' '.join(str(error).split())}") from error
    if not roots:
        raise FeedError(f"{name}:1: is empty; a feed begins with apiVersion: fulltape.dev/v1alpha1")
    if len(roots) > 1:
        line = _line(roots[1])
        raise FeedError(f"{name}:{line}: holds {len(roots)} documents; write each CryptoFeed to a file of its own")
    if not isinstance(roots[0], yaml.MappingNode):
        raise FeedError(f"{name}:1: is not a CryptoFeed; a feed begins with apiVersion: fulltape.dev/v1alpha1")
    document = _Document()
    document.data = _convert(roots[0], (), document, set())
    return document


class _Loader(yaml.SafeLoader):
    """YAML as the API server reads it: 1e-3 is a number, which PyYAML takes for text."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(f"^(?:{_FLOAT.pattern})$"), list("-+.0123456789"))


def _refuse_depth(raw: bytes, name: str) -> None:
    """Refuse nesting that no feed has, before anything recurses into it."""
    depth = 0
    for event in yaml.parse(raw, _Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > _MOST_DEPTH:
                line = _line(event)
                raise FeedError(f"{name}:{line}: is nested deeper than {_MOST_DEPTH} levels; no field of a feed is")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def _line(what: yaml.Node | yaml.Event) -> int:
    assert what.start_mark is not None  # it was read from a file
    return what.start_mark.line + 1


def _is_empty(node: yaml.Node | None) -> bool:
    return node is None or (isinstance(node, yaml.ScalarNode) and node.value == "")


def _convert(node: yaml.Node, where: Where, document: _Document, seen: set[int]) -> Any:
    """Turn a node into plain data, noting lines and mistakes."""
    document.lines.setdefault(where, _line(node))
    if id(node) in seen:
        document.mistakes.append(Mistake(where, "repeats another value by an alias (*name); write the value out"))
        return None
    seen.add(id(node))
    if node.tag not in _TAGS:
        document.mistakes.append(Mistake(where, f"has the tag {node.tag}; write the value without a tag"))
        return None
    if isinstance(node, yaml.MappingNode):
        return _convert_mapping(node, where, document, seen)
    if isinstance(node, yaml.SequenceNode):
        return [_convert(item, (*where, position), document, seen) for position, item in enumerate(node.value)]
    value = _scalar(node)
    if value is None:
        document.mistakes.append(Mistake(where, "is empty; write a value ({} takes all defaults) or remove the line"))
    return value


def _convert_mapping(node: yaml.MappingNode, where: Where, document: _Document, seen: set[int]) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for key_node, value_node in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            document.mistakes.append(Mistake(where, "has a key that is not text; write the name of a field"))
            continue
        place = (*where, key_node.value)
        line = _line(key_node)
        if key_node.value in data:
            first = document.lines[place]
            document.lines[place] = line
            document.mistakes.append(Mistake(place, f"stands here and on line {first}; keep one"))
        document.lines[place] = line
        data[key_node.value] = _convert(value_node, place, document, seen)
    return data


def _scalar(node: yaml.Node) -> Any:
    """Read one value; times, and what YAML resolves to a type but can't construct, stay text."""
    if node.tag.endswith(":float") and _FLOAT.fullmatch(node.value):
        return float(node.value)
    if node.tag.endswith((":timestamp", ":value", ":merge", ":str")) or ":" in node.value:  # 1:30 is no number here
        return node.value
    try:
        return _Loader("").construct_object(node)
    except (ValueError, LookupError, yaml.YAMLError):
        return node.value


def _mistakes(error: ValidationError) -> list[Mistake]:
    """Turn what the model found into sentences."""
    schema = feed_schema()
    mistakes: list[Mistake] = []
    for details in error.errors(include_url=False):
        where = tuple(part for part in details["loc"] if part != "[key]")
        cause = details.get("ctx", {}).get("error")
        if details["type"] == "too_short" and len(details["input"]) >= details.get("ctx", {}).get("min_length", 0):
            continue  # only because its items are wrong, which is said for each
        if isinstance(cause, CrossFieldError):
            mistakes += [Mistake((*where, *inner.where), inner.text) for inner in cause.mistakes]
        else:
            mistakes.append(Mistake(where, _sentence(details, where, schema)))
    return mistakes


def _sentence(details: ErrorDetails, where: Where, schema: Schema) -> str:
    """Say what the model found, in the words of a feed file; the model's own types speak for themselves."""
    kind, value, context = details["type"], details["input"], details.get("ctx", {})
    text = details["msg"]
    match kind:
        case "missing":
            text = f"is missing: {_at(schema, where).get('description', 'write it')}"
        case "extra_forbidden":
            text = _unknown_field(where, schema)
        case "literal_error":
            text = _not_a_choice(value, _at(schema, where).get("enum", ()))
        case "finite_number":
            text = "is not a finite number; write one"
        case "greater_than_equal":
            text = f"{shown(value)} is too small; write {context['ge']} or more"
        case "less_than_equal":
            text = f"{shown(value)} is too large; write {context['le']} or less"
        case "too_short":
            text = f"has {context['actual_length']} entries; write {context['min_length']} or more"
        case "too_long":
            text = f"has more than {context['max_length']} entries; write {context['max_length']} or less"
        case _ if kind in _WANTED:
            value_shown = str(value).lower() if isinstance(value, bool) else shown(value)
            text = f"{value_shown} is {_YAML_TYPES.get(type(value), 'empty')}; {_WANTED[kind]}"
    return text


def _not_a_choice(value: object, choices: Iterable[str]) -> str:
    *others, last = choices
    near = _nearest(str(value), [*others, last])
    every = f"{', '.join(others)} or {last}" if others else last
    return f"{shown(value)} is not allowed; write {near or every}"


def _at(schema: Schema, where: Where) -> Schema:
    """Return the schema of the field at a place; empty where there is none."""
    for part in where:
        if isinstance(part, int):
            schema = schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(part) or schema.get("additionalProperties") or {}
    return schema if isinstance(schema, dict) else {}


def _unknown_field(where: Where, schema: Schema) -> str:
    """Name what was probably meant: a field with nearly that name here, or exactly that name elsewhere."""
    name = str(where[-1])
    here = list(_at(schema, where[:-1]).get("properties", ()))
    near = _nearest(name, here)
    if near:
        return f"is not a field; did you mean {near}?"
    elsewhere = [place for place, _, _ in fields(schema) if place[-1] == name]
    if len(elsewhere) == 1:
        return f"is not a field here; it belongs at {dotted(elsewhere[0])}"
    return f"is not a field; the fields here are {', '.join(here)}"


def _nearest(name: str, names: list[str]) -> str | None:
    """Return the name that was probably meant, whatever its capitals."""
    by_lower = {choice.lower(): choice for choice in names}
    close = difflib.get_close_matches(name.lower().replace("_", ""), by_lower, n=1, cutoff=0.7)
    return by_lower[close[0]] if close else None
