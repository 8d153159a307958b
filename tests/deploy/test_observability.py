"""Alerts, dashboard, runbooks: each alert has its page and its case; the dashboard is what its rows make."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.alert_mutants import Mutant, Suite, mutants
from support.prometheus import program

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RUNBOOKS = ROOT / "docs/runbooks"
GROUPS = yaml.safe_load((DEPLOY / "prometheus/alerts.yaml").read_text())["groups"]
RULES = [rule for group in GROUPS for rule in group["rules"]]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
DASHBOARD = json.loads((DEPLOY / "grafana/sentinel.json").read_text())
CASES = sorted((DEPLOY / "prometheus/tests").glob("*.yaml"))


def test_every_alert_has_its_runbook_and_every_runbook_an_alert() -> None:
    pages = {page.stem for page in RUNBOOKS.glob("*.md")} - {"README"}
    urls = {name: rule["annotations"]["runbook_url"] for name, rule in ALERTS.items()}

    assert set(ALERTS) == pages
    assert {name: f"docs/runbooks/{name}.md" for name in ALERTS} == urls
    index = (RUNBOOKS / "README.md").read_text()
    assert [] == [name for name in ALERTS if f"({name}.md)" not in index]
    assert {"critical", "warning", "info"} == {rule["labels"]["severity"] for rule in ALERTS.values()}


def expected() -> dict[str, set[bool]]:
    """Whether the cases expect an alert to fire, or not to, or both."""
    found: dict[str, set[bool]] = {}
    for path in CASES:
        for case in yaml.safe_load(path.read_text())["tests"]:
            for one in case.get("promql_expr_test", ()):
                told = re.search(r'ALERTS\{alertname="(\w+)"(.*?)\}', one["expr"])
                # Where it does not fire it may be pending; where it does, only firing counts.
                if told and (not one["exp_samples"] or 'alertstate="firing"' in told[2]):
                    found.setdefault(told[1], set()).add(bool(one["exp_samples"]))
    return found


def test_cases_say_of_every_alert_when_it_fires_and_when_not() -> None:
    """That they are just above and below each number, `make alerts-mutants` shows."""
    assert {name: {True, False} for name in ALERTS} == expected()


def test_cases_take_all_groups_in_the_order_of_the_file() -> None:
    orders = {path.name: yaml.safe_load(path.read_text())["group_eval_order"] for path in CASES}

    names = [group["name"] for group in GROUPS]
    assert {} == {name: order for name, order in orders.items() if order != names}


def test_a_number_of_an_alert_that_changes_is_found(tmp_path: Path) -> None:
    """One alert's of some three hundred: `make alerts-mutants` takes two minutes for all."""
    suite = Suite(tmp_path)
    rule = ALERTS["SentinelPressureHigh"]
    tried = list(mutants(rule))

    assert suite.survives(Mutant("SentinelPressureHigh", rule, "unchanged"))
    assert ["{80 -> 160}", "{80 -> 40}", "15m -> 1800s", "15m -> 450000ms"] == [
        (re.search(r"\{80.*\}", one.told) or [one.told.removeprefix("for: ")])[0] for one in tried
    ]
    assert [] == [one.told for one in tried if suite.survives(one)]


def test_the_cases_hold_by_promtool() -> None:
    """All files at once: 8 seconds of a core."""
    promtool = program("promtool")
    subprocess.run([promtool, "check", "rules", str(DEPLOY / "prometheus/alerts.yaml")], check=True)
    running = [subprocess.Popen([promtool, "test", "rules", str(case)]) for case in CASES]

    assert [0] * len(CASES) == [each.wait() for each in running]


def test_the_dashboard_is_what_its_rows_make(tmp_path: Path) -> None:
    for name in ("dashboard.py", "rows.py"):
        shutil.copy(DEPLOY / "grafana" / name, tmp_path)
    subprocess.run([sys.executable, str(tmp_path / "dashboard.py")], check=True)

    assert json.loads((tmp_path / "sentinel.json").read_text()) == DASHBOARD, "run `make dashboard`"
