"""How browsers reach the page from outside: one way, to a host with a name, where there is a page."""

import json
from typing import Any

import pytest

from fulltape.errors import FeedError
from fulltape.feed.load import parse_feed
from fulltape.feed.model import CryptoFeed

INGRESS = {"ingress": {"host": "majors.example.com"}}
HTTP_ROUTE = {"httpRoute": {"host": "majors.example.com", "parentRefs": [{"name": "web"}]}}


def feed_with(dashboard: dict[str, Any], analytics: dict[str, Any] | None) -> CryptoFeed:
    spec = {"products": ["BTC-USD"], "kafka": {"bootstrapServers": "kafka:9092"}, "dashboard": dashboard}
    feed = {
        "apiVersion": "fulltape.dev/v1alpha1",
        "kind": "CryptoFeed",
        "metadata": {"name": "majors"},
        "spec": spec if analytics is None else {**spec, "analytics": analytics},
    }
    return parse_feed(json.dumps(feed).encode(), "feed")


@pytest.mark.parametrize("dashboard", [INGRESS, HTTP_ROUTE])
def test_either_way_names_the_host_that_browsers_ask_for(dashboard: dict[str, Any]) -> None:
    found = feed_with(dashboard, {}).spec.dashboard
    assert found is not None
    assert found.host == "majors.example.com"


@pytest.mark.parametrize(
    ("dashboard", "said"),
    [
        ({}, "spec.dashboard: no way to the page is named; add ingress: {host: ...} or httpRoute"),
        (INGRESS | HTTP_ROUTE, "spec.dashboard.httpRoute: ingress and httpRoute exclude each other; keep one"),
        ({"ingress": {}}, "spec.dashboard.ingress.host: is missing"),
        ({"ingress": {"host": "10.0.0.1"}}, "spec.dashboard.ingress.host: '10.0.0.1' is not the name of a host"),
        ({"ingress": {"host": "a.example:8080"}}, "no address and no port, such as majors.example.com"),
        ({"ingress": {"host": "*.example.com"}}, "is not the name of a host"),
        (
            {"ingress": {"host": "a.example", "annotations": {"not a name": "x"}}},
            "spec.dashboard.ingress.annotations.not a name: 'not a name' is not an annotation's name",
        ),
        (
            {"ingress": {"host": "a.example", "annotations": {"a..b/c": "x"}}},
            "'a..b/c' is not an annotation's name",
        ),
        ({"httpRoute": {"host": "a.example", "parentRefs": []}}, "spec.dashboard.httpRoute.parentRefs"),
        *(
            (
                {"httpRoute": {"host": "a.example", "parentRefs": [{"name": "own"}, *twice]}},
                "spec.dashboard.httpRoute.parentRefs[2]: Gateway web is item 1 of the list too; name another listener",
            )
            for twice in (
                [{"name": "web"}, {"name": "web"}],
                [{"name": "web"}, {"name": "web", "sectionName": "https"}],
                [{"name": "web", "sectionName": "https"}, {"name": "web", "sectionName": "https"}],
            )
        ),
    ],
)
def test_a_way_that_leads_nowhere_is_refused_with_its_mend(dashboard: dict[str, Any], said: str) -> None:
    with pytest.raises(FeedError) as caught:
        feed_with(dashboard, {})
    assert said in str(caught.value)


def test_a_route_may_belong_to_several_listeners_of_a_gateway_and_to_namesakes_elsewhere() -> None:
    refs = [
        {"name": "web", "sectionName": "http"},
        {"name": "web", "sectionName": "https"},
        {"name": "web", "namespace": "gateways"},
    ]
    found = feed_with({"httpRoute": {"host": "a.example", "parentRefs": refs}}, {}).spec.dashboard
    assert found is not None
    assert found.http_route is not None
    assert len(found.http_route.parent_refs) == 3


def test_without_analytics_there_is_no_page_to_reach() -> None:
    with pytest.raises(FeedError, match="dashboard: the page shows windows, and there is no analytics; add analytics"):
        feed_with(INGRESS, None)
