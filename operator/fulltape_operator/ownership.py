"""Who owns a child: its feed, where Kubernetes allows it, so that it is deleted with the feed by itself."""

from dataclasses import replace

from fulltape_operator.desired.child import Child, Key, Manifest
from fulltape_operator.observed import FeedKey, feed_of_labels


def is_foreign(found: Manifest, feed: FeedKey, uid: str) -> bool:
    """Tell whether an object that has a child's name is not the feed's, neither by its labels nor by its owner."""
    owners = [owner["uid"] for owner in found["metadata"].get("ownerReferences", ())]
    return feed_of_labels(found) != feed and uid not in owners  # somebody may have taken its labels off


def name_taken(key: Key) -> str:
    """Say that a child's name is taken by an object that is not its feed's."""
    return f"{key} exists and is not of this feed; it stays as it is: rename or delete it, or name the feed otherwise"


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
