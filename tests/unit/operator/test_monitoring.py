"""The alerts that Prometheus raises behind the monitor's: the same thresholds on the series that the monitor serves."""

from typing import Any

import pytest

from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired import desired_state
from tests.unit.operator.feeds import EVERYTHING, MSK, STRIMZI, changed


def rules(feed: CryptoFeed) -> dict[str, dict[str, Any]]:
    [found] = [child.manifest for child in desired_state(feed, EVERYTHING) if child.key.kind == "PrometheusRule"]
    return {rule["alert"]: rule for group in found["spec"]["groups"] for rule in group["rules"]}


def watching(**rule: Any) -> dict[str, Any]:
    """Return the rule that a feed's only alert becomes."""
    feed = changed(STRIMZI, alerts=[{"name": "Mine", "window": "1m", **rule}])
    return rules(feed)["Mine"]


def test_a_feed_s_rule_is_one_of_prometheus_with_its_labels_and_its_patience() -> None:
    found = watching(measure="drawdown", above=0.05, products=["BTC-USD", "ETH-USD"], labels={"team": "desk"})
    assert found["expr"] == (
        'fulltape_measure{feed="majors",window="1m",measure="drawdown",product=~"BTC-USD|ETH-USD",'
        'namespace="markets"} > 0.05'
    )
    assert found["labels"] == {
        "severity": "warning",
        "feed": "majors",
        "namespace": "markets",
        "team": "desk",
        "source": "prometheus",
    }
    assert "for" not in found
    assert watching(measure="drawdown", above=0.05, **{"for": "90s"})["for"] == "90s"
    assert watching(measure="trades", below=3)["expr"].endswith(" < 3.0")


def test_a_pattern_is_the_monitor_s_alone() -> None:
    assert "Mine" not in rules(changed(STRIMZI, alerts=[{"name": "Mine", "window": "1m", "pattern": "flashCrash"}]))


def test_a_window_is_named_as_the_monitor_names_it_however_the_rule_writes_it() -> None:
    assert 'window="1m"' in watching(measure="drawdown", above=0.05, window="60s")["expr"]


@pytest.mark.parametrize("threshold", [123456.78, 0.12345678])
def test_a_threshold_keeps_all_its_digits(threshold: float) -> None:
    written = watching(measure="vwap", above=threshold)["expr"].rpartition("> ")[2]
    assert float(written) == threshold


def test_a_feed_is_watched_for_what_it_has() -> None:
    watched = {"FulltapeProducerDown", "FulltapeTradesLost"}
    analytics = {"FulltapePanesDown", "FulltapeMonitorDown"}
    warehouse = {"FulltapeWarehouseBehind", "FulltapeWarehouseQuarantine"}

    def of(feed: CryptoFeed) -> set[str]:
        return {name for name in rules(feed) if name.startswith("Fulltape")}

    assert of(MSK) == watched | analytics | warehouse
    assert of(STRIMZI) == watched | analytics
    bare = STRIMZI.to_dict()
    for field in ("analytics", "alerts", "alertmanagers", "warehouse"):
        bare["spec"].pop(field, None)
    assert of(CryptoFeed.model_validate(bare)) == watched
