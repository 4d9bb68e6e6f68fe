"""Faults that only the owner of a node can cause: a pod without a network, a volume without room."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.cluster.network import POD_GATEWAY
from tests.cluster.pod_network import filter_packets
from tests.cluster.settings import FOLDER

_CUT = f"""\
table inet cut {{
  chain in {{ type filter hook input priority 0; policy drop; ip saddr {POD_GATEWAY} accept; iif lo accept; }}
  chain out {{ type filter hook output priority 0; policy drop; ip daddr {POD_GATEWAY} accept; oif lo accept; }}
}}
"""
"""The kubelet's probes still come through: what is tested is a network that fails, not the kubelet's answer to it."""


@contextmanager
def cut_off(pod_uid: str) -> Iterator[None]:
    """Let no packet into a pod or out of it while the context lasts; connections are not told.

    Raises:
        ValueError: no such pod runs on the node.

    """
    filter_packets(pod_uid, _CUT)
    try:
        yield
    finally:
        filter_packets(pod_uid, "delete table inet cut\n")


@contextmanager
def full(volume: str) -> Iterator[Callable[[], None]]:
    """Leave no room on a volume, which the node's storage class gave, while the context lasts.

    Gives what takes the room that has become free since.
    """
    filler = FOLDER / "volumes" / volume / "filler"
    with filler.open("wb") as file:

        def fill() -> None:
            for piece_bytes in (1 << 20, 1 << 12):
                with suppress(OSError):  # there is no room for another
                    while True:
                        os.posix_fallocate(file.fileno(), os.fstat(file.fileno()).st_size, piece_bytes)

        fill()
        try:
            yield fill
        finally:
            filler.unlink()
