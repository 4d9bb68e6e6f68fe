"""The desired state: what a feed wants to exist in a cluster. Pure functions from the feed and the platform."""

from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired.access import access_children
from fulltape_operator.desired.child import Child
from fulltape_operator.desired.kafka import kafka_children
from fulltape_operator.desired.monitoring import monitoring_children
from fulltape_operator.desired.programs import program_children
from fulltape_operator.platform import Platform


def desired_state(feed: CryptoFeed, platform: Platform) -> tuple[Child, ...]:
    """Return every object that a feed wants, in the order in which they are applied."""
    found = [
        *access_children(feed, platform),
        *kafka_children(feed),
        *program_children(feed, platform),
        *monitoring_children(feed, platform),
    ]
    # Programs that read the same share their settings.
    once = {child.key: child for child in found}
    return tuple(sorted(once.values(), key=lambda child: child.stage))
