"""The Job that deletes a feed's topics on a Kafka without Strimzi, where the Secret is: the operator needs none."""

from dataclasses import replace
from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.workloads import workloads
from fulltape_operator.desired.access import programs_account
from fulltape_operator.desired.child import Child, Stage, labels, manifest
from fulltape_operator.desired.pods import FEED_FOLDER, PodParts, pod_template
from fulltape_operator.desired.settings import FEED_FILE, feed_settings, name_of
from fulltape_operator.platform import Platform

COMPONENT = "cleanup"
_SECONDS = 120
_TRIES = 2


def deletion(feed: CryptoFeed, platform: Platform) -> list[Child]:
    """Return the Job and its settings."""
    spec = feed.spec.model_copy(update={"suspend": False})
    producer = workloads(feed.model_copy(update={"spec": spec}))[0]
    # Which topics there are depends on what the feed records and whether it has analytics.
    reader = replace(producer, reads=producer.reads | {"analytics"}, ports={})
    settings = feed_settings(feed, reader)
    parts = PodParts(
        service_account=programs_account(feed),
        settings=name_of(settings),
        arguments=["-m", "fulltape.cli", "topics", "delete", "--feed", f"{FEED_FOLDER}/{FEED_FILE}"],
    )
    template = pod_template(feed, reader, parts, platform)
    pod: dict[str, Any] = template["spec"] | {"restartPolicy": "Never"}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe", "ports"):
        del pod["containers"][0][probe]
    template = {"metadata": {"labels": labels(feed, COMPONENT)}, "spec": pod}
    job = manifest(
        "batch/v1",
        "Job",
        feed,
        COMPONENT,
        spec={"backoffLimit": _TRIES, "activeDeadlineSeconds": _SECONDS, "template": template},
    )
    return [settings, Child(Stage.SERVING, job)]
