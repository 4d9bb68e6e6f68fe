"""Durations as people write them, such as ``500ms`` or ``7d``: one number, one unit, kept as written."""

import re
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

PATTERN = "^(0|[1-9][0-9]{0,8})(ms|s|m|h|d)$"
"""A whole number without leading zeros and its unit."""

MEND = "is not a duration; write a whole number and ms, s, m, h or d, such as 10s"
"""What is said of a text that does not match."""

_UNIT_US = {
    "ms": 1_000,
    "s": 1_000_000,
    "m": 60_000_000,
    "h": 3_600_000_000,
    "d": 86_400_000_000,
}


class Duration:
    """A length of time. ``60s`` equals ``1m``: what is compared is the length, what is shown is the text.

    Raises:
        ValueError: the text is not a whole number and a unit.

    """

    __slots__ = ("text", "us")

    def __init__(self, text: str) -> None:
        match = re.fullmatch(PATTERN, text)
        if match is None:
            raise ValueError(f"{text!r} {MEND}")
        self.text = text
        self.us = int(match[1]) * _UNIT_US[match[2]]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Duration) and self.us == other.us

    def __hash__(self) -> int:
        return hash(self.us)

    def __repr__(self) -> str:
        return f"Duration({self.text!r})"

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return self.us / 1_000_000

    def __str__(self) -> str:
        return self.text

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(
            _from_feed, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "string", "pattern": PATTERN, "maxLength": 11, "x-mend": MEND}


@dataclass(frozen=True, slots=True)
class Between:
    """Annotates a field of type `Duration` with its bounds, both included.

    In the JSON schema they stand as ``x-minimum`` and ``x-maximum``, since a pattern can't express them.
    """

    least: str
    most: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(schema), "x-minimum": self.least, "x-maximum": self.most}

    def _check(self, value: Duration) -> Duration:
        if not Duration(self.least).us <= value.us <= Duration(self.most).us:
            raise PydanticCustomError(
                "duration_bounds",
                "{text} is out of bounds; write {least} to {most}",
                {"text": value.text, "least": self.least, "most": self.most},
            )
        return value


def _from_feed(value: object) -> Duration:
    """Take a duration as it stands in a feed."""
    if isinstance(value, Duration):
        return value
    try:
        return Duration(str(value))
    except ValueError as error:
        raise PydanticCustomError("duration", "{text}", {"text": str(error)}) from error
