"""Alerts, dashboard, runbooks: expressions parse, and name metrics of a running Sentinel or Envoy."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import promql_parser
import pytest
import yaml
from support.fleet import Fleet
from support.prometheus import program
from typer.main import get_command

from sentinel_ext.cli.root import app

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOKS = ROOT / "docs/runbooks"
GROUPS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((DEPLOY / "grafana/sentinel.json").read_text())
CASES = sorted((DEPLOY / "prometheus/tests").glob("*.yaml"))
# Only with WORKERS above 1 or with tracing on: their own tests see them.
ELSEWHERE = {
    "sentinel_worker_restarts_total", "sentinel_workers_ready", "sentinel_spans_dropped_total",
    "sentinel_spans_exported_total", "sentinel_span_export_failures_total", "sentinel_spans_waiting",
}  # fmt: skip
_CHOICE = {"$__rate_interval": "5m", "$__range": "1h", "$__interval": "1m"}


def queries(node: Any) -> Iterator[str]:
    """Every `expr` of the dashboard, with a choice made for its variables."""
    if isinstance(node, dict):
        if isinstance(node.get("expr"), str):
            expr = node["expr"]
            for name, value in _CHOICE.items():
                expr = expr.replace(name, value)
            yield re.sub(r"\$\{?\w+\}?", "x", expr)
        for value in node.values():
            yield from queries(value)
    elif isinstance(node, list):
        for value in node:
            yield from queries(value)


EXPRESSIONS = sorted({*(rule["expr"] for rule in RULES), *queries(DASHBOARD)})


def names(expression: str) -> set[str]:
    """Every metric that an expression reads."""
    bare = re.sub(r"\{[^}]*\}", "", expression)
    bare = re.sub(r"\b(by|on|without|ignoring|group_left|group_right) *\([^)]*\)", "", bare)
    bare = re.sub(r'"[^"]*"', "", bare)
    return set(re.findall(r"\b(?:sentinel|envoy|process|python)[_:][\w:]*", bare))


@pytest.fixture(scope="module")
async def known(module_folder: Path) -> AsyncIterator[set[str]]:
    """The names that a running Sentinel and its Envoy expose."""
    environment = {"REDIS_URL": "memory://", "ADMIN_ACTIONS": "true"}
    async with Fleet(module_folder, environment) as fleet:
        await fleet.send(20, "acme")
        sentinel, envoy = fleet.sentinels[0].admin, fleet.envoys[0].admin
        texts = [
            urllib.request.urlopen(url, timeout=10).read().decode()
            for url in (f"{sentinel}/metrics", f"{envoy}/stats/prometheus")
        ]
        found = {line.split()[2] for text in texts for line in text.splitlines() if line.startswith("# TYPE")}
        yield found | {f"{name}{end}" for name in found for end in ("_bucket", "_count", "_sum")}


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_parses(expression: str) -> None:
    promql_parser.parse(expression)


def test_a_broken_one_does_not() -> None:
    with pytest.raises(ValueError, match=r"\S"):
        promql_parser.parse("sum by (job (x)")


def test_every_metric_exists(known: set[str]) -> None:
    recorded = {rule["record"] for rule in RULES if "record" in rule}
    read = {name for expression in EXPRESSIONS for name in names(expression)}

    assert set() == read - known - recorded - ELSEWHERE
    assert len(read) > 40


def test_every_alert_has_its_runbook_and_every_runbook_an_alert() -> None:
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    urls = {name: rule["annotations"]["runbook_url"] for name, rule in ALERTS.items()}

    assert set(ALERTS) == pages
    assert {name: f"docs/runbooks/{name}.md" for name in ALERTS} == urls
    index = (RUNBOOKS / "README.md").read_text()
    assert [] == [name for name in ALERTS if f"({name}.md)" not in index]
    assert {"critical", "warning", "info"} == {rule["labels"]["severity"] for rule in ALERTS.values()}


def test_the_commands_of_the_runbooks_exist() -> None:
    known_commands: Any = get_command(app)
    for page in RUNBOOKS.glob("*.md"):
        for line in re.findall(r"sentinel-ext ([a-z-]+)((?: --?[\w-]+)*)", page.read_text()):
            assert line[0] in known_commands.commands, (page.name, line)
        for name, option in re.findall(r"sentinel-ext ([a-z-]+)[^\n`]*? (--[\w-]+)", page.read_text()):
            options = [o for p in known_commands.commands[name].params for o in p.opts]
            assert option in options, (page.name, name, option)


def test_every_alert_has_a_case_of_its_own() -> None:
    told = " ".join(path.read_text() for path in CASES)

    assert [] == [name for name in ALERTS if name not in told]


def test_the_cases_hold_by_promtool() -> None:
    """All files at once: they take a core each, and seconds."""
    promtool = program("promtool")
    subprocess.run([promtool, "check", "rules", str(DEPLOY / "prometheus/alerts.yaml")], check=True)
    running = [subprocess.Popen([promtool, "test", "rules", str(case)]) for case in CASES]

    assert [0] * len(CASES) == [each.wait() for each in running]


def test_the_dashboard_is_what_its_rows_make(tmp_path: Path) -> None:
    for name in ("dashboard.py", "rows.py"):
        shutil.copy(DEPLOY / "grafana" / name, tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "dashboard.py")], check=True)

    assert json.loads((tmp_path / "sentinel.json").read_text()) == DASHBOARD, "run `make dashboard`"
