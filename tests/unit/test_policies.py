"""What the node of the end-to-end tests lets through to a pod, by the NetworkPolicies of its namespace."""

from typing import Any

import pytest

from tests.cluster.policies import rules_of

_NO_DRIVER = {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["driver"]}]}


def _pod(name: str, address: str, labels: dict[str, str], namespace: str = "markets") -> dict[str, Any]:
    container = {"ports": [{"name": "probes", "containerPort": 9100}]}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": labels},
        "spec": {"containers": [container]},
        "status": {"podIP": address, "phase": "Running"},
    }


def _policy(*ingress: dict[str, Any], selector: dict[str, Any] | None = None) -> dict[str, Any]:
    spec = {"podSelector": selector or {}, "policyTypes": ["Ingress"], "ingress": list(ingress)}
    return {"metadata": {"namespace": "markets"}, "spec": spec}


_DRIVER = _pod("driver", "10.244.0.5", {"app": "driver"})
_EXECUTOR = _pod("executor", "10.244.0.6", {"app": "executor"})
_STRANGER = _pod("stranger", "10.244.0.7", {"app": "executor"}, "research")
_PODS = [_DRIVER, _EXECUTOR, _STRANGER]
_NAMESPACES = [
    {"metadata": {"name": "markets", "labels": {}}},
    {"metadata": {"name": "research", "labels": {"team": "quants"}}},
]


def _accepted(*policies: dict[str, Any]) -> set[str]:
    """Return what is accepted besides what always is."""
    lines = rules_of(_DRIVER, policies, _PODS, _NAMESPACES).splitlines()
    always = {"iif lo", "ct state established,related", "ip saddr 10.244.0.1"}
    return {line.strip().removesuffix(" accept") for line in lines if line.endswith(" accept")} - always


@pytest.mark.parametrize(
    ("way", "accepted"),
    [
        ({}, {"meta nfproto ipv4"}),
        ({"ports": [{"port": "probes"}]}, {"tcp dport 9100"}),
        ({"ports": [{"port": "unknown"}]}, set()),
        (
            {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 80, "endPort": 90}]},
            {"udp dport 53", "tcp dport 80-90"},
        ),
        ({"from": [{"podSelector": {"matchLabels": {"app": "executor"}}}]}, {"ip saddr 10.244.0.6"}),
        ({"from": [{"namespaceSelector": {"matchLabels": {"team": "quants"}}}]}, {"ip saddr 10.244.0.7"}),
        (
            {"from": [{"namespaceSelector": {}, "podSelector": _NO_DRIVER}], "ports": [{"port": 7078}]},
            {"ip saddr 10.244.0.6 tcp dport 7078", "ip saddr 10.244.0.7 tcp dport 7078"},
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.89.0.0/24", "except": ["10.89.0.7/32"]}}]},
            {"ip saddr 10.89.0.0/24 ip saddr != 10.89.0.7/32"},
        ),
    ],
)
def test_what_a_policy_opens_is_open_and_nothing_else(way: dict[str, Any], accepted: set[str]) -> None:
    assert _accepted(_policy(way)) == accepted


def test_policies_add_to_one_another_and_one_that_opens_nothing_closes_all() -> None:
    assert _accepted(_policy()) == set()
    assert _accepted(_policy(), _policy({"ports": [{"port": 1}]}), _policy({"ports": [{"port": 2}]})) == {
        "tcp dport 1",
        "tcp dport 2",
    }


def test_a_pod_that_no_policy_is_for_is_open_to_all() -> None:
    of_others = _policy(selector={"matchLabels": {"app": "executor"}})
    of_egress = {"metadata": {"namespace": "markets"}, "spec": {"podSelector": {}, "policyTypes": ["Egress"]}}
    assert "drop" not in rules_of(_DRIVER, [of_others, of_egress], _PODS, _NAMESPACES)
    assert "drop" in rules_of(_EXECUTOR, [of_others], _PODS, _NAMESPACES)
