"""A real browser that looks at the dashboard: Chromium without a window, which notes what it painted and when."""

import shutil
from pathlib import Path
from typing import Self

from playwright.sync_api import Page, sync_playwright

from fulltape.bench.arrivals import Marks, marks
from fulltape.errors import ConfigurationError

FLAGS = (
    "--no-sandbox",  # it opens the dashboard alone, and Chromium's sandbox does not start as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
"""None of these lets it speak to anything but the page's own server."""


def find_chromium() -> Path | None:
    """Return the browser on this machine, or None."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    return Path(found) if found else None


class Browser:
    """One page of the dashboard, open while the context lasts. Use it from one thread.

    Raises:
        ConfigurationError: no Chromium is installed.

    """

    def __init__(self, url: str) -> None:
        executable = find_chromium()
        if executable is None:
            raise ConfigurationError(
                "Chromium is missing, which paints what is measured; install it (package chromium)"
            )
        self._url = url
        self._executable = executable
        self._paints: list[tuple[str, int, int]] = []
        self._page: Page

    def __enter__(self) -> Self:
        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=self._executable, args=list(FLAGS))
        self._page = self._chromium.new_page()
        self._page.goto(f"{self._url}/?measure")
        return self

    def __exit__(self, *_: object) -> None:
        self._chromium.close()
        self._playwright.stop()

    def collect(self) -> int:
        """Take over what the page has painted since the last call; return how much. Call it every few seconds."""
        fresh = self._page.evaluate("() => window.fulltape.paints.splice(0)")
        self._paints += [(product, last_id, round(painted_us)) for product, last_id, _, painted_us in fresh]
        return len(fresh)

    def marks(self) -> dict[str, Marks]:
        """Return what was painted, by product."""
        return marks(self._paints)
