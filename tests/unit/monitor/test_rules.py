"""When an alert is pending, fires and resolves, what it says, and that a restart changes nothing of it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fulltape.feed.model import ALERT_LABELS, BUILT_IN_ALERTS, CryptoFeed
from fulltape.measures.names import MEASURES
from fulltape.messages import Alert, Window
from fulltape.monitor.rules import FeedHealth, Rules

T0 = 1_760_129_460_000_000
"""A whole second of exchange time; seconds below count from here."""
NOW = 1_800_000_000_000_000
"""The machine's clock, another year's."""
WELL = FeedHealth(received_us=NOW, latency_p99_us=20_000)


def feed(*rules: Mapping[str, Any], products: Iterable[str] = ("BTC-USD", "ETH-USD"), slide: str = "1s") -> CryptoFeed:
    return CryptoFeed.model_validate(
        {
            "apiVersion": "fulltape.dev/v1alpha1",
            "kind": "CryptoFeed",
            "metadata": {"name": "majors", "namespace": "markets"},
            "spec": {
                "products": list(products),
                "kafka": {"bootstrapServers": "b:9092"},
                "analytics": {"windows": ["1m", "5m"], "slide": slide},
                "alerts": list(rules),
            },
        }
    )


def rule(**fields: Any) -> dict[str, Any]:
    return {"name": "Fall", "window": "1m", **fields}


def window(
    seconds: float,
    *,
    product: str = "BTC-USD",
    size: str = "1m",
    trades: int = 10,
    missing: int = 0,
    trade: float | None = None,
    **measures: float | None,
) -> Window:
    """Return the newest window at a time; ``trade`` is the time of the newest trade, that time unless given."""
    end_us = T0 + int(seconds) * 1_000_000 + 1_000_000
    trade_us = T0 + int(1e6 * (seconds if trade is None else trade))
    return Window(
        product=product,
        window=size,
        start_us=end_us - 60_000_000,
        end_us=end_us,
        trades=trades,
        missing=missing,
        volume="1",
        notional="1",
        buy_volume="1",
        open="1",
        high="1",
        low="1",
        close="1",
        last_price="1",
        last_id=1,
        largest_size="1",
        measures={**dict.fromkeys(MEASURES), "trades": float(trades), **measures},
        trade_us=trade_us,
        received_us=NOW,
        tape_us=NOW,
        pane_us=NOW,
        published_us=NOW,
    )


def changes(rules: Rules, *windows: Window) -> list[str]:
    return [alert.state for each in windows for alert in rules.on_window(each, NOW)]


def at(seconds: float) -> int:
    return T0 + int(seconds * 1e6)


def test_a_crossed_threshold_fires_at_once_and_says_so_once() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, severity="critical", labels={"team": "risk"})))
    assert rules.on_window(window(0, drawdown=0.05), NOW) == []
    (alert,) = rules.on_window(window(1.25, drawdown=0.062), NOW)
    assert (alert.name, alert.state, alert.product, alert.window) == ("Fall", "firing", "BTC-USD", "1m")
    assert alert.summary == "drawdown over 1m is 6.2 %, above 5 %"
    assert alert.values == {"drawdown": 0.062}
    assert alert.labels == {
        "alertname": "Fall",
        "feed": "majors",
        "namespace": "markets",
        "product": "BTC-USD",
        "window": "1m",
        "severity": "critical",
        "team": "risk",
    }
    assert set(ALERT_LABELS) <= set(alert.labels)
    assert alert.annotations == {
        "summary": alert.summary,
        "description": MEASURES["drawdown"].description,
        "since": "2025-10-10T20:51:01Z",
        "fired": "2025-10-10T20:51:01Z",
    }
    assert (alert.since_us, alert.starts_us, alert.ends_us) == (at(1.25), at(1.25), None)
    assert (alert.trade_us, alert.changed_us) == (at(1.25), NOW)
    assert changes(rules, window(1.5, drawdown=0.07), window(2, drawdown=0.08)) == []


def test_it_resolves_once_with_the_same_labels_and_fingerprint() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05)))
    (fired,) = rules.on_window(window(1, drawdown=0.062), NOW)
    (resolved,) = rules.on_window(window(9, drawdown=0.041), NOW + 5)
    assert resolved.state == "resolved"
    assert resolved.summary == "drawdown over 1m is 4.1 %, not above 5 %"
    assert (resolved.fingerprint, resolved.labels) == (fired.fingerprint, fired.labels)
    assert (resolved.starts_us, resolved.ends_us, resolved.changed_us) == (at(1), at(9), NOW + 5)
    assert resolved.annotations["resolved"] == "2025-10-10T20:51:09Z"
    assert changes(rules, window(10, drawdown=0.03)) == []


def test_below_is_the_mirror_of_above() -> None:
    rules = Rules(feed(rule(measure="orderFlowImbalance", below=-0.9, hysteresis=0.1)))
    (fired,) = rules.on_window(window(0, orderFlowImbalance=-0.95), NOW)
    assert fired.summary == "orderFlowImbalance over 1m is -0.95, below -0.9"
    assert changes(rules, window(1, orderFlowImbalance=-0.85)) == []
    (resolved,) = rules.on_window(window(2, orderFlowImbalance=-0.7), NOW)
    assert resolved.summary == "orderFlowImbalance over 1m is -0.7, not below -0.8"


def test_hysteresis_holds_an_alert_until_the_measure_has_come_back_by_it() -> None:
    rules = Rules(feed(rule(measure="volatilityZScore", above=4, hysteresis=1)))
    values = [4.1, 3.9, 3.5, 4.5, 3.01, 3.0, 3.5, 4.0, 4.2]
    assert changes(rules, *(window(n, volatilityZScore=value) for n, value in enumerate(values))) == [
        "firing",
        "resolved",
        "firing",
    ]


def test_an_alert_with_for_waits_in_exchange_time() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, **{"for": "2s"})))
    (pending,) = rules.on_window(window(1.5, drawdown=0.06), NOW)
    assert (pending.state, pending.since_us, pending.starts_us) == ("pending", at(1.5), None)
    assert "fired" not in pending.annotations
    assert changes(rules, window(3.4, drawdown=0.07)) == []
    (fired,) = rules.on_window(window(3.5, drawdown=0.08), NOW)  # not a microsecond of the machine's clock later
    assert (fired.state, fired.since_us, fired.starts_us) == ("firing", at(1.5), at(3.5))


def test_a_pending_alert_whose_condition_ceases_starts_anew() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, **{"for": "2s"})))
    assert changes(
        rules,
        window(0, drawdown=0.06),
        window(1, drawdown=0.05),
        window(2, drawdown=0.06),
        window(3, drawdown=0.06),
        window(4, drawdown=0.06),
    ) == ["pending", "inactive", "pending", "firing"]


def test_a_window_that_slides_without_a_trade_moves_time_on_too() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, **{"for": "3s"})))
    assert changes(rules, window(0.5, drawdown=0.06)) == ["pending"]
    assert changes(rules, window(3, trade=0.5, drawdown=0.06)) == []
    (fired,) = rules.on_window(window(4, trade=0.5, drawdown=0.06), NOW)
    assert (fired.state, fired.starts_us, fired.trade_us) == ("firing", at(4), None)


def test_an_unknown_measure_never_fires_and_lets_a_pending_alert_start_anew() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, **{"for": "2s"})))
    assert changes(rules, window(0, drawdown=None), window(1, drawdown=0.06)) == ["pending"]
    (inactive,) = rules.on_window(window(2, drawdown=None), NOW)
    assert (inactive.state, inactive.summary, inactive.values) == ("inactive", "drawdown over 1m is unknown", {})


def test_a_firing_alert_outlasts_an_unknown_measure_until_the_window_is_empty() -> None:
    rules = Rules(feed(rule(measure="volatilityZScore", above=4)))
    assert changes(rules, window(0, volatilityZScore=5.0), window(1, volatilityZScore=None)) == ["firing"]
    assert changes(rules, window(60, trades=0, trade=0, volatilityZScore=None)) == ["resolved"]


def test_a_measure_that_an_empty_window_determines_keeps_its_alert() -> None:
    rules = Rules(feed(rule(measure="staleness", above=30)))
    (fired,) = rules.on_window(window(90, trades=0, trade=0, staleness=91.0), NOW)
    assert fired.summary == "staleness over 1m is 91 s, above 30 s"
    assert changes(rules, window(100, trades=0, trade=0, staleness=101.0)) == []


def test_products_and_windows_have_alerts_of_their_own() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05)))
    (bitcoin,) = rules.on_window(window(0, drawdown=0.06), NOW)
    (ether,) = rules.on_window(window(0, drawdown=0.06, product="ETH-USD"), NOW)
    assert bitcoin.fingerprint != ether.fingerprint
    assert changes(rules, window(0, drawdown=0.06, size="5m")) == []


def test_a_rule_for_some_products_watches_no_others() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, products=["ETH-USD"])))
    assert changes(rules, window(0, drawdown=0.06)) == []
    assert changes(rules, window(0, drawdown=0.06, product="ETH-USD")) == ["firing"]


def test_a_window_in_another_unit_is_the_same_window() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, window="60s")))
    assert changes(rules, window(0, drawdown=0.06)) == ["firing"]


def test_windows_that_the_feed_does_not_know_are_ignored() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05)))
    assert changes(rules, window(0, drawdown=0.06, product="DOGE-USD"), window(0, drawdown=0.06, size="9m")) == []


CALM = {
    "drawdown": 0.001,
    "miniCrash": 0.0,
    "recovery": 0.2,
    "tradeRateZScore": 0.0,
    "firstDigitDeviation": 0.02,
    "roundSizeShare": 0.2,
    "largestReturn": 0.0001,
}


@pytest.mark.parametrize(
    ("pattern", "seen", "says"),
    [
        ("flashCrash", {"drawdown": 0.06}, "flashCrash: drawdown over 1m is 6 %, above 5 %"),
        (
            "flashCrash",
            {"miniCrash": 0.012, "drawdown": 0.011},
            "flashCrash: miniCrash over 1m is 1.2 %, above 0.8 % and drawdown over 1m is 1.1 %, above 0.8 %",
        ),
        (
            "vRecovery",
            {"drawdown": 0.03, "recovery": 0.75},
            "vRecovery: drawdown over 1m is 3 %, above 2 % and recovery over 1m is 75 %, above 50 %",
        ),
        (
            "tradeBurst",
            {"tradeRateZScore": 9.87, "trades": 1234.0},
            "tradeBurst: tradeRateZScore over 1m is 9.87, above 8 and trades over 1m is 1,234, above 100",
        ),
        (
            "washTrading",
            {"firstDigitDeviation": 0.1, "roundSizeShare": 0.01, "trades": 501.0},
            (
                "washTrading: firstDigitDeviation over 1m is 0.1, above 0.06 and roundSizeShare over 1m is 1 %, below "
                "2 % and trades over 1m is 501, above 500"
            ),
        ),
        ("liquidityGap", {"largestReturn": 0.0204}, "liquidityGap: largestReturn over 1m is 2.04 %, above 1 %"),
    ],
)
def test_a_pattern_fires_with_the_numbers_that_make_it(pattern: str, seen: dict[str, float], says: str) -> None:
    rules = Rules(feed(rule(pattern=pattern)))
    assert changes(rules, window(0, **CALM)) == []
    (alert,) = rules.on_window(window(1, **{**CALM, **seen}), NOW)
    assert alert.summary == says
    assert changes(rules, window(2, **CALM)) == ["resolved"]


@pytest.mark.parametrize(
    ("pattern", "seen"),
    [
        ("flashCrash", {"miniCrash": 0.02, "drawdown": 0.004}),  # upwards
        ("flashCrash", {"miniCrash": 0.02, "drawdown": None}),
        ("vRecovery", {"drawdown": 0.03}),
        ("vRecovery", {"recovery": 0.9}),
        ("tradeBurst", {"tradeRateZScore": 20.0}),  # of ten trades
        ("washTrading", {"firstDigitDeviation": 0.1, "trades": 900.0}),  # sizes are round
        ("washTrading", {"firstDigitDeviation": 0.1, "roundSizeShare": 0.0}),  # too few to tell
    ],
)
def test_a_part_of_a_pattern_does_not_fire(pattern: str, seen: dict[str, float | None]) -> None:
    rules = Rules(feed(rule(pattern=pattern)))
    assert changes(rules, window(0, **{**CALM, **seen})) == []


def test_a_pattern_takes_its_thresholds_from_the_rule_and_resolves_a_fifth_below() -> None:
    rules = Rules(feed(rule(pattern="flashCrash", thresholds={"drawdown": 0.1})))
    values = [0.06, 0.11, 0.09, 0.081, 0.079]
    states = [changes(rules, window(n, **{**CALM, "drawdown": value})) for n, value in enumerate(values)]
    assert states == [[], ["firing"], [], [], ["resolved"]]


def test_the_rules_own_annotations_win() -> None:
    rules = Rules(feed(rule(measure="drawdown", above=0.05, annotations={"description": "mine", "runbook_url": "u"})))
    (alert,) = rules.on_window(window(0, drawdown=0.06), NOW)
    assert (alert.annotations["description"], alert.annotations["runbook_url"]) == ("mine", "u")


@pytest.mark.parametrize(
    ("measure", "above", "value", "says"),
    [
        ("drawdown", 0.05, 0.0500001, "5.00001 %, above 5 %"),
        ("vwap", 65_000, 65_000.01, "65,000.01, above 65,000"),
        ("vwap", 64_000.5, 123_456.789, "123,457, above 64,000.5"),
        ("amihudIlliquidity", 1e-9, 2.5e-9, "2.5e-09, above 1e-09"),
        ("volatilityZScore", 0, 1.0 / 3, "0.333, above 0"),
        ("volatilityZScore", -1, 0.0, "0, above -1"),
    ],
)
def test_a_summary_tells_a_value_from_its_threshold(measure: str, above: float, value: float, says: str) -> None:
    rules = Rules(feed(rule(measure=measure, above=above)))
    (alert,) = rules.on_window(window(0, **{measure: value}), NOW)
    assert alert.summary == f"{measure} over 1m is {says}"


def test_missing_trades_are_reported_when_they_stay_missing() -> None:
    rules = Rules(feed())
    assert changes(rules, window(0, missing=3), window(4, missing=0)) == ["pending", "inactive"]  # a pane came late
    assert changes(rules, window(10, missing=3)) == ["pending"]
    (fired,) = rules.on_window(window(15, missing=4), NOW)
    assert (fired.name, fired.state, fired.severity, fired.product) == (
        "TradesMissing",
        "firing",
        "critical",
        "BTC-USD",
    )
    assert fired.summary == "missingTrades over 1m is 4, above 0"
    assert changes(rules, window(75, missing=0)) == ["resolved"]
    assert changes(rules, window(80, missing=5, size="5m")) == []


def test_a_stale_feed_is_reported_by_the_machines_clock() -> None:
    rules = Rules(feed())
    assert rules.on_clock(NOW + 60_000_000, FeedHealth(NOW, None)) == []
    (fired,) = rules.on_clock(NOW + 61_000_000, FeedHealth(NOW, None))
    assert (fired.name, fired.state, fired.product, fired.window) == ("FeedStale", "firing", None, None)
    assert fired.summary == "sinceTrade is 61 s, above 60 s"
    assert fired.labels == {
        "alertname": "FeedStale",
        "feed": "majors",
        "namespace": "markets",
        "severity": "critical",
    }
    (resolved,) = rules.on_clock(NOW + 70_000_000, FeedHealth(NOW + 69_500_000, None))
    assert resolved.state == "resolved"


def test_latency_over_budget_is_reported_when_it_lasts() -> None:
    rules = Rules(feed())
    late = FeedHealth(NOW + 10**9, 1_400_000)
    assert [alert.state for alert in rules.on_clock(NOW, late)] == ["pending"]
    assert rules.on_clock(NOW + 119_000_000, late) == []
    (fired,) = rules.on_clock(NOW + 120_000_000, late)
    assert (fired.name, fired.summary) == ("LatencyOverBudget", "latency is 1.4 s, above 1 s")
    assert rules.on_clock(NOW + 121_000_000, FeedHealth(NOW + 10**9, 900_000)) == []
    assert [alert.state for alert in rules.on_clock(NOW + 122_000_000, FeedHealth(NOW + 10**9, 700_000))] == [
        "resolved"
    ]


def test_latency_of_nothing_is_no_latency() -> None:
    rules = Rules(feed())
    late, nothing = FeedHealth(NOW + 10**9, 1_400_000), FeedHealth(NOW + 10**9, None)
    states = [alert.state for n in (0, 120_000_000) for alert in rules.on_clock(NOW + n, late)]
    assert states == ["pending", "firing"]
    assert [alert.state for alert in rules.on_clock(NOW + 180_000_000, nothing)] == ["resolved"]


def test_the_built_in_alerts_are_those_that_a_rule_may_not_be_called() -> None:
    rules = Rules(feed())
    bad = FeedHealth(NOW - 10**9, 9_000_000)
    raised = [*rules.on_clock(NOW, bad), *rules.on_window(window(0, missing=1), NOW)]
    assert {alert.name for alert in raised} == set(BUILT_IN_ALERTS)


def test_an_alert_that_the_feed_no_longer_has_is_resolved_after_a_restart() -> None:
    before = Rules(feed(rule(measure="drawdown", above=0.05), rule(name="B", measure="runUp", above=0.1)))
    fired = before.on_window(window(0, drawdown=0.06, runUp=0.2), NOW)
    after = Rules(feed(rule(name="B", measure="runUp", above=0.1)))
    for alert in fired:
        after.restore(alert)
    (ended,) = after.on_clock(NOW + 1, WELL)
    assert (ended.name, ended.state, ended.labels, ended.changed_us) == ("Fall", "resolved", fired[0].labels, NOW + 1)
    assert ended.summary == "is no longer watched: the feed was changed"
    assert after.on_clock(NOW + 2, WELL) == []


def test_an_alert_that_was_over_before_its_rule_went_needs_no_end() -> None:
    before = Rules(feed(rule(measure="drawdown", above=0.05)))
    history = [
        alert for n, fall in enumerate((0.06, 0.01)) for alert in before.on_window(window(n, drawdown=fall), NOW)
    ]
    after = Rules(feed())
    for alert in history:
        after.restore(alert)
    assert after.on_clock(NOW + 1, WELL) == []


RULES = feed(
    rule(measure="drawdown", above=0.05, hysteresis=0.01, **{"for": "2s"}),
    rule(name="Flow", measure="orderFlowImbalance", below=-0.5, hysteresis=0.2),
    rule(name="Crash", pattern="flashCrash", window="5m"),
    rule(name="Wash", pattern="vRecovery", window="1m", **{"for": "1s"}, products=["ETH-USD"]),
)
EVENT = Callable[[Rules], list[Alert]]


def measure(least: float, most: float) -> st.SearchStrategy[float | None]:
    return st.none() | st.floats(least, most)


@st.composite
def events(draw: st.DrawFn) -> list[EVENT]:
    """Draw windows in the order of their ends, among ticks of the clock."""
    result: list[EVENT] = []
    seconds = 0.0
    for position in range(draw(st.integers(2, 20))):
        seconds += draw(st.sampled_from([0.0, 0.2, 0.5, 1.0, 3.0]))
        now_us = NOW + int(seconds * 1e6) + position
        if draw(st.integers(0, 4)) == 0:
            health = FeedHealth(
                now_us - draw(st.sampled_from([0, 61_000_000])), draw(st.sampled_from([None, 0, 2 * 10**6]))
            )
            result.append(lambda rules, now_us=now_us, health=health: rules.on_clock(now_us, health))  # type: ignore[misc]
            continue
        drawn = window(
            seconds,
            product=draw(st.sampled_from(["BTC-USD", "ETH-USD"])),
            size=draw(st.sampled_from(["1m", "5m"])),
            trades=draw(st.sampled_from([0, 10])),
            missing=draw(st.sampled_from([0, 0, 2])),
            drawdown=draw(measure(0.03, 0.07)),
            recovery=draw(measure(0.3, 0.7)),
            miniCrash=draw(measure(0, 0.02)),
            orderFlowImbalance=draw(measure(-1, 0)),
        )
        result.append(lambda rules, drawn=drawn, now_us=now_us: rules.on_window(drawn, now_us))  # type: ignore[misc]
    return result


@settings(deadline=None, max_examples=40)
@given(events=events(), data=st.data())
def test_a_restart_at_any_point_changes_no_later_alert(events: list[EVENT], data: st.DataObject) -> None:
    undisturbed = Rules(RULES)
    whole = [event(undisturbed) for event in events]
    cut = data.draw(st.integers(0, len(events)))
    restarted = Rules(RULES)
    for alert in (alert for alerts in whole[:cut] for alert in alerts):
        restarted.restore(alert)
    assert [event(restarted) for event in events[cut:]] == whole[cut:]


@settings(deadline=None, max_examples=40)
@given(events=events())
def test_the_last_message_alone_restores_an_alert(events: list[EVENT]) -> None:
    undisturbed = Rules(RULES)
    cut = len(events) // 2
    before = [alert for event in events[:cut] for alert in event(undisturbed)]
    restarted = Rules(RULES)
    for alert in {alert.fingerprint: alert for alert in before}.values():
        restarted.restore(alert)
    assert [event(restarted) for event in events[cut:]] == [event(undisturbed) for event in events[cut:]]


FOLLOWS = {
    None: {"pending", "firing"},
    "pending": {"inactive", "firing"},
    "inactive": {"pending", "firing"},
    "firing": {"resolved"},
    "resolved": {"pending", "firing"},
}


@settings(deadline=None, max_examples=40)
@given(events=events())
def test_states_follow_each_other_and_every_firing_has_its_own_start(events: list[EVENT]) -> None:
    rules = Rules(RULES)
    last: dict[str, Alert] = {}
    for event in events:
        for alert in event(rules):
            before = last.get(alert.fingerprint)
            assert alert.state in FOLLOWS[before.state if before else None]
            if alert.state == "resolved":
                assert before is not None
                assert alert.starts_us == before.starts_us
            last[alert.fingerprint] = alert
