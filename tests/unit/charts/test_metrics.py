"""Dashboards and alerts ask for metrics that the programs export, by labels that these have."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fulltape.feed.load import load_feed
from fulltape_operator.desired import desired_state
from tests.unit.charts.exported import of_programs, of_the_operator
from tests.unit.operator.feeds import EVERYTHING, EXAMPLES

CHART = Path(__file__).parents[3] / "charts" / "fulltape"

COMPONENT = "app_kubernetes_io_component"
OF_TARGETS = {"namespace", "pod"}
"""Labels that Prometheus gives to all that it reads from a pod."""
OF_OTHERS = {"up": set[str](), "kube_pod_container_status_restarts_total": {"container"}}
"""Prometheus' own, and that of kube-state-metrics."""


@dataclass(frozen=True)
class Ask:
    """A metric that is asked for."""

    metric: str
    matchers: Mapping[str, str]
    grouped_by: frozenset[str]


def asks(expression: str) -> Iterator[Ask]:
    """Yield what an expression of PromQL asks for."""
    clause = r"\b(?:by|on) \(([^)]*)\)"
    grouped = frozenset(re.findall(r"\w+", " ".join(re.findall(clause, expression))))
    plain = re.sub(r"\[[^]]*\]", "", re.sub(clause, "", expression))
    for found in re.finditer(r"(?<![\w.$])([a-zA-Z_]\w*)(?:\{([^}]*)\})?(\s*\()?", plain):
        name, matchers, calls = found.groups()
        if not calls and name not in ("and", "or"):
            yield Ask(name, dict(re.findall(r'(\w+)=~?"([^"]*)"', matchers or "")), grouped)


def of_dashboard(name: str) -> list[Ask]:
    dashboard = json.loads((CHART / "dashboards" / f"{name}.json").read_text())
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    variables = [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    expressions += [query.removeprefix("label_values(").rpartition(",")[0] for query in variables]
    assert expressions
    return [ask for expression in expressions for ask in asks(expression)]


def of_rules(manifest: Mapping[str, Any]) -> list[Ask]:
    return [ask for group in manifest["spec"]["groups"] for rule in group["rules"] for ask in asks(rule["expr"])]


def of_the_charts_rules() -> list[Ask]:
    template = (CHART / "templates" / "prometheusrule.yaml").read_text()
    lines = [re.sub(r"\{\{.*?\}\}", "x", line) for line in template.splitlines() if not line.lstrip().startswith("{{")]
    return of_rules(yaml.safe_load("\n".join(lines)))


def of_feeds() -> list[Mapping[str, Any]]:
    return [child.manifest for path in EXAMPLES for child in desired_state(load_feed(path), EVERYTHING)]


def test_what_is_asked_of_feeds_is_exported_by_the_program_that_is_asked() -> None:
    programs = of_programs()
    [added] = {tuple(one["spec"]["podTargetLabels"]) for one in of_feeds() if one["kind"] == "PodMonitor"}
    of_targets = OF_TARGETS | {re.sub(r"\W", "_", label) for label in added}  # as Prometheus writes them
    rules = [ask for one in of_feeds() if one["kind"] == "PrometheusRule" for ask in of_rules(one)]
    for ask in [*of_dashboard("fulltape-feed"), *rules]:
        component = ask.matchers.get(COMPONENT)
        asked = programs.values() if component is None else [programs[component]]
        labels = [metrics[ask.metric] for metrics in [*asked, OF_OTHERS] if ask.metric in metrics]
        assert labels, ask
        assert any(set(ask.matchers) | ask.grouped_by <= one | of_targets for one in labels), ask


async def test_what_is_asked_of_the_operator_is_exported_by_it() -> None:
    exported = await of_the_operator()
    for ask in [*of_dashboard("fulltape-operator"), *of_the_charts_rules()]:
        assert ask.metric in exported, ask
        assert set(ask.matchers) | ask.grouped_by <= exported[ask.metric] | OF_TARGETS, ask


def test_metrics_of_an_expression_are_told_from_functions_labels_and_times() -> None:
    text = 'histogram_quantile(0.99, sum by (le, stage) (rate(one_bucket{a="x y",b=~"$feed-.*"}[5m]))) > 2 and time()'
    assert list(asks(text)) == [Ask("one_bucket", {"a": "x y", "b": "$feed-.*"}, frozenset({"le", "stage"}))]
    assert [ask.metric for ask in asks("two and on (pod) three{} or up == 1")] == ["two", "three", "up"]


def test_panels_say_what_they_show_and_do_not_cover_one_another() -> None:
    for path in (CHART / "dashboards").iterdir():
        dashboard = json.loads(path.read_text())
        assert dashboard["uid"] == path.stem
        taken: set[tuple[int, int]] = set()
        for panel in dashboard["panels"]:
            assert panel["title"]
            assert panel["type"] == "row" or panel["description"], panel["title"]
            at = panel["gridPos"]
            cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
            assert not cells & taken, panel["title"]
            assert max(x for x, _ in cells) < 24
            taken |= cells
