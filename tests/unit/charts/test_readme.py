"""The chart's README and its values say the same."""

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "chart_readme.py"


def test_the_table_of_values_is_that_of_the_values_file() -> None:
    specification = importlib.util.spec_from_file_location("chart_readme", SCRIPT)
    assert specification is not None
    assert specification.loader is not None
    script = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(script)
    text = (script.CHART / "README.md").read_text()
    assert text == script.readme(text), "write it anew: python scripts/chart_readme.py"
    assert "`watchNamespaces`" in text
