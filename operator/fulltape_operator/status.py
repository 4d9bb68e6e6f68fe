"""A feed's status: conditions, as Kubernetes' API conventions and kstatus have them, and figures. Pure.

A condition is False with a reason and a message that says what is wrong and the mend. ``Ready`` sums up the others;
``Reconciling`` is True while changes are on their way; ``Stalled`` is True where only a person can help.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired.child import COMPONENT_LABEL, Key, selector
from fulltape_operator.desired.kafka import strimzi_namespace
from fulltape_operator.desired.programs import has_database
from fulltape_operator.desired.route import ROUTES
from fulltape_operator.health import Health
from fulltape_operator.observed import Seen
from fulltape_operator.plan import WORKLOADS, Wanted, program_health

Status = dict[str, Any]

_MOST_CHARACTERS = 1024


@dataclass(frozen=True, slots=True)
class Problem:
    """Why something is not as it should be."""

    reason: str
    """In CamelCase."""
    message: str
    """What is wrong, and the mend."""
    needs_person: bool = False
    """Whether it stays wrong until somebody mends it."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the workloads' own metrics say; None where they say nothing."""

    trades_per_second: float | None = None
    last_trade_time: str | None = None
    missing_trades: int | None = None
    consumer_lag: int | None = None
    p99_milliseconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """All that a feed's status is made of."""

    feed: CryptoFeed
    generation: int
    wanted: Sequence[Wanted]
    there: Mapping[Key, Seen]
    problems: Mapping[Key, Problem] = field(default_factory=dict)
    """Objects that could not be applied."""
    secrets: Mapping[str, str] = field(default_factory=dict)
    """Secrets that are asked for and missing: name to the field that asks."""
    awaited: Mapping[str, str] = field(default_factory=dict)
    """Secrets that can't be copied yet, as Strimzi has yet to make them: name of the copy to the original."""
    waiting: Mapping[Key, str] = field(default_factory=dict)
    kafka_missing: bool = False
    """Whether the Strimzi cluster that the feed names does not exist."""
    complaints: Mapping[Key, str] = field(default_factory=dict)
    """Why controllers could not make a workload's pods, where the workload itself does not tell."""
    paused: bool = False
    figures: Figures = Figures()


def status_of(found: Circumstances, old: Mapping[str, Any], now: str) -> Status:
    """Return the status of a feed; ``now`` (RFC 3339) is when a condition changed that did."""
    conditions = {
        "TopicsReady": _topics(found, made=_by_type(old).get("TopicsReady", {}).get("status") == "True"),
        "ProducersReady": _programs(found, ("producer",), "Producers"),
    }
    if found.feed.spec.analytics is not None:
        conditions["AnalyticsReady"] = _programs(found, ("panes", "monitor", "dashboard"), "Analytics")
    if found.feed.spec.warehouse is not None:
        conditions["WarehouseReady"] = _warehouse(found)
    if found.feed.spec.dashboard is not None:
        conditions["RouteReady"] = _route(found)
    counted = [one for name, one in conditions.items() if _counts(found.feed, name)]
    wrong = [problem for problem in [*counted, *_grave(found).values()] if problem is not None]
    stalled = next((problem for problem in wrong if problem.needs_person), None)
    # What a person must mend is often why the rest is not well either.
    ready = stalled or next(iter(wrong), None)
    moving = _moving(found)
    shown = [_summary(name, problem, _WELL[name]) for name, problem in conditions.items()]
    shown.append(_summary("Ready", ready, "all that was asked for runs"))
    if moving is not None:
        shown.append(_condition("Reconciling", "True", moving.reason, moving.message))
    if stalled is not None:
        shown.append(_condition("Stalled", "True", stalled.reason, stalled.message))
    status: Status = {
        "observedGeneration": found.generation,
        "conditions": _with_times(shown, old.get("conditions", ()), found.generation, now),
        "products": len(found.feed.spec.products),
        "shards": _shards(found),
        "selector": ",".join(f"{key}={value}" for key, value in sorted(selector(found.feed, "producer").items())),
    }
    figures = found.figures
    for name, value in (
        ("tradesPerSecond", figures.trades_per_second),
        ("lastTradeTime", figures.last_trade_time),
        ("missingTrades", figures.missing_trades),
        ("consumerLag", figures.consumer_lag),
        ("p99Milliseconds", figures.p99_milliseconds),
    ):
        if value is not None:
            status[name] = value
    return status


def status_of_hindered(problem: Problem, generation: int, old: Mapping[str, Any], now: str) -> Status:
    """Return the status of a feed that nothing can be done for: one that is invalid, or whose state can't be read."""
    shown = [
        _condition("Ready", "False", problem.reason, problem.message),
        _condition("Stalled", "True", problem.reason, problem.message),
    ]
    return {
        "observedGeneration": generation,
        "conditions": _with_times(shown, old.get("conditions", ()), generation, now),
    }


def news(new: Mapping[str, Any], old: Mapping[str, Any]) -> tuple[Literal["Normal", "Warning"], str, str] | None:
    """Return what of a new status an owner wants to be told: kind, reason and message of an Event, if anything.

    That is: it got ready, it is not any more, or a person is needed. Steps on the way are no news.
    """
    now, before = _by_type(new), _by_type(old)
    ready, was = now["Ready"], before.get("Ready", {})
    if (ready["status"], ready["reason"]) == (was.get("status"), was.get("reason")):
        return None
    if ready["status"] == "True":
        return "Normal", ready["reason"], ready["message"]
    if was.get("status") == "True" or "Stalled" in now:
        return "Warning", ready["reason"], ready["message"]
    return None


def _by_type(status: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {condition["type"]: condition for condition in status.get("conditions", ())}


def _counts(feed: CryptoFeed, condition: str) -> bool:
    """Tell whether a feed is ready only with this condition: trades flow without a route or a database."""
    return condition != "RouteReady" and (condition != "WarehouseReady" or has_database(feed))


def _grave(found: Circumstances) -> Mapping[Key, Problem]:
    """Return the objects that could not be applied, but for routes."""
    return {key: problem for key, problem in found.problems.items() if key.kind not in ROUTES}


_WELL = {
    "TopicsReady": "the topics are as they should be",
    "ProducersReady": "all producers run",
    "AnalyticsReady": "panes, monitor and dashboard run",
    "WarehouseReady": "archive and loader run",
    "RouteReady": "the way to the page is open",
}


def _topics(found: Circumstances, *, made: bool) -> Problem | None:
    """Return what is wrong with the topics; ``made`` is whether they were well before."""
    kinds = ("KafkaTopic", "KafkaUser")
    if (problem := _of_objects(found, [key for key in _keys(found) if key.kind in kinds])) is not None:
        return problem
    if found.feed.spec.kafka.topics_managed_by == "Admin":
        when = "the programs make the topics when they start"
        if found.feed.spec.suspend:
            return None if made else Problem("Suspended", f"{when}; set spec.suspend to false to start them")
        runs = any(program_health(seen.key, found.there).ready for seen in _seen(found, WORKLOADS))
        return None if runs else Problem("TopicsNotMade", f"{when}, and none of them runs yet")
    keys = [key for key in _keys(found) if key.kind in kinds]
    unready = [key for key in keys if key not in found.there or not found.there[key].health.ready]
    return _of_strimzi(found, unready) if unready else None


def _of_strimzi(found: Circumstances, unready: Sequence[Key]) -> Problem:
    cluster = found.feed.spec.kafka.strimzi_cluster
    assert cluster is not None  # Strimzi manages topics of one alone
    where = f"{strimzi_namespace(found.feed)}/{cluster.name}"
    if found.kafka_missing:
        return Problem(
            "NoSuchKafkaCluster",
            f"there is no Kafka {where}; correct spec.kafka.strimziCluster, or create it",
            needs_person=True,
        )
    ailing = next((seen for key in unready if (seen := found.there.get(key)) and seen.health.problem), None)
    if ailing is not None:
        return Problem("TopicsNotReady", f"{ailing.key}: {ailing.health.problem}", needs_person=ailing.health.failed)
    return Problem(
        "TopicsNotReady", f"{len(unready)} of Kafka {where} wait for Strimzi's operators, first {unready[0]}"
    )


def _programs(found: Circumstances, components: Sequence[str], name: str) -> Problem | None:
    if (problem := _of_objects(found, [key for key in _keys(found, components) if key.kind in WORKLOADS])) is not None:
        return problem
    if found.feed.spec.suspend:
        return Problem("Suspended", "spec.suspend is true; set it to false to go on")
    if (problem := _of_secrets(found, components)) is not None:
        return problem
    for key in _keys(found, components):
        if key.kind not in WORKLOADS:
            continue
        health = program_health(key, found.there) if key in found.there else Health(ready=0)
        if health.ready >= health.wanted and not health.rolling:
            continue
        why = _of_pods(found, key) or health.problem or found.complaints.get(key, "")
        count = f"{health.ready} of {health.wanted} ready"
        return Problem(f"{name}NotReady", f"{key}: {count}{': ' + why if why else ''}")
    return None


def _of_secrets(found: Circumstances, components: Sequence[str]) -> Problem | None:
    """Return which Secret these programs wait for: all mount Kafka's, and not the producers the database's."""
    for secret, where in found.secrets.items():
        if "producer" not in components or not where.startswith("spec.warehouse"):
            return Problem(
                "SecretMissing",
                f"there is no Secret {found.feed.metadata.namespace}/{secret}, which {where} names; create it",
                needs_person=True,
            )
    original = next(iter(found.awaited.values()), None)
    return None if original is None else Problem("SecretNotMade", f"Strimzi has not made the Secret {original} yet")


def _warehouse(found: Circumstances) -> Problem | None:
    if not has_database(found.feed):
        return Problem(
            "NoDatabase",
            "nothing is stored: a DuckDB file is a laptop's; add spec.warehouse.redshift and spec.warehouse.staging",
        )
    return _programs(found, ("archive", "warehouse"), "Warehouse")


def _route(found: Circumstances) -> Problem | None:
    """Return what is wrong with the way of browsers to the page."""
    (key,) = (key for key in _keys(found) if key.kind in ROUTES)
    if (problem := found.problems.get(key)) is not None:
        return problem
    seen = found.there.get(key)
    if seen is None:
        return Problem("RouteNotTaken", f"{key} is not made yet")
    if seen.health.ready:
        return None
    return Problem("RouteRefused" if seen.health.failed else "RouteNotTaken", f"{key}: {seen.health.problem}")


def _moving(found: Circumstances) -> Problem | None:
    """Return what is on its way."""
    if found.paused:
        return Problem("Paused", "the annotation fulltape.dev/pause is true; remove it to go on")
    if found.waiting:
        key, why = next(iter(found.waiting.items()))
        return Problem("Waiting", f"{key} is to be changed: {why}")
    if grave := _grave(found):
        key, problem = next(iter(grave.items()))
        return Problem("Retrying", f"{key}: {problem.message}")
    if found.feed.spec.suspend:
        return None
    rolling = next((seen for seen in _seen(found, WORKLOADS) if program_health(seen.key, found.there).rolling), None)
    return None if rolling is None else Problem("Rolling", f"{rolling.key} is on its way")


def _of_objects(found: Circumstances, keys: Sequence[Key]) -> Problem | None:
    """Return why one of these objects could not be applied."""
    return _first(found.problems[key] for key in keys if key in found.problems)


def _of_pods(found: Circumstances, workload: Key) -> str:
    """Return what ails a workload's pods."""
    return next(
        (
            seen.health.problem
            for key, seen in sorted(found.there.items(), key=lambda item: item[0].name)
            if key.kind == "Pod" and key.name.startswith(f"{workload.name}-") and seen.health.problem
        ),
        "",
    )


def _keys(found: Circumstances, components: Sequence[str] | None = None) -> list[Key]:
    return [
        one.child.key
        for one in found.wanted
        if components is None or one.child.manifest["metadata"]["labels"][COMPONENT_LABEL] in components
    ]


def _seen(found: Circumstances, kinds: Iterable[str]) -> list[Seen]:
    keys = set(_keys(found))
    return [seen for key, seen in found.there.items() if key in keys and key.kind in kinds]


def _shards(found: Circumstances) -> int:
    return next((seen.health.ready for seen in _seen(found, ("StatefulSet",))), 0)


def _first(problems: Iterable[Problem]) -> Problem | None:
    return next(iter(problems), None)


def _summary(kind: str, problem: Problem | None, well: str) -> dict[str, str]:
    if problem is None:
        return _condition(kind, "True", kind, well)
    return _condition(kind, "False", problem.reason, problem.message)


def _condition(kind: str, status: str, reason: str, message: str) -> dict[str, str]:
    if len(message) > _MOST_CHARACTERS:
        message = f"{message[: _MOST_CHARACTERS - 3]}..."
    return {"type": kind, "status": status, "reason": reason, "message": message}


def _with_times(
    conditions: Sequence[Mapping[str, str]], old: Iterable[Mapping[str, Any]], generation: int, now: str
) -> list[dict[str, Any]]:
    """Keep the time of each condition whose status is what it was."""
    before = {one["type"]: one for one in old}
    return [
        {
            **one,
            "observedGeneration": generation,
            "lastTransitionTime": before[one["type"]]["lastTransitionTime"]
            if before.get(one["type"], {}).get("status") == one["status"]
            else now,
        }
        for one in conditions
    ]
