"""The figures of a feed's status, from the metrics that its own programs serve.

They are rounded: a status that differed at each reading would be written at each.
"""

import asyncio
import logging
import math
import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime

import aiohttp

from fulltape.readings import Meter, Sample, samples
from fulltape.workloads import METRICS
from fulltape_operator.observed import FeedKey, Observed, Seen
from fulltape_operator.status import Figures

EVERY_SECONDS = 30.0
PORT = 9100
_READ_SECONDS = 3.0
_AT_ONCE = 16
_MISSING = "fulltape_missing_total"
_LAST = "fulltape_last_trade_timestamp_seconds"
_BACKLOG = "fulltape_backlog"
_COMPONENTS = ("producer", "monitor")

_log = logging.getLogger(__name__)


class Readings:
    """Reads the pods of all feeds now and then, each at its address and the port that all have."""

    def __init__(self, observed: Observed, port: int = PORT) -> None:
        self._observed = observed
        self._port = port
        self._meters: dict[FeedKey, Meter] = {}
        self._figures: dict[FeedKey, Figures] = {}

    def figures(self, key: FeedKey) -> Figures:
        """Return the newest figures of a feed."""
        return self._figures.get(key, Figures())

    def forget(self, key: FeedKey) -> None:
        """Drop what is known of a feed that is gone."""
        self._meters.pop(key, None)
        self._figures.pop(key, None)

    async def read(self) -> set[FeedKey]:
        """Read all pods once; return the feeds whose figures became others."""
        limit = asyncio.Semaphore(_AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=_READ_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            found = await asyncio.gather(*(self._read_feed(session, limit, key) for key in list(self._observed.feeds)))
        return {key for key in found if key is not None}

    async def _read_feed(
        self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, key: FeedKey
    ) -> FeedKey | None:
        pods = [seen for seen in self._observed.children(key).values() if _is_read(key, seen)]
        if not pods:
            changed = self._figures.pop(key, None) is not None
            return key if changed else None
        texts = await asyncio.gather(*(self._read_pod(session, limit, pod) for pod in pods))
        by_name = {pod.key.name: text for pod, text in zip(pods, texts, strict=True) if text is not None}
        try:
            figures = self._sum_up(key, by_name) if by_name else Figures()
        except (ValueError, OverflowError) as problem:
            _log.warning("%s: metrics that can't be read: %s", key, problem)
            return None
        if self._figures.get(key) == figures:
            return None
        self._figures[key] = figures
        return key

    async def _read_pod(self, session: aiohttp.ClientSession, limit: asyncio.Semaphore, pod: Seen) -> str | None:
        host = f"[{pod.address}]" if ":" in pod.address else pod.address
        try:
            async with limit, session.get(f"http://{host}:{self._port}{METRICS}") as answer:
                return await answer.text() if answer.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, UnicodeDecodeError):
            return None

    def _sum_up(self, key: FeedKey, texts: Mapping[str, str]) -> Figures:
        meter = self._meters.setdefault(key, Meter())
        meter.add(time.monotonic(), texts)
        rates = meter.figures()
        found = [sample for text in texts.values() for sample in samples(text, {_MISSING, _LAST, _BACKLOG})]
        last = max(_values(found, _LAST), default=None)
        monitors = [text for name, text in texts.items() if name.startswith(f"{key.name}-monitor")]
        behind = [sample.value for text in monitors for sample in samples(text, {_BACKLOG})]
        missing = _values(found, _MISSING)
        return Figures(
            trades_per_second=_rounded(rates.trades_per_second),
            last_trade_time=None if last is None else _minute(last),
            missing_trades=int(sum(missing)) if missing else None,
            consumer_lag=_coarse(sum(behind)) if behind else None,
            p99_milliseconds=_rounded(None if rates.p99_seconds is None else rates.p99_seconds * 1000),
        )


def _is_read(key: FeedKey, seen: Seen) -> bool:
    stem = seen.key.name.removeprefix(f"{key.name}-")
    return seen.key.kind == "Pod" and bool(seen.address and seen.health.ready) and stem.startswith(_COMPONENTS)


def _values(found: Iterable[Sample], name: str) -> list[float]:
    return [sample.value for sample in found if sample.name == name]


def _rounded(value: float | None) -> float | None:
    """Round to two significant digits."""
    if value is None or value == 0 or not math.isfinite(value):
        return None if value is None or not math.isfinite(value) else 0.0
    return float(f"{value:.1e}")


def _coarse(lag: float) -> int:
    """Round a number of messages up to a power of two: a lag of a few is none."""
    return 0 if lag < 100 else 1 << (math.ceil(lag) - 1).bit_length()


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds // 60 * 60, UTC).isoformat().replace("+00:00", "Z")
