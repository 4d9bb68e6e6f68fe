"""The node's network: a namespace of its own, joined to this machine by one pair of interfaces and to nothing else.

What runs on the node, and its pods, can't leave the machine: there is no route. Deleting the namespace deletes every
bridge, interface and packet filter that the node made.
"""

import os
import subprocess
from pathlib import Path

NAMESPACE = "fulltape-node"
HOST_ADDRESS = "10.89.0.1"
"""This machine's, on its side of the pair: the API server listens there."""
NODE_ADDRESS = "10.89.0.2"
POD_NETWORK = "10.244.0.0/16"
POD_GATEWAY = "10.244.0.1"
"""The node's, on the pods' bridge: the kubelet asks pods from it."""
SERVICE_NETWORK = "10.96.0.0/16"
DNS_ADDRESS = "10.96.0.10"
API_ADDRESS = "10.96.0.1"

_HOST_LINK = "fulltape-host"
_NODE_LINK = "fulltape-node"
_PATH = Path("/run/netns") / NAMESPACE


def make_network() -> None:
    """Make the namespace and the pair of interfaces.

    Raises:
        OSError: this user or this kernel can't.

    """
    _ip("netns", "add", NAMESPACE)
    _ip("link", "add", _HOST_LINK, "type", "veth", "peer", "name", _NODE_LINK, "netns", NAMESPACE)
    _ip("addr", "add", f"{HOST_ADDRESS}/24", "dev", _HOST_LINK)
    _ip("link", "set", _HOST_LINK, "up")
    # Tests reach pods by their own addresses.
    _ip("route", "add", POD_NETWORK, "via", NODE_ADDRESS)
    _ip("-netns", NAMESPACE, "link", "set", "lo", "up")
    _ip("-netns", NAMESPACE, "addr", "add", f"{NODE_ADDRESS}/24", "dev", _NODE_LINK)
    _ip("-netns", NAMESPACE, "link", "set", _NODE_LINK, "up")
    # What the node itself sends to a Service needs a route before the packet filter changes where it goes.
    _ip("-netns", NAMESPACE, "route", "add", SERVICE_NETWORK, "via", HOST_ADDRESS)
    _run(*in_namespace(), "sysctl", "-qw", "net.ipv4.ip_forward=1")


def in_namespace() -> list[str]:
    """Return the beginning of a command that runs on the node.

    ``ip netns exec`` would hide the mounts of the control groups.
    """
    return ["/usr/bin/nsenter", f"--net={_PATH}", "--"]


def processes_in_network() -> list[int]:
    """Return the processes of the node's own namespace: its servers, and the shims of its pods."""
    try:
        wanted = _PATH.stat().st_ino
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if (entry / "ns" / "net").stat().st_ino == wanted:
                    found.append(int(entry.name))
            except OSError:  # it has ended
                continue
    return found


def delete_network() -> None:
    """Delete the namespace and all that is in it, where there is one."""
    if _PATH.exists():
        _ip("netns", "del", NAMESPACE)
    if Path("/sys/class/net", _HOST_LINK).exists():  # the kernel deletes it a moment after the namespace
        subprocess.run(["ip", "link", "del", _HOST_LINK], capture_output=True, check=False)


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | {"LC_ALL": "C"})
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
