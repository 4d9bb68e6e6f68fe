"""Final windows by a real Spark are the monitor's for the same trades, each once, also when it is killed in between."""

import time
from collections.abc import Iterator
from decimal import Decimal, localcontext
from typing import Any

import pytest

from fulltape.bench.stage import delete_topics
from fulltape.local.kafka import EmbeddedKafka
from fulltape.messages import Window
from fulltape.monitor.windows import ProductWindows
from fulltape.warehouse.tables import snake_case
from tests.integration.archive import Stage, micros
from tests.integration.market import PRODUCTS, SECOND_US, now_us
from tests.panes import panes_of

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def stage(kafka: EmbeddedKafka, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    stage = Stage(kafka, tmp_path_factory.mktemp("windows"), {"watermark": "20s", "windows": ["10s", "60s"]})
    stage.start()
    yield stage
    stage.program.kill()
    delete_topics(kafka.bootstrap_servers, stage.feed)


def expected_windows(stage: Stage) -> dict[tuple[str, int, int], Window]:
    """Return the windows that hold trades, by plain Python's panes and the monitor's mathematics."""
    analytics = stage.feed.spec.analytics
    assert analytics is not None
    newest = {}
    for product in PRODUCTS:
        trades = stage.market.of(product)
        windows = ProductWindows(product, analytics.windows, analytics.slide, analytics.watermark)
        with localcontext(prec=60):
            for pane in panes_of(trades):
                windows.add_pane(pane, 0)
                for one in windows.collect(0):
                    newest[product, (one.end_us - one.start_us) // SECOND_US, one.start_us] = one
    return {place: window for place, window in newest.items() if window.trades}


def stored_windows(stage: Stage) -> dict[tuple[str, int, int], dict[str, Any]]:
    rows = stage.rows("windows")
    found = {(row["product"], row["window_seconds"], micros(row["window_start"])): row for row in rows}
    assert len(found) == len(rows), f"each once; the archive said:\n{stage.said()}"
    return found


def assert_windows_become_those_of_the_market(stage: Stage, until_us: int) -> None:
    """Trade on until all windows that end up to a time are stored, then compare each measure."""

    def complete() -> bool:
        stage.market.burst(3, now_us(), seconds=1)
        time.sleep(1)  # the pace of trades, not a wait
        return any(start > until_us for (_, _, start) in stored_windows(stage))

    stage.wait_until(complete, "windows are final")
    expected, stored = expected_windows(stage), stored_windows(stage)
    ended = {place for place in expected if place[2] + place[1] * SECOND_US <= until_us}
    assert ended
    assert ended <= stored.keys() <= expected.keys()
    for place, row in stored.items():
        window = expected[place]
        assert (row["trades"], row["last_id"]) == (window.trades, window.last_id)
        for name, text in (("volume", window.volume), ("notional", window.notional), ("close_price", window.close)):
            assert row[name] == Decimal(text or "0"), (place, name)
        for name, value in window.measures.items():
            found = row[snake_case(name)]
            assert found == (value if value is None else pytest.approx(value, rel=1e-9, abs=1e-12)), (place, name)


def test_a_final_window_is_the_monitors(stage: Stage) -> None:
    first_us = now_us() - 60 * SECOND_US
    stage.market.burst(2_000, first_us, seconds=30)
    assert_windows_become_those_of_the_market(stage, first_us + 30 * SECOND_US)


def test_after_kill_9_windows_go_on(stage: Stage) -> None:
    stage.program.kill()
    stage.market.burst(500, now_us(), seconds=1)
    stage.start()
    assert_windows_become_those_of_the_market(stage, now_us())
