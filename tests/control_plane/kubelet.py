"""Stands in for scheduler, nodes and storage: says of pods that they run, gives claims their volumes.

Nothing is run. A pod becomes Running and Ready, or Succeeded where it is to end, as a Job's, unless a test wants
another `Fate` for it. Of what nodes do it keeps what objects show: a pod whose volume is not there yet is not
scheduled, and one that is deleted goes only when its node lets it go.
"""

import asyncio
import contextlib
import enum
import fnmatch
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from types import TracebackType
from typing import Any, Self

import aiohttp

from tests.control_plane.plane import ControlPlane

_NODE = "stand-in"
_NODE_ADDRESS = "10.0.0.1"
_PODS, _CLAIMS, _VOLUMES = "pods", "persistentvolumeclaims", "persistentvolumes"
_WORKERS = 8
_RETRY_SECONDS = 0.2
_OVERTAKEN = {
    HTTPStatus.NOT_FOUND,
    HTTPStatus.CONFLICT,  # it is another by now, and comes again as an event
    HTTPStatus.FORBIDDEN,  # its namespace is being deleted: the stand-in may do anything else
}

_Key = tuple[str, str]
"""Namespace and name."""
_Object = Mapping[str, Any]


class Fate(enum.Enum):
    """What becomes of a pod, or of a volume claim."""

    WELL = "Running and Ready, or Succeeded; a claim: Bound"
    PENDING = "finds no node; a claim: no volume. What has one already keeps it"
    UNREADY = "Running, but not Ready"
    CRASHING = "ends with code 1 again and again, or Failed where it is never restarted"


class Kubelet:
    """The stand-in of one control plane; a context manager that works in a thread and raises what went wrong there.

    The API server may go away and come back meanwhile.
    """

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._fates: dict[str, Fate] = {}
        self._objects: dict[str, dict[_Key, _Object]] = {_PODS: {}, _CLAIMS: {}, _VOLUMES: {}}
        self._pods_made = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="kubelet")

    def __enter__(self) -> Self:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._ended = self._thread.submit(asyncio.run, self._main(started))
        self._loop = started.result()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended by itself
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.shutdown()
        self._ended.result()

    def treat(self, pattern: str, fate: Fate) -> None:
        """Decide on the fate of pods and claims, of those that exist and those to come.

        Args:
            pattern: of ``namespace/name``, as a shell matches files; of several that match, the last one given counts.
            fate: what becomes of them.

        """
        if self._ended.done():
            self._ended.result()
        self._loop.call_soon_threadsafe(self._treat, pattern, fate)

    def _treat(self, pattern: str, fate: Fate) -> None:
        self._fates.pop(pattern, None)
        self._fates[pattern] = fate
        for collection in (_CLAIMS, _PODS):
            self._look_at(collection, self._objects[collection])

    def _fate(self, key: _Key) -> Fate:
        matching = (fate for pattern, fate in reversed(self._fates.items()) if fnmatch.fnmatch("/".join(key), pattern))
        return next(matching, Fate.WELL)

    async def _main(self, started: Future[asyncio.AbstractEventLoop]) -> None:
        self._stop = asyncio.Event()
        self._queue: asyncio.Queue[tuple[str, _Key]] = asyncio.Queue()
        started.set_result(asyncio.get_running_loop())
        async with (
            aiohttp.ClientSession(
                self._plane.url,
                connector=aiohttp.TCPConnector(ssl=self._plane.ssl_context),
                headers={"Authorization": f"Bearer {self._plane.token}"},
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=5),  # a watch may be silent for long
                read_bufsize=2**20,  # a line is a whole object
            ) as self._session,
            asyncio.TaskGroup() as group,
        ):
            await self._make_node()
            tasks = [group.create_task(self._watch(collection)) for collection in self._objects]
            tasks += [group.create_task(self._work()) for _ in range(_WORKERS)]
            await self._stop.wait()
            for task in tasks:
                task.cancel()

    async def _make_node(self) -> None:
        await self._send("POST", "nodes", {"metadata": {"name": _NODE}})
        addresses = [{"type": "InternalIP", "address": _NODE_ADDRESS}]
        ready = _condition("Ready", holds=True, reason="KubeletReady")
        await self._send("PATCH", f"nodes/{_NODE}/status", {"status": {"addresses": addresses, "conditions": [ready]}})

    async def _watch(self, collection: str) -> None:
        """Keep a collection's objects as the API server has them."""
        known = self._objects[collection]
        while True:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                async for key, item in self._changes(collection):
                    if item is None:
                        known.pop(key, None)
                    else:
                        known[key] = item
                        self._look_at(collection, [key])
            await asyncio.sleep(_RETRY_SECONDS)

    async def _changes(self, collection: str) -> AsyncIterator[tuple[_Key, _Object | None]]:
        """Give every object, and then each change, until the API server ends the watch; None for what is gone."""
        async with self._session.get(f"/api/v1/{collection}", raise_for_status=True) as answer:
            listed = await answer.json()
        present = {_key(item): item for item in listed["items"]}
        for key in self._objects[collection].keys() - present.keys():
            yield key, None
        for key, item in present.items():
            yield key, item
        query = {"watch": "1", "resourceVersion": listed["metadata"]["resourceVersion"]}
        async with self._session.get(f"/api/v1/{collection}", params=query, raise_for_status=True) as answer:
            try:
                async for line in answer.content:
                    event = json.loads(line)
                    if event["type"] == "ERROR":  # such as: this version is too old to continue from
                        return
                    yield _key(event["object"]), None if event["type"] == "DELETED" else event["object"]
            finally:
                # TLS's goodbye would outlive the loop, and the socket with it.
                if answer.connection is not None and answer.connection.transport is not None:
                    answer.connection.transport.abort()

    def _look_at(self, collection: str, keys: Mapping[_Key, _Object] | list[_Key]) -> None:
        for key in keys:
            self._queue.put_nowait((collection, key))

    async def _work(self) -> None:
        tend = {_PODS: self._tend_pod, _CLAIMS: self._tend_claim, _VOLUMES: self._tend_volume}
        while True:
            collection, key = await self._queue.get()
            item = self._objects[collection].get(key)
            if item is None:
                continue
            try:
                await tend[collection](key, item)
            except (aiohttp.ClientError, OSError):
                await asyncio.sleep(_RETRY_SECONDS)
                self._look_at(collection, [key])

    async def _tend_pod(self, key: _Key, pod: _Object) -> None:
        namespace, name = key
        path = f"namespaces/{namespace}/pods/{name}"
        metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
        fate = self._fate(key)
        if "deletionTimestamp" in metadata:
            if metadata.get("deletionGracePeriodSeconds") != 0:
                now = {"gracePeriodSeconds": 0, "preconditions": {"uid": metadata["uid"]}}
                await self._send("DELETE", path, now)
            elif not metadata.get("finalizers"):
                # An API server that is killed between marking and deleting it does the rest at its next change.
                await self._send("PATCH", path, {"metadata": {"resourceVersion": metadata["resourceVersion"]}})
        elif status.get("phase") in {"Succeeded", "Failed"}:
            pass
        elif "nodeName" not in spec:
            reason = "no node has room for it" if fate is Fate.PENDING else self._unbound_claim(namespace, pod)
            if reason is None:
                target = {"kind": "Node", "name": _NODE}
                await self._send(
                    "POST", f"{path}/binding", {"metadata": {"name": name, "uid": metadata["uid"]}, "target": target}
                )
            elif not any(condition["type"] == "PodScheduled" for condition in status.get("conditions", ())):
                unscheduled = _condition("PodScheduled", holds=False, reason="Unschedulable", message=reason)
                await self._send("PATCH", f"{path}/status", {"status": {"conditions": [unscheduled]}})
        elif fate is not Fate.PENDING:
            wanted = _pod_status(pod, fate, status.get("podIP") or self._new_address())
            if _summary(wanted) != _summary(status):
                version = {"resourceVersion": metadata["resourceVersion"]}  # else it may be another pod by now
                await self._send("PATCH", f"{path}/status", {"metadata": version, "status": wanted})

    def _unbound_claim(self, namespace: str, pod: _Object) -> str | None:
        for name in _claims(pod):
            claim = self._objects[_CLAIMS].get((namespace, name), {})
            if claim.get("status", {}).get("phase") != "Bound":
                return f"persistentvolumeclaim {name} is not bound"
        return None

    async def _tend_claim(self, key: _Key, claim: _Object) -> None:
        """Make the volume that a claim waits for; the controllers bind the two."""
        namespace, name = key
        metadata, spec = claim["metadata"], claim["spec"]
        if claim["status"].get("phase") == "Bound":
            users = [pod for pod, item in self._objects[_PODS].items() if pod[0] == namespace and name in _claims(item)]
            self._look_at(_PODS, users)
        elif self._fate(key) is not Fate.PENDING and "deletionTimestamp" not in metadata:
            volume = {
                "metadata": {"name": f"{_NODE}-{metadata['uid']}"},
                "spec": {
                    "accessModes": spec["accessModes"],
                    "capacity": {"storage": spec["resources"]["requests"]["storage"]},
                    "claimRef": {"namespace": namespace, "name": name, "uid": metadata["uid"]},
                    "hostPath": {"path": "/var/lib/nowhere"},
                    "storageClassName": spec.get("storageClassName", ""),
                    "volumeMode": spec["volumeMode"],
                },
            }
            await self._send("POST", _VOLUMES, volume)

    async def _tend_volume(self, key: _Key, volume: _Object) -> None:
        if volume["status"].get("phase") == "Released":
            await self._send("DELETE", f"{_VOLUMES}/{key[1]}", {})

    async def _send(self, method: str, path: str, body: _Object) -> None:
        """Make a request that may come too late.

        Raises:
            aiohttp.ClientError: the API server is away, or too busy.
            RuntimeError: it refused.

        """
        kind = "application/strategic-merge-patch+json" if method == "PATCH" else "application/json"
        async with self._session.request(
            method, f"/api/v1/{path}", data=json.dumps(body), headers={"Content-Type": kind}
        ) as answer:
            if answer.status < HTTPStatus.BAD_REQUEST or answer.status in _OVERTAKEN:
                return
            if answer.status == HTTPStatus.TOO_MANY_REQUESTS or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                answer.raise_for_status()
            raise RuntimeError(f"{method} {path}: {await answer.text()}")

    def _new_address(self) -> str:
        self._pods_made += 1
        return f"10.244.{self._pods_made // 250 % 250}.{self._pods_made % 250 + 1}"


def _key(item: _Object) -> _Key:
    return item["metadata"].get("namespace", ""), item["metadata"]["name"]


def _claims(pod: _Object) -> Iterator[str]:
    for volume in pod["spec"].get("volumes", ()):
        if claim := volume.get("persistentVolumeClaim"):
            yield claim["claimName"]


def _pod_status(pod: _Object, fate: Fate, address: str) -> _Object:
    """Return what a node would say of a pod that is its own."""
    restarts = pod["spec"]["restartPolicy"]
    failed = fate is Fate.CRASHING and restarts == "Never"
    succeeded = fate is Fate.WELL and restarts != "Always"
    ready = fate is Fate.WELL and not succeeded
    if failed or succeeded:
        phase, reason = ("Failed", "Error") if failed else ("Succeeded", "Completed")
        state = {"terminated": {"exitCode": int(failed), "reason": reason, "finishedAt": _now()}}
    elif fate is Fate.CRASHING:
        phase, state = "Running", {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting"}}
    else:
        phase, state = "Running", {"running": {"startedAt": _now()}}
    reason = "PodCompleted" if succeeded else "PodFailed" if failed else "" if ready else "ContainersNotReady"
    return {
        "phase": phase,
        "conditions": [
            _condition("Initialized", holds=True),
            _condition("ContainersReady", holds=ready, reason=reason),
            _condition("Ready", holds=ready, reason=reason),
        ],
        "hostIP": _NODE_ADDRESS,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": pod.get("status", {}).get("startTime") or _now(),
        "containerStatuses": [
            {
                "name": container["name"],
                "image": container["image"],
                "imageID": "",
                "ready": ready,
                "started": "running" in state,
                "restartCount": 5 if "waiting" in state else 0,
                "state": state,
            }
            for container in pod["spec"]["containers"]
        ],
    }


def _summary(status: _Object) -> tuple[str | None, bool, bool]:
    """Return what differs between fates: the phase, whether all are ready, and whether any waits to be restarted."""
    containers = status.get("containerStatuses", ())
    ready = bool(containers) and all(container["ready"] for container in containers)
    return status.get("phase"), ready, any("waiting" in container["state"] for container in containers)


def _condition(kind: str, *, holds: bool, reason: str = "", message: str = "") -> _Object:
    return {
        "type": kind,
        "status": str(holds),
        "reason": reason,
        "message": message,
        "lastTransitionTime": _now(),
    }


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
