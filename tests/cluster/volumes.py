"""Gives every claim of the node's class of storage a disk of its size, and deletes it with the claim.

A disk is a file of this machine, which takes room as it fills, with a file system in it. The volumes are of the kind
*local*, so that the kubelet makes them the pod's group's own, as it does of real disks.
"""

import logging
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from kubernetes.utils.quantity import parse_quantity
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
        folder: gets a file for each volume, and a folder that it is mounted on.

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
            except (client.ApiException, HTTPError, OSError, subprocess.CalledProcessError) as error:
                # The API server is away, or a disk is busy for a moment longer.
                _log.info("volumes: %s", error)
                self._ended.wait(_AGAIN_SECONDS)
            except Exception:  # noqa: BLE001 - one object that it can't take must not end the service of all others
                _log.exception("volumes: a fault of this program")
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
                _delete_disk(Path(volume.spec.local.path))
                try:
                    api.delete_persistent_volume(volume.metadata.name)
                except client.ApiException as error:
                    if error.status != 404:
                        raise

    def _provide(self, api: Any, claim: Any) -> None:
        name = f"pvc-{claim.metadata.uid}"
        folder = self._folder / name
        _make_disk(folder, int(parse_quantity(claim.spec.resources.requests["storage"])))
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


def _make_disk(folder: Path, size_bytes: int) -> None:
    """Mount a new file system of a size on a folder, where there is none."""
    if folder.is_mount():
        return
    folder.mkdir(exist_ok=True)
    disk = folder.with_suffix(".disk")
    with disk.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, folder], check=True)


def _delete_disk(folder: Path) -> None:
    if folder.is_mount():
        subprocess.run(["umount", folder], check=True)
    folder.with_suffix(".disk").unlink(missing_ok=True)
    if folder.exists():
        folder.rmdir()
