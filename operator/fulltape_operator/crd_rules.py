"""The feed's rules across fields once more, as the API server checks them: in CEL, with the model's own words.

`fulltape.feed.model` is the first place of each rule; what both accept and refuse is held together by tests. CEL knows
no variables and is charged for each step, so the rules are written for cost: a look into a map costs one step, a look
into a list as many as it is long.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from fulltape.feed.duration import PATTERN, Duration
from fulltape.feed.model import ALERT_LABELS, BUILT_IN_ALERTS, FeedName, Shape
from fulltape.feed.patterns import PATTERNS
from fulltape.measures.names import MEASURES


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One validation of the API server.

    Args:
        holds: the CEL expression that is true where all is well.
        message: what is said otherwise.
        expression: a CEL expression of what is said, where it depends on values; `message` steps in if it fails.
        field: the field at fault, relative to the rule's place, such as ``.below``; the place itself if left out.

    """

    holds: str
    message: str
    expression: str = ""
    field: str = ""

    def to_dict(self) -> dict[str, str]:
        """Return it as an item of ``x-kubernetes-validations``."""
        written = {
            "rule": self.holds,
            "message": self.message,
            "messageExpression": self.expression,
            "fieldPath": self.field,
        }
        return {key: value for key, value in written.items() if value}


def text(value: str) -> str:
    """Return a CEL literal."""
    return json.dumps(value, ensure_ascii=False)


def said(template: str, *values: str) -> str:
    """Return the CEL expression of a sentence with values in the places of ``%s``.

    The cost of joining texts by ``+`` counts by their greatest length, and is unbounded for numbers and lists.
    """
    return f"{text(template)}.format([{', '.join(values)}])"


def milliseconds(duration: str) -> str:
    """Return the CEL expression for the length of a duration; 0 for a text that is none, which its own rule refuses.

    CEL's own durations know no days.
    """
    *others, (_, days) = ((unit, Duration(f"1{unit}").us // 1000) for unit in ("ms", "s", "m", "h", "d"))
    factor = "".join(f"{duration}.endsWith('{unit}') ? {length} : " for unit, length in others)
    return f"({duration}.matches('{PATTERN}') ? int({duration}.find('^[0-9]+')) * ({factor}{days}) : 0)"


def of_text(schema: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of a text by its own schema: the pattern once more, since the API server can't say a mend."""
    rules = []
    if "x-mend" in schema:
        rules.append(Rule(holds=f"self.matches({text(schema['pattern'])})", message=schema["x-mend"]))
    if "x-minimum" in schema:
        least, most = schema["x-minimum"], schema["x-maximum"]
        bounds = f"{_length(least)} <= {milliseconds('self')} && {milliseconds('self')} <= {_length(most)}"
        rules.append(
            Rule(
                holds=f"!self.matches('{PATTERN}') || ({bounds})",
                message=f"is out of bounds; write {least} to {most}",
            )
        )
    return rules


def of_keys(schema: Mapping[str, Any]) -> list[Rule]:
    """Return the rules of a map's keys, which the API server's schemas don't describe."""
    if "x-keys" not in schema:
        return []
    keys = schema["x-keys"]
    good = f"size(key) <= {keys['maxLength']} && key.matches({text(keys['pattern'])})"
    return [
        Rule(
            holds=f"self.all(key, {good})",
            message=f"a key {keys['x-mend']}, at most {keys['maxLength']} characters",
            expression=said(f"%s {keys['x-mend']}", f"self.filter(key, !({good}))[0]"),
        )
    ]


def _length(duration: str) -> int:
    return Duration(duration).us // 1000


def _texts(values: Sequence[str]) -> str:
    return f"[{', '.join(map(text, values))}]"


def _map(values: Mapping[str, str]) -> str:
    """Return the CEL literal of a map from texts to expressions."""
    return f"{{{', '.join(f'{text(key)}: {value}' for key, value in values.items())}}}"


def _shape(annotated: Any) -> Shape:
    return next(one for one in get_args(annotated) if isinstance(one, Shape))


_NAME = _shape(FeedName)


def _prefix(feed: str) -> str:
    topics = f"{feed}.spec.kafka.topics"
    return f"(has({topics}.prefix) ? {topics}.prefix : {feed}.metadata.name)"


_OBJECT = (
    Rule(
        holds=f"size(self.metadata.name) <= {_NAME.most_characters} && "
        f"self.metadata.name.matches({text(_NAME.pattern)})",
        message=f"{_NAME.mend}; at most {_NAME.most_characters} characters",
        field=".metadata.name",
    ),
    Rule(
        holds=f"{_prefix('self')} == {_prefix('oldSelf')}",
        message="the prefix can't change: the feed would begin a new tape beside its old one; write the old one, or "
        "create another feed",
        expression=said(
            "the prefix can't change: the feed would begin a new tape beside its old one; write %s, or create another "
            "feed",
            _prefix("oldSelf"),
        ),
        field=".spec.kafka.topics.prefix",
    ),
)

_PARTITIONS = (
    Rule(
        holds="self == oldSelf",
        message="partitions can't change: products would move to other partitions, and their trades out of order; "
        "write the old number, or create another feed",
        expression=said(
            "partitions can't change: products would move to other partitions, and their trades out of order; write "
            "%s, or create another feed",
            "oldSelf",
        ),
    ),
)

_EXCHANGE = (
    Rule(
        holds="self == oldSelf",
        message="the exchange can't change: its trades would continue another's tape; create another feed",
    ),
)

_CHANNELS = (Rule(holds="'matches' in self", message="matches is missing, and the tape is made of it; add it"),)

_START = (
    Rule(
        holds="!has(self.since) || !has(self.tradeIds)",
        message="since and tradeIds exclude each other; keep one",
        field=".tradeIds",
    ),
)

_KAFKA = (
    Rule(
        holds="has(self.strimziCluster) || has(self.bootstrapServers)",
        message="no Kafka is named; add strimziCluster: {name: ...} or bootstrapServers: host:port",
    ),
    Rule(
        holds="!has(self.strimziCluster) || !has(self.bootstrapServers)",
        message="strimziCluster and bootstrapServers exclude each other; keep one",
        field=".bootstrapServers",
    ),
    Rule(
        holds="has(self.strimziCluster) || !has(self.topicManagement) || self.topicManagement != 'Strimzi'",
        message="Strimzi manages topics of a strimziCluster only; write Admin or leave it out",
        field=".topicManagement",
    ),
    Rule(
        holds="has(self.strimziCluster) || self.authentication.type == 'none' || has(self.authentication.secretRef)",
        message="authentication with bootstrapServers needs the Secret with the credentials; add secretRef: {name: "
        "...}",
        expression=said(
            "%s with bootstrapServers needs the Secret with the credentials; add secretRef: {name: ...}",
            "self.authentication.type",
        ),
        field=".authentication",
    ),
)

_AUTHENTICATION = (
    Rule(
        holds="self.type != 'none' || !has(self.secretRef)",
        message="type is none, which reads no Secret; set type or remove secretRef",
        field=".secretRef",
    ),
)

_CHECKPOINT = (
    Rule(
        holds="!has(self.volume) || !has(self.uri)",
        message="volume and uri exclude each other; keep one",
        field=".uri",
    ),
)

_MULTIPLE = f"{milliseconds('self.slide')} == 0 || {milliseconds('window')} % {milliseconds('self.slide')} == 0"
_ALONE = f"{milliseconds('window')} == 0 || self.exists_one(other, {milliseconds('other')} == {milliseconds('window')})"

_ANALYTICS = (
    Rule(
        holds=f"self.windows.all(window, {_MULTIPLE})",
        message="a window is not a multiple of slide; change one of the two",
        expression=said(
            "%s is not a multiple of slide (%s); change one of the two",
            f"self.windows.filter(window, !({_MULTIPLE}))[0]",
            "self.slide",
        ),
        field=".windows",
    ),
)

_WINDOWS = (
    Rule(
        holds=f"self.all(window, {_ALONE})",
        message="two windows have the same length; remove one",
        expression=said("%s have the same length; keep one", f"self.filter(window, !({_ALONE}))"),
    ),
)

_SLIDE = (
    Rule(
        holds=f"{milliseconds('self')} % 1000 == 0",
        message="is not whole seconds; write 1s, 2s, ...",
    ),
)

_DASHBOARD = (
    Rule(
        holds="has(self.ingress) || has(self.httpRoute)",
        message="no way to the page is named; add ingress: {host: ...} or httpRoute",
    ),
    Rule(
        holds="!has(self.ingress) || !has(self.httpRoute)",
        message="ingress and httpRoute exclude each other; keep one",
        field=".httpRoute",
    ),
)

# "namespace" is a word of CEL's own, and a field of that name is written so.
_SAME_GATEWAY = (
    "one.name == other.name && has(one.__namespace__) == has(other.__namespace__) && "
    "(!has(one.__namespace__) || one.__namespace__ == other.__namespace__)"
)
_SAME_LISTENER = "(!has(one.sectionName) || !has(other.sectionName) || one.sectionName == other.sectionName)"

_PARENT_REFS = (
    Rule(
        holds=f"self.all(one, self.exists_one(other, {_SAME_GATEWAY} && {_SAME_LISTENER}))",
        message="a Gateway is named twice; name another listener in each by sectionName, or remove one",
    ),
)

_WAREHOUSE = (
    Rule(
        holds="!has(self.redshift) || has(self.staging)",
        message="Redshift loads from S3; add staging: {uri: s3://bucket/prefix, iamRole: arn}",
        field=".redshift",
    ),
    Rule(
        holds="!has(self.staging) || has(self.redshift)",
        message="only Redshift uses staging; add redshift or remove staging",
        field=".staging",
    ),
)

_ALERT_NAME = (
    Rule(
        holds=f"!(self in {_texts(BUILT_IN_ALERTS)})",
        message=f"is built in, as are {', '.join(BUILT_IN_ALERTS)}; choose another name",
    ),
)

_OWN = f"key in {_texts(ALERT_LABELS)}"

_LABELS = (
    Rule(
        holds=f"!self.exists(key, {_OWN})",
        message=f"a label is set by the monitor, as are {', '.join(ALERT_LABELS)}; choose another name",
        expression=said(
            f"%s is set by the monitor, as are {', '.join(ALERT_LABELS)}; choose another name",
            f"self.filter(key, {_OWN})[0]",
        ),
    ),
)


def _of_measures(field: str, bounds: Mapping[str, float], holds: str, word: str) -> Rule:
    """Return the rule that a measure can cross its threshold; ``holds`` compares the two."""
    limits = _map({name: repr(float(bound)) for name, bound in bounds.items()})
    hints = _map({name: text(_unreachable(name, word, bound)) for name, bound in bounds.items()})
    return Rule(
        holds=f"!has(self.measure) || !has(self.{field}) || !(self.measure in {limits}) || "
        f"self.{field} {holds} {limits}[self.measure]",
        message="never fires; the measure never gets there",
        expression=f"{hints}[self.measure]",
        field=f".{field}",
    )


def _unreachable(measure: str, word: str, bound: float) -> str:
    return f"never fires; {measure} is {word} {bound:g} ({MEASURES[measure].description})"


_MOST = {name: measure.most for name, measure in MEASURES.items() if math.isfinite(measure.most)}
_LEAST = {name: measure.least for name, measure in MEASURES.items() if math.isfinite(measure.least)}
_THRESHOLDS = _map({name: text(", ".join(pattern.thresholds)) for name, pattern in PATTERNS.items()})


def _not_with_pattern(field: str, absent: str) -> Rule:
    return Rule(
        holds=f"!has(self.pattern) || {absent}",
        message="belongs to a rule with measure; write thresholds",
        expression=said(
            "belongs to a rule with measure; %s has thresholds: %s", "self.pattern", f"{_THRESHOLDS}[self.pattern]"
        ),
        field=f".{field}",
    )


def _of_patterns() -> Iterator[Rule]:
    """Yield the rules of the thresholds that each pattern has."""
    for name, pattern in PATTERNS.items():
        other = f"has(self.pattern) && self.pattern == '{name}'"
        yield Rule(
            holds=f"!({other}) || self.thresholds.all(key, key in {_texts(list(pattern.thresholds))})",
            message=f"{name} has the thresholds {', '.join(pattern.thresholds)} and no other; remove the others",
            field=".thresholds",
        )
        reached = {
            (
                condition.threshold,
                f"self.thresholds[{text(condition.threshold)}] {'>' if condition.below else '<'} {float(bound)!r}",
                _unreachable(condition.measure, "at least" if condition.below else "at most", bound),
            )
            for case in pattern.cases
            for condition in case
            for bound in [(_LEAST if condition.below else _MOST).get(condition.measure)]
            if bound is not None
        }
        for threshold, holds, message in sorted(reached):
            yield Rule(
                holds=f"!({other}) || !({text(threshold)} in self.thresholds) || {holds}",
                message=message,
                field=f".thresholds['{threshold}']",
            )


_ALERT = (
    Rule(
        holds="has(self.measure) || has(self.pattern)",
        message="the rule watches nothing; add measure, with above or below, or pattern",
    ),
    Rule(
        holds="!has(self.measure) || !has(self.pattern)",
        message="measure and pattern exclude each other; keep one, or write two rules",
        field=".pattern",
    ),
    Rule(
        holds="!has(self.measure) || has(self.pattern) || size(self.thresholds) == 0",
        message="belongs to a rule with pattern; write above or below",
        field=".thresholds",
    ),
    Rule(
        holds="!has(self.measure) || has(self.pattern) || has(self.above) || has(self.below) || "
        "size(self.thresholds) > 0",
        message="the rule has no threshold; add above or below",
    ),
    Rule(
        holds="!has(self.measure) || !has(self.above) || !has(self.below)",
        message="above and below exclude each other; keep one, or write two rules",
        field=".below",
    ),
    _of_measures("above", _MOST, "<", "at most"),
    _of_measures("below", _LEAST, ">", "at least"),
    _not_with_pattern("above", "!has(self.above)"),
    _not_with_pattern("below", "!has(self.below)"),
    _not_with_pattern("hysteresis", "self.hysteresis == 0.0"),
    *_of_patterns(),
)

_ALERTS = "!has(self.analytics) || self.alerts"
_WINDOW = f"self.analytics.windows.exists(window, {milliseconds('window')} == {milliseconds('alert.window')})"
_NO_TICKER = (
    f"has(alert.measure) && alert.measure in "
    f"{_texts([name for name, measure in MEASURES.items() if measure.needs_ticker])}"
)
_REPEATED = "self.products.exists(product, !self.products.exists_one(other, other == product))"
"""Of such products no map can be made; that they stand twice is said by the list's own type."""
_UNKNOWN = "has(alert.products) && alert.products.exists(product, !(product in known))"
_START_KEYS = "self.producer.start.tradeIds"


def _first_alert(at_fault: str, what: str, value: str) -> str:
    """Return the CEL expression that names the first rule at fault, and what of it is."""
    return f"self.alerts.filter(alert, {at_fault}).map(alert, {said(f'%s: {what} %s', 'alert.name', value)})[0]"


def _with_known(expression: str) -> str:
    """Return a CEL expression in which ``known`` is a map of the products: 50 rules may name 200 products of 200."""
    return f"[self.products.transformMapEntry(at, product, {{product: at}})].map(known, {expression})[0]"


def _need_analytics(field: str) -> Rule:
    return Rule(
        holds=f"has(self.analytics) || size(self.{field}) == 0",
        message="alerts watch windows, and there is no analytics; add analytics: {}",
        field=f".{field}",
    )


_SPEC = (
    Rule(
        holds="self.producer.replicas <= size(self.products) || size(self.products) == 0",
        message="there are more producers than products; write as many or less",
        expression=said(
            "%s producers can't share %s product(s); write %s or less",
            "self.producer.replicas",
            "size(self.products)",
            "size(self.products)",
        ),
        field=".producer.replicas",
    ),
    Rule(
        holds=f"!has({_START_KEYS}) || {_START_KEYS}.all(product, product in self.products)",
        message="a product is not one of spec.products; add it there or remove it here",
        expression=said(
            "%s is not one of spec.products; add it there or remove it here",
            f"{_START_KEYS}.filter(product, !(product in self.products))[0]",
        ),
        field=f".{_START_KEYS.removeprefix('self.')}",
    ),
    Rule(
        holds="has(self.analytics) || !has(self.dashboard)",
        message="the page shows windows, and there is no analytics; add analytics: {}",
        field=".dashboard",
    ),
    _need_analytics("alerts"),
    _need_analytics("alertmanagers"),
    Rule(
        holds=f"{_ALERTS}.all(alert, {_WINDOW}) || size(self.analytics.windows) == 0",
        message="a rule's window is not one of spec.analytics.windows; add it there or write one of them",
        expression=said(
            "%s is not one of spec.analytics.windows (%s); add it there or write one of them",
            _first_alert(f"!({_WINDOW})", "window", "alert.window"),
            "self.analytics.windows.join(', ')",
        ),
        field=".alerts",
    ),
    Rule(
        holds=f"'ticker' in self.channels || {_ALERTS}.all(alert, !({_NO_TICKER}))",
        message="a rule's measure is computed from the ticker, which is not recorded; add ticker to spec.channels",
        expression=said(
            "%s is computed from the ticker, which is not recorded; add ticker to spec.channels",
            _first_alert(_NO_TICKER, "measure", "alert.measure"),
        ),
        field=".alerts",
    ),
    Rule(
        holds=f"!has(self.analytics) || {_with_known(f'!self.alerts.exists(alert, {_UNKNOWN})')} || {_REPEATED}",
        message="a rule's products are not among spec.products; add them there or remove them here",
        expression=said(
            "%s is not one of spec.products; add it there or remove it here",
            _with_known(_first_alert(_UNKNOWN, "product", "alert.products.filter(product, !(product in known))[0]")),
        ),
        field=".alerts",
    ),
)

RULES: Mapping[str, tuple[Rule, ...]] = {
    "": _OBJECT,
    "spec": _SPEC,
    "spec.exchange": _EXCHANGE,
    "spec.channels": _CHANNELS,
    "spec.producer.start": _START,
    "spec.kafka": _KAFKA,
    "spec.kafka.topics.partitions": _PARTITIONS,
    "spec.kafka.authentication": _AUTHENTICATION,
    "spec.analytics": _ANALYTICS,
    "spec.analytics.windows": _WINDOWS,
    "spec.analytics.slide": _SLIDE,
    "spec.analytics.checkpoint": _CHECKPOINT,
    "spec.dashboard": _DASHBOARD,
    "spec.dashboard.httpRoute.parentRefs": _PARENT_REFS,
    "spec.warehouse": _WAREHOUSE,
    "spec.alerts[0]": _ALERT,
    "spec.alerts[0].name": _ALERT_NAME,
    "spec.alerts[0].labels": _LABELS,
}
"""Rules by the place that they look at, items of a list as item 0."""
