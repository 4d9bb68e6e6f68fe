"""What the dashboard knows, and what of it is newer than what a browser has."""

from collections.abc import Iterable

import msgspec
import pytest

from fulltape.dashboard.market import ALERTS_KEPT, HISTORY_US, ROW_FIELDS, TRADES_KEPT, Batch, Market, is_gap
from fulltape.messages import Gap, Window
from tests.story import WINDOWS, Story, alert, history

START = 1_760_000_000
NOW_US = START * 1_000_000
PRODUCTS = ("BTC-USD", "ETH-USD")
STORY = Story(START, 1300)


def market() -> Market:
    return Market(PRODUCTS, tuple(WINDOWS), "5m", NOW_US)


def batch(
    windows: Iterable[Window] = (),
    *,
    trades: dict[str, list[bytes]] | None = None,
    alerts: Iterable[bytes] = (),
    gaps: Iterable[bytes] = (),
    loading: bool = False,
) -> Batch:
    raw = {f"{w.product}/{w.window}/{w.end_us}".encode(): msgspec.json.encode(w) for w in windows}
    count = sum(map(len, (trades or {}).values()))
    return Batch(raw, len(raw), trades or {}, count, list(gaps), list(alerts), loading=loading)


def window(second: int, *, product: str = "BTC-USD", length: str = "1m", last_id: int = 5, price: str = "") -> Window:
    return STORY.window(product, length, second, last_id=last_id, now_us=NOW_US + second * 1_000_000, price=price)


def trades(ids: Iterable[int], product: str = "BTC-USD") -> dict[str, list[bytes]]:
    return {product: [msgspec.json.encode(STORY.trade(product, number, 67_000.5, NOW_US, 0.5)) for number in ids]}


def row(found: Market, product: str = "BTC-USD", since: int = 0) -> dict[str, object]:
    values = next(values for values in found.rows_since(since) if values[0] == product)
    return dict(zip(ROW_FIELDS, values, strict=True))


def times(found: Market, since: int = 0, product: str = "BTC-USD", length: str = "1m") -> list[int]:
    points = found.products[product].series[length].points_since(since)
    return sorted(msgspec.json.decode(point)[0] for point in points)


def test_the_newest_window_is_shown_whatever_order_partitions_are_read_in() -> None:
    found = market()
    for second in (7, 9, 8):
        found.apply(batch([window(second)], loading=True), NOW_US)
    assert row(found)["price"] == window(9).last_price
    assert times(found) == [START + second + 1 for second in (7, 8, 9)]


def test_a_corrected_window_replaces_its_point_and_not_the_newest_price() -> None:
    found = market()
    found.apply(batch([window(7), window(8)]), NOW_US)
    version = found.version
    found.apply(batch([window(7, price="1.00")]), NOW_US)
    assert row(found)["price"] == window(8).last_price
    assert times(found, since=version) == [START + 8]
    assert found.rows_since(version) == []


def test_history_is_15_minutes_of_exchange_time_and_no_more() -> None:
    found = market()
    for second in range(1000):
        found.apply(batch(history(STORY, range(second, second + 1), PRODUCTS), loading=True), NOW_US)
    kept = times(found)
    assert len(kept) == HISTORY_US // 1_000_000
    assert kept[-1] == START + 1000
    found.apply(batch([window(5)]), NOW_US)
    assert times(found) == kept  # older than all of it


def test_a_jump_in_time_leaves_nothing_older_than_15_minutes() -> None:
    found = market()
    found.apply(batch(window(second) for second in range(100)), NOW_US)
    found.apply(batch([window(1200)]), NOW_US)
    assert times(found) == [START + 1201]


def test_a_browser_is_told_only_what_changed_since_it_looked() -> None:
    found = market()
    found.apply(batch(history(STORY, range(60), PRODUCTS)), NOW_US)
    version = found.version
    found.apply(batch([window(60)]), NOW_US)
    assert [values[0] for values in found.rows_since(version)] == ["BTC-USD"]
    assert times(found, since=version) == [START + 61]
    assert found.rows_since(found.version) == []


def test_a_row_carries_the_stamps_of_its_newest_trade_and_what_is_missing_in_the_longest_window() -> None:
    found = market()
    short = window(60, last_id=77)
    long = msgspec.structs.replace(window(60, length="5m"), missing=3)
    found.apply(batch([short, long]), NOW_US)
    shown = row(found)
    assert (shown["last_id"], shown["missing"]) == (77, 3)
    stamps = ("trade_us", "received_us", "tape_us", "pane_us", "published_us")
    assert [shown[name] for name in stamps] == [getattr(short, name) for name in stamps]


def test_a_sparkline_has_a_price_every_10_seconds_and_is_sent_only_when_it_moved() -> None:
    found = market()
    for second in range(1000):
        found.apply(batch([window(second)], loading=True), NOW_US)
    spark = row(found)["spark"]
    assert isinstance(spark, list)
    assert len(spark) == 90
    assert spark[-1] == float(window(999).last_price)
    assert None not in spark
    version = found.version
    found.apply(batch([window(1000)]), NOW_US)
    assert row(found, since=version)["spark"] is None


def test_a_window_without_trades_has_a_price_and_no_change() -> None:
    found = market()
    quiet = msgspec.structs.replace(window(3), open=None, high=None, low=None, close=None, trades=0)
    found.apply(batch([quiet]), NOW_US)
    assert (row(found)["price"], row(found)["change"]) == (quiet.last_price, None)


@pytest.mark.parametrize("garbage", [b"", b"{", b"[]", b"\xff\xfe", b'{"type":"window"}', b'{"type":"other"}'])
def test_garbage_is_counted_and_skipped(garbage: bytes) -> None:
    found = market()
    found.apply(Batch({b"key": garbage}, 1, {}, 0, [garbage], [garbage], loading=False), NOW_US)
    assert found.undecodable == 3
    found.apply(batch([window(3)]), NOW_US)
    assert row(found)["price"] == window(3).last_price


def test_a_price_that_is_no_number_is_garbage() -> None:
    found = market()
    found.apply(batch([msgspec.structs.replace(window(3), last_price="cheap")]), NOW_US)
    assert found.undecodable == 1
    assert found.rows_since(0) == []


def test_products_and_windows_that_the_feed_has_not_are_ignored() -> None:
    found = market()
    found.apply(batch([window(3, product="SOL-USD"), msgspec.structs.replace(window(3), window="2h")]), NOW_US)
    found.apply(batch(trades=trades([1], "SOL-USD")), NOW_US)
    assert (found.rows_since(0), found.undecodable) == ([], 0)


def test_trades_are_newest_first_and_bounded_and_told_once() -> None:
    found = market()
    found.apply(batch(trades=trades(range(100))), NOW_US)
    assert [trade[0] for trade in found.trades_since("BTC-USD", 0)] == list(range(99, 99 - TRADES_KEPT, -1))
    version = found.version
    found.apply(batch(trades=trades([100, 101])), NOW_US)
    assert [trade[0] for trade in found.trades_since("BTC-USD", version)] == [101, 100]


def test_gap_records_count_what_the_tape_lacks_and_are_no_trades() -> None:
    found = market()
    gap = msgspec.json.encode(Gap("BTC-USD", 10, 14, "REST has none of them", NOW_US))
    assert is_gap(gap)
    assert not is_gap(trades([1])["BTC-USD"][0])
    found.apply(batch(trades={"BTC-USD": [gap]}, gaps=[gap]), NOW_US)
    assert found.report(NOW_US, kafka=True, browsers=0).gaps == 5
    assert found.trades_since("BTC-USD", 0) == []


def test_missing_is_summed_over_the_longest_windows() -> None:
    found = market()
    lacking = [
        msgspec.structs.replace(window(9, product=product, length=length), missing=missing)
        for product, length, missing in [("BTC-USD", "1m", 2), ("BTC-USD", "5m", 4), ("ETH-USD", "5m", 1)]
    ]
    found.apply(batch(lacking), NOW_US)
    assert found.report(NOW_US, kafka=True, browsers=0).missing == 5


def test_an_alert_is_one_entry_from_firing_to_resolved_and_does_not_show_before_it_fires() -> None:
    found = market()
    firing = alert("FlashCrash", "BTC-USD", "firing", NOW_US, "fell")
    pending = msgspec.structs.replace(firing, state="pending", starts_us=None)
    for change in (pending, firing, alert("FlashCrash", "BTC-USD", "resolved", NOW_US, "is over")):
        found.apply(batch(alerts=[msgspec.json.encode(change)]), NOW_US)
    assert [(entry.state, entry.summary) for entry in found.alerts_since(0)] == [("resolved", "is over")]


def test_the_log_is_bounded_and_keeps_what_is_still_firing() -> None:
    found = market()
    found.apply(batch(alerts=[msgspec.json.encode(alert("Old", "BTC-USD", "firing", NOW_US, "still on"))]), NOW_US)
    for number in range(1, ALERTS_KEPT + 20):
        change = alert("New", "BTC-USD", "resolved", NOW_US + number, "was")
        found.apply(batch(alerts=[msgspec.json.encode(change)]), NOW_US)
    entries = found.alerts_since(0)
    assert len(entries) == ALERTS_KEPT
    assert entries[0].name == "Old"


def test_windows_from_before_the_start_count_neither_as_rate_nor_as_latency() -> None:
    found = Market(PRODUCTS, tuple(WINDOWS), "5m", NOW_US + 100_000_000)
    found.apply(batch([window(5)], loading=True), NOW_US + 100_000_000)
    assert found.loading
    found.apply(batch([window(6, last_id=6)]), NOW_US + 100_000_000)
    report = found.report(NOW_US + 101_000_000, kafka=True, browsers=0)
    assert report.windows_per_second == 1
    assert sum(map(sum, report.stages)) == 0
    found.apply(batch([window(100, last_id=7)]), NOW_US + 101_000_000)
    assert sum(map(sum, found.report(NOW_US + 101_000_000, kafka=True, browsers=0).stages)) == 5


def test_only_windows_with_newer_trades_count_as_latency() -> None:
    found = market()
    for last_id in (5, 5, 6):
        found.apply(batch([window(5, last_id=last_id), window(5, last_id=last_id, length="5m")]), NOW_US)
    assert [sum(stage) for stage in found.report(NOW_US, kafka=True, browsers=0).stages] == [2] * 5
