"""Routes to a feed's page, on a real API server: it takes them, keeps them as they were written, refuses bad ones."""

import json
from typing import Any

import pytest

from fulltape.feed.load import feed_of
from fulltape_operator.cluster import CHILDREN
from fulltape_operator.desired import desired_state
from fulltape_operator.owned import MANAGER, owned
from fulltape_operator.platform import Platform
from tests.control_plane.plane import Cluster, KubectlError

pytestmark = pytest.mark.integration

INGRESS: dict[str, Any] = {"ingress": {"host": "majors.example.com"}}
HTTP_ROUTE: dict[str, Any] = {"httpRoute": {"host": "majors.example.com", "parentRefs": [{"name": "web"}]}}
FULL_INGRESS: dict[str, Any] = {
    "ingress": {
        "host": "majors.example.com",
        "className": "nginx",
        "annotations": {"nginx.ingress.kubernetes.io/proxy-read-timeout": "3600"},
        "tlsSecretRef": {"name": "page-tls"},
    }
}
TWO_GATEWAYS: dict[str, Any] = {
    "httpRoute": {
        "host": "majors.example.com",
        "parentRefs": [{"name": "web", "namespace": "gateways", "sectionName": "https"}, {"name": "own"}],
    }
}


def feed_with(dashboard: dict[str, Any], namespace: str) -> dict[str, Any]:
    return {
        "apiVersion": "fulltape.dev/v1alpha1",
        "kind": "CryptoFeed",
        "metadata": {"name": "majors", "namespace": namespace},
        "spec": {
            "products": ["BTC-USD"],
            "kafka": {"bootstrapServers": "kafka:9092"},
            "analytics": {},
            "dashboard": dashboard,
        },
    }


@pytest.mark.parametrize(
    ("dashboard", "kind"),
    [(INGRESS, "Ingress"), (FULL_INGRESS, "Ingress"), (HTTP_ROUTE, "HTTPRoute"), (TWO_GATEWAYS, "HTTPRoute")],
)
def test_a_route_is_kept_as_it_was_written_so_that_it_is_not_applied_again(
    plane: Cluster, namespace: str, dashboard: dict[str, Any], kind: str
) -> None:
    feed = feed_of(feed_with(dashboard, namespace))
    [route] = [child.manifest for child in desired_state(feed, Platform()) if child.key.kind == kind]
    plane.kubectl("apply", "--server-side", f"--field-manager={MANAGER}", "--filename=-", input=json.dumps(route))
    resource = CHILDREN[kind]
    plural = f"{resource.plural}.{resource.version}.{resource.group}"
    live = plane.get(plural, "majors-dashboard", f"--namespace={namespace}", "--show-managed-fields")
    assert owned(live) == route


@pytest.mark.parametrize(
    ("dashboard", "field", "said"),
    [
        ({}, "spec.dashboard", "no way to the page is named; add ingress: {host: ...} or httpRoute"),
        (INGRESS | HTTP_ROUTE, "spec.dashboard.httpRoute", "ingress and httpRoute exclude each other; keep one"),
        ({"ingress": {}}, "spec.dashboard.ingress.host", "Required value"),
        ({"ingress": {"host": "10.0.0.1"}}, "spec.dashboard.ingress.host", "no address and no port"),
        (
            {"ingress": {"host": "a.example", "annotations": {"not a name": "x"}}},
            "spec.dashboard.ingress.annotations",
            "not a name is not an annotation's name; write name or domain/name",
        ),
        ({"httpRoute": {"host": "a.example", "parentRefs": []}}, "spec.dashboard.httpRoute.parentRefs", "at least 1"),
        (
            {"httpRoute": {"host": "a.example", "parentRefs": [{"name": "a"}, {"name": "a", "sectionName": "b"}]}},
            "spec.dashboard.httpRoute.parentRefs",
            "a Gateway is named twice; name another listener in each by sectionName, or remove one",
        ),
    ],
)
def test_a_way_that_leads_nowhere_is_refused_with_its_field_and_the_mend(
    plane: Cluster, namespace: str, dashboard: dict[str, Any], field: str, said: str
) -> None:
    feed = feed_with(dashboard, namespace)
    with pytest.raises(KubectlError) as caught:
        plane.kubectl("create", "--dry-run=server", "--filename=-", input=json.dumps(feed))
    assert field in str(caught.value)
    assert said in str(caught.value)


def test_a_page_without_analytics_is_refused_with_the_mend(plane: Cluster, namespace: str) -> None:
    feed = feed_with(INGRESS, namespace)
    del feed["spec"]["analytics"]
    with pytest.raises(KubectlError, match=r"spec.dashboard: .*there is no analytics; add analytics: \{\}"):
        plane.kubectl("create", "--dry-run=server", "--filename=-", input=json.dumps(feed))
