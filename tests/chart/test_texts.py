"""Text of policies and rate limit files: the chart takes what Sentinel takes, and refuses most else."""

from __future__ import annotations

import ast
import importlib
import json
import re
import shutil
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from support.helm import CHART, ROOT

from sentinel_ext.core.policy import PlanDefaults
from sentinel_ext.errors import PolicyError
from sentinel_ext.policy import parse_policy
from sentinel_ext.policy.ratelimit import parse_rules

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.helm import Helm

UNIT = ROOT / "tests" / "unit" / "policy"
ERRORS = sorted((UNIT / "errors").glob("*.yaml"))
DEFAULTS = PlanDefaults(limit=100, window_us=60_000_000, burst=20, refill_nano=10_000_000_000)
# What YAML 1.1 reads as something else than Sentinel does, or than it looks like.
WORDS = [
    *(
        "off",
        "on",
        "yes",
        "No",
        "y",
        "N",
        "true",
        "null",
        "~",
        "'off'",
        "!!str 5",
        "007",
        "010",
        "+1",
        "1_000",
    ),
    *("0x10", "0b1", "0o7", "1e3", "1.", ".5", "5.0", ".inf", "1e400", "12345678901234567890", "1:30", "_1"),
    *("2026-11-25", "='", "250ms", "1m", "100/s", "unlimited", "MINUTE"),
]
POLICY_SPOTS = [
    *("plans: {%s: {limit: 1}}\ntenants: {a: %s, b: '%s'}\ndefault_plan: %s\n", "tenants: {%s: default}\n"),
    *("plans: {%s: }\ntenants: {a: {plan: %s}}\n", "plans: {a: {limit: %s}}\n", "plans: {a: {refill: %s}}\n"),
    *("plans: {a: {window: %s}}\n", "stages: {bucket: %s}\n", "upstreams: {a: {breaker: %s}, %s: }\n"),
    *("identify: [{header: %s}]\n", "identify: [{jwt_claim: %s}]\n", "identify: [{principal: %s}]\n"),
    *("upstreams: {a: {failures: {count_500: %s}}}\n", "version: %s\n", "upstreams: {a: {capacity: %s}}\n"),
    "ratelimit: {domain: %s, descriptors: [{key: %s, value: %s}]}\n",
]
LIMIT_SPOTS = [
    "domain: %s\ndescriptors: [{key: %s, value: %s}]\n",
    *(
        f"domain: d\ndescriptors: [{{key: k, {more}}}]\n"
        for more in ("shadow_mode: %s", "metadata: {a: %s, %s: 1}", "rate_limit: %s", "descriptors: %s")
    ),
    *(
        f"domain: d\ndescriptors: [{{key: k, rate_limit: {{{limit}}}}}]\n"
        for limit in (
            "unit: day, requests_per_unit: %s",
            "unit: %s, requests_per_unit: 1",
            "per: %s, requests_per_unit: 1",
            "unit: day, requests_per_unit: 1, name: %s, tier: vital, upstream: %s",
            "unlimited: %s",
            "unlimited: true, unit: %s",
            "unit: day, requests_per_unit: 1, algorithm: gcra, burst: %s",
        )
    ),
]

# Helm finds true in it.
YAML_1_1 = "upstream_count_500"
# Where one value contradicts another, or YAML 1.1 is more generous.
BEYOND = {
    *("duplicate", "key-only twice", "nested duplicate", "unlimited with unit", "self replaces", "bad per"),
    *("share without star", "metadata nan", "per and unit", "burst of a window", "upstream without tier"),
    *("burst for ever", "decimal with a leading 0", "endless number", "fraction limit", "huge value"),
    *("limit and limits", "metadata too large", "replaces its neighbour", "same window twice"),
    *("sliding counts denied", "unlimited beside a limit"),
}


def written() -> Iterator[str]:
    """Yield every text in the tests of policies, whatever it is."""
    for path in sorted(UNIT.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and ":" in node.value:
                yield node.value
    cases = importlib.import_module("tests.unit.policy.ratelimit.test_files")
    yield from (text for text, _ in (*cases.REFUSED.values(), *cases.DOUBTFUL.values()))
    yield from (path.read_text() for path in ERRORS)
    for spot in (*POLICY_SPOTS, *LIMIT_SPOTS):
        yield from (spot.replace("%s", word) for word in WORDS)


TEXTS = [text for text in dict.fromkeys(written()) if text.strip() and len(text) < 100_000]


def policies() -> list[str]:
    taken = []
    for text in TEXTS:
        with suppress(PolicyError):
            parse_policy(text, "policy.yaml", DEFAULTS, "x-tenant-id")
            taken.append(text)
    return taken


def limits(*, lenient: bool) -> dict[bool, dict[str, str]]:
    """Sort all texts by whether Sentinel takes them as a file of rate limits."""
    found: dict[bool, dict[str, str]] = {True: {}, False: {}}
    for i, text in enumerate(TEXTS):
        try:
            parse_rules({"a.yaml": text}, merge=False, lenient=lenient)
        except PolicyError:
            found[False][f"f{i}.yaml"] = text
        else:
            found[True][f"f{i}.yaml"] = text
    return found


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make of the chart one with a single template, which judges many policies at once: that is fast."""
    chart = tmp_path_factory.mktemp("judge") / "sentinel"
    shutil.copytree(CHART, chart, ignore=shutil.ignore_patterns("*.json", "templates"))
    shutil.copytree(CHART / "files", chart / "files", dirs_exist_ok=True)
    shutil.copytree(CHART / "templates", chart / "templates", ignore=shutil.ignore_patterns("[!_]*"))
    (chart / "templates" / "judge.yaml").write_text(JUDGE)
    return chart


JUDGE = """
{{- $said := list -}}
{{- range .Values.texts -}}
{{- $values := deepCopy $.Values -}}
{{- $_ := set $values.policy "content" . -}}
{{- $all := dict "Values" $values "Files" $.Files "Chart" $.Chart "Release" $.Release -}}
{{- $_ := include "sentinel.tenantHeaders" $all -}}
{{- $said = append $said (include "sentinel.fileProblems" $all | trim) -}}
{{- end -}}
{{ toJson $said }}
"""


def judged(helm: Helm, chart: Path, texts: list[str]) -> dict[str, str]:
    """Return what the templates say of policies."""
    (said,) = helm.files({"texts": texts}, chart).values()
    return dict(zip(texts, json.loads(said), strict=True))


def test_no_policy_that_sentinel_takes_is_refused(helm: Helm, judge: Path) -> None:
    taken = policies()
    refused = {text: said for text, said in judged(helm, judge, taken).items() if said}

    assert {} == refused
    assert 150 < len(taken)


@pytest.mark.parametrize("lenient", [False, True])
def test_no_file_of_limits_that_sentinel_takes_is_refused(helm: Helm, lenient: bool) -> None:
    taken = limits(lenient=lenient)[True]
    helm.files({"rateLimit": {"files": taken, "mergeDomains": True, "lenient": lenient}})

    assert 100 < len(taken)


def test_a_text_is_refused_where_the_schema_of_policies_sees_it(helm: Helm, judge: Path) -> None:
    """The comments of each file say what is wrong, and begin with the place."""
    unseen = importlib.import_module("tests.unit.policy.test_schema").ONLY_THE_LOADER_SEES | {YAML_1_1}
    texts = {path.stem: path.read_text() for path in ERRORS if path.stem not in unseen}
    said = judged(helm, judge, list(texts.values()))

    for name, text in texts.items():
        places = re.findall(r"^# [0-9]+:[0-9]+: ([a-z_0-9.]+): ", text, re.MULTILINE)
        assert said[text].startswith("policy.content"), name
        assert not places or any(f"policy.content.{place}" in said[text] for place in places), name
    assert 30 < len(texts)


def test_messages_name_the_value_and_what_is_allowed(helm: Helm) -> None:
    message = helm.refusal({"policy": {"content": "plans: {gold: {limit: -1, colour: red}}\ntenants: 5\n"}})

    assert (
        "policy.content.plans.gold.limit: must be a whole number from 0 to 1000000000 or unlimited" in message
    )
    assert (
        "policy.content.plans.gold.colour: there is no such key here; allowed: burst, guaranteed" in message
    )
    assert "policy.content.tenants: must be a mapping (got 5)" in message


def test_lint_refuses_the_same(helm: Helm) -> None:
    """Though Helm's `fail` says nothing while it lints; what an image is called does not matter then."""
    (told, *_) = helm.lint({"policy": {"content": "plans: {gold: {tier: best}}"}})
    assert "policy.content.plans.gold.tier: must be vital, standard, economy (got 'best')" in told
    (told, *_) = helm.lint({"rateLimit": {"files": {"a.yaml": "domain: d\nmore: 1"}}})
    assert "rateLimit.files.a.yaml: more: there is no such key here" in told

    assert [] == helm.lint({"image": {"registry": ""}, "policy": {"content": "plans: {gold: {tier: vital}}"}})


def test_limits_are_refused_where_their_schema_sees_it(helm: Helm) -> None:
    cases = importlib.import_module("tests.unit.policy.ratelimit.test_files").REFUSED
    files = {f"{name.replace(' ', '-')}.yaml": text or "#" for name, (text, _) in cases.items()}
    message = helm.refusal({"rateLimit": {"files": files, "mergeDomains": True, "lenient": True}})
    told = {name for name in cases if f"rateLimit.files.{name.replace(' ', '-')}.yaml: " in message}

    assert cases.keys() - BEYOND == told
    limit = "rateLimit.files.bad-unit.yaml: descriptors[0].rate_limit.unit: must be second, minute, hour"
    assert limit in message


def test_a_section_or_mapping_of_limits_is_held_to_the_same(helm: Helm) -> None:
    domain = {"domain": "d", "descriptors": [{"key": "a", "rate_limit": {"unit": "fortnight"}}], "more": 1}
    message = helm.refusal({"policy": {"content": {"ratelimit": [domain]}}})
    assert "policy.content.ratelimit[0].descriptors[0].rate_limit.unit: must be second" in message
    assert "policy.content.ratelimit[0].more: there is no such key here" in message

    message = helm.refusal({"rateLimit": {"files": {"a.yaml": domain}}})
    assert "rateLimit.files.a.yaml: more: there is no such key here; allowed: descriptors, domain" in message


def test_a_key_without_effect_is_only_taken_where_reading_is_lenient(helm: Helm) -> None:
    given = {"files": {"a.yaml": "domain: d\ndescriptors: [{key: k, unit: day}]\n"}}

    assert "rateLimit.files.a.yaml: descriptors[0].unit: there is no such" in helm.refusal(
        {"rateLimit": given}
    )
    helm.render({"rateLimit": {**given, "lenient": True}})


@pytest.mark.parametrize("text", ["  # mine\nplans: {}\n", "\n      \nplans: {}\n", "plans: {}"], ids=repr)
def test_text_arrives_as_it_is_even_if_it_begins_with_spaces(helm: Helm, text: str) -> None:
    values = {
        "policy": {"content": text},
        "rateLimit": {"files": {"a.yaml": text.replace("plans: {}", "domain: a")}},
        "checkConfig": {"enabled": True},
    }
    rendered = helm.render(values)

    read = rendered.one("ConfigMap", "-policy")["data"] | rendered.one("ConfigMap", "-ratelimit")["data"]
    assert rendered.one("ConfigMap", "-check")["data"] == read
    assert text.rstrip("\n") == read["policy.yaml"].rstrip("\n")
    assert "domain: a" == read["a.yaml"].splitlines()[-1]
