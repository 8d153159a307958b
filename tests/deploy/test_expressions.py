"""Every expression of alerts and dashboard reads what a running Sentinel or Envoy prints."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml
from support.observed import observed
from support.promql import Series, check, metrics
from support.promql_words import FREE
from support.runbooks import PROMQL, filled, of, split

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.fleet import Fleet

pytestmark = pytest.mark.e2e

DEPLOY = Path(__file__).parents[2] / "deploy"
GROUPS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((DEPLOY / "grafana/sentinel.json").read_text())
_CHOICE = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}


def queries(node: Any) -> Iterator[tuple[str, str]]:
    """Every `expr` of the dashboard with its legend, a choice made for its variables."""
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            expr = node["expr"]
            for name, value in _CHOICE.items():
                expr = expr.replace(name, value)
            yield re.sub(r"\$\{?\w+\}?", "x", expr), node.get("legendFormat", "")
        # What a variable lists, as an expression that needs its metric and its label.
        if listed := re.fullmatch(r"label_values\((.*), (\w+)\)", str(node.get("definition"))):
            yield re.sub(r"\$\w+", "x", f"count by ({listed[2]}) ({listed[1]})"), ""
        for value in node.values():
            yield from queries(value)
    elif isinstance(node, list):
        for value in node:
            yield from queries(value)


QUERIES = sorted(set(queries(DASHBOARD)))
PAGES = {filled(expr) for _, expr in PROMQL}
EXPRESSIONS = sorted({*(rule["expr"] for rule in RULES), *(expr for expr, _ in QUERIES), *PAGES})
READ = {name for expression in EXPRESSIONS for name in metrics(promql_parser.parse(expression))}

PATTERNS = {found for expression in EXPRESSIONS for found in re.findall(r'__name__=~"([^"]+)"', expression)}


@pytest.fixture(scope="module")
async def house(module_folder: Path) -> AsyncIterator[tuple[Series, Fleet]]:
    wanted = {name for name in READ if name.startswith(("sentinel_", "envoy_"))} | PATTERNS
    async with observed(module_folder, wanted) as made:
        yield made


@pytest.fixture(scope="module")
async def printed(house: tuple[Series, Fleet]) -> Series:
    """What the programs print, and what the recording rules make of it."""
    series, _ = house
    for rule in RULES:
        if "record" in rule:
            assert [] == series.record(rule), rule["record"]
    return series


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_parses(expression: str) -> None:
    promql_parser.parse(expression)


def test_a_broken_one_does_not() -> None:
    with pytest.raises(ValueError, match=r"\S"):
        promql_parser.parse("sum by (job (x)")


def test_every_metric_and_label_is_printed(printed: Series) -> None:
    assert {} == {expr: found for expr in EXPRESSIONS if (found := check(expr, printed)[1])}
    assert 80 < len(READ)


def test_an_alerts_words_and_a_panels_legend_name_labels_that_are_there(printed: Series) -> None:
    texts = [
        (rule["expr"], " ".join(rule["annotations"].values()), r"\$labels\.(\w+)") for rule in ALERTS.values()
    ]
    texts += [(expr, legend, r"\{\{(\w+)\}\}") for expr, legend in QUERIES]
    named = [
        (expr, set(re.findall(pattern, text)) - check(expr, printed)[0]) for expr, text, pattern in texts
    ]

    assert [] == [(expr, missing) for expr, missing in named if missing]
    assert 80 < sum(len(re.findall(pattern, text)) for _, text, pattern in texts)


def test_any_name_of_an_expression_that_is_misspelt_is_found(printed: Series) -> None:
    """Each metric and each label of every expression, one after the other, gets an x behind it."""
    words = re.compile(
        r"(?<![\w.\"])(?:(?:sentinel|envoy|process|python)[_:][\w:]+|[a-z_]+(?==|[,)]))(?![\w(\"])"
    )
    kept, tried = [], 0
    for expression in EXPRESSIONS:
        for found in words.finditer(expression):
            tried += 1
            broken = f"{expression[: found.end()]}x{expression[found.end() :]}"
            if not check(broken, printed)[1]:
                kept.append((expression, found[0]))

    assert [] == kept
    assert 400 < tried


def test_any_value_of_a_selector_that_is_misspelt_is_found(printed: Series) -> None:
    """Each word of each value that is not a name of somebody's own, with an x behind it."""
    kept, tried = [], 0
    for expression in EXPRESSIONS:
        for found in re.finditer(r'(\w+)(?:!=|=~?)"([^"]*)"', expression):
            if found[1] in FREE:
                continue
            for word in re.finditer(r"[^|]+", found[2]):
                tried += 1
                end = found.start(2) + word.end()
                if not check(f"{expression[:end]}x{expression[end:]}", printed)[1]:
                    kept.append((expression, word[0]))

    assert [] == kept
    assert 10 < tried


@pytest.mark.parametrize(
    ("expression", "told"),
    [
        ("rate(sentinel_decision_total[5m])", "no metric sentinel_decision_total"),
        ('{__name__=~"envoy_cluster_rate_limit_.*"}', "no metric like"),
        ('sentinel_decisions_total{verdikt="deny"}', "no label verdikt"),
        ("sum by (teir) (sentinel_decisions_total)", "no label teir"),
        ("sum without (teir) (sentinel_decisions_total)", "no label teir"),
        ("sum by (tier) (sum by (job) (sentinel_decisions_total))", "no label tier"),
        ("sentinel_pressure / on (upstraem) sentinel_blind", "no label upstraem"),
        ('sentinel_decision_duration_seconds_bucket{le="0.006"}', "no le=0.006"),
        ('sentinel_pressure_signal{signal="looplag"}', "no signal=looplag"),
        ('sentinel_decisions_total{reason=~"shed|rate_limitted"}', "no reason=rate_limitted"),
        ('sentinel_decisions_total{reason="shed|rate_limited"}', "no reason=shed|rate_limited"),
        ('sentinel_decisions_total{verdict="over_limit"}', "no verdict=over_limit"),
        ('sentinel_ratelimit_decisions_total{verdict!="eror"}', "no verdict=eror"),
        ('sentinel:sheds:rate5m{tier="Vital"}', "no tier=Vital"),
        ('sentinel_spans_dropped_total{reason="queue_full"}', "no reason=queue_full"),
        ("histogram_quantile(0.9, sum by (job) (sentinel_store_duration_seconds_bucket))", "no label le"),
        ("sentinel:slo_burn_rate:7h", "no metric sentinel:slo_burn_rate:7h"),
        ('avg_over_time(sentinel_store_up{instnace="a"}[1h:5m])', "no label instnace"),
    ],
)
def test_what_nobody_prints_is_found(printed: Series, expression: str, told: str) -> None:
    assert told in str(check(expression, printed)[1])


async def test_what_the_runbooks_fetch_and_look_for_is_there(house: tuple[Series, Fleet]) -> None:
    """Each `curl ... | grep ...` shows something: curl's part is done here, grep is the real one."""
    _, fleet = house
    places = {"http://127.0.0.1:9464": fleet.sentinels[0].admin, "http://ENVOY_ADMIN": fleet.envoys[0].admin}
    empty = []
    for page, line in of("curl"):
        (_, silent, url), *filters = split(line)
        place = next(one for one in places if url.startswith(one))
        fetched = await asyncio.to_thread(_fetched, places[place] + url.removeprefix(place))
        assert "-s" == silent
        nothing = [alone for alone in each_alone(filters) if not _filtered(fetched, alone).strip()]
        empty += [(page, line, alone) for alone in nothing]

    assert [] == empty


def each_alone(filters: list[list[str]]) -> Iterator[list[list[str]]]:
    """The filters as they are, and once for each `a|b` of a `grep -E` alone: another may hide it."""
    yield filters
    for place, (*command, pattern) in enumerate(filters):
        if command == ["grep", "-E"]:
            for alternative in alternatives(pattern):
                yield [*filters[:place], [*command, alternative], *filters[place + 1 :]]


def alternatives(pattern: str) -> list[str]:
    """An extended regular expression, once for each of its `a|b`, between brackets or not."""
    depth, parts = 0, [""]
    for letter in pattern:
        depth += (letter == "(") - (letter == ")")
        if letter == "|" and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    if len(parts) > 1:
        return [one for part in parts for one in alternatives(part)]
    group = re.search(r"\(([^()]*\|[^()]*)\)(?![?*+])", pattern)
    if group is None:
        return [pattern]
    before, after = pattern[: group.start()], pattern[group.end() :]
    return [one for word in group[1].split("|") for one in alternatives(before + word + after)]


def test_alternatives_are_told_apart() -> None:
    assert ["a", "b"] == alternatives("a|b")
    assert ["x.*a", "x.*b", "y.*c", "y.*d", "z"] == alternatives("x.*(a|b)|y.*(c|d)|z")
    assert ["x_(.+_)?ok"] == alternatives("x_(.+_)?ok")


def _filtered(text: str, filters: list[list[str]]) -> str:
    for arguments in filters:
        done = subprocess.run(arguments, input=text, capture_output=True, text=True, timeout=10, check=False)
        text = done.stdout
    return text


class _AlsoErrors(urllib.request.HTTPErrorProcessor):
    """A Sentinel without Redis that says so answers, too."""

    def http_response(self, _request: Any, response: Any) -> Any:
        assert response.status in {200, 503}, response.url
        return response


def _fetched(url: str) -> str:
    with urllib.request.build_opener(_AlsoErrors).open(url, timeout=10) as response:
        text: str = response.read().decode()
        return text
