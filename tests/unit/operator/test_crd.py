"""The CustomResourceDefinition is the model's, is fit for an API server, and reads like documentation."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fulltape.feed.load import load_feed
from fulltape.feed.model import dotted
from fulltape.feed.reference import feed_schema, fields
from fulltape_operator.cli_crd import crd_command
from fulltape_operator.crd import crd, crd_yaml
from fulltape_operator.crd_rules import RULES
from fulltape_operator.status import Circumstances, Figures, status_of

ROOT = Path(__file__).parents[3]
FILE = ROOT / "charts" / "fulltape" / "crds" / "cryptofeeds.yaml"

Node = tuple[tuple[str | int, ...], dict[str, Any]]

VERSION = crd()["spec"]["versions"][0]
SCHEMA = VERSION["schema"]["openAPIV3Schema"]


def nodes(schema: dict[str, Any], where: tuple[str | int, ...] = ()) -> Iterator[Node]:
    """Yield every schema within a schema, itself too; values of maps as "*"."""
    yield where, schema
    for name, child in schema.get("properties", {}).items():
        yield from nodes(child, (*where, name))
    for key, part in (("items", 0), ("additionalProperties", "*")):
        if key in schema:
            yield from nodes(schema[key], (*where, part))


NODES = list(nodes(SCHEMA))
SPEC = [(where, node) for where, node in NODES if where[:1] == ("spec",)]
RULED = [(dotted(where), node, rule) for where, node in NODES for rule in node.get("x-kubernetes-validations", ())]


def test_the_charts_file_is_the_models() -> None:
    assert FILE.read_text() == crd_yaml(), (
        f"{FILE.relative_to(ROOT)} differs from the model; run: fulltape crd > {FILE.relative_to(ROOT)}"
    )


def test_the_command_prints_the_charts_file() -> None:
    assert CliRunner().invoke(crd_command).output == crd_yaml()


def test_the_file_holds_the_definition_without_aliases() -> None:
    assert yaml.safe_load(crd_yaml()) == crd()
    assert re.search(r"[&*]id\d", crd_yaml()) is None


def test_kubectl_may_apply_it_without_server_side_apply() -> None:
    assert len(str(crd())) < 256 * 1024  # of the annotation in which kubectl then keeps it


def test_every_field_is_described() -> None:
    fields_of_it = [
        (where, node) for where, node in NODES if where and where[0] != "metadata" and where[-1] not in (0, "*")
    ]
    assert [dotted(where) for where, node in fields_of_it if not node.get("description")] == []


def test_the_spec_has_every_field_of_the_model_with_its_default_and_bounds() -> None:
    kept = ("type", "default", "enum", "pattern", "minimum", "maximum", "minItems", "maxItems", "maxLength", "required")
    ours = {where: {key: node.get(key) for key in kept} for where, node in SPEC}
    for where, schema, _ in fields(feed_schema()["properties"]["spec"], ("spec",)):
        assert ours[where] == {key: schema.get(key) for key in kept}


def test_the_schema_is_structural() -> None:
    for where, node in NODES:
        assert node["type"] in ("object", "array", "string", "integer", "number", "boolean"), where
        assert {key for key in node if key.startswith("x-")} <= {
            "x-kubernetes-list-type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-validations",
        }
        assert not ("properties" in node and "additionalProperties" in node)


def test_all_in_the_spec_is_bounded_so_that_rules_have_a_greatest_cost() -> None:
    for where, node in SPEC:
        match node:
            case {"type": "string"}:
                assert "maxLength" in node or "enum" in node, where
            case {"type": "array"}:
                assert "maxItems" in node, where
            case {"additionalProperties": _}:
                assert "maxProperties" in node, where


def test_every_rule_stands_at_a_field_that_there_is() -> None:
    assert set(RULES) <= {dotted(where) for where, _ in NODES}


@pytest.mark.parametrize(
    ("where", "node", "rule"), RULED, ids=[f"{where}:{rule['rule'][:40]}" for where, _, rule in RULED]
)
def test_a_rule_says_the_mend_and_points_to_a_field(where: str, node: dict[str, Any], rule: dict[str, str]) -> None:
    assert "\n" not in rule["rule"]
    assert ";" in rule["message"], "what is wrong; then the mend"
    for part in re.findall(r"\.(\w+)", rule.get("fieldPath", "")):
        node = node["properties"][part]


def test_texts_are_refused_with_the_models_words() -> None:
    at = {dotted(where): node for where, node in NODES}
    product, *_ = at["spec.products[0]"]["x-kubernetes-validations"]
    assert product["message"] == "is not a product; write BASE-QUOTE in capitals, such as BTC-USD"
    _, since = at["spec.producer.start.since"]["x-kubernetes-validations"]
    assert since["message"] == "is out of bounds; write 1s to 30d"


def test_names_and_categories_are_what_people_type() -> None:
    names = crd()["spec"]["names"]
    assert (names["plural"], names["singular"], names["shortNames"]) == ("cryptofeeds", "cryptofeed", ["cf"])
    assert names["categories"] == ["fulltape"]
    assert crd()["spec"]["scope"] == "Namespaced"


def test_columns_and_scale_read_fields_that_there_are() -> None:
    scale = VERSION["subresources"]["scale"]
    paths = [*scale.values(), *(column["jsonPath"] for column in VERSION["additionalPrinterColumns"])]
    known = {f".{dotted(where)}" for where, _ in NODES}
    for path in paths:
        assert re.sub(r"\[\?\(.*?\)\]", "[0]", path) in known | {".metadata.creationTimestamp"}


def test_what_people_see_first_is_in_the_narrow_columns() -> None:
    narrow = [column["name"] for column in VERSION["additionalPrinterColumns"] if column["priority"] == 0]
    assert narrow == ["Ready", "Products", "Trades/s", "Missing", "Lag", "Age"]


def test_the_status_that_the_operator_writes_is_in_the_schema() -> None:
    figures = Figures(
        trades_per_second=1.0, last_trade_time="2026-01-01T00:00:00Z", missing_trades=1, consumer_lag=1,
        p99_milliseconds=1.0,
    )  # fmt: skip
    feed = load_feed(ROOT / "examples" / "strimzi.yaml")
    status = status_of(Circumstances(feed=feed, generation=1, wanted=(), there={}, figures=figures), {}, "now")
    known = SCHEMA["properties"]["status"]["properties"]
    assert set(status) <= set(known)
    assert set(status["conditions"][0]) == set(known["conditions"]["items"]["properties"])
