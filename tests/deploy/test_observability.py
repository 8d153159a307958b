"""Alerts, dashboard, runbooks: each alert has its page and its case; the dashboard is what its rows make."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
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
