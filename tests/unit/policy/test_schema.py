"""The published JSON Schema agrees with the loader."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import pytest
from typer.testing import CliRunner

from sentinel_ext.policy import parse_policy
from sentinel_ext.policy.document import DocumentError, parse
from sentinel_ext.policy.schema import json_schema, json_schema_text
from sentinel_ext.settings import Settings

ROOT = Path(__file__).parents[3]
ERRORS = sorted((Path(__file__).parent / "errors").glob("*.yaml"))
VALIDATOR = jsonschema.Draft202012Validator(json_schema())

# Beyond JSON Schema: references, YAML itself, arithmetic on durations and rates, bytes and characters.
ONLY_THE_LOADER_SEES = {
    "alias_recursive",
    "alias_star",
    "breaker_slow_above_timeout",
    "breaker_slow_alone",
    "breaker_successes",
    "default_plan_unknown",
    "duplicate_plan",
    "duplicate_section",
    "duplicate_tenant",
    "guaranteed_above_capacity",
    "guaranteed_above_limit",
    "guaranteed_not_vital",
    "guaranteed_too_slow",
    "merge_key",
    "nested_too_deep",
    "plan_unknown",
    "refill_too_slow",
    "second_document",
    "syntax",
    "tab",
    "tag",
    "tag_of_container",
    "tenant_name_control",
    "tenant_name_spaces",
    "tenant_name_too_long",
    "window_too_long",
}
GOOD = """\
version: 1
plans:
  gold: {tier: vital, limit: 1000, window: 60s, burst: 200, refill: 100/s, on_store_failure: open}
  free: {limit: unlimited, burst: unlimited, refill: 0.5}
  off: {limit: 0, window: 250ms, refill: 1000/h}
  vip: {tier: vital, guaranteed: 10/s, weight: 4, limit: unlimited}
  empty:
default_plan: gold
tenants: {acme: gold, "trial-*": {plan: gold, tier: economy, limit: 20}, 007: free}
identify: [{header: X-Tenant-Id}, {context_extension: t}, {principal: true}, {jwt_claim: org, payload: p}]
stages: {window: shadow, bucket: off, pressure: shadow, breaker: enforce}
upstreams:
  default: {slo: 200ms, breaker: off}
  orders: {timeout: 2s, capacity: 2000, failures: {count_500: true}, breaker: {slow: 1s, slow_rate: 1}}
  search: {capacity: 60000/m, breaker: {failure_threshold: 0.5, window: 30s, cooldown: 5s, successes: 1}}
  empty:
"""


def test_the_schema_is_a_schema():
    jsonschema.Draft202012Validator.check_schema(json_schema())


def test_the_committed_schema_is_current():
    committed = (ROOT / "docs" / "policy.schema.json").read_text("utf-8")

    assert json_schema_text() == committed, "run: sentinel-ext policy-schema > docs/policy.schema.json"


def test_every_property_is_described():
    schema = json_schema()
    models = [schema, *schema["$defs"].values()]

    bare = [
        name
        for model in models
        for name, field in model.get("properties", {}).items()
        if "description" not in field
    ]
    assert [] == bare


def test_the_good_document_loads():
    defaults = Settings().plan_defaults

    assert () == parse_policy(GOOD, "policy.yaml", defaults, "x-tenant-id").warnings


@pytest.mark.parametrize("text", [GOOD, "{}", "plans:\ntenants:\nidentify:\nupstreams:\nstages:\n"])
def test_good_documents_agree_with_the_schema(text):
    assert [] == list(VALIDATOR.iter_errors(parse(text).root.plain()))


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_bad_documents_break_the_schema_where_it_can_tell(path):
    try:
        document = parse(path.read_text("utf-8"))
    except DocumentError:
        assert path.stem in ONLY_THE_LOADER_SEES
        return

    sees = not VALIDATOR.is_valid(document.root.plain())
    assert (path.stem not in ONLY_THE_LOADER_SEES) == sees


def test_the_command_prints_the_schema():
    from sentinel_ext.cli.root import app  # noqa: PLC0415 - the other tests need no command line

    result = CliRunner().invoke(app, ["policy-schema"])

    assert (0, json_schema_text()) == (result.exit_code, result.stdout)
