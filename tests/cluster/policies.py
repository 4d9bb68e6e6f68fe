"""Has the node's pods keep NetworkPolicies, by packet filters in each pod's own network.

The node's own filters do not see what goes from pod to pod over their bridge. Kept is what policies say of *Ingress*;
*Egress* is not. A pod that is new is open until the next look, a second later.
"""

import ipaddress
import json
import logging
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from kubernetes import client, config
from urllib3.exceptions import HTTPError

from tests.cluster.network import POD_GATEWAY
from tests.cluster.pod_network import filter_packets

Object = Mapping[str, Any]

_log = logging.getLogger(__name__)
_LOOK_SECONDS = 1.0
_OPEN = "table inet policies\ndelete table inet policies\n"
"""Makes the table where there is none, so that there is one to delete."""


class Policies:
    """The controller; it works in a thread between `start` and `stop`.

    Args:
        kubeconfig: opens the cluster.

    """

    def __init__(self, kubeconfig: Path) -> None:
        self._kubeconfig = kubeconfig
        self._ended = threading.Event()
        self._kept: dict[str, str] = {}
        """The rules of each pod that has some, by its UID."""

    def start(self) -> None:
        """Begin."""
        threading.Thread(target=self._look_again_and_again, daemon=True).start()

    def stop(self) -> None:
        """End; what is under way is not waited for."""
        self._ended.set()

    def _look_again_and_again(self) -> None:
        api = config.new_client_from_config(str(self._kubeconfig))
        core, network = client.CoreV1Api(api), client.NetworkingV1Api(api)
        while not self._ended.wait(_LOOK_SECONDS):
            try:
                policies = _items(network.list_network_policy_for_all_namespaces(_preload_content=False))
                pods = _items(core.list_pod_for_all_namespaces(_preload_content=False))
                namespaces = _items(core.list_namespace(_preload_content=False))
                self._keep(policies, pods, namespaces)
            except (client.ApiException, HTTPError) as error:  # the API server is away
                _log.info("network policies: %s", error)
            except Exception:  # noqa: BLE001 - one object that it can't take must not end the service of all others
                _log.exception("network policies: a fault of this program")

    def _keep(self, policies: Sequence[Object], pods: Sequence[Object], namespaces: Sequence[Object]) -> None:
        running = {pod["metadata"]["uid"]: pod for pod in pods if _address(pod)}
        self._kept = {uid: rules for uid, rules in self._kept.items() if uid in running}
        for uid, pod in running.items():
            rules = rules_of(pod, policies, running.values(), namespaces)
            if rules == self._kept.get(uid, _OPEN):
                continue
            try:
                filter_packets(uid, rules)
            except (ValueError, OSError, subprocess.CalledProcessError) as error:  # it is ending
                _log.info("network policies: %s: %s", pod["metadata"]["name"], error)
            else:
                self._kept[uid] = rules


def rules_of(pod: Object, policies: Iterable[Object], pods: Iterable[Object], namespaces: Iterable[Object]) -> str:
    """Return the packet filter of a pod, as nft reads it: who may connect to it, where a policy says anything of that.

    Args:
        pod: one that has an address, as the API server has it.
        policies: all NetworkPolicies.
        pods: all pods that have addresses.
        namespaces: all namespaces.

    """
    of_pod = [policy["spec"] for policy in policies if _is_for(policy, pod)]
    if not of_pod:
        return _OPEN
    labels = {one["metadata"]["name"]: one["metadata"].get("labels", {}) for one in namespaces}
    known = list(pods)
    rules = [
        rule
        for spec in of_pod
        for way in spec.get("ingress") or ()
        for source in _sources(way, pod, known, labels)
        for rule in _rules(source, way, pod)
    ]
    allowed = "".join(f"    {rule} accept\n" for rule in sorted(set(rules)))
    return f"""{_OPEN}table inet policies {{
  chain in {{
    type filter hook input priority 10; policy drop;
    iif lo accept
    ct state established,related accept
    ip saddr {POD_GATEWAY} accept
{allowed}  }}
}}
"""


def _is_for(policy: Object, pod: Object) -> bool:
    return (
        policy["metadata"]["namespace"] == pod["metadata"]["namespace"]
        and "Ingress" in policy["spec"]["policyTypes"]
        and _matches(policy["spec"]["podSelector"], pod["metadata"].get("labels", {}))
    )


def _sources(way: Object, pod: Object, pods: Sequence[Object], labels: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return who may come by one way that a policy opens, each as nft matches it; one that is empty is everybody."""
    if not way.get("from"):
        return [""]
    return [source for peer in way["from"] for source in _sources_of_peer(peer, pod, pods, labels)]


def _sources_of_peer(
    peer: Object, pod: Object, pods: Sequence[Object], labels: Mapping[str, Mapping[str, str]]
) -> Iterator[str]:
    if "ipBlock" in peer:
        block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        refused = "".join(f" ip saddr != {one}" for one in peer["ipBlock"].get("except", ()))
        if block.version == 4:  # the node has no other
            yield f"ip saddr {block}{refused}"
        return
    for other in pods:
        metadata = other["metadata"]
        if "namespaceSelector" in peer:
            in_namespace = _matches(peer["namespaceSelector"], labels.get(metadata["namespace"], {}))
        else:
            in_namespace = metadata["namespace"] == pod["metadata"]["namespace"]
        if in_namespace and _matches(peer.get("podSelector", {}), metadata.get("labels", {})):
            yield f"ip saddr {_address(other)}"


def _rules(source: str, way: Object, pod: Object) -> Iterator[str]:
    """Return what nft matches of a source: everything, or the ports that the way is for."""
    if not way.get("ports"):
        yield source or "meta nfproto ipv4"
    for port in way.get("ports") or ():
        protocol = port.get("protocol", "TCP").lower()
        for number in _port_numbers(port, pod):
            yield f"{source} {protocol} dport {number}".strip()


def _port_numbers(port: Object, pod: Object) -> list[str]:
    """Return the numbers of a policy's port at a pod, as nft matches them; a name that it has not is none."""
    wanted = port.get("port")
    if wanted is None:
        return ["0-65535"]
    if isinstance(wanted, int):
        return [f"{wanted}-{port['endPort']}" if "endPort" in port else str(wanted)]
    of_pod = [one for container in pod["spec"]["containers"] for one in container.get("ports", ())]
    return [str(one["containerPort"]) for one in of_pod if one.get("name") == wanted]


def _matches(selector: Object, labels: Mapping[str, str]) -> bool:
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        _holds(one, labels) for one in selector.get("matchExpressions", ())
    )


def _holds(expression: Object, labels: Mapping[str, str]) -> bool:
    value = labels.get(expression["key"])
    match expression["operator"]:
        case "In":
            return value in expression["values"]
        case "NotIn":
            return value not in expression["values"]
        case "Exists":
            return value is not None
        case _:  # DoesNotExist
            return value is None


def _address(pod: Object) -> str:
    """Return the address of a pod that has one of its own; of others, nothing."""
    if pod["spec"].get("hostNetwork") or pod["status"].get("phase") in {"Succeeded", "Failed"}:
        return ""
    return str(pod["status"].get("podIP", ""))


def _items(answer: Any) -> list[Object]:
    return list(json.loads(answer.data)["items"])
