"""The ConfigMaps of a feed: for each program the feed with only what it reads, under a name made of its content.

A program is started with a ConfigMap that never changes. What changes the content changes the name, and so rolls the
programs that read it; what a program does not read leaves it as it runs.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.workloads import Workload
from fulltape_operator.desired.child import Child, Stage, child_name, manifest

FEED_FILE = "feed.yaml"


def feed_as_read(feed: CryptoFeed, workload: Workload) -> dict[str, Any]:
    """Return a valid feed with the fields that a program reads, the others at their defaults.

    A feed has at least one product: a program that reads none of them gets the first.
    """
    whole = feed.to_dict()
    spec = {field: value for field, value in whole["spec"].items() if field in workload.reads}
    spec.setdefault("products", whole["spec"]["products"][:1])
    spec.setdefault("kafka", whole["spec"]["kafka"])
    return {
        "apiVersion": whole["apiVersion"],
        "kind": whole["kind"],
        "metadata": {"name": feed.metadata.name, "namespace": feed.metadata.namespace},
        "spec": spec,
    }


def feed_settings(feed: CryptoFeed, workload: Workload) -> Child:
    """Return the ConfigMap with the feed for one program."""
    text = json.dumps(feed_as_read(feed, workload), indent=1, sort_keys=True)
    return settings(feed, workload.component, workload.component, {FEED_FILE: text})


def settings(feed: CryptoFeed, component: str, stem: str, data: Mapping[str, str]) -> Child:
    """Return a ConfigMap that never changes; its name is ``stem`` and a digest of its content."""
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:10]
    name = f"{child_name(feed, stem)}-{digest}"
    return Child(
        Stage.FOUNDATION, manifest("v1", "ConfigMap", feed, component, name=name, immutable=True, data=dict(data))
    )


def name_of(child: Child) -> str:
    """Return the name of a ConfigMap."""
    return str(child.manifest["metadata"]["name"])
