"""Copies of Strimzi's Secrets, where its cluster is in another namespace than the feed: a pod mounts its own alone."""

from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired.child import PREFIX, Child, Manifest, Stage, manifest

_NEEDED = {"user.crt", "user.key", "password", "sasl.jaas.config", "ca.crt"}
"""What the programs read; a keystore's password stays where it is."""


def copy_of(feed: CryptoFeed, name: str, original: Manifest) -> Child:
    """Return the copy of a Secret, with what the programs read of it."""
    metadata = original["metadata"]
    data = {key: value for key, value in original.get("data", {}).items() if key in _NEEDED}
    return Child(
        Stage.TOPICS,
        manifest(
            "v1",
            "Secret",
            feed,
            "kafka",
            name=name,
            annotations={f"{PREFIX}/copy-of": f"{metadata['namespace']}/{metadata['name']}"},
            type="Opaque",
            data=data,
        ),
    )
