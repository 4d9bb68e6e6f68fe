"""How each kind of object does, as its own controller says, and what is wrong where it does not do well."""

from typing import Any

import pytest

from fulltape_operator.health import Health, health_of


def health(kind: str, *, generation: int = 1, **fields: Any) -> Health:
    metadata = {"name": "one", "namespace": "markets", "generation": generation}
    return health_of({"kind": kind, "metadata": metadata, **fields})


def status(**fields: Any) -> dict[str, Any]:
    return {"observedGeneration": 1, **fields}


@pytest.mark.parametrize("kind", ["Deployment", "StatefulSet"])
@pytest.mark.parametrize(
    ("replicas", "found", "expected"),
    [
        (2, status(replicas=2, updatedReplicas=2, readyReplicas=2), Health(2, 2)),
        (2, {}, Health(0, 2, rolling=True)),  # just made: nobody has looked at it
        (2, status(replicas=2, updatedReplicas=2, readyReplicas=1), Health(1, 2, rolling=True)),
        (2, status(replicas=2, updatedReplicas=1, readyReplicas=2), Health(2, 2, rolling=True)),
        (2, status(replicas=3, updatedReplicas=2, readyReplicas=3), Health(3, 2, rolling=True)),  # an old pod is left
        (0, status(), Health(0, 0)),  # suspended
        (0, status(replicas=1, updatedReplicas=0, readyReplicas=1), Health(1, 0, rolling=True)),
        (1, {"observedGeneration": 0, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1}, Health(1, 1, True)),  # noqa: FBT003
    ],
)
def test_a_workload_rolls_until_all_its_pods_are_new_and_ready(
    kind: str, replicas: int, found: dict[str, Any], expected: Health
) -> None:
    assert health(kind, spec={"replicas": replicas}, status=found) == expected


def test_a_workload_tells_why_it_has_no_pods() -> None:
    conditions = [
        {"type": "Available", "status": "False", "message": "not this"},
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: pods"},
        {"type": "Progressing", "status": "False", "message": "deadline exceeded"},
    ]
    found = health("Deployment", spec={"replicas": 1}, status=status(conditions=conditions))
    assert found.problem == "exceeded quota: pods; deadline exceeded"


def test_what_a_workload_tells_of_its_well_being_is_no_problem() -> None:
    conditions = [
        {"type": "ReplicaFailure", "status": "False", "message": "not this"},
        {"type": "Progressing", "status": "True", "message": "not this"},
    ]
    assert health("Deployment", spec={"replicas": 1}, status=status(conditions=conditions)).problem == ""


@pytest.mark.parametrize("kind", ["KafkaTopic", "KafkaUser"])
@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], Health(ready=0)),
        ([{"type": "Ready", "status": "True"}], Health()),
        (
            [{"type": "Ready", "status": "False", "reason": "KafkaError", "message": "too many replicas"}],
            Health(ready=0, failed=True, problem="too many replicas"),
        ),
        ([{"type": "NotReady", "status": "True", "reason": "Odd"}], Health(ready=0, failed=True, problem="Odd")),
        ([{"type": "NotReady", "status": "True"}], Health(ready=0, failed=True, problem="is not ready")),
        ([{}, {"type": "Ready"}], Health(ready=0, failed=True, problem="is not ready")),  # its CRD asks for nothing
    ],
)
def test_strimzi_s_objects_are_ready_when_its_operators_say_so(
    kind: str, conditions: list[dict[str, Any]], expected: Health
) -> None:
    assert health(kind, spec={}, status={"conditions": conditions}) == expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ([], Health(ready=0)),
        ([{"type": "Complete", "status": "True"}], Health(ready=1)),
        ([{"type": "Complete", "status": "False"}], Health(ready=0)),
        (
            [{"type": "Failed", "status": "True", "message": "too often"}],
            Health(ready=0, failed=True, problem="too often"),
        ),
    ],
)
def test_a_job_is_done_or_failed_when_its_conditions_say_so(conditions: list[dict[str, Any]], expected: Health) -> None:
    assert health("Job", spec={}, status={"conditions": conditions}) == expected


def container(**fields: Any) -> dict[str, Any]:
    return {"containerStatuses": [fields]}


ENDED = {"terminated": {"exitCode": 2, "message": "starting\nno such topic\n"}}


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({}, Health(ready=0)),
        ({"conditions": [{"type": "Ready", "status": "True"}]}, Health()),
        (
            {"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes: memory"}]},
            Health(ready=0, problem="0/3 nodes: memory"),
        ),
        ({"conditions": [{"type": "PodScheduled", "status": "True", "message": "not this"}]}, Health(ready=0)),
        (container(state={"waiting": {"reason": "ContainerCreating"}}), Health(ready=0)),
        (
            container(state={"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}),
            Health(ready=0, problem="ImagePullBackOff: no such image"),
        ),
        (container(state={"waiting": {"message": "no such image"}}), Health(ready=0, problem="no such image")),
        (
            container(state={"waiting": {"reason": "CrashLoopBackOff"}}, lastState=ENDED),
            Health(ready=0, problem="ended with code 2: no such topic"),
        ),
        (container(lastState={"terminated": {"exitCode": 137}}), Health(ready=0, problem="ended with code 137")),
        (container(lastState={"terminated": {"exitCode": 0}}), Health(ready=0)),
        ({"conditions": [{"type": "Ready", "status": "True"}], **container(lastState=ENDED)}, Health()),
    ],
    ids=[
        "new",
        "ready",
        "unschedulable",
        "scheduled",
        "being made",
        "no image",
        "no reason",
        "crash loop",
        "killed",
        "ended well",
        "ready again",
    ],
)
def test_a_pod_that_is_not_ready_tells_why(found: dict[str, Any], expected: Health) -> None:
    assert health("Pod", spec={}, status=found) == expected


def test_what_has_no_status_is_well_once_it_is_there() -> None:
    assert health("Service") == Health()


@pytest.mark.parametrize(
    ("suspended", "state", "expected"),
    [
        (False, {"state": "RUNNING"}, Health()),
        (False, {"state": "SUBMITTED"}, Health(ready=0, rolling=True, problem="SUBMITTED")),
        (False, {"state": "INVALIDATING"}, Health(ready=0, rolling=True, problem="INVALIDATING")),
        (
            False,
            {"state": "SUBMISSION_FAILED", "errorMessage": "quota exceeded"},
            Health(ready=0, rolling=True, problem="quota exceeded"),
        ),
        (
            False,
            {"state": "FAILED", "errorMessage": "driver failed"},
            Health(ready=0, rolling=True, failed=True, problem="driver failed"),
        ),
        (True, {"state": "SUSPENDING"}, Health(ready=0, wanted=0, rolling=True, problem="SUSPENDING")),
        (True, {"state": "RUNNING"}, Health(ready=1, wanted=0, rolling=True, problem="RUNNING")),
        (True, {"state": "SUSPENDED"}, Health(ready=0, wanted=0)),
    ],
)
def test_a_spark_application_does_what_its_state_says(
    *, suspended: bool, state: dict[str, str], expected: Health
) -> None:
    assert health("SparkApplication", spec={"suspend": suspended}, status={"applicationState": state}) == expected


def test_a_spark_application_that_no_operator_looks_at_says_so() -> None:
    found = health("SparkApplication", spec={"suspend": False})
    assert (found.ready, found.rolling) == (0, True)
    assert "look whether one serves this namespace" in found.problem


def test_an_ingress_is_a_way_in_once_it_has_an_address_and_names_its_class_until_then() -> None:
    address = {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}
    assert health("Ingress", spec={}, status=address) == Health()
    for status in ({}, {"loadBalancer": {}}, {"loadBalancer": {"ingress": []}}):
        found = health("Ingress", spec={"ingressClassName": "nginx"}, status=status)
        assert (found.ready, found.failed) == (0, False)
        assert "has the class nginx and no address yet" in found.problem
        assert "spec.dashboard.ingress.className" in found.problem
    assert "has no class" in health("Ingress", spec={}).problem


WEB, HTTPS = {"name": "web"}, {"name": "web", "namespace": "gateways", "sectionName": "https"}


def parent(ref: dict[str, str], accepted: str = "True", resolved: str = "True", **fields: Any) -> dict[str, Any]:
    """Return what a Gateway's controller says of a route."""
    return {
        "parentRef": {"group": "gateway.networking.k8s.io", "kind": "Gateway", **ref},
        "controllerName": "example.org/gateway",
        "conditions": [
            {"type": "Accepted", "status": accepted, "observedGeneration": 2, **fields},
            {"type": "ResolvedRefs", "status": resolved, "observedGeneration": 2, **fields},
            {"type": "Programmed", "status": "False", "observedGeneration": 2, "reason": "NotOfRoutes"},
        ],
    }


def route(*parents: dict[str, Any], refs: tuple[dict[str, str], ...] = (WEB, HTTPS), generation: int = 2) -> Health:
    return health("HTTPRoute", generation=generation, spec={"parentRefs": list(refs)}, status={"parents": parents})


def test_a_route_is_a_way_in_once_each_of_its_gateways_takes_it() -> None:
    assert route(parent(WEB), parent(HTTPS)) == Health()
    assert route(parent(WEB | {"namespace": "markets"}), parent(HTTPS)) == Health()
    only_one = route(parent(WEB), parent(HTTPS | {"sectionName": "http"}))
    assert (only_one.ready, only_one.failed) == (0, False)
    assert only_one.problem.startswith("Gateway gateways/web (https) did not answer yet")
    nobody = health("HTTPRoute", spec={"parentRefs": [WEB, HTTPS]})
    assert nobody.problem.startswith("Gateway markets/web and Gateway gateways/web (https) did not answer yet")


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (
            parent(HTTPS, "False", reason="NotAllowedByListeners", message="no listener takes it"),
            "web (https) says Accepted is False (NotAllowedByListeners: no listener takes it); let its listeners take",
        ),
        (
            parent(HTTPS, resolved="False", reason="BackendNotFound"),
            "says ResolvedRefs is False (BackendNotFound); mend",
        ),
    ],
)
def test_a_route_that_a_gateway_refuses_says_which_why_and_the_mend(refusal: dict[str, Any], words: str) -> None:
    found = route(parent(WEB), refusal)
    assert (found.ready, found.failed) == (0, True)
    assert words in found.problem


def test_what_a_gateway_said_of_a_route_before_its_last_change_does_not_count() -> None:
    assert not route(parent(WEB, "False"), parent(HTTPS), generation=3).failed
    assert not route(parent(WEB), parent(HTTPS), generation=3).ready


def test_a_condition_that_a_gateway_has_not_made_up_its_mind_about_is_waited_for() -> None:
    found = route(parent(WEB, "Unknown"), parent(HTTPS))
    assert (found.ready, found.failed) == (0, False)
