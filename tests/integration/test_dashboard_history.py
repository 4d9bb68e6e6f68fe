"""What a user sees of the warehouse on the page, in a real browser: questions, answers, and why there is none."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path

import duckdb
import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from fulltape.local.kafka import EmbeddedKafka
from fulltape.warehouse.duck import DuckDatabase
from fulltape.warehouse.load import Loader
from fulltape.warehouse.migrations import make_duckdb
from fulltape.warehouse.staging import Staging
from tests.browser import PHONE, chromium, visit
from tests.integration.test_dashboard import Stage
from tests.redshift.rows import DAY, FEED, stage, trade

pytestmark = [pytest.mark.integration, pytest.mark.asyncio(loop_scope="module")]

MINUTES = 30


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half an hour of two products, a trade every five seconds."""
    folder = tmp_path_factory.mktemp("warehouse")
    file, staging = folder / "warehouse.duckdb", Staging(str(folder / "staging"))
    make_duckdb(file)
    rows = [
        trade(number, product=product, price=f"{price + number % 7}.5")
        | {"traded_at": DAY + timedelta(seconds=5 * (number - 1))}
        for product, price in (("BTC-USD", 64_000), ("ETH-USD", 3_500))
        for number in range(1, MINUTES * 12 + 1)
    ]
    stage(staging, 0, rows)
    Loader(FEED, staging, DuckDatabase(file, staging)).run()
    return file


@pytest.fixture(scope="module")
def environment(warehouse: Path) -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FULLTAPE_WAREHOUSE", str(warehouse))
        yield patch


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def url(
    kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory, environment: pytest.MonkeyPatch
) -> AsyncIterator[str]:
    """Give the address of a page whose feed has a warehouse."""
    set_up = Stage(kafka, tmp_path_factory.mktemp("dashboard"))
    feed = set_up.feed.to_dict()
    feed["spec"]["warehouse"] = {}
    set_up.file.write_text(json.dumps(feed))
    with set_up.start():
        await set_up.ready()
        yield set_up.url


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as found:
        yield found


async def ask(page: Page) -> None:
    await page.get_by_role("button", name="Ask").click()


async def test_a_question_is_chosen_told_of_what_and_answered_as_a_table_and_as_lines(
    url: str, browser: Browser
) -> None:
    async with visit(browser, url) as page:
        await page.get_by_role("link", name="History").click()
        await page.get_by_label("Question").select_option("ohlcv")
        await page.get_by_label("product", exact=True).fill("BTC-USD")
        await page.get_by_label("interval seconds").fill("60")
        await ask(page)
        rows = page.locator("#history-rows tr")
        await expect(rows).to_have_count(MINUTES)
        await expect(page.locator("#history-status")).to_contain_text(f"{MINUTES} rows")
        await expect(page.locator("#history-chart canvas").first).to_be_visible()
        first = await rows.first.locator("td").first.inner_text()
        asked = page.url
        await page.reload()
        assert page.url == asked
        await expect(rows).to_have_count(MINUTES)
        await expect(rows.first.locator("td").first).to_have_text(first)


async def test_a_column_sorts_and_the_answer_can_be_taken_home(url: str, browser: Browser, tmp_path: Path) -> None:
    async with visit(browser, f"{url}/#/history/ohlcv?product=%25&interval_seconds=300") as page:
        rows = page.locator("#history-rows tr")
        await expect(rows).to_have_count(2 * MINUTES // 5)
        head = page.get_by_role("columnheader", name="close price")
        await head.get_by_role("button").press("Enter")
        await expect(head).to_have_attribute("aria-sort", "descending")
        await expect(rows.first).to_contain_text("BTC-USD")
        await page.keyboard.press("Enter")
        await expect(head).to_have_attribute("aria-sort", "ascending")
        await expect(rows.first).to_contain_text("ETH-USD")
        async with page.expect_download() as download:
            await page.get_by_role("button", name="Download CSV").click()
        saved = tmp_path / "answer.csv"
        await (await download.value).save_as(saved)
        lines = saved.read_text().splitlines()
        assert len(lines) == 1 + 2 * MINUTES // 5
        assert "64000.5000000000" in saved.read_text()  # to the last digit


async def test_a_bad_parameter_is_told_in_words(url: str, browser: Browser) -> None:
    async with visit(browser, f"{url}/#/history/movers", forgive="400") as page:
        await page.get_by_label("since").fill("yesterday")
        await ask(page)
        await expect(page.locator("#history-status")).to_contain_text("'yesterday'")


async def test_a_warehouse_that_is_being_loaded_is_told_and_answers_afterwards(
    url: str, browser: Browser, warehouse: Path
) -> None:
    async with visit(browser, f"{url}/#/history/movers?since=2025-10-10T00:00:00", forgive="503") as page:
        await expect(page.locator("#history-rows tr")).to_have_count(2)
        with duckdb.connect(warehouse):
            await ask(page)
            await expect(page.locator("#history-status")).to_contain_text("another process has it open", timeout=15_000)
        await ask(page)
        await expect(page.locator("#history-status")).to_contain_text("2 rows")


async def test_a_phone_never_scrolls_sideways(url: str, browser: Browser) -> None:
    place = f"{url}/#/history/ohlcv?interval_seconds=300"
    async with visit(browser, place, viewport=PHONE, is_mobile=True, has_touch=True) as page:
        await expect(page.locator("#history-rows tr").first).to_be_visible()
        overhang = await page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert overhang <= 0
