"""Where tests find real market data that the project may not redistribute; a test that needs it is skipped without."""

import os
from pathlib import Path

import pytest

FOLDER = Path(os.environ.get("FULLTAPE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def shared_data(name: str) -> Path:
    """Return the path of a data file; skip the calling test where it is absent."""
    path = FOLDER / name
    if not path.exists():
        pytest.skip(f"needs {name} in {FOLDER} (set FULLTAPE_TEST_DATA)")
    return path
