"""The API server: the only module that writes to it. Requests are raw JSON, by the Kubernetes client's connection.

The client's typed models would cost more time than all else that a pass does; what it knows of kubeconfigs, tokens and
certificates is used.
"""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.client.exceptions import ApiException

from fulltape.errors import ConfigurationError, FulltapeError
from fulltape_operator.desired.child import Key, Manifest
from fulltape_operator.owned import MANAGER

_REQUEST_SECONDS = 15
_CONNECTIONS = 16
_PAGE = 500
_METADATA_ONLY = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, and where the API server has it."""

    group: str
    version: str
    plural: str
    kind: str

    @property
    def root(self) -> str:
        """The path that all paths of the kind begin with."""
        return f"/api/{self.version}" if not self.group else f"/apis/{self.group}/{self.version}"

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """Return the path of an object, or of all of a namespace or of the cluster."""
        parts = [self.root]
        if namespace is not None:
            parts.append(f"namespaces/{namespace}")
        parts.append(self.plural)
        if name is not None:
            parts.append(name)
        return "/".join(parts)


FEEDS = Resource("fulltape.dev", "v1alpha1", "cryptofeeds", "CryptoFeed")
PODS = Resource("", "v1", "pods", "Pod")
SECRETS = Resource("", "v1", "secrets", "Secret")
KAFKAS = Resource("kafka.strimzi.io", "v1", "kafkas", "Kafka")
EVENTS = Resource("events.k8s.io", "v1", "events", "Event")
LEASES = Resource("coordination.k8s.io", "v1", "leases", "Lease")

CHILDREN = {
    resource.kind: resource
    for resource in (
        Resource("", "v1", "configmaps", "ConfigMap"),
        SECRETS,
        Resource("", "v1", "services", "Service"),
        Resource("", "v1", "serviceaccounts", "ServiceAccount"),
        Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim"),
        Resource("apps", "v1", "statefulsets", "StatefulSet"),
        Resource("apps", "v1", "deployments", "Deployment"),
        Resource("batch", "v1", "jobs", "Job"),
        Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget"),
        Resource("rbac.authorization.k8s.io", "v1", "roles", "Role"),
        Resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding"),
        Resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy"),
        Resource("networking.k8s.io", "v1", "ingresses", "Ingress"),
        Resource("gateway.networking.k8s.io", "v1", "httproutes", "HTTPRoute"),
        Resource("kafka.strimzi.io", "v1", "kafkatopics", "KafkaTopic"),
        Resource("kafka.strimzi.io", "v1", "kafkausers", "KafkaUser"),
        Resource("sparkoperator.k8s.io", "v1beta2", "sparkapplications", "SparkApplication"),
        Resource("monitoring.coreos.com", "v1", "podmonitors", "PodMonitor"),
        Resource("monitoring.coreos.com", "v1", "prometheusrules", "PrometheusRule"),
    )
}
"""The kinds that a feed may be made of: those of one platform, and what is to go after another's."""


@dataclass(eq=False)
class ApiError(FulltapeError):
    """The API server refused a request, or did not answer it."""

    status: int
    """The HTTP status; 0 where there was no answer."""
    reason: str
    """CamelCase, as the API server names it."""
    message: str
    retry_after_seconds: float = 0.0
    details: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message

    @property
    def passes(self) -> bool:
        """Whether trying again later may help by itself: conflicts, overload, outages."""
        return self.status in (0, 409, 429) or self.status >= 500

    @property
    def kind_missing(self) -> bool:
        """Whether the API server does not know the kind at all: its CRD is not installed."""
        return self.status == 404 and not self.details.get("name")

    @property
    def namespace_missing(self) -> bool:
        """Whether the namespace does not exist that the object was to be in."""
        return self.status == 404 and self.details.get("kind") == "namespaces"


class Cluster:
    """A connection to the API server. All of its methods raise `ApiError`.

    Args:
        client: the connection.
        may_write: asked before each write; one that may not be made fails as an outage would.

    """

    def __init__(self, client: ApiClient, may_write: Callable[[], bool] = lambda: True) -> None:
        self._client = client
        self._may_write = may_write
        self.requests = 0
        """Requests made."""
        self.writes = 0
        """Of these, those that may change something."""

    async def get(self, path: str) -> Manifest | None:
        """Return an object; None where there is none."""
        return await self._get(path, {}, {})

    async def glance(self, path: str) -> Manifest | None:
        """Return the metadata of an object; None where there is none.

        The API server answers from its memory: it may not know yet of what was made within the last milliseconds.
        """
        return await self._get(path, {"resourceVersion": "0"}, {"Accept": _METADATA_ONLY})

    async def _get(self, path: str, query: Mapping[str, str], headers: Mapping[str, str]) -> Manifest | None:
        try:
            return await self._request("GET", path, query=query, headers=headers)
        except ApiError as problem:
            if problem.status == 404:
                return None
            raise

    async def pages(
        self, resource: Resource, namespace: str | None = None, selector: str = ""
    ) -> AsyncIterator[list[Manifest]]:
        """Yield all objects of a kind that a selector of labels matches, a page at a time.

        Nothing where the cluster does not know the kind.
        """
        going_on = ""
        while True:
            query = {"limit": str(_PAGE), "labelSelector": selector, "continue": going_on}
            try:
                answer = await self._request("GET", resource.path(namespace), query=query)
            except ApiError as problem:
                if problem.kind_missing:
                    return
                raise
            # Items of a list do not say what they are.
            api_version = answer["apiVersion"]
            yield [{"apiVersion": api_version, "kind": resource.kind, **item} for item in answer["items"]]
            going_on = answer["metadata"].get("continue", "")
            if not going_on:
                return

    async def select(self, path: str, fields: str) -> list[Manifest]:
        """Return the objects of a collection that a selector of fields matches; there are few of these."""
        answer = await self._request("GET", path, query={"fieldSelector": fields})
        found: list[Manifest] = answer["items"]
        return found

    async def apply(self, manifest: Manifest, *, dry_run: bool = False) -> Manifest:
        """Make our fields of an object as the manifest says, and return the object (server-side apply)."""
        metadata = manifest["metadata"]
        query = {"fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        if dry_run:
            query["dryRun"] = "All"
        return await self._request(
            "PATCH",
            CHILDREN[manifest["kind"]].path(metadata["namespace"], metadata["name"]),
            query=query,
            body=manifest,
            content_type="application/apply-patch+yaml",
        )

    async def patch(self, path: str, body: Mapping[str, Any]) -> Manifest:
        """Merge ``body`` into an object, and return the object."""
        return await self._request(
            "PATCH", path, query={"fieldManager": MANAGER}, body=body, content_type="application/merge-patch+json"
        )

    async def create(self, path: str, body: Mapping[str, Any]) -> Manifest:
        """Create an object."""
        return await self._request("POST", path, query={"fieldManager": MANAGER}, body=body)

    async def replace(self, path: str, body: Mapping[str, Any]) -> Manifest:
        """Replace an object, unless it has changed since ``body`` was read."""
        return await self._request("PUT", path, query={"fieldManager": MANAGER}, body=body)

    async def delete(self, key: Key, uid: str, *, foreground: bool = False) -> None:
        """Delete a child, unless another object has taken its name; with ``foreground`` after what it owns."""
        options = {
            "preconditions": {"uid": uid},
            "propagationPolicy": "Foreground" if foreground else "Background",
        }
        await self.remove(CHILDREN[key.kind].path(key.namespace, key.name), options)

    async def remove(self, path: str, options: Mapping[str, Any] | None = None) -> None:
        """Delete an object; nothing where it is gone already, or is another by now."""
        try:
            await self._request("DELETE", path, body=options)
        except ApiError as problem:
            if problem.status not in (404, 409):
                raise

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
    ) -> Manifest:
        self.requests += 1
        self.writes += method != "GET"
        if method != "GET" and not self._may_write():
            raise ApiError(0, "NotLeading", "this operator does not hold the Lease any more")
        try:
            _, url, sent, _, _ = await self._client.param_serialize(
                method,
                path,
                query_params=[(key, value) for key, value in (query or {}).items() if value],
                header_params={"Accept": "application/json", "Content-Type": content_type, **(headers or {})},
                auth_settings=["BearerToken"],
            )
            response = await self._client.call_api(method, url, sent, body, _request_timeout=_REQUEST_SECONDS)
            raw = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as problem:
            raise ApiError(
                0, "Unreachable", f"the API server does not answer: {problem or type(problem).__name__}"
            ) from (problem)
        except ApiException as problem:
            raise _refusal(problem.status or 0, str(problem.reason), problem.body, problem.headers or {}) from None
        if not 200 <= response.status < 300:
            raise _refusal(response.status, str(response.reason), raw, response.headers)
        answer: Manifest = msgspec.json.decode(raw)
        return answer


def _refusal(status: int, reason: str, body: Any, headers: Mapping[str, str]) -> ApiError:
    """Read what the API server, or a proxy before it, said."""
    try:
        said = msgspec.json.decode(body)
        message, named, details = said["message"], said.get("reason", reason), said.get("details") or {}
    except (msgspec.DecodeError, KeyError, TypeError):
        message, named, details = f"HTTP {status} {reason}", reason, {}
    wait = headers.get("Retry-After", "")
    seconds = float(wait) if wait.isdigit() else float(details.get("retryAfterSeconds", 0))
    return ApiError(status, named, message, seconds, details)


@asynccontextmanager
async def connect() -> AsyncIterator[Cluster]:
    """Connect to the API server.

    Raises:
        ConfigurationError: as `connection`.

    """
    async with connection(_CONNECTIONS) as client:
        yield Cluster(client)


@asynccontextmanager
async def connection(most: int) -> AsyncIterator[ApiClient]:
    """Connect as a pod does, by its ServiceAccount, or elsewhere as kubectl does, by KUBECONFIG or ~/.kube/config.

    Args:
        most: how many requests may be under way at the same time.

    Raises:
        ConfigurationError: there is neither.

    """
    configuration = Configuration()
    try:
        if os.environ.get("KUBERNETES_SERVICE_HOST") and not os.environ.get("KUBECONFIG"):
            config.load_incluster_config(client_configuration=configuration)
        else:
            await config.load_kube_config(client_configuration=configuration)
    except config.ConfigException as problem:
        raise ConfigurationError(
            f"no cluster to talk to: {problem}; set KUBECONFIG to the file of one, or choose one with kubectl config"
        ) from problem
    configuration.connection_pool_maxsize = most
    async with ApiClient(configuration) as client:
        yield client
