"""Who owns a child: its feed, where Kubernetes allows it, so that it is deleted with the feed by itself."""

from dataclasses import replace

from fulltape_operator.desired.child import Child, Manifest


def belonging_to(live: Manifest, child: Child) -> Child:
    """Return a child with its feed as owner; as it is where it outlives the feed or is in another namespace."""
    metadata = live["metadata"]
    if child.outlives or child.key.namespace != metadata["namespace"]:
        return child
    owner = {
        "apiVersion": live["apiVersion"],
        "kind": live["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "controller": True,
    }
    return replace(
        child,
        manifest={**child.manifest, "metadata": {**child.manifest["metadata"], "ownerReferences": [owner]}},
    )
