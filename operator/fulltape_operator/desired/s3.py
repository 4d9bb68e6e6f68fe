"""What tells a pod where S3 is and who it is there: variables that every client of S3 reads, and a file of credentials.

On EKS a pod's role comes by the annotations of its ServiceAccount, and nothing of this is needed.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.s3 import ENDPOINT_VARIABLE, REGION_VARIABLE
from fulltape.workloads import Workload
from fulltape_operator.platform import Platform

_FOLDER = "/etc/fulltape/s3"
_FILE = "credentials"
_FILE_VARIABLE = "AWS_SHARED_CREDENTIALS_FILE"


@dataclass(frozen=True, slots=True)
class S3Parts:
    """What a container that uses S3 has besides, and its pod."""

    environment: list[Mapping[str, Any]]
    volumes: list[Mapping[str, Any]]
    mounts: list[Mapping[str, Any]]


def s3_parts(feed: CryptoFeed, workload: Workload, platform: Platform) -> S3Parts:
    """Return what a program has besides so that it reaches S3; nothing where it does not use it."""
    if not _uses_s3(feed, workload):
        return S3Parts([], [], [])
    places = {ENDPOINT_VARIABLE: platform.s3.endpoint, REGION_VARIABLE: platform.s3.region}
    environment: list[Mapping[str, Any]] = [{"name": name, "value": value} for name, value in places.items() if value]
    if not (secret := platform.s3.secret_name):
        return S3Parts(environment, [], [])
    return S3Parts(
        [*environment, {"name": _FILE_VARIABLE, "value": f"{_FOLDER}/{_FILE}"}],
        [{"name": "s3", "secret": {"secretName": secret, "defaultMode": 0o440}}],
        [{"name": "s3", "mountPath": _FOLDER, "readOnly": True}],
    )


def _uses_s3(feed: CryptoFeed, workload: Workload) -> bool:
    if workload.component == "panes":
        return feed.spec.analytics is not None and feed.spec.analytics.checkpoint.uri is not None
    return workload.component in {"archive", "warehouse"}
