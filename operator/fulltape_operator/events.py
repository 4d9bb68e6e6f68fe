"""Kubernetes Events of a feed, for `kubectl describe`: what matters to its owner, once each."""

import logging
import os
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from fulltape_operator.cluster import EVENTS, ApiError, Cluster
from fulltape_operator.desired.child import Manifest

_CONTROLLER = "fulltape.dev/operator"
_MOST_CHARACTERS = 1024

_log = logging.getLogger(__name__)


class Events:
    """Posts Events. One that can't be posted is logged: nothing else depends on it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._instance = os.environ.get("POD_NAME") or os.uname().nodename

    async def post(self, live: Manifest, kind: Literal["Normal", "Warning"], reason: str, note: str) -> None:
        """Post an Event about a feed."""
        metadata = live["metadata"]
        namespace, name = metadata["namespace"], metadata["name"]
        log = _log.warning if kind == "Warning" else _log.info
        log("%s/%s: %s: %s", namespace, name, reason, note)
        body = {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{uuid4().hex[:16]}", "namespace": namespace},
            "eventTime": datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "reportingController": _CONTROLLER,
            "reportingInstance": self._instance,
            "action": "Reconcile",
            "type": kind,
            "reason": reason,
            "note": note[:_MOST_CHARACTERS],
            "regarding": {
                "apiVersion": live["apiVersion"],
                "kind": live["kind"],
                "namespace": namespace,
                "name": name,
                "uid": metadata["uid"],
            },
        }
        try:
            await self._cluster.create(EVENTS.path(namespace), body)
        except ApiError as problem:
            _log.info("%s/%s: an Event could not be posted: %s", namespace, name, problem)
