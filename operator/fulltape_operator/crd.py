"""The CustomResourceDefinition of CryptoFeeds, made from the feed's model: what the API server knows of them. Pure."""

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from fulltape.feed.model import dotted
from fulltape.feed.reference import Schema, feed_schema
from fulltape_operator.crd_rules import RULES, of_keys, of_text

GROUP = "fulltape.dev"
VERSION = "v1alpha1"
PLURAL = "cryptofeeds"

_HEADER = """\
# Made by: fulltape crd > charts/fulltape/crds/cryptofeeds.yaml
# Edit services/fulltape/feed/model.py and operator/fulltape_operator/crd_rules.py instead.
"""

_TAKEN_APART = {"additionalProperties", "properties", "items", "x-keys", "x-mend", "x-minimum", "x-maximum"}
"""What stands in the feed's schema and not, or not so, in a CustomResourceDefinition's."""


Where = tuple[str | int, ...]


def crd() -> dict[str, Any]:
    """Return the CustomResourceDefinition of a CryptoFeed."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "names": {
                "kind": "CryptoFeed",
                "listKind": "CryptoFeedList",
                "plural": PLURAL,
                "singular": "cryptofeed",
                "shortNames": ["cf"],
                "categories": ["fulltape"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _object()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.producer.replicas",
                            "statusReplicasPath": ".status.shards",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": _COLUMNS,
                }
            ],
        },
    }


def crd_yaml() -> str:
    """Return the file that holds the CustomResourceDefinition."""
    return _HEADER + yaml.dump(crd(), Dumper=_Dumper, sort_keys=False, width=118, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - pyyaml's signature
        """Write everything out: an alias is hard to read."""
        return True


def _object() -> Schema:
    """Return the schema of the whole object; metadata are the API server's own."""
    feed = feed_schema()
    spec = feed["properties"]["spec"]
    return {
        "type": "object",
        "description": feed["description"],
        "required": ["spec"],
        "properties": {
            **{
                name: {"type": "string", "description": feed["properties"][name]["description"]}
                for name in ("apiVersion", "kind")
            },
            "metadata": {"type": "object", "properties": {"name": {"type": "string"}}},
            "spec": _structural(spec, ("spec",)),
            "status": _STATUS,
        },
        "x-kubernetes-validations": [rule.to_dict() for rule in RULES[""]],
    }


def _structural(schema: Schema, where: Where) -> Schema:
    """Return a field's schema as the API server takes it, with the rules that stand in place of what it lacks."""
    made = {key: value for key, value in schema.items() if key not in _TAKEN_APART}
    if made.get("maximum") == 2**63 - 1:  # the bound of any integer; the API server would hold it as a float
        del made["maximum"]
    if "properties" in schema:  # whatever else is written is unknown, and refused as that
        made["properties"] = {name: _structural(child, (*where, name)) for name, child in schema["properties"].items()}
    elif "additionalProperties" in schema:
        made["additionalProperties"] = _structural(schema["additionalProperties"], (*where, "*"))
    if "items" in schema:
        made["items"] = _structural(schema["items"], (*where, 0))
    if rules := [*of_text(schema), *of_keys(schema), *RULES.get(dotted(where), ())]:
        made["x-kubernetes-validations"] = [rule.to_dict() for rule in rules]
    return made


def _column(name: str, kind: str, path: str, description: str, priority: int = 0) -> dict[str, Any]:
    return {"name": name, "type": kind, "jsonPath": path, "description": description, "priority": priority}


_READY = '.status.conditions[?(@.type=="Ready")]'

_COLUMNS: Sequence[Mapping[str, Any]] = [
    _column("Ready", "string", f"{_READY}.status", "Whether everything that the feed asks for runs"),
    _column("Products", "integer", ".status.products", "Products that are recorded"),
    _column("Trades/s", "number", ".status.tradesPerSecond", "Trades per second that reach the tape"),
    _column("Missing", "integer", ".status.missingTrades", "Trades that the tape lacks, each known by its id"),
    _column("Lag", "integer", ".status.consumerLag", "Records of the tape that the analytics have yet to read"),
    _column("Shards", "integer", ".status.shards", "Producers that are ready", 1),
    _column("P99ms", "number", ".status.p99Milliseconds", "99th percentile of the time from trade to window", 1),
    _column("Reason", "string", f"{_READY}.reason", "Why the feed is ready or not, in a word", 1),
    _column("Message", "string", f"{_READY}.message", "What is wrong, and what to do", 1),
    _column("Age", "date", ".metadata.creationTimestamp", "Since when the feed has existed"),
]


def _whole(description: str) -> Schema:
    return {"type": "integer", "description": description}


def _number(description: str) -> Schema:
    return {"type": "number", "description": description}


_STATUS: Schema = {
    "type": "object",
    "description": "What the operator has seen of the feed. It writes this; nobody else should.",
    "properties": {
        "observedGeneration": _whole("The generation of the spec that the operator last looked at."),
        "conditions": {
            "type": "array",
            "description": "TopicsReady, ProducersReady, AnalyticsReady, WarehouseReady and, of them all, Ready; "
            "Reconciling while changes are on their way; Stalled where only a person can help.",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
            "maxItems": 32,
            "items": {
                "type": "object",
                "required": ["type", "status", "lastTransitionTime", "reason", "message"],
                "properties": {
                    "type": {
                        "type": "string",
                        "description": "What it is about, in CamelCase.",
                        "maxLength": 316,
                        "pattern": "^[A-Za-z][A-Za-z0-9]*$",
                    },
                    "status": {
                        "type": "string",
                        "description": "True, False or Unknown.",
                        "enum": ["True", "False", "Unknown"],
                    },
                    "observedGeneration": _whole("The generation of the spec that it was seen for."),
                    "lastTransitionTime": {
                        "type": "string",
                        "format": "date-time",
                        "description": "Since when the status is what it is.",
                    },
                    "reason": {
                        "type": "string",
                        "description": "Why, in a word in CamelCase, for programs.",
                        "minLength": 1,
                        "maxLength": 1024,
                        "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
                    },
                    "message": {
                        "type": "string",
                        "description": "What is wrong, and what to do about it.",
                        "maxLength": 32768,
                    },
                },
            },
        },
        "products": _whole("Products that are recorded."),
        "shards": _whole("Producers that are ready."),
        "selector": {
            "type": "string",
            "description": "Selects the producers' pods; the scale subresource hands it out.",
            "maxLength": 1024,
        },
        "tradesPerSecond": _number("Trades per second that reach the tape."),
        "lastTradeTime": {
            "type": "string",
            "format": "date-time",
            "description": "The exchange's time of the latest trade on the tape.",
        },
        "missingTrades": _whole("Trades that the tape lacks, each known by its id."),
        "consumerLag": _whole("Records of the tape that the analytics have yet to read."),
        "p99Milliseconds": _number("99th percentile of the time from a trade to its window, in milliseconds."),
    },
}
