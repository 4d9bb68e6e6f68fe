"""What becomes of a test whose server or program this machine lacks: it is skipped, but in CI, where nothing is."""

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Skip the calling test; in continuous integration (``CI`` in the environment) fail it.

    Args:
        what: is missing, and the mend.

    """
    if os.environ.get("CI"):
        pytest.fail(f"in CI nothing may be missing: {what}")
    pytest.skip(what)
