"""Writes the table of values in charts/fulltape/README.md, from the comments (``# --``) above each in values.yaml."""

import re
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).parents[1] / "charts" / "fulltape"
_BEGIN, _END = "<!-- values -->\n", "<!-- end of values -->\n"


def table(text: str) -> str:
    """Return the table of a values file."""
    values = yaml.safe_load(text)
    lines = ["| value | default | what |", "|---|---|---|"]
    for path, description in _described(text):
        default = values
        for name in path:
            default = default[name]
        shown = yaml.safe_dump(default, default_flow_style=True, width=1000).split("\n")[0]
        lines.append(f"| `{'.'.join(path)}` | `{shown}` | {description} |")
    return "\n".join(lines) + "\n"


def _described(text: str) -> Iterator[tuple[list[str], str]]:
    """Yield the path of each value that has a comment, and the comment."""
    within: list[str] = []
    comment = ""
    for line in text.splitlines():
        if found := re.match(r"\s*# -- (.*)", line):
            comment = found[1]
        elif found := re.match(r"( *)([A-Za-z]+):", line):
            within = [*within[: len(found[1]) // 2], found[2]]
            if comment:
                yield within, comment
            comment = ""


def readme(old: str) -> str:
    """Return the README with the table as it should be."""
    before, _, rest = old.partition(_BEGIN)
    return before + _BEGIN + table((CHART / "values.yaml").read_text()) + _END + rest.partition(_END)[2]


if __name__ == "__main__":
    path = CHART / "README.md"
    path.write_text(readme(path.read_text()))
