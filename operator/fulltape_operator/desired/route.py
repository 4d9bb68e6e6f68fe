"""The way of browsers outside the cluster to a feed's page: an Ingress, or an HTTPRoute of the Gateway API."""

from typing import Any

from fulltape.feed.model import CryptoFeed, Gateway, HttpRoute, Ingress
from fulltape.workloads import PAGE
from fulltape_operator.desired.child import Child, Manifest, Stage, child_name, manifest

ROUTES = {"Ingress", "HTTPRoute"}
"""The kinds of object that lead to the page."""
_COMPONENT = "dashboard"
_GATEWAY_GROUP = "gateway.networking.k8s.io"


def route_children(feed: CryptoFeed, port: int) -> list[Child]:
    """Return the route to the page, where the feed asks for one; ``port`` is the number of its Service's port."""
    dashboard, found = feed.spec.dashboard, []
    if dashboard is not None and dashboard.ingress is not None:
        found.append(_ingress(feed, dashboard.ingress))
    if dashboard is not None and dashboard.http_route is not None:
        found.append(_http_route(feed, dashboard.http_route, port))
    return [Child(Stage.SERVING, one) for one in found]


def _ingress(feed: CryptoFeed, ingress: Ingress) -> Manifest:
    backend = {"service": {"name": child_name(feed, _COMPONENT), "port": {"name": PAGE}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    spec: dict[str, Any] = {"rules": [{"host": ingress.host, "http": {"paths": paths}}]}
    if ingress.class_name is not None:
        spec["ingressClassName"] = ingress.class_name
    if ingress.tls_secret_ref is not None:
        spec["tls"] = [{"hosts": [ingress.host], "secretName": ingress.tls_secret_ref.name}]
    return manifest("networking.k8s.io/v1", "Ingress", feed, _COMPONENT, annotations=ingress.annotations, spec=spec)


def _http_route(feed: CryptoFeed, route: HttpRoute, port: int) -> Manifest:
    backend = {"group": "", "kind": "Service", "name": child_name(feed, _COMPONENT), "port": port, "weight": 1}
    everything = {"path": {"type": "PathPrefix", "value": "/"}}
    return manifest(
        f"{_GATEWAY_GROUP}/v1",
        "HTTPRoute",
        feed,
        _COMPONENT,
        spec={
            "parentRefs": [_parent(gateway) for gateway in route.parent_refs],
            "hostnames": [route.host],
            "rules": [{"matches": [everything], "backendRefs": [backend]}],
        },
    )


def _parent(gateway: Gateway) -> dict[str, str]:
    found = {"group": _GATEWAY_GROUP, "kind": "Gateway", "name": gateway.name}
    if gateway.namespace is not None:
        found["namespace"] = gateway.namespace
    if gateway.section_name is not None:
        found["sectionName"] = gateway.section_name
    return found
