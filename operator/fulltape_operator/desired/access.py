"""Who a feed's pods are to the API server, what Spark's drivers may do there, and who may connect to the pods."""

from typing import Any

from fulltape.feed.model import CryptoFeed
from fulltape.workloads import PAGE, PROBES
from fulltape_operator.desired.child import Child, Manifest, Stage, child_name, manifest, selector
from fulltape_operator.platform import Platform


def access_children(feed: CryptoFeed, platform: Platform) -> list[Child]:
    """Return ServiceAccounts, the role of Spark's drivers, and the NetworkPolicy."""
    found = [_account(feed, "feed", platform)]
    if feed.spec.analytics is not None:
        found += [_account(feed, "panes", platform), _driver_role(feed)]
    if platform.network_policies:
        found.append(_network_policy(feed))
    children = [Child(Stage.FOUNDATION, one) for one in found]
    if feed.spec.analytics is not None:
        children.append(Child(Stage.BINDINGS, _driver_binding(feed)))
    return children


def programs_account(feed: CryptoFeed) -> str:
    """Return the ServiceAccount of programs that never talk to the API server."""
    return child_name(feed, "feed")


def executors_account(feed: CryptoFeed) -> str:
    """Return the ServiceAccount of Spark's drivers, which make executors."""
    return child_name(feed, "panes")


def _account(feed: CryptoFeed, component: str, platform: Platform) -> Manifest:
    return manifest(
        "v1",
        "ServiceAccount",
        feed,
        component,
        annotations=platform.service_account_annotations,
        automountServiceAccountToken=False,
    )


def _driver_role(feed: CryptoFeed) -> Manifest:
    """Return what a driver in client mode does: executors' pods, and the ConfigMap of their settings."""
    return manifest(
        "rbac.authorization.k8s.io/v1",
        "Role",
        feed,
        "panes",
        rules=[
            _rule("pods", ["create", "delete", "deletecollection", "get", "list", "patch", "watch"]),
            _rule("configmaps", ["create", "delete", "deletecollection", "get", "list", "watch"]),
            _rule("persistentvolumeclaims", ["deletecollection", "get", "list"]),
            _rule("services", ["deletecollection", "get", "list"]),
        ],
    )


def _rule(resource: str, verbs: list[str]) -> dict[str, Any]:
    return {"apiGroups": [""], "resources": [resource], "verbs": verbs}


def _driver_binding(feed: CryptoFeed) -> Manifest:
    name = executors_account(feed)
    return manifest(
        "rbac.authorization.k8s.io/v1",
        "RoleBinding",
        feed,
        "panes",
        roleRef={"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        subjects=[{"kind": "ServiceAccount", "name": name, "namespace": feed.metadata.namespace}],
    )


def _network_policy(feed: CryptoFeed) -> Manifest:
    """Return who may connect: anybody to metrics and the page, the feed's pods to one another, nobody else.

    What the pods connect to is left open: the exchange and Kafka have no addresses that a policy could name.
    """
    own = {"podSelector": {"matchLabels": selector(feed)}}
    ports = [{"port": PROBES, "protocol": "TCP"}, {"port": PAGE, "protocol": "TCP"}]
    return manifest(
        "networking.k8s.io/v1",
        "NetworkPolicy",
        feed,
        "feed",
        spec={
            "podSelector": {"matchLabels": selector(feed)},
            "policyTypes": ["Ingress"],
            "ingress": [{"ports": ports}, {"from": [own]}],
        },
    )
