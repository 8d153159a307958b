"""Write sentinel.json, the Grafana dashboard, from rows.py: `make dashboard`. A test holds both together."""

from __future__ import annotations

import json
import re
import sys
from itertools import count
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from rows import ROWS, Panel

# What the words in rows.py select. "All" is `.*`, which matches a label that is absent, too: outside Kubernetes
# nobody sets `namespace`.
_JOB = 'namespace=~"$namespace", job=~"$job"'
_OF = _JOB + ', instance=~"$instance"'
_ENVOY = 'namespace=~"$envoy_namespace", job=~"$envoy_job"'
SELECTIONS = {
    "job": _JOB,
    "of": _OF,
    "up": _OF + ', upstream=~"$upstream"',
    "rl": _OF + ', domain=~"$domain"',
    "envoy": _ENVOY,
    "authz": _ENVOY + ', envoy_ext_authz_prefix=~"$ext_authz_prefix"',
    "cluster": _ENVOY + ', envoy_cluster_name=~"$sentinel_cluster"',
}
_WORD = re.compile(rf"\{{\$({'|'.join(SELECTIONS)})\b")
SOURCE = {"type": "prometheus", "uid": "${datasource}"}
HEIGHT = 8
WIDTH = 24


def dashboard() -> dict[str, Any]:
    """Return the whole dashboard as Grafana's JSON model."""
    return {
        "title": "Sentinel",
        "uid": "sentinel",
        "description": "Decisions, limits, overload and health of Sentinel, the decision service beside Envoy.",
        "tags": ["sentinel", "envoy"],
        "schemaVersion": 39,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "templating": {"list": variables()},
        "annotations": {"list": annotations()},
        "links": [],
        "panels": panels(),
    }


def variables() -> list[dict[str, Any]]:
    """The choices on top."""
    return [
        {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus"},
        _query("namespace", "Namespace", "sentinel_build_info"),
        _query("job", "Job", 'sentinel_build_info{namespace=~"$namespace"}'),
        _query("instance", "Instance", "sentinel_build_info{$job}"),
        _query("upstream", "Upstream", "sentinel_pressure{$job}"),
        _query("domain", "Rate limit domain", "sentinel_ratelimit_hits_total{$job}"),
        # A gateway often runs in a namespace of its own, and is scraped by a job of its own.
        _query("envoy_namespace", "Envoy's namespace", "envoy_http_ext_authz_ok", "namespace"),
        _query("envoy_job", "Envoy's job", 'envoy_http_ext_authz_ok{namespace=~"$envoy_namespace"}', "job"),
        _query(
            "ext_authz_prefix", "Envoy's ext_authz filter", "envoy_http_ext_authz_ok{$envoy}",
            "envoy_ext_authz_prefix",
        ),
        _text("sentinel_cluster", "Envoy's cluster of Sentinel (a pattern)", ".*sentinel.*"),
        _text("runbooks", "URL of docs/runbooks", "docs/runbooks"),
    ]  # fmt: skip


def selected(expr: str) -> str:
    """Put selections where an expression of rows.py has their words."""
    return _WORD.sub(lambda found: "{" + SELECTIONS[found[1]], expr)


def _query(name: str, label: str, series: str, values_of: str = "") -> dict[str, Any]:
    """Choose among the values of a label, by default the one of that name."""
    query = f"label_values({selected(series)}, {values_of or name})"
    return {
        "name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": query,
        "query": {"query": query, "refId": name}, "refresh": 2, "sort": 1, "multi": True, "includeAll": True,
        "allValue": ".*", "current": {"text": ["All"], "value": ["$__all"]},
    }  # fmt: skip


def _text(name: str, label: str, value: str) -> dict[str, Any]:
    current = {"text": value, "value": value}
    return {
        "name": name,
        "label": label,
        "type": "textbox",
        "query": value,
        "current": current,
        "options": [current],
    }


def annotations() -> list[dict[str, Any]]:
    """Marks on all panels."""
    marks = {
        "Configuration changed": ("blue", "changes(sentinel_config_generation{$of}[1m]) > 0", "instance"),
        "Breaker opened": (
            "red", 'increase(sentinel_circuit_breaker_transitions_total{$up, to="open"}[1m]) > 0', "upstream",
        ),
    }  # fmt: skip
    return [
        {"name": name, "datasource": SOURCE, "enable": True, "iconColor": color, "expr": selected(expr), "step": "60s",
         "titleFormat": name, "textFormat": f"{{{{{label}}}}}"}
        for name, (color, expr, label) in marks.items()
    ]  # fmt: skip


def panels() -> list[dict[str, Any]]:
    """All rows and their panels, laid out from left to right."""
    numbers, out, y = count(1), [], 0
    for title, row in ROWS.items():
        out.append(
            {"id": next(numbers), "type": "row", "title": title, "collapsed": False, "panels": [],
             "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1}}
        )  # fmt: skip
        y, x = y + 1, 0
        for panel in row:
            if x + panel.width > WIDTH:
                x, y = 0, y + HEIGHT
            place = {"x": x, "y": y, "w": panel.width, "h": HEIGHT}
            out.append({"id": next(numbers), "gridPos": place, **_panel(panel)})
            x += panel.width
        y += HEIGHT
    return out


def _panel(panel: Panel) -> dict[str, Any]:
    targets = [
        {"refId": chr(ord("A") + i), "datasource": SOURCE, "legendFormat": legend, "range": True,
         "expr": selected(expr),
         # Every query of a panel would bring the same ones.
         **({"exemplar": True} if panel.exemplars and i == 0 else {}),
         **({"format": "heatmap"} if panel.kind == "heatmap" else {})}
        for i, (legend, expr) in enumerate(panel.queries.items())
    ]  # fmt: skip
    link = {"title": f"Runbook: {panel.alert}", "url": f"${{runbooks}}/{panel.alert}.md", "targetBlank": True}
    return {
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": SOURCE,
        "targets": targets,
        "links": [link] if panel.alert else [],
        "fieldConfig": {"defaults": _field(panel), "overrides": []},
        "options": _options(panel),
    }


def _field(panel: Panel) -> dict[str, Any]:
    field: dict[str, Any] = {"unit": panel.unit, "thresholds": _thresholds(panel)}
    if panel.names:
        options = {str(n): {"text": text, "color": color} for n, (text, color) in panel.names.items()}
        field["mappings"] = [{"type": "value", "options": options}]
    if panel.kind == "timeseries":
        field["min"] = 0
        shown = any(step is not None for step in panel.steps)
        field["custom"] = {
            "lineWidth": 1, "fillOpacity": 8, "showPoints": "never", "spanNulls": False,
            "thresholdsStyle": {"mode": "dashed" if shown else "off"},
        }  # fmt: skip
    return field


def _thresholds(panel: Panel) -> dict[str, Any]:
    orange, red = panel.steps
    if orange is None or red is None:
        return {"mode": "absolute", "steps": [{"color": "green", "value": None}]}
    if orange > red:  # less is worse
        steps = [("red", None), ("orange", red), ("green", orange)]
    else:
        steps = [("green", None), ("orange", orange), ("red", red)]
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in steps]}


def _options(panel: Panel) -> dict[str, Any]:
    if panel.kind == "stat":
        return {
            "colorMode": "value", "graphMode": "none", "textMode": "value_and_name",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        }  # fmt: skip
    if panel.kind == "heatmap":
        return {
            "calculate": False,
            "yAxis": {"unit": panel.unit},
            "color": {"scheme": "Oranges", "mode": "scheme"},
        }
    if panel.kind == "state-timeline":
        return {"mergeValues": True, "showValue": "auto", "legend": {"showLegend": False}}
    return {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }


if __name__ == "__main__":
    Path(__file__).with_name("sentinel.json").write_text(
        json.dumps(dashboard(), indent=1) + "\n", encoding="utf-8"
    )
