"""What prometheus-operator is told of a feed: where its metrics are, and alerts behind the live ones.

The monitor raises a feed's alerts within tens of milliseconds. These rules are the second path: they see the same
measures as Prometheus scrapes them, and what the monitor can't see, such as its own absence.
"""

from typing import Any

from fulltape.feed.model import AlertRule, CryptoFeed
from fulltape_operator.desired.child import Child, Manifest, Stage, manifest, selector
from fulltape_operator.desired.pods import scrape_endpoint
from fulltape_operator.desired.programs import has_database
from fulltape_operator.platform import Platform

_API = "monitoring.coreos.com/v1"
_SCRAPE_SECONDS = 15
_BEHIND_SECONDS = 900


def monitoring_children(feed: CryptoFeed, platform: Platform) -> list[Child]:
    """Return the PodMonitor and the PrometheusRule, where the cluster has prometheus-operator."""
    found = []
    if platform.pod_monitors:
        found.append(_pod_monitor(feed, platform))
    if platform.prometheus_rules:
        found.append(_rules(feed, platform))
    return [Child(Stage.SERVING, one) for one in found]


def _pod_monitor(feed: CryptoFeed, platform: Platform) -> Manifest:
    return manifest(
        _API,
        "PodMonitor",
        feed,
        "feed",
        extra_labels=platform.monitoring_labels,
        spec={
            "selector": {"matchLabels": selector(feed)},
            "podMetricsEndpoints": [{**scrape_endpoint(), "interval": f"{_SCRAPE_SECONDS}s"}],
            "podTargetLabels": ["fulltape.dev/feed", "app.kubernetes.io/component"],
        },
    )


def _rules(feed: CryptoFeed, platform: Platform) -> Manifest:
    rules = [_down(feed, "producer", "trades are fetched later from the exchange's history, but nothing is live")]
    rules.append(
        _rule(
            feed,
            "FulltapeTradesLost",
            f"increase(fulltape_missing_total{_where(feed, 'producer')}[15m]) > 0",
            "critical",
            "trades that the exchange does not have any more were written off; the tape says which, as gap records",
        )
    )
    if feed.spec.analytics is not None:
        rules += [_down(feed, "panes", "there are no new windows"), _down(feed, "monitor", "there are no live alerts")]
        rules += [_threshold(feed, rule) for rule in feed.spec.alerts if rule.measure is not None]
    if has_database(feed):
        rules += [
            _rule(
                feed,
                "FulltapeWarehouseBehind",
                f"fulltape_warehouse_newest_age_seconds{_where(feed, 'warehouse')} > {_BEHIND_SECONDS} "
                f"and fulltape_warehouse_pending_batches{_where(feed, 'warehouse')} > 0",
                "warning",
                "batches wait to be loaded; see the loader's log",
            ),
            _rule(
                feed,
                "FulltapeWarehouseQuarantine",
                f"fulltape_warehouse_quarantined_batches{_where(feed, 'warehouse')} > 0",
                "warning",
                "batches could not be loaded and were set aside; `fulltape warehouse quarantine` says why",
            ),
        ]
    return manifest(
        _API,
        "PrometheusRule",
        feed,
        "feed",
        extra_labels=platform.monitoring_labels,
        spec={"groups": [{"name": f"{feed.metadata.namespace}-{feed.metadata.name}", "rules": rules}]},
    )


def _threshold(feed: CryptoFeed, rule: AlertRule) -> dict[str, Any]:
    """Return a feed's own rule on a measure as Prometheus sees it; patterns are the monitor's alone."""
    assert rule.measure is not None  # asked of such rules alone
    assert feed.spec.analytics is not None  # the model wants it with alerts
    comparison = f"> {rule.above!r}" if rule.above is not None else f"< {rule.below!r}"
    # The monitor names windows as the feed lists them: a rule on 60s is one on 1m.
    window = next(window for window in feed.spec.analytics.windows if window == rule.window)
    products = "" if rule.products is None else f',product=~"{"|".join(rule.products)}"'
    matchers = f'feed="{feed.metadata.name}",window="{window}",measure="{rule.measure}"{products}'
    namespace = f'namespace="{feed.metadata.namespace}"'
    found = _rule(
        feed,
        rule.name,
        f"fulltape_measure{{{matchers},{namespace}}} {comparison}",
        rule.severity,
        f"{rule.measure} over {rule.window} is {comparison}, as Prometheus sees it",
    )
    found["labels"] |= {**rule.labels, "source": "prometheus"}
    found["annotations"] |= rule.annotations
    if rule.held_for.us:
        found["for"] = f"{max(1, round(rule.held_for.seconds))}s"
    return found


def _down(feed: CryptoFeed, component: str, consequence: str) -> dict[str, Any]:
    name = f"Fulltape{component.capitalize()}Down"
    return {
        **_rule(
            feed, name, f"absent(up{_where(feed, component)} == 1)", "critical", f"no {component} runs: {consequence}"
        ),
        "for": "2m",
    }


def _rule(feed: CryptoFeed, name: str, expression: str, severity: str, description: str) -> dict[str, Any]:
    return {
        "alert": name,
        "expr": expression,
        "labels": {"severity": severity, "feed": feed.metadata.name, "namespace": feed.metadata.namespace},
        "annotations": {
            "summary": f"{feed.metadata.namespace}/{feed.metadata.name}: {name}",
            "description": description,
        },
    }


def _where(feed: CryptoFeed, component: str) -> str:
    """Return the matchers of a component's metrics, by the labels that its PodMonitor sets."""
    return (
        f'{{namespace="{feed.metadata.namespace}",fulltape_dev_feed="{feed.metadata.name}",'
        f'app_kubernetes_io_component="{component}"}}'
    )
