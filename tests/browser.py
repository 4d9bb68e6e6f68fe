"""A real browser for tests: Debian's Chromium without a window, driven by Playwright."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from playwright.async_api import Browser, Page, ViewportSize, async_playwright

from fulltape.bench.browser import FLAGS, find_chromium
from tests.lacking import lacking

DESK = ViewportSize(width=1280, height=900)
PHONE = ViewportSize(width=360, height=740)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """Start a browser."""
    executable = find_chromium()
    if executable is None:
        lacking("needs Chromium (Debian's package chromium)")
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=executable, args=list(FLAGS))
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def visit(
    browser: Browser, url: str, *, viewport: ViewportSize = DESK, forgive: str | None = None, **options: Any
) -> AsyncIterator[Page]:
    """Open a page that nobody has visited before; it must end without an error or a breach of its security policy.

    ``forgive`` is a part of the error messages that the test provokes.
    """
    context = await browser.new_context(viewport=viewport, **options)
    page = await context.new_page()
    errors: list[str] = []
    page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
    page.on("pageerror", lambda problem: errors.append(str(problem)))
    try:
        await page.goto(url)
        yield page
    finally:
        await context.close()
    unforgiven = [error for error in errors if forgive is None or forgive not in error]
    assert not unforgiven, unforgiven
