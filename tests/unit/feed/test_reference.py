"""The feed's schema is fit for a CustomResourceDefinition, and docs/feed.md says what the model does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from fulltape.feed.cli import schema_command, validate_command
from fulltape.feed.patterns import PATTERNS
from fulltape.feed.reference import feed_markdown, feed_schema, fields
from fulltape.measures.names import MEASURES

ROOT = Path(__file__).parents[3]


def keywords(schema: dict[str, Any]) -> Iterator[str]:
    """Yield each keyword used anywhere in a schema."""
    for key, value in schema.items():
        yield key
        if key == "properties":
            for child in value.values():
                yield from keywords(child)
        elif key in ("items", "additionalProperties") and isinstance(value, dict):
            yield from keywords(value)


def test_docs_describe_the_model() -> None:
    assert (ROOT / "docs" / "feed.md").read_text() == feed_markdown(), (
        "docs/feed.md differs from the model; run: fulltape schema --feed --markdown > docs/feed.md"
    )


def test_every_field_is_described() -> None:
    undescribed = [where for where, schema, _ in fields(feed_schema()) if not schema.get("description")]
    assert undescribed == []


def test_the_schema_is_structural() -> None:
    forbidden = {"$ref", "$defs", "anyOf", "title", "const", "patternProperties", "propertyNames", "uniqueItems"}
    assert forbidden.isdisjoint(keywords(feed_schema()))
    assert all("type" in schema for _, schema, _ in fields(feed_schema()))


def test_defaults_are_written_as_in_a_feed() -> None:
    at = {where: schema for where, schema, _ in fields(feed_schema())}
    assert at["spec", "kafka", "topics", "retention"]["default"] == "168h"
    assert at["spec", "analytics", "windows"]["default"] == ["1m", "5m"]
    assert at["spec", "kafka", "topics"]["default"] == {}
    assert "default" not in at["spec", "analytics"]


def test_the_measures_are_listed_where_a_rule_names_one() -> None:
    at = {where: schema for where, schema, _ in fields(feed_schema())}
    assert at["spec", "alerts", 0, "measure"]["enum"] == list(MEASURES)


def test_the_patterns_are_listed_where_a_rule_names_one() -> None:
    at = {where: schema for where, schema, _ in fields(feed_schema())}
    assert at["spec", "alerts", 0, "pattern"]["enum"] == list(PATTERNS)


def test_docs_give_every_pattern_with_its_thresholds() -> None:
    rows = [line for line in (ROOT / "docs" / "alerts.md").read_text().splitlines() if line.startswith("| `")]
    by_pattern = {row.split("`")[1]: row for row in rows}
    for name, pattern in PATTERNS.items():
        for measure, threshold in pattern.thresholds.items():
            assert f"`{measure}: {threshold:g}`" in by_pattern[name]


def test_the_command_prints_what_the_docs_hold() -> None:
    runner = CliRunner()
    assert runner.invoke(schema_command, ["--feed", "--markdown"]).output == feed_markdown()
    assert json.loads(runner.invoke(schema_command, ["--feed"]).output) == feed_schema()


def test_validate_says_ok_for_good_feeds_and_exits_with_0() -> None:
    path = ROOT / "examples" / "majors.yaml"
    result = CliRunner().invoke(validate_command, [str(path)])
    assert (result.exit_code, result.output) == (0, f"{path}: OK: default/majors, 10 products, 7 alerts\n")


def test_validate_says_each_mistake_of_each_file_and_exits_with_2(tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("kind: CryptoFeed\n")
    good = ROOT / "examples" / "majors.yaml"
    result = CliRunner().invoke(validate_command, [str(bad), str(good)])
    assert result.exit_code == 2
    assert result.stderr == (
        f"{bad}:1: apiVersion: is missing: Always fulltape.dev/v1alpha1.\n"
        f"{bad}:1: metadata: is missing: The feed's name, and where it lives.\n"
        f"{bad}:1: spec: is missing: What the feed shall be.\n"
    )
    assert result.stdout.startswith(f"{good}: OK")
