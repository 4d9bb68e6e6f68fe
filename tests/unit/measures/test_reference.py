"""The documentation has a section for every measure, and for nothing else."""

import re
from pathlib import Path

from fulltape.measures.names import MEASURES

SECTIONS = re.split(
    r"^### `(\w+)`$", (Path(__file__).parents[3] / "docs" / "measures.md").read_text(), flags=re.MULTILINE
)
TEXTS = dict(zip(SECTIONS[1::2], SECTIONS[2::2], strict=True))


def test_every_measure_has_its_section() -> None:
    assert sorted(SECTIONS[1::2]) == sorted(MEASURES)


def test_every_section_says_when_the_measure_is_not_determined() -> None:
    silent = [
        name
        for name, text in TEXTS.items()
        if not re.search("determined|z-score", text.split("\n## ")[0], re.IGNORECASE)
    ]

    assert silent == []
