"""The way of browsers to a feed's page: what is made of each, and what a change of it touches."""

from typing import Any

import pytest

from fulltape.feed.model import CryptoFeed
from fulltape_operator.desired import desired_state
from fulltape_operator.desired.child import Key, Manifest
from fulltape_operator.plan import WORKLOADS
from tests.unit.operator.feeds import EVERYTHING, STRIMZI, changed

HOST = "majors.example.com"
INGRESS: dict[str, Any] = {"ingress": {"host": HOST}}
HTTP_ROUTE: dict[str, Any] = {"httpRoute": {"host": HOST, "parentRefs": [{"name": "web"}]}}


def state(feed: CryptoFeed) -> dict[Key, Manifest]:
    return {child.key: child.manifest for child in desired_state(feed, EVERYTHING)}


def spec_of(kind: str, dashboard: dict[str, Any]) -> Any:
    return state(changed(STRIMZI, dashboard=dashboard))[Key(kind, "markets", "majors-dashboard")]["spec"]


def test_an_ingress_leads_to_the_page_s_service_and_is_the_class_s_default_without_tls() -> None:
    backend = {"service": {"name": "majors-dashboard", "port": {"name": "page"}}}
    paths = [{"path": "/", "pathType": "Prefix", "backend": backend}]
    assert spec_of("Ingress", INGRESS) == {"rules": [{"host": HOST, "http": {"paths": paths}}]}


def test_an_ingress_has_the_class_the_annotations_and_the_certificate_that_are_asked_for() -> None:
    wishes = {"className": "nginx", "tlsSecretRef": {"name": "page-tls"}, "annotations": {"team": "desk"}}
    dashboard = {"ingress": INGRESS["ingress"] | wishes}
    spec = spec_of("Ingress", dashboard)
    assert spec["ingressClassName"] == "nginx"
    assert spec["tls"] == [{"hosts": [HOST], "secretName": "page-tls"}]
    [made] = [one for key, one in state(changed(STRIMZI, dashboard=dashboard)).items() if key.kind == "Ingress"]
    assert made["metadata"]["annotations"] == {"team": "desk"}


def test_an_http_route_leads_from_its_gateways_to_the_page_with_every_default_written_out() -> None:
    listener = {"name": "web", "namespace": "gateways", "sectionName": "https"}
    group = {"group": "gateway.networking.k8s.io", "kind": "Gateway"}
    spec = spec_of("HTTPRoute", {"httpRoute": {"host": HOST, "parentRefs": [listener, {"name": "own"}]}})
    assert spec == {
        "parentRefs": [group | listener, group | {"name": "own"}],
        "hostnames": [HOST],
        "rules": [
            {
                "matches": [{"path": {"type": "PathPrefix", "value": "/"}}],
                "backendRefs": [
                    {"group": "", "kind": "Service", "name": "majors-dashboard", "port": 8080, "weight": 1}
                ],
            }
        ],
    }


@pytest.mark.parametrize(("dashboard", "kind"), [(INGRESS, "Ingress"), (HTTP_ROUTE, "HTTPRoute")])
def test_the_page_answers_by_the_name_that_browsers_come_by_and_nothing_else_is_restarted(
    dashboard: dict[str, Any], kind: str
) -> None:
    before, after = state(STRIMZI), state(changed(STRIMZI, dashboard=dashboard))
    assert after.keys() - before.keys() == {Key(kind, "markets", "majors-dashboard")}
    altered = {key for key in before if before[key] != after[key]}
    assert altered == {Key("Deployment", "markets", "majors-dashboard")}
    [container] = after[altered.pop()]["spec"]["template"]["spec"]["containers"]
    [names] = [one["value"].split() for one in container["env"] if one["name"] == "FULLTAPE_ALLOWED_HOSTS"]
    assert HOST in names


def test_the_port_of_a_route_is_one_that_the_service_and_the_pods_have_and_anybody_may_connect_to() -> None:
    found = state(changed(STRIMZI, dashboard=HTTP_ROUTE))
    [backend] = spec_of("HTTPRoute", HTTP_ROUTE)["rules"][0]["backendRefs"]
    [port] = found[Key("Service", "markets", backend["name"])]["spec"]["ports"]
    assert port["port"] == backend["port"]
    [container] = found[Key("Deployment", "markets", "majors-dashboard")]["spec"]["template"]["spec"]["containers"]
    assert port["targetPort"] in {one["name"] for one in container["ports"]}
    anybody = [
        one for one in found[Key("NetworkPolicy", "markets", "majors-feed")]["spec"]["ingress"] if "from" not in one
    ]
    assert port["targetPort"] in {one["port"] for rule in anybody for one in rule["ports"]}


@pytest.mark.parametrize("dashboard", [INGRESS, HTTP_ROUTE])
def test_a_suspended_feed_keeps_its_route(dashboard: dict[str, Any]) -> None:
    running = state(changed(STRIMZI, dashboard=dashboard))
    suspended = state(changed(STRIMZI, dashboard=dashboard, suspend=True))
    assert running.keys() == suspended.keys()
    assert all(running[key] == suspended[key] for key in running if key.kind not in WORKLOADS)
