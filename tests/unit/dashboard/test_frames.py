"""The frames that browsers get."""

import json
from typing import Any

import msgspec

from fulltape.dashboard import frames
from fulltape.dashboard.frames import OVERVIEW
from fulltape.dashboard.market import POINT_FIELDS, ROW_FIELDS, Batch, Market
from tests.story import WINDOWS, Story, alert, history

START = 1_760_000_000
NOW_US = START * 1_000_000
PRODUCTS = ("BTC-USD", "ETH-USD")
STORY = Story(START, 200)


def market(seconds: int = 100) -> Market:
    found = Market(PRODUCTS, tuple(WINDOWS), "5m", NOW_US)
    raw = {
        f"{w.product}/{w.window}/{w.end_us}".encode(): msgspec.json.encode(w)
        for w in history(STORY, range(seconds), PRODUCTS)
    }
    trade = msgspec.json.encode(STORY.trade("BTC-USD", 9, 67_000.5, NOW_US, 0.5))
    change = msgspec.json.encode(alert("FlashCrash", "BTC-USD", "firing", NOW_US, "fell"))
    found.apply(Batch(raw, len(raw), {"BTC-USD": [trade]}, 1, [], [change], loading=False), NOW_US)
    return found


def update(found: Market, view: str | None, since: int = 0, *, health: bool = False) -> dict[str, Any] | None:
    report = found.report(NOW_US, kafka=True, browsers=3) if health else None
    frame = frames.update(found, view, since, report, NOW_US)
    return None if frame is None else json.loads(frame)


def test_the_first_frame_says_how_to_read_the_others() -> None:
    hello = json.loads(frames.hello("majors", market()))
    assert hello["products"] == list(PRODUCTS)
    assert hello["windows"] == ["1m", "5m"]
    assert hello["row"] == list(ROW_FIELDS)
    assert hello["point"] == list(POINT_FIELDS)
    assert hello["measures"]["vwap"]


def test_an_overview_is_a_row_for_each_product_and_the_alerts() -> None:
    frame = update(market(), OVERVIEW)
    assert frame is not None
    assert [row[0] for row in frame["rows"]] == list(PRODUCTS)
    assert [entry["name"] for entry in frame["alerts"]] == ["FlashCrash"]
    assert "product" not in frame


def test_a_product_comes_with_its_newest_windows_all_history_and_the_last_trades() -> None:
    frame = update(market(), "BTC-USD")
    assert frame is not None
    product = frame["product"]
    assert product["name"] == "BTC-USD"
    assert product["windows"]["5m"]["measures"]["drawdown"] >= 0
    assert {length: len(points) for length, points in product["points"].items()} == {"1m": 100, "5m": 100}
    assert product["trades"] == [[9, NOW_US, "67000.50", product["trades"][0][3], product["trades"][0][4]]]
    assert "rows" not in frame


def test_nothing_new_is_no_frame() -> None:
    found = market()
    for view in (OVERVIEW, "BTC-USD"):
        assert update(found, view, found.version) is None


def test_another_products_news_is_no_news() -> None:
    found = market()
    version = found.version
    late = STORY.window("ETH-USD", "1m", 150, last_id=3, now_us=NOW_US)
    found.apply(Batch({b"k": msgspec.json.encode(late)}, 1, {}, 0, [], [], loading=False), NOW_US)
    assert update(found, "BTC-USD", version) is None
    assert update(found, "ETH-USD", version) is not None


def test_health_is_sent_when_it_is_given() -> None:
    found = market()
    frame = update(found, "BTC-USD", found.version, health=True)
    assert frame is not None
    assert frame["health"]["browsers"] == 3
    assert "product" not in frame


def test_a_browser_that_fell_behind_gets_all_it_missed_at_once() -> None:
    found = market()
    version = found.version
    for second in range(100, 130):
        window = STORY.window("BTC-USD", "1m", second, last_id=second, now_us=NOW_US)
        found.apply(Batch({b"k": msgspec.json.encode(window)}, 1, {}, 0, [], [], loading=False), NOW_US)
    frame = update(found, "BTC-USD", version)
    assert frame is not None
    assert sorted(point[0] - START for point in frame["product"]["points"]["1m"]) == list(range(101, 131))
    assert list(frame["product"]["windows"]) == ["1m"]
