"""The messages' documentation and JSON Schema, made from their definitions, and reading that survives evolution."""

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from fulltape import messages
from fulltape.topics import Topics

Message = TypeVar("Message", bound=msgspec.Struct)

_INTRODUCTION = """\
# Messages on Kafka

<!-- Made by `fulltape schema --markdown > docs/messages.md`; edit services/fulltape/messages.py instead. -->

"""


def message_types() -> list[type[msgspec.Struct]]:
    """Return every message that crosses Kafka, in the order of their definition."""
    return [value for value in vars(messages).values() if isinstance(value, type) and issubclass(value, msgspec.Struct)]


def message_reader(*types: type[Message]) -> Callable[[bytes], Message | None]:
    """Return a decoder of these messages that ignores types of message it does not know.

    Unknown fields are ignored too, so writers may run ahead of readers.

    Raises (the decoder):
        msgspec.DecodeError: not JSON, or a known message with a missing or mistyped field.
    """
    union: Any = types[0]
    for further in types[1:]:
        union = union | further
    decoder = msgspec.json.Decoder(union)
    known = {_tag(message) for message in types}
    only_type = msgspec.json.Decoder(_OnlyType)

    def read(raw: bytes) -> Message | None:
        try:
            message: Message = decoder.decode(raw)
        except msgspec.ValidationError:
            if only_type.decode(raw).type in known:
                raise
            return None
        return message

    return read


def messages_json_schema() -> dict[str, Any]:
    """Return one JSON Schema (2020-12) that matches every message, with each field described."""
    types = message_types()
    _, components = msgspec.json.schema_components(types, ref_template="#/$defs/{name}")
    for message in types:
        component = components[message.__name__]
        component["description"] = inspect.getdoc(message)
        for name, text in _field_docs(message).items():
            component["properties"][name]["description"] = text
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "anyOf": [{"$ref": f"#/$defs/{message.__name__}"} for message in types],
        "$defs": components,
    }


def messages_markdown() -> str:
    """Return docs/messages.md: the topics, and every message with every field."""
    parts = [_INTRODUCTION, inspect.getdoc(messages) or "", "\n\n## Topics\n\n| topic | holds |\n|---|---|\n"]
    for name, value in vars(Topics).items():
        if isinstance(value, property):
            parts.append(f"| `{getattr(Topics('<feed>'), name)}` | {inspect.getdoc(value)} |\n")
    for message in message_types():
        parts.append(f"\n## {message.__name__}\n\n{_plain(inspect.getdoc(message) or '')}\n\n")
        parts.append("| field | type | what |\n|---|---|---|\n")
        parts.append(f'| `type` | `"{_tag(message)}"` | Tells messages apart. |\n')
        docs = _field_docs(message)
        parts += [
            f"| `{field.encode_name}` | {_type_name(field.type)} | {_plain(docs.get(field.name, ''))} |\n"
            for field in _struct(message).fields
        ]
    return "".join(parts).replace("``", "`")


class _OnlyType(msgspec.Struct):
    type: str | None = None


def _struct(message: type[msgspec.Struct]) -> msgspec.inspect.StructType:
    found = msgspec.inspect.type_info(message)
    assert isinstance(found, msgspec.inspect.StructType)
    return found


def _tag(message: type[msgspec.Struct]) -> str:
    return str(_struct(message).tag)


def _field_docs(message: type[msgspec.Struct]) -> dict[str, str]:
    """Return the text that stands below each field in the class, by the field's name."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(message)))
    definition = tree.body[0]
    assert isinstance(definition, ast.ClassDef)
    docs = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                docs[name] = " ".join(text.split())
            case _:
                pass
    return docs


def _type_name(kind: msgspec.inspect.Type) -> str:
    match kind:
        case msgspec.inspect.UnionType(types=types):
            name = " or ".join(_type_name(option) for option in types)
        case msgspec.inspect.LiteralType(values=values):
            name = " or ".join(f'`"{value}"`' for value in values)
        case msgspec.inspect.StructType(cls=cls):
            name = f"[{cls.__name__}](#{cls.__name__.lower()})"
        case msgspec.inspect.DictType(value_type=value):
            name = f"object of {_type_name(value)}"
        case msgspec.inspect.TupleType(item_types=items):
            name = f"array of {len(items)} times {_type_name(items[0])}"
        case _:
            name = _TYPE_NAMES[type(kind)]
    return name


_TYPE_NAMES = {
    msgspec.inspect.BytesType: "string, base64",
    msgspec.inspect.FloatType: "number",
    msgspec.inspect.IntType: "integer",
    msgspec.inspect.NoneType: "null",
    msgspec.inspect.StrType: "string",
}


def _plain(text: str) -> str:
    """Keep a text fit for a table's cell."""
    return text.replace("|", "\\|")
