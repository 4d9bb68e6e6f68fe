"""One pass over one feed: compares what it wants with what is there, does what is missing, and says how it stands.

A pass is level-based: it looks at the present state alone, whatever led to it, and may be broken off and repeated at
any point. What one object refuses does not keep the others from being applied.
"""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

from fulltape.errors import FeedError
from fulltape.feed.load import feed_of
from fulltape.feed.model import CryptoFeed
from fulltape_operator.cluster import CHILDREN, FEEDS, KAFKAS, SECRETS, ApiError, Cluster
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import PREFIX, Key, Manifest, Stage
from fulltape_operator.desired.copies import copy_of
from fulltape_operator.desired.kafka import copied_secrets, required_secrets, strimzi_namespace
from fulltape_operator.desired.route import ROUTES
from fulltape_operator.echoes import Echoes
from fulltape_operator.events import Events
from fulltape_operator.finalize import Finalizer
from fulltape_operator.observed import FeedKey, Observed, version_of
from fulltape_operator.owned import digest
from fulltape_operator.ownership import belonging_to, is_foreign, name_taken
from fulltape_operator.plan import WORKLOADS, Wanted, plan
from fulltape_operator.platform import Platform
from fulltape_operator.readings import Readings
from fulltape_operator.status import Circumstances, Problem, Status, news, status_of, status_of_hindered

PAUSE = f"{PREFIX}/pause"
_SOON_SECONDS = 15.0
"""When to look again for what no watch tells of: a Secret that is missing, a kind that is not installed."""
_AT_ONCE = 8
"""Requests of one pass at the same time."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Desired:
    """A feed's wishes, worked out once for each change of it."""

    uid: str
    generation: int
    feed: CryptoFeed
    wanted: tuple[Wanted, ...]


@dataclass(slots=True)
class _Outcome:
    """What came of applying."""

    problems: dict[Key, Problem] = field(default_factory=dict)
    waiting: dict[Key, str] = field(default_factory=dict)
    failure: ApiError | None = None
    """What trying again later may mend."""

    def keeps(self, key: Key) -> bool:
        """Tell whether an object that is not wanted any more stays, as what is to follow it can't be made.

        A route that is refused keeps the old route alone: the rest of the feed does not depend on it.
        """
        hindered = {problem.kind for problem in self.problems}
        return self.failure is not None or bool(hindered - ROUTES) or (bool(hindered) and key.kind in ROUTES)


class Reconciler:
    """Makes passes. It keeps nothing that a restart would miss: what it remembers only saves work."""

    def __init__(
        self,
        cluster: Cluster,
        observed: Observed,
        echoes: Echoes,
        *,
        platform: Platform,
        events: Events,
        readings: Readings,
    ) -> None:
        self._cluster = cluster
        self._observed = observed
        self._echoes = echoes
        self._platform = platform
        self._events = events
        self._readings = readings
        self._finalizer = Finalizer(cluster, observed, platform, events)
        self._desired: dict[FeedKey, _Desired] = {}
        self._settled: dict[FeedKey, dict[Key, tuple[str, str | None]]] = {}

    async def look(self, key: FeedKey) -> float | None:
        """Make one pass; return after how many seconds another is wanted whatever happens, if so.

        Raises:
            ApiError: the API server did not take something that it may take later.

        """
        live = self._observed.feeds.get(key)
        if live is None:
            for remembered in (self._desired, self._settled):
                remembered.pop(key, None)
            self._readings.forget(key)
            return None
        metadata = live["metadata"]
        if "deletionTimestamp" in metadata:
            return await self._finalizer.look(key, live)
        try:
            desired = self._work_out(key, live)
            paused = metadata.get("annotations", {}).get(PAUSE) == "true"
            return await self._bring_about(key, live, desired, paused=paused)
        except FeedError as error:
            text = f"{error}; mend it with kubectl edit cryptofeed {metadata['name']}"
            hindrance, again = Problem("InvalidSpec", text, needs_person=True), None
        except ApiError as problem:
            if problem.passes:
                raise
            hindrance, again = Problem(problem.reason, problem.message, needs_person=True), _SOON_SECONDS
        await self._say(key, live, status_of_hindered(hindrance, metadata["generation"], _status(live), _now()))
        return again

    def _work_out(self, key: FeedKey, live: Manifest) -> _Desired:
        metadata = live["metadata"]
        known = self._desired.get(key)
        if known is None or (known.uid, known.generation) != (metadata["uid"], metadata["generation"]):
            feed = feed_of(live)
            children = [belonging_to(live, child) for child in desired_state(feed, self._platform)]
            wanted = tuple(Wanted(child, digest(child.manifest)) for child in children)
            known = self._desired[key] = _Desired(metadata["uid"], metadata["generation"], feed, wanted)
        return known

    async def _bring_about(self, key: FeedKey, live: Manifest, desired: _Desired, *, paused: bool) -> float | None:
        feed, wanted = desired.feed, list(desired.wanted)
        missing = await self._missing_secrets(feed)
        copies, absent = await self._copies(live, feed)
        wanted = sorted([*wanted, *copies], key=lambda one: one.child.stage)
        outcome = _Outcome()
        if not paused:
            await self._finalizer.mark(key, live, feed)
            to_do = plan(wanted, self._observed.children(key), self._settled.get(key, {}), self._kept(key, feed))
            outcome.waiting |= to_do.waiting
            for one in to_do.rehearse:
                await self._apply_one(key, live["metadata"]["uid"], one, outcome, rehearsal=True)
            await self._apply(key, live["metadata"]["uid"], to_do.apply, outcome)
            for seen in to_do.delete:
                if not outcome.keeps(seen.key):
                    # A program's pods end with it: what comes in its place waits for that.
                    await self._cluster.delete(seen.key, seen.uid, foreground=seen.key.kind in WORKLOADS)
        kafka_missing = await self._kafka_missing(key, feed)
        circumstances = Circumstances(
            feed=feed,
            generation=desired.generation,
            wanted=wanted,
            there=self._observed.children(key),
            problems=outcome.problems,
            secrets=missing,
            awaited=absent,
            waiting=outcome.waiting,
            kafka_missing=kafka_missing,
            complaints=await self._complaints(key),
            paused=paused,
            figures=self._readings.figures(key),
        )
        await self._say(key, live, status_of(circumstances, _status(live), _now()))
        if outcome.failure is not None:
            raise outcome.failure
        return _SOON_SECONDS if outcome.problems or missing or absent or kafka_missing else None

    def _kept(self, key: FeedKey, feed: CryptoFeed) -> set[Key]:
        """Return what stays although it may not be wanted now.

        Copies whose original is away for a moment; and the topics of a feed that retains them, whatever it records now.
        """
        kept = {Key("Secret", key.namespace, name) for name in copied_secrets(feed)}
        if feed.spec.retain == "Retain":
            kept |= {child for child in self._observed.children(key) if child.kind == "KafkaTopic"}
        return kept

    async def _apply(self, feed: FeedKey, uid: str, wanted: Sequence[Wanted], outcome: _Outcome) -> None:
        """Apply stage by stage, the objects of each at the same time.

        Nothing that writes to topics is started while these can't be made: a broker might make them as it likes.
        """
        limit = asyncio.Semaphore(_AT_ONCE)

        async def one(each: Wanted) -> None:
            async with limit:
                await self._apply_one(feed, uid, each, outcome)

        for stage, group in groupby(wanted, key=lambda each: each.child.stage):
            together = list(group)
            if stage > Stage.TOPICS and any(key.kind in ("KafkaTopic", "KafkaUser") for key in outcome.problems):
                outcome.waiting |= {each.child.key: "the topics can't be made" for each in together}
                continue
            await asyncio.gather(*(one(each) for each in together))
            if outcome.failure is not None:
                return

    async def _apply_one(
        self, feed: FeedKey, uid: str, wanted: Wanted, outcome: _Outcome, *, rehearsal: bool = False
    ) -> None:
        key = wanted.child.key
        try:
            if key not in self._observed.children(feed) and (found := await self._foreign(feed, uid, key)) is not None:
                outcome.problems[key] = found
                return
            live = await self._cluster.apply(wanted.child.manifest, dry_run=rehearsal)
        except ApiError as problem:
            if problem.passes:
                outcome.failure = problem
            else:
                outcome.problems[key] = refused(problem, key)
            return
        if rehearsal:
            return
        known = self._observed.children(feed).get(key)
        self._observed.see(live)
        seen = self._observed.children(feed).get(key)
        if seen is not None and seen is not known:
            self._echoes.await_one(key, seen.version)
        if seen is not None and seen.digest != wanted.digest:
            # The server keeps it in another form than we wrote; to apply it again would change nothing.
            _log.info("%s is kept in another form than it was applied in", key)
            self._settled.setdefault(feed, {})[key] = (wanted.digest, seen.digest)

    async def _foreign(self, feed: FeedKey, uid: str, key: Key) -> Problem | None:
        """Return why an object's name is taken by one that is not this feed's; None where it is free."""
        found = await self._cluster.glance(CHILDREN[key.kind].path(key.namespace, key.name))
        if found is None or not is_foreign(found, feed, uid):
            return None
        return Problem("NameTaken", name_taken(key), needs_person=True)

    async def _missing_secrets(self, feed: CryptoFeed) -> dict[str, str]:
        """Return the Secrets that the feed names and that do not exist, with the field that names each."""
        wanted = required_secrets(feed)
        found = await asyncio.gather(
            *(self._cluster.glance(SECRETS.path(feed.metadata.namespace, name)) for name in wanted)
        )
        return {name: where for (name, where), there in zip(wanted.items(), found, strict=True) if there is None}

    async def _copies(self, live: Manifest, feed: CryptoFeed) -> tuple[list[Wanted], dict[str, str]]:
        """Return the copies of Strimzi's Secrets that are to be, and the originals that do not exist yet."""
        wanted, absent = [], {}
        for name, original in copied_secrets(feed).items():
            found = await self._cluster.get(SECRETS.path(strimzi_namespace(feed), original))
            if found is None:
                absent[name] = f"{strimzi_namespace(feed)}/{original}"
                continue
            child = belonging_to(live, copy_of(feed, name, found))
            wanted.append(Wanted(child, digest(child.manifest)))
        return wanted, absent

    async def _kafka_missing(self, key: FeedKey, feed: CryptoFeed) -> bool:
        """Tell whether topics wait for a Kafka cluster that does not exist."""
        cluster = feed.spec.kafka.strimzi_cluster
        topics = [seen for seen in self._observed.children(key).values() if seen.key.kind == "KafkaTopic"]
        if cluster is None or not topics or all(seen.health.ready for seen in topics):
            return False
        return await self._cluster.glance(KAFKAS.path(strimzi_namespace(feed), cluster.name)) is None

    async def _complaints(self, feed: FeedKey) -> dict[Key, str]:
        """Return why StatefulSets have no pods: unlike Deployments they tell it by Events alone."""
        children = dict(self._observed.children(feed))  # it may change while an answer is awaited
        found = {}
        for key, seen in children.items():
            if (
                key.kind != "StatefulSet"
                or not seen.health.rolling
                or any(_is_pod_of(key, other) for other in children)
            ):
                continue
            path = f"/api/v1/namespaces/{key.namespace}/events"
            events = await self._cluster.select(path, f"involvedObject.uid={seen.uid},type=Warning")
            if events:
                newest = max(events, key=lambda event: int(event["metadata"]["resourceVersion"]))
                found[key] = str(newest.get("message", ""))
        return found

    async def _say(self, key: FeedKey, live: Manifest, status: Status) -> None:
        """Write the status where it changed, and an Event where that is news."""
        old = _status(live)
        if _comparable(status) == _comparable(old):
            return
        # A merge keeps fields that it does not name: those that are no more are named as null.
        body = {"status": {**dict.fromkeys(old), **status}}
        try:
            changed = await self._cluster.patch(f"{FEEDS.path(key.namespace, key.name)}/status", body)
        except ApiError as problem:
            if problem.status != 404:
                raise
            self._observed.lose_feed(key, version_of(live))  # deleted meanwhile
            return
        self._observed.see_feed(key, changed)
        if (told := news(status, old)) is not None:
            await self._events.post(live, *told)


def _is_pod_of(workload: Key, other: Key) -> bool:
    return other.kind == "Pod" and other.name.startswith(f"{workload.name}-")


def refused(problem: ApiError, key: Key) -> Problem:
    """Say why the API server refused an object."""
    if problem.kind_missing:
        return Problem(
            "KindMissing",
            f"this cluster has no {key.kind}: install {_NEEDS.get(key.kind, 'its CRD')}",
            needs_person=True,
        )
    if problem.namespace_missing:
        return Problem("NamespaceMissing", f"{key}: {problem.message}; create the namespace", needs_person=True)
    if problem.status == 404:  # what it refers to, as a RoleBinding to its Role: it may be made at any moment
        return Problem(problem.reason, f"{key} refers to what is not there: {problem.message}; it is tried again")
    reason = "QuotaExceeded" if "exceeded quota" in problem.message else problem.reason
    return Problem(reason, f"{key}: {problem.message}", needs_person=True)


_NEEDS = {
    "HTTPRoute": "the Gateway API, or write spec.dashboard.ingress in place of httpRoute",
    "KafkaTopic": "Strimzi, or name brokers in spec.kafka.bootstrapServers",
    "KafkaUser": "Strimzi, or name brokers in spec.kafka.bootstrapServers",
    "PodMonitor": "prometheus-operator, or set podMonitors to false in the platform file",
    "PrometheusRule": "prometheus-operator, or set prometheusRules to false in the platform file",
    "SparkApplication": "Kubeflow's Spark operator, or set sparkBackend to native in the platform file",
}


def _status(live: Manifest) -> Mapping[str, Any]:
    found: Mapping[str, Any] = live.get("status", {})
    return found


def _comparable(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return a status without the times at which it was written."""
    conditions = [
        {key: value for key, value in condition.items() if key != "lastTransitionTime"}
        for condition in status.get("conditions", ())
    ]
    return {**status, "conditions": conditions}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
