"""Gives every claim of the node's class of storage a folder of this machine, and deletes it with the claim.

The volumes are of the kind *local*, so that the kubelet makes them the pod's group's own, as it does of real disks.
"""

import logging
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from urllib3.exceptions import HTTPError

from tests.cluster.settings import STORAGE_CLASS

_log = logging.getLogger(__name__)
_AGAIN_SECONDS = 1.0
_WATCH_SECONDS = 300


class Volumes:
    """The controller; it works in threads between `start` and `stop`.

    Args:
        kubeconfig: opens the cluster.
        node: name of the node whose folders the volumes are.
        folder: gets a folder for each volume.

    """

    def __init__(self, kubeconfig: Path, node: str, folder: Path) -> None:
        self._kubeconfig = kubeconfig
        self._node = node
        self._folder = folder
        self._ended = threading.Event()

    def start(self) -> None:
        """Begin."""
        api = client.CoreV1Api(config.new_client_from_config(str(self._kubeconfig)))
        for follow in (self._follow_claims, self._follow_volumes):
            threading.Thread(target=self._again_and_again, args=(follow, api), daemon=True).start()

    def stop(self) -> None:
        """End; what is under way is not waited for."""
        self._ended.set()

    def _again_and_again(self, follow: Callable[[Any], None], api: Any) -> None:
        while not self._ended.is_set():
            try:
                follow(api)
            except (client.ApiException, HTTPError, OSError) as error:  # the API server is away
                _log.info("volumes: %s", error)
                self._ended.wait(_AGAIN_SECONDS)

    def _follow_claims(self, api: Any) -> None:
        for event in watch.Watch().stream(
            api.list_persistent_volume_claim_for_all_namespaces, timeout_seconds=_WATCH_SECONDS
        ):
            claim = event["object"]
            if (
                event["type"] != "DELETED"
                and claim.spec.storage_class_name == STORAGE_CLASS
                and claim.spec.volume_name is None
            ):
                self._provide(api, claim)

    def _follow_volumes(self, api: Any) -> None:
        for event in watch.Watch().stream(api.list_persistent_volume, timeout_seconds=_WATCH_SECONDS):
            volume = event["object"]
            if volume.spec.storage_class_name == STORAGE_CLASS and volume.status.phase in {"Released", "Failed"}:
                shutil.rmtree(volume.spec.local.path, ignore_errors=True)
                try:
                    api.delete_persistent_volume(volume.metadata.name)
                except client.ApiException as error:
                    if error.status != 404:
                        raise

    def _provide(self, api: Any, claim: Any) -> None:
        name = f"pvc-{claim.metadata.uid}"
        folder = self._folder / name
        folder.mkdir(exist_ok=True)
        volume = {
            "metadata": {"name": name},
            "spec": {
                "storageClassName": STORAGE_CLASS,
                "capacity": dict(claim.spec.resources.requests),
                "accessModes": list(claim.spec.access_modes),
                "persistentVolumeReclaimPolicy": "Delete",
                "claimRef": {
                    "namespace": claim.metadata.namespace,
                    "name": claim.metadata.name,
                    "uid": claim.metadata.uid,
                },
                "local": {"path": str(folder)},
                "nodeAffinity": {
                    "required": {
                        "nodeSelectorTerms": [
                            {
                                "matchExpressions": [
                                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [self._node]}
                                ]
                            }
                        ]
                    }
                },
            },
        }
        try:
            api.create_persistent_volume(volume)
        except client.ApiException as error:
            if error.status != 409:  # made in answer to an earlier event
                raise
