"""Brings alerts to Alertmanagers, each by itself, through their API v2: at once, and until they are over.

An Alertmanager holds alerts in memory and forgets one that is not repeated, so what fires is posted again and again
with an end some minutes ahead. Posting an alert twice does no harm: Alertmanager knows it by its labels and has noted
what it told of it. So nothing is lost or doubled as long as the last state of each alert arrives in the end, and a
firing before its end.

Of each alert at most two changes wait for an Alertmanager that is away: the last state and the one before it. An alert
that fired and resolved meanwhile is thus posted as firing first. The end of an alert is posted no sooner than a second
after its firing was taken, which gives Alertmanager the time to notify of it.

The times posted are this machine's, as Alertmanager takes an alert of another day for one long over. The exchange's
times stand in the annotations.
"""

import asyncio
import contextlib
import logging
import re
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp
import msgspec

from fulltape.errors import ConfigurationError
from fulltape.feed.model import CryptoFeed
from fulltape.messages import Alert
from fulltape.workloads import ALERTMANAGERS_VARIABLE

LIFE_SECONDS = 300.0
"""How long an alert lives in Alertmanager that is not repeated: a monitor may be away for so long unnoticed."""

_LEAST_FIRING_SECONDS = 1.0
_RETRY_SECONDS, _RETRY_MOST_SECONDS = 0.1, 5.0
_TIMEOUT_SECONDS = 5.0
_MOST_ALERTS_A_POST = 500

_log = logging.getLogger(__name__)


def alertmanager_urls(feed: CryptoFeed, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Return the addresses of the Alertmanagers: those of the environment if it names any or none, else the feed's.

    Raises:
        ConfigurationError: the environment's are not web addresses with commas between.

    """
    given = environment.get(ALERTMANAGERS_VARIABLE)
    if given is None:
        return feed.spec.alertmanagers
    urls = tuple(dict.fromkeys(url.strip() for url in given.split(",") if url.strip()))
    for url in urls:
        if re.fullmatch(r"https?://[^\s/?#]+(/[^\s?#]*)?", url) is None:
            raise ConfigurationError(
                f"{ALERTMANAGERS_VARIABLE}: {url!r} is not a web address; write http://host:port, with commas between "
                "several"
            )
    return urls


class AlertmanagerClient:
    """Keeps every Alertmanager informed while its context lasts. Everything happens on the loop that entered it.

    Leaving the context resolves nothing: the monitor's next start goes on where this one ended, and without one the
    alerts end after `LIFE_SECONDS`.

    Args:
        urls: base address of each Alertmanager, as in ``http://alertmanager:9093``.
        keep_alive_seconds: how often what fires is repeated.

    """

    def __init__(self, urls: Sequence[str], *, keep_alive_seconds: float = 30.0) -> None:
        self.peers = tuple(Peer(url, keep_alive_seconds) for url in urls)
        self._tasks: list[asyncio.Task[None]] = []
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if self.peers:
            self._session = aiohttp.ClientSession(
                # A connection is used again however long it was idle, so that an alert need not wait for a new one.
                connector=aiohttp.TCPConnector(keepalive_timeout=3600),
                timeout=aiohttp.ClientTimeout(total=_TIMEOUT_SECONDS),
                headers={"Content-Type": "application/json"},
            )
            self._tasks = [asyncio.create_task(peer.run(self._session), name=peer.url) for peer in self.peers]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()

    def notify(self, alerts: Iterable[Alert]) -> None:
        """Take changes of alerts, in their order; returns at once.

        A monitor that starts again gives the last message of each alert: one that fires is repeated, one that was
        resolved lately is resolved once more. A message that tells no more than an earlier one is ignored.
        """
        for task in self._tasks:
            if task.done():  # which only a fault of this program can bring about
                task.result()
        wanted = [alert for alert in alerts if alert.state in {"firing", "resolved"}]
        for peer in self.peers:
            peer.take(wanted)


@dataclass(slots=True)
class _Course:
    """What one Alertmanager knows of an alert, and what it is still to be told."""

    known: Alert | None = None
    waiting: deque[Alert] = field(default_factory=lambda: deque(maxlen=2))
    taken: float = 0.0
    """When the Alertmanager took that for the first time (monotonic, in seconds)."""


class Peer:
    """One Alertmanager: what it still has to be told, and how telling it goes."""

    def __init__(self, url: str, keep_alive_seconds: float) -> None:
        self.url = url
        self.posts = 0
        """Posts that it took, those that only repeat included."""
        self.failures = 0
        """Posts that failed and were tried again."""
        self.refused = 0
        """Alerts that it called malformed; they are given up."""
        self.reachable: bool | None = None
        """Whether the last post reached it; None before the first."""
        self._endpoint = f"{url.rstrip('/')}/api/v2/alerts"
        self._keep_alive_seconds = keep_alive_seconds
        self._courses: dict[str, _Course] = {}
        self._news = asyncio.Event()
        self._repeat_at = 0.0

    @property
    def waiting(self) -> int:
        """How many changes it has not been told of."""
        return sum(len(course.waiting) for course in self._courses.values())

    @property
    def firing(self) -> int:
        """How many alerts it knows to fire."""
        return sum(course.known is not None and course.known.state == "firing" for course in self._courses.values())

    def take(self, alerts: Iterable[Alert]) -> None:
        """Take changes, in their order."""
        forgotten_us = int((time.time() - LIFE_SECONDS) * 1e6)
        for alert in alerts:
            course = self._courses.get(alert.fingerprint)
            if course is None:
                if alert.state == "resolved" and alert.changed_us < forgotten_us:
                    continue
                course = self._courses[alert.fingerprint] = _Course()
            last = course.waiting[-1] if course.waiting else course.known
            if last is None or (last.state, last.changed_us) != (alert.state, alert.changed_us):
                course.waiting.append(alert)
        self._news.set()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Tell it what there is to tell, for ever; the first post, often of nothing, opens the connection."""
        retry_seconds = _RETRY_SECONDS
        while True:
            self._news.clear()
            now = time.monotonic()
            repeat = now >= self._repeat_at
            batch = self._due(now, repeat=repeat)
            if not batch and not repeat:
                await self._wait(now)
                continue
            problem = await self._tell(session, batch)
            if problem is None:
                if self.reachable is not True:
                    _log.info("Alertmanager %s takes alerts", self.url)
                self.reachable, retry_seconds = True, _RETRY_SECONDS
                if repeat:
                    self._repeat_at = now + self._keep_alive_seconds
            else:
                if self.reachable is not False:
                    _log.warning("Alertmanager %s takes no alerts: %s; trying again until it does", self.url, problem)
                self.reachable = False
                self.failures += 1
                self._repeat_at = 0.0  # it may have forgotten everything when it comes back
                await asyncio.sleep(retry_seconds)
                retry_seconds = min(2 * retry_seconds, _RETRY_MOST_SECONDS)

    def _due(self, now: float, *, repeat: bool) -> list[tuple[_Course, Alert]]:
        """Return what to post now: news, and at times all that fires."""
        due = []
        for course in self._courses.values():
            if course.waiting and now >= self._earliest(course):
                due.append((course, course.waiting[0]))
            elif repeat and course.known is not None and course.known.state == "firing":
                due.append((course, course.known))
        return due

    @staticmethod
    def _earliest(course: _Course) -> float:
        ends = course.waiting[0].state == "resolved"
        fires = course.known is not None and course.known.state == "firing"
        return course.taken + _LEAST_FIRING_SECONDS if ends and fires else 0.0

    async def _wait(self, now: float) -> None:
        """Wait for news, or until something is due."""
        until = min([self._repeat_at, *(self._earliest(course) for course in self._courses.values() if course.waiting)])
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._news.wait(), max(0.0, until - now))

    async def _tell(self, session: aiohttp.ClientSession, batch: list[tuple[_Course, Alert]]) -> str | None:
        """Post alerts and note what it took; return what is wrong where it took none or not all."""
        for start in range(0, max(1, len(batch)), _MOST_ALERTS_A_POST):
            part = batch[start : start + _MOST_ALERTS_A_POST]
            status, said = await self._post(session, part)
            if status == HTTPStatus.BAD_REQUEST and len(part) > 1:  # perhaps because of one of them
                for alone in part:
                    if problem := await self._tell(session, [alone]):
                        return problem
                continue
            if status == HTTPStatus.BAD_REQUEST and part:
                self.refused += 1
                _log.error("Alertmanager %s refuses %s, which is given up: %s", self.url, part[0][1].fingerprint, said)
            elif status != HTTPStatus.OK:
                return said
            else:
                self.posts += 1
            for course, alert in part:
                self._told(course, alert)
        return None

    async def _post(self, session: aiohttp.ClientSession, part: list[tuple[_Course, Alert]]) -> tuple[int, str]:
        """Return the status of the answer, 0 where there is none, and what is wrong."""
        body = msgspec.json.encode([_posted(course, alert) for course, alert in part])
        try:
            async with session.post(self._endpoint, data=body) as response:
                text = (await response.text(errors="replace"))[:500]
                return response.status, f"it answered {response.status} {response.reason}: {text}"
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            return 0, str(error) or f"no answer within {_TIMEOUT_SECONDS:g} s"

    def _told(self, course: _Course, alert: Alert) -> None:
        if course.known is not alert:
            course.known, course.taken = alert, time.monotonic()
        if course.waiting and course.waiting[0] is alert:  # not pushed out meanwhile by later changes
            course.waiting.popleft()
        if alert.state == "resolved" and not course.waiting:
            del self._courses[alert.fingerprint]


def _posted(course: _Course, alert: Alert) -> dict[str, Any]:
    """Return an alert as the API takes it."""
    posted: dict[str, Any] = {"labels": alert.labels, "annotations": alert.annotations}
    if alert.state == "firing":
        return posted | {"startsAt": _iso(alert.changed_us), "endsAt": _iso(int((time.time() + LIFE_SECONDS) * 1e6))}
    if course.known is not None and course.known.state == "firing":
        posted["startsAt"] = _iso(min(course.known.changed_us, alert.changed_us))
    return posted | {"endsAt": _iso(alert.changed_us)}


def _iso(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us // 1_000_000, UTC):%Y-%m-%dT%H:%M:%S}.{time_us % 1_000_000:06}Z"
