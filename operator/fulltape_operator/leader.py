"""One operator works at a time: who holds a Lease. The others watch, and are ready to go on within seconds.

A holder that can't renew in time stops before another may begin: it counts its own time from before each renewal, and
allows itself less than the Lease does. Source of the method: client-go's leader election.
"""

import asyncio
import logging
from collections.abc import Awaitable
from contextlib import suppress
from datetime import UTC, datetime

from fulltape_operator.cluster import LEASES, ApiError, Cluster
from fulltape_operator.desired.child import Manifest

LEASE_SECONDS = 10
_HOLD_SECONDS = 7.0
"""After the last renewal, how long the holder goes on."""
_RENEW_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Leader:
    """Keeps asking for a Lease; tells who works."""

    def __init__(self, cluster: Cluster, namespace: str, name: str, identity: str) -> None:
        self._cluster = cluster
        self._collection = LEASES.path(namespace)
        self._path = LEASES.path(namespace, name)
        self._name = name
        self._identity = identity
        self._until = 0.0
        self._others: tuple[str, float] = ("", 0.0)
        self._leads = asyncio.Event()

    def leads(self) -> bool:
        """Tell whether this operator is the one that works, now."""
        return self._leads.is_set() and _now() < self._until

    async def wait(self) -> None:
        """Wait until this operator is the one that works."""
        while not self.leads():
            await self._leads.wait()
            if not self.leads():
                await asyncio.sleep(_RENEW_SECONDS / 4)

    async def run(self) -> None:
        """Ask for the Lease, and renew it, until cancelled; then give it back."""
        try:
            while True:
                await self._ask()
                await asyncio.sleep(_RENEW_SECONDS)
        finally:
            led = self.leads()
            self._leads.clear()  # before another can have it
            if led:
                with suppress(ApiError):
                    await asyncio.shield(self._release())

    async def _ask(self) -> None:
        started = _now()
        try:
            async with asyncio.timeout(_HOLD_SECONDS - _RENEW_SECONDS):
                held = await self._acquire()
        except (ApiError, TimeoutError) as problem:
            _log.info("the Lease can't be asked for: %s", problem)
            held = False
            if started < self._until:  # an answer may come before the time is up
                return
        if held:
            self._until = started + _HOLD_SECONDS
            if not self._leads.is_set():
                _log.info("%s works now", self._identity)
                self._leads.set()
        elif self._leads.is_set():
            _log.warning("%s works no more: the Lease was not renewed in time, or is another's", self._identity)
            self._leads.clear()

    async def _acquire(self) -> bool:
        """Take the Lease where it is free, ours, or its holder has not renewed it for its time."""
        found = await self._cluster.get(self._path)
        if found is None:
            body = {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": {"name": self._name},
                "spec": self._spec(None),
            }
            return await self._accepted(self._cluster.create(self._collection, body))
        spec = found.get("spec", {})
        holder = spec.get("holderIdentity")
        if holder and holder != self._identity:
            # Clocks of machines differ: what counts is for how long we have seen no renewal. The last may have been
            # made at any moment before the answer came.
            now = _now()
            renewal = f"{holder} {spec.get('renewTime')}"
            if self._others[0] != renewal:
                self._others = (renewal, now)
            if now - self._others[1] < float(spec.get("leaseDurationSeconds", LEASE_SECONDS)):
                return False
        return await self._accepted(self._cluster.replace(self._path, {**found, "spec": self._spec(found)}))

    @staticmethod
    async def _accepted(request: Awaitable[Manifest]) -> bool:
        try:
            await request
        except ApiError as problem:
            if problem.status == 409:  # another was quicker
                return False
            raise
        return True

    def _spec(self, found: Manifest | None) -> dict[str, object]:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        old = (found or {}).get("spec", {})
        taken = old.get("holderIdentity") != self._identity
        return {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": LEASE_SECONDS,
            "renewTime": now,
            "acquireTime": now if taken else old.get("acquireTime", now),
            "leaseTransitions": old.get("leaseTransitions", 0) + (1 if taken and found else 0),
        }

    async def _release(self) -> None:
        found = await self._cluster.get(self._path)
        if found is not None and found["spec"].get("holderIdentity") == self._identity:
            await self._accepted(
                self._cluster.replace(self._path, {**found, "spec": {**found["spec"], "holderIdentity": None}})
            )


def _now() -> float:
    return asyncio.get_running_loop().time()
