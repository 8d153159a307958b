"""The dashboard: variables keep fleets apart, exemplars lead to traces, links have their pages."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser as promql
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "deploy/grafana/sentinel.json").read_text()
DASHBOARD = json.loads(TEXT)
VARIABLES = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
TARGETS = [(panel["title"], target) for panel in PANELS for target in panel["targets"]]
MARKS = [(mark["name"], mark["expr"]) for mark in DASHBOARD["annotations"]["list"]]
EXPRESSIONS = [(title, target["expr"]) for title, target in TARGETS] + MARKS
PAGES = sorted((ROOT / "docs/runbooks").glob("*.md"))


def selectors(node: Any) -> Iterator[Any]:
    """Every selector of a parsed expression."""
    if isinstance(node, promql.VectorSelector):
        yield node
    below = node.args if isinstance(node, promql.Call) else ()
    names = ("lhs", "rhs", "expr", "vector_selector")
    for one in [*below, *(getattr(node, name, None) for name in names)]:
        if one is not None:
            yield from selectors(one)


def matched(expression: str) -> list[dict[str, str]]:
    """For each selector the values it asks for, by label."""
    plain = expression.replace("$__rate_interval", "5m")
    return [
        {one.name: one.value for one in selector.matchers.matchers}
        for selector in selectors(promql.parse(plain))
    ]


@pytest.mark.parametrize(("title", "expression"), EXPRESSIONS)
def test_every_selector_is_of_the_chosen_fleet(title: str, expression: str) -> None:
    """Sentinels and Envoys may live in different namespaces, so each have their own."""
    envoys = "envoy_" in expression
    wanted = ("$envoy_namespace", "$envoy_job") if envoys else ("$namespace", "$job")

    assert matched(expression), title
    assert {wanted} == {(one.get("namespace"), one.get("job")) for one in matched(expression)}, title


def test_a_subquery_has_several_steps_whatever_is_shown() -> None:
    """$__rate_interval is four scrapes, 20 s or a minute: of one step of a minute rate() makes nothing."""
    found = {one for _, expression in EXPRESSIONS for one in re.findall(r"\[([^\]]+:[^\]]*)\]", expression)}

    assert {"5m:1m"} == found


def test_upstreams_and_domains_are_chosen_where_there_are_any() -> None:
    for label, of in (("upstream", "sentinel_pressure{"), ("domain", "sentinel_ratelimit_hits_total{")):
        assert of in VARIABLES[label]["definition"]
        asked = [one[label] for _, expression in EXPRESSIONS for one in matched(expression) if label in one]
        assert {f"${label}"} == set(asked) - {""}
        assert 4 < len(asked)


def test_every_variable_is_declared_and_used() -> None:
    used = {name for name in re.findall(r"\$\{?([a-z_]\w*)", TEXT) if not name.startswith("__")}

    assert set(VARIABLES) == used


def test_all_means_series_without_the_label_too() -> None:
    """Outside Kubernetes no series has a namespace; `.*` matches that, a list of values does not."""
    chosen = [one for one in VARIABLES.values() if one["type"] == "query"]

    assert {(True, ".*", ("$__all",))} == {
        (one["includeAll"], one["allValue"], tuple(one["current"]["value"])) for one in chosen
    }
    assert "namespace" in VARIABLES


def test_exemplars_are_asked_for_where_there_are_some_once_a_panel() -> None:
    asked = [(title, target["expr"]) for title, target in TARGETS if target.get("exemplar")]
    # The only histogram that has some.
    having = {title for title, target in TARGETS if "sentinel_decision_duration_seconds" in target["expr"]}

    assert having == {title for title, _ in asked}
    assert len(having) == len(asked)


def test_a_panel_that_a_page_names_is_there() -> None:
    titles = {panel["title"] for panel in PANELS}
    named = {
        (page.stem, name)
        for page in PAGES
        for several in re.findall(r'panels? ("[^"]+"(?:(?:, | and )"[^"]+")*)', page.read_text())
        for name in re.findall(r'"([^"]+)"', several)
    }

    assert [] == [(page, name) for page, name in named if name not in titles]
    assert 4 < len(named)
