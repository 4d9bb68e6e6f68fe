"""One object that a feed wants to exist: its manifest, when it is applied, and what every such object carries."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from fulltape.feed.model import CryptoFeed

Manifest = dict[str, Any]
"""An object as the API server takes it. No field is empty that the server would drop, every default that stands in a
list or struct which the server keeps whole is written out, and quantities are in their shortest form: what it stores of
ours then equals what we wrote."""

PREFIX = "fulltape.dev"
FEED_LABEL = f"{PREFIX}/feed"
FEED_NAMESPACE_LABEL = f"{PREFIX}/feed-namespace"
COMPONENT_LABEL = "app.kubernetes.io/component"
REVISION_LABEL = f"{PREFIX}/revision"
"""On Spark's drivers: a digest of what they were started with, where another operator starts them."""
MANAGED_BY_LABEL = "app.kubernetes.io/managed-by"
MANAGED_BY = "fulltape"


class Stage(IntEnum):
    """When an object is applied: each stage after the one before it. Topics come before what writes to them."""

    FOUNDATION = 0
    BINDINGS = 1
    """After the Roles: one to a Role that is not there is refused."""
    TOPICS = 2
    USERS = 3
    """After the topics: who can't have these must not get rights on them."""
    PRODUCERS = 4
    ANALYTICS = 5
    SERVING = 6


@dataclass(frozen=True, slots=True)
class Key:
    """What names an object in a cluster."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Child:
    """An object that a feed wants."""

    stage: Stage
    manifest: Manifest
    outlives: bool = False
    """Whether it stays when its feed is deleted, and so has no owner."""

    @property
    def key(self) -> Key:
        """What names it."""
        metadata = self.manifest["metadata"]
        return Key(self.manifest["kind"], metadata["namespace"], metadata["name"])

    @property
    def component(self) -> str:
        """The component that it belongs to."""
        return str(self.manifest["metadata"]["labels"][COMPONENT_LABEL])


def child_name(feed: CryptoFeed, component: str) -> str:
    """Return the name of a feed's object; a feed's name has at most 40 characters, so that this fits a label."""
    return f"{feed.metadata.name}-{component}"


def labels(feed: CryptoFeed, component: str) -> dict[str, str]:
    """Return the labels of everything that runs or stands for a component of a feed."""
    return {**selector(feed, component), "app.kubernetes.io/part-of": feed.metadata.name, MANAGED_BY_LABEL: MANAGED_BY}


def selector(feed: CryptoFeed, component: str | None = None) -> dict[str, str]:
    """Return the labels that tell the pods of a feed, or of one component of it, from all others."""
    found = {
        "app.kubernetes.io/name": "fulltape",
        "app.kubernetes.io/instance": feed.metadata.name,
        FEED_LABEL: feed.metadata.name,
        FEED_NAMESPACE_LABEL: feed.metadata.namespace,
    }
    return found if component is None else {**found, COMPONENT_LABEL: component}


def manifest(
    api_version: str,
    kind: str,
    feed: CryptoFeed,
    component: str,
    *,
    name: str | None = None,
    namespace: str | None = None,
    extra_labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    **fields: Any,
) -> Manifest:
    """Return the manifest of an object of a component; its name is the component's unless another is given."""
    metadata: dict[str, Any] = {
        "name": name or child_name(feed, component),
        "namespace": namespace or feed.metadata.namespace,
        "labels": {**labels(feed, component), **(extra_labels or {})},
    }
    if annotations:
        metadata["annotations"] = dict(annotations)
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, **fields}
