"""The state of every alert of a feed, and when it changes: pure, driven by windows and by the clock.

An alert is quiet, pending (its condition holds, but not yet for long enough), firing, and quiet again once resolved.
Each change is one `Alert` message, and the last message of each alert is all that its state consists of: rules that are
given those back by `Rules.restore` go on exactly as if they had never stopped.

Time is the exchange's, so that a replay of a day raises what the day itself raised. A window's time is that of its
newest trade or, where the window has slid on since, the moment at which it last did. Only the alerts on the whole feed,
which ask whether anything comes at all, follow the machine's clock.

What a window does not determine neither raises nor resolves anything: a pending alert starts anew, a firing one stays
until its measure is known again or the window holds no trade at all.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec

from fulltape.feed.model import AlertRule, CryptoFeed
from fulltape.feed.patterns import PATTERNS
from fulltape.measures.names import MEASURES
from fulltape.messages import Alert, Window

Severity = Literal["info", "warning", "critical"]
Values = Mapping[str, float | None]

STALE_SECONDS, STALE_RELEASE_SECONDS = 60.0, 5.0
LATENCY_SECONDS, LATENCY_RELEASE_SECONDS = 1.0, 0.8
LATENCY_FOR_US = 120_000_000
"""Longer than the minute that the percentile looks back, so that a restart by itself is not reported."""
MISSING_FOR_US = 5_000_000
"""Panes of one product may overtake each other; what is missing only until then is not missing."""

_PATTERN_HYSTERESIS = 0.2
"""How far a pattern's measures must come back, as a share of each threshold."""

_QUIET, _PENDING, _FIRING = range(3)

_PERCENT = frozenset(
    {
        "realizedVolatility",
        "annualizedVolatility",
        "jumpRatio",
        "parkinson",
        "garmanKlass",
        "rogersSatchell",
        "ewmaVolatility",
        "drawdown",
        "runUp",
        "vwapDeviation",
        "spread",
        "recovery",
        "miniCrash",
        "largestReturn",
        "roundSizeShare",
    }
)
"""Measures that people read in per cent."""
_UNITS = {"staleness": " s", "sinceTrade": " s", "latency": " s"}


class FeedHealth(msgspec.Struct, frozen=True, gc=False):
    """What the monitor knows of the feed as a whole, by its machine's clock."""

    received_us: int
    """When the newest trade of any product was received; when the monitor started, where there is none."""
    latency_p99_us: int | None
    """99th percentile of `published_us` less `received_us` over the windows published in the last minute; None where
    none was."""


@dataclass(frozen=True, slots=True)
class _Bound:
    """A measure held against its threshold; while the alert fires, against ``release``."""

    measure: str
    threshold: float
    release: float
    below: bool = False

    def crossed(self, values: Values, *, firing: bool) -> bool | None:
        value = values.get(self.measure)
        if value is None:
            return None
        bound = self.release if firing else self.threshold
        return value < bound if self.below else value > bound


_Cases = tuple[tuple[_Bound, ...], ...]


@dataclass(slots=True)
class _Watch:
    """One alert: what it watches, what it says of itself, and its state."""

    name: str
    product: str | None
    window: str | None
    cases: _Cases
    held_us: int
    severity: Severity
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    pattern: str = ""
    state: int = _QUIET
    since_us: int = 0
    starts_us: int | None = None

    @property
    def fingerprint(self) -> str:
        return "/".join(part for part in (self.name, self.product, self.window) if part)


@dataclass(frozen=True, slots=True)
class _Moment:
    """When and upon what an alert is looked at."""

    time_us: int
    """Event time: the exchange's for a product, the machine's for the whole feed."""
    trade_us: int | None
    now_us: int
    empty: bool
    """Whether there is nothing that an alert could still be about: a window without trades."""


class Rules:
    """All alerts of a feed. It sees each product's newest window of each size, in the order of their ends."""

    def __init__(self, feed: CryptoFeed) -> None:
        analytics = feed.spec.analytics
        windows = analytics.windows if analytics else ()
        shortest = min(windows, key=lambda window: window.us, default=None)
        self._slide_us = analytics.slide.us if analytics else 0
        self._watches: dict[tuple[str, str], list[_Watch]] = {}
        self._missing: dict[tuple[str, str], _Watch] = {}
        common = {"feed": feed.metadata.name, "namespace": feed.metadata.namespace}
        for product in feed.spec.products:
            for rule in feed.spec.alerts:
                if rule.products is None or product in rule.products:
                    window = next(str(window) for window in windows if window == rule.window)  # as the messages say it
                    self._watches.setdefault((product, window), []).append(_watch(rule, product, window, common))
            if shortest is not None:
                self._missing[product, str(shortest)] = _built_in(
                    "TradesMissing",
                    _bound("missingTrades", 0, 0),
                    common,
                    where=(product, str(shortest)),
                    held_us=min(MISSING_FOR_US, shortest.us // 2),
                    severity="critical",
                    description="the tape holds a gap: trades of the exchange that could not be had from it",
                )
        self._stale = _built_in(
            "FeedStale",
            _Bound("sinceTrade", STALE_SECONDS, STALE_RELEASE_SECONDS),
            common,
            severity="critical",
            description="no trade of any product arrives: the exchange, the producer or the panes have stopped",
        )
        self._late = _built_in(
            "LatencyOverBudget",
            _Bound("latency", LATENCY_SECONDS, LATENCY_RELEASE_SECONDS),
            common,
            held_us=LATENCY_FOR_US,
            severity="warning",
            description="99th percentile, over a minute, of the time from a trade's arrival to its windows",
        )
        self._by_fingerprint = {watch.fingerprint: watch for watch in self._all()}
        self._unwatched: dict[str, Alert] = {}
        """Alerts that were pending or firing at the last stop, and that this feed no longer has."""

    def on_window(self, window: Window, now_us: int) -> list[Alert]:
        """Return the changes that a product's newest window brings; ``now_us`` is the machine's clock."""
        key = (window.product, window.window)
        alerts: list[Alert] = []
        for watch in self._watches.get(key, ()):
            holds = _holds(watch, window.measures)
            if holds or watch.state:
                alerts += _step(watch, window.measures, self._moment(window, now_us), holds=holds)
        gap = self._missing.get(key)
        if gap is not None and (window.missing or gap.state):
            missing = {"missingTrades": float(window.missing)}
            alerts += _step(gap, missing, self._moment(window, now_us), holds=window.missing > 0)
        return alerts

    def on_clock(self, now_us: int, health: FeedHealth) -> list[Alert]:
        """Return the changes in what concerns the whole feed; called about once a second."""
        moment = _Moment(now_us, None, now_us, empty=health.latency_p99_us is None)
        stale = {"sinceTrade": (now_us - health.received_us) / 1e6}
        latency = {"latency": None if health.latency_p99_us is None else health.latency_p99_us / 1e6}
        alerts = [
            *_step(self._stale, stale, moment, holds=_holds(self._stale, stale)),
            *_step(self._late, latency, moment, holds=_holds(self._late, latency)),
            *(_dropped(alert, now_us) for alert in self._unwatched.values()),
        ]
        self._unwatched.clear()
        return alerts

    def restore(self, alert: Alert) -> None:
        """Take up the state that an alert's last message tells of; earlier messages of it may come before.

        What the feed no longer has is resolved by the next `on_clock`.
        """
        if watch := self._by_fingerprint.get(alert.fingerprint):
            watch.state = {"pending": _PENDING, "firing": _FIRING}.get(alert.state, _QUIET)
            watch.since_us, watch.starts_us = alert.since_us, alert.starts_us
        elif alert.state in {"pending", "firing"}:
            self._unwatched[alert.fingerprint] = alert
        else:
            self._unwatched.pop(alert.fingerprint, None)

    def _moment(self, window: Window, now_us: int) -> _Moment:
        slid_us = window.end_us - self._slide_us
        if window.trade_us >= slid_us:
            return _Moment(window.trade_us, window.trade_us, now_us, empty=not window.trades)
        return _Moment(slid_us, None, now_us, empty=not window.trades)

    def _all(self) -> Iterator[_Watch]:
        for watches in self._watches.values():
            yield from watches
        yield from self._missing.values()
        yield self._stale
        yield self._late


def _watch(rule: AlertRule, product: str, window: str, common: Mapping[str, str]) -> _Watch:
    if rule.pattern is not None:
        pattern = PATTERNS[rule.pattern]
        thresholds = {**pattern.thresholds, **rule.thresholds}
        cases: _Cases = tuple(
            tuple(
                _bound(
                    condition.measure,
                    thresholds[condition.threshold],
                    abs(thresholds[condition.threshold]) * _PATTERN_HYSTERESIS,
                    below=condition.below,
                )
                for condition in case
            )
            for case in pattern.cases
        )
        description = pattern.description
    else:
        assert rule.measure is not None  # the feed has one of the two
        threshold = rule.above if rule.above is not None else rule.below
        assert threshold is not None  # as a measure has one of these two
        cases = ((_bound(rule.measure, threshold, rule.hysteresis, below=rule.above is None),),)
        description = MEASURES[rule.measure].description
    return _Watch(
        rule.name,
        product,
        window,
        cases,
        rule.held_for.us,
        rule.severity,
        _labels(rule.name, (product, window), rule.severity, {**rule.labels, **common}),
        {"description": description, **rule.annotations},
        rule.pattern or "",
    )


def _bound(measure: str, threshold: float, hysteresis: float, *, below: bool = False) -> _Bound:
    return _Bound(measure, threshold, threshold + hysteresis if below else threshold - hysteresis, below)


def _built_in(
    name: str,
    bound: _Bound,
    common: Mapping[str, str],
    *,
    severity: Severity,
    description: str,
    where: tuple[str, str] | None = None,
    held_us: int = 0,
) -> _Watch:
    product, window = where or (None, None)
    labels = _labels(name, where, severity, common)
    return _Watch(name, product, window, ((bound,),), held_us, severity, labels, {"description": description})


def _labels(
    name: str, where: tuple[str, str] | None, severity: Severity, further: Mapping[str, str]
) -> Mapping[str, str]:
    place = {"product": where[0], "window": where[1]} if where else {}
    return {**further, "alertname": name, **place, "severity": severity}


def _holds(watch: _Watch, values: Values) -> bool | None:
    """Tell whether any case of an alert holds; None where that hangs on a measure that is not known."""
    firing = watch.state == _FIRING
    result: bool | None = False
    for case in watch.cases:
        holds: bool | None = True
        for bound in case:
            crossed = bound.crossed(values, firing=firing)
            if crossed is False:
                holds = False
                break
            if crossed is None:
                holds = None
        if holds:
            return True
        if holds is None:
            result = None
    return result


def _step(watch: _Watch, values: Values, moment: _Moment, *, holds: bool | None) -> Iterator[Alert]:
    """Move an alert on, and yield the change if that is one."""
    if watch.state == _FIRING:
        if holds is False or (holds is None and moment.empty):
            said = _sentence(watch, values, calm=True)
            watch.state = _QUIET
            yield _alert(watch, "resolved", values, moment, said)
    elif holds:
        if watch.state == _QUIET:
            watch.since_us, watch.starts_us = moment.time_us, None
        if moment.time_us - watch.since_us >= watch.held_us:
            said = _sentence(watch, values)
            watch.state, watch.starts_us = _FIRING, moment.time_us
            yield _alert(watch, "firing", values, moment, said)
        elif watch.state == _QUIET:
            watch.state = _PENDING
            yield _alert(watch, "pending", values, moment, _sentence(watch, values))
    elif watch.state == _PENDING:
        watch.state = _QUIET
        yield _alert(watch, "inactive", values, moment, _sentence(watch, values, calm=True))


def _alert(
    watch: _Watch,
    state: Literal["pending", "inactive", "firing", "resolved"],
    values: Values,
    moment: _Moment,
    summary: str,
) -> Alert:
    annotations = {"summary": summary, **watch.annotations, "since": _iso(watch.since_us)}
    if watch.starts_us is not None:
        annotations["fired"] = _iso(watch.starts_us)
    if state == "resolved":
        annotations["resolved"] = _iso(moment.time_us)
    return Alert(
        name=watch.name,
        fingerprint=watch.fingerprint,
        state=state,
        product=watch.product,
        window=watch.window,
        severity=watch.severity,
        summary=summary,
        values=dict(_known(watch, values)),
        labels=dict(watch.labels),
        annotations=annotations,
        since_us=watch.since_us,
        starts_us=watch.starts_us,
        ends_us=moment.time_us if state == "resolved" else None,
        trade_us=moment.trade_us,
        changed_us=moment.now_us,
    )


def _dropped(alert: Alert, now_us: int) -> Alert:
    """End an alert that the feed no longer has."""
    summary = "is no longer watched: the feed was changed"
    firing = alert.state == "firing"
    return msgspec.structs.replace(
        alert,
        state="resolved" if firing else "inactive",
        summary=summary,
        annotations={**alert.annotations, "summary": summary},
        ends_us=now_us if firing else None,
        trade_us=None,
        changed_us=now_us,
    )


def _known(watch: _Watch, values: Values) -> Iterator[tuple[str, float]]:
    """Yield the measures that an alert watches, each once, as far as they are known."""
    for measure in dict.fromkeys(bound.measure for case in watch.cases for bound in case):
        if (value := values.get(measure)) is not None:
            yield measure, value


def _sentence(watch: _Watch, values: Values, *, calm: bool = False) -> str:
    """Say with the numbers why an alert changes: what is crossed, or for each case what is not."""
    firing = watch.state == _FIRING
    if calm:
        bounds = [next(bound for bound in case if not bound.crossed(values, firing=firing)) for case in watch.cases]
    else:
        bounds = list(next(c for c in watch.cases if all(bound.crossed(values, firing=firing) for bound in c)))
    over = f" over {watch.window}" if watch.window else ""
    said = [f"{bound.measure}{over} {_comparison(bound, values, firing=firing)}" for bound in dict.fromkeys(bounds)]
    return (f"{watch.pattern}: " if watch.pattern else "") + " and ".join(said)


def _comparison(bound: _Bound, values: Values, *, firing: bool) -> str:
    """Write a measure's value beside its limit, with as many digits as tell the two apart, three at least."""
    value = values.get(bound.measure)
    if value is None:
        return "is unknown"
    factor, unit = (100, " %") if bound.measure in _PERCENT else (1, _UNITS.get(bound.measure, ""))
    limit = bound.release if firing else bound.threshold
    limit_shown = _number(limit * factor, 6)
    shown = next((text for digits in (3, 6, 9) if (text := _number(value * factor, digits)) != limit_shown), None)
    side = "below" if bound.below else "above"
    crossed = "" if bound.crossed(values, firing=firing) else "not "
    return f"is {shown or value * factor}{unit}, {crossed}{side} {limit_shown}{unit}"


def _number(value: float, digits: int) -> str:
    """Write a number with at least so many significant digits, and none that say nothing."""
    if value and not 1e-6 <= abs(value) < 1e15:
        return f"{value:.{digits}g}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _iso(time_us: int) -> str:
    return datetime.fromtimestamp(time_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
