"""Rights by RBAC, of two sides: those that a chart grants, and those that an API server's audit log shows in use."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple


class Right(NamedTuple):
    """One thing that one may do with one kind of object."""

    group: str
    """Of the API; empty for the oldest."""
    resource: str
    """With its subresource, as in ``cryptofeeds/status``."""
    verb: str


def granted_by(manifests: Iterable[Mapping[str, Any]]) -> set[Right]:
    """Return the rights that Roles and ClusterRoles among some manifests give."""
    return {
        Right(group, resource, verb)
        for one in manifests
        for rule in one.get("rules") or ()
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def used_by(events: Iterable[Mapping[str, Any]]) -> set[Right]:
    """Return the rights that requests needed, as audit events tell of them.

    What the API says of itself, such as its kinds, everybody may read: such requests are left out.
    """
    found = set()
    for event in events:
        of = event.get("objectRef", {})
        if "resource" not in of:
            continue
        resource = "/".join(part for part in (of["resource"], of.get("subresource")) if part)
        group, verb, code = of.get("apiGroup", ""), event["verb"], event.get("responseStatus", {}).get("code")
        found.add(Right(group, resource, verb))
        if (verb, code) == ("patch", 201):  # server-side apply of what was not there asks for both
            found.add(Right(group, resource, "create"))
    return found


def refused(events: Iterable[Mapping[str, Any]]) -> set[Right]:
    """Return the rights that were asked for and not given."""
    return used_by(event for event in events if event.get("responseStatus", {}).get("code") == 403)
