"""Packet filters in a pod's own network namespace, which only the owner of its node can set."""

import subprocess
from pathlib import Path

from tests.cluster.settings import CONTROL_GROUP


def filter_packets(pod_uid: str, rules: str) -> None:
    """Give the network of a pod rules, as nft reads them from a file.

    Raises:
        ValueError: no such pod runs on the node.
        subprocess.CalledProcessError: nft can't read or set them; it has said why.

    """
    with Path(f"/proc/{_process_of(pod_uid)}/ns/net").open() as network:
        command = ["nsenter", f"--net=/proc/self/fd/{network.fileno()}", "--", "nft", "--file", "-"]
        subprocess.run(command, input=rules, text=True, pass_fds=[network.fileno()], check=True)


def _process_of(pod_uid: str) -> int:
    for group in Path("/sys/fs/cgroup").glob(f"**/{CONTROL_GROUP}/**/pod{pod_uid}/*/cgroup.procs"):
        for process in group.read_text().split():
            return int(process)
    raise ValueError(f"no pod with the UID {pod_uid} runs on this node")
