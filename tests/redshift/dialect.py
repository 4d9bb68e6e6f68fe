"""From Redshift's SQL to PostgreSQL's: what Redshift alone has is taken away, and nothing is added.

Primary keys and uniqueness go too: Redshift does not enforce them, so nothing here may lean on them.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

_STRING = r"'(?:[^']|'')*'"
_PARENTHESES = r"\([^()]*\)"

_STRIPPED = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bBACKUP\s+(?:YES|NO)\b",
        r"\bAUTO\s+REFRESH\s+(?:YES|NO)\b",
        r"\bDISTSTYLE\s+(?:AUTO|EVEN|KEY|ALL)\b",
        r"\bDISTKEY\s*" + _PARENTHESES,
        r"\b(?:COMPOUND\s+|INTERLEAVED\s+)?SORTKEY\s*" + _PARENTHESES,
        r"\bSORTKEY\s+AUTO\b",
        r"\bENCODE\s+(?:AUTO|RAW|AZ64|ZSTD|LZO|BYTEDICT|DELTA32K|DELTA|MOSTLY8|MOSTLY16|MOSTLY32|RUNLENGTH|TEXT255|TEXT32K)\b",
        r",\s*(?:CONSTRAINT\s+\w+\s+)?(?:PRIMARY\s+KEY|UNIQUE)\s*" + _PARENTHESES,
        r",\s*(?:CONSTRAINT\s+\w+\s+)?FOREIGN\s+KEY\s*" + _PARENTHESES + r"\s*REFERENCES\s+[\w.]+\s*" + _PARENTHESES,
        r"\bPRIMARY\s+KEY\b",
        r"\bWITH\s+NO\s+SCHEMA\s+BINDING\b",
    )
)
_REPLACED: tuple[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]], ...] = (
    (re.compile(r"\bVARCHAR\s*\(\s*MAX\s*\)", re.IGNORECASE), "TEXT"),
    (re.compile(r"\bSUPER\b", re.IGNORECASE), "JSONB"),
    (re.compile(r"\bSYSDATE\b", re.IGNORECASE), "localtimestamp"),
)
_DEFINITION = re.compile(r"^\s*(?:CREATE|ALTER)\b", re.IGNORECASE)
_COPY = re.compile(
    rf"^\s*COPY\s+(?P<table>[\w.\"]+)\s*(?:\((?P<columns>[^)]*)\))?\s*FROM\s+(?P<uri>{_STRING})(?P<options>.*)$",
    re.IGNORECASE | re.DOTALL,
)
_ROLE = re.compile(rf"\bIAM_ROLE\s+({_STRING})", re.IGNORECASE)
_PARQUET = re.compile(r"\bFORMAT\s+(?:AS\s+)?PARQUET\b", re.IGNORECASE)
_MANIFEST = re.compile(r"\bMANIFEST\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Copy:
    """A COPY from S3."""

    table: str
    columns: tuple[str, ...]
    """Empty: all of the table's."""
    uri: str
    role: str


def to_postgres(sql: str) -> str:
    """Return the statement as PostgreSQL understands it; strings are left alone."""
    kept: list[str] = []

    def keep(match: re.Match[str]) -> str:
        kept.append(match[0])
        return f"'\0{len(kept) - 1}\0'"

    comments_and_strings = rf"--[^\n]*|/\*.*?\*/|{_STRING}"
    text = re.sub(comments_and_strings, lambda match: keep(match) if match[0][0] == "'" else " ", sql, flags=re.DOTALL)
    if _DEFINITION.match(text):
        for pattern in _STRIPPED:
            text = pattern.sub("", text)
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return re.sub("'\0([0-9]+)\0'", lambda match: kept[int(match[1])], text)


def statements(script: str) -> list[str]:
    """Return the statements of a script, without comments; no string of it holds a semicolon or two dashes."""
    text = "\n".join(line.partition("--")[0] for line in script.splitlines())
    return [statement for statement in text.split(";") if statement.strip()]


def as_copy(sql: str) -> Copy | str | None:
    """Return the COPY from S3 that a statement is, what is wrong with it as Redshift would say, or None for others."""
    match = _COPY.match(sql)
    if match is None or not _text(match["uri"]).startswith("s3://"):
        return None
    options = match["options"].rstrip().rstrip(";")
    role = _ROLE.search(options)
    if role is None:
        return "CREDENTIALS argument is required but not supplied"
    rest = _MANIFEST.sub("", _PARQUET.sub("", _ROLE.sub("", options), count=1), count=1)
    if not _PARQUET.search(options) or not _MANIFEST.search(options) or rest.strip():
        return f"COPY with these options is not one that the stand-in knows: {options.strip()}"
    columns = tuple(column.strip() for column in (match["columns"] or "").split(",") if column.strip())
    return Copy(match["table"], columns, _text(match["uri"]), _text(role[1]))


def _text(literal: str) -> str:
    return literal[1:-1].replace("''", "'")
