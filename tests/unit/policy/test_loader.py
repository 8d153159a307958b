"""Files in, a policy or every problem out."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel_ext.core.model import FailureMode, Mode, Stage, Tier
from sentinel_ext.core.policy import PlanDefaults, Policy, Source, SourceKind
from sentinel_ext.errors import PolicyError
from sentinel_ext.policy import load_policy, parse_policy
from sentinel_ext.policy.document import MAX_FILE_BYTES
from sentinel_ext.policy.loader import MAX_PROBLEMS
from sentinel_ext.policy.sources import load_all
from sentinel_ext.settings import Settings

DEFAULTS = PlanDefaults(limit=100, window_us=60_000_000, burst=20, refill_nano=10_000_000_000)
ERRORS = sorted((Path(__file__).parent / "errors").glob("*.yaml"))
GOOD = """\
version: 1
plans:
  gold:   {tier: vital,    limit: 1000, window: 60s, burst: 200, refill: 100/s, on_store_failure: open}
  silver: {tier: standard}            # absent values come from the environment's defaults
default_plan: silver
tenants: {acme: gold, "trial-*": {tier: economy, limit: 20}}
identify: [{header: X-Tenant-Id}, {context_extension: tenant}, {principal: true}, {jwt_claim: org}]
upstreams:
  default: {slo: 500ms}
  orders: {timeout: 2s, capacity: 1000/s, failures: {count_500: true}, breaker: {slow: 1s, slow_rate: 0.5}}
  search: {breaker: off}
stages: {window: shadow, bucket: off}
"""


def load(text: str) -> Policy:
    return parse_policy(text, "policy.yaml", DEFAULTS, "x-tenant-id")


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        load(text)
    return caught.value.problems


def test_the_example_of_the_readme_compiles():
    policy = load(GOOD)

    assert () == policy.warnings
    gold = policy.plan_for("acme")
    assert (Tier.VITAL, 1000, 200, 100_000_000_000) == (gold.tier, gold.limit, gold.burst, gold.refill_nano)
    trial = policy.plan_for("trial-7")
    assert ("trial-*", Tier.ECONOMY, 20, 20) == (trial.name, trial.tier, trial.limit, trial.burst)
    assert policy.plan_for("somebody") is policy.default_plan is policy.plans["silver"]
    assert policy.sources == (
        Source(SourceKind.HEADER, "x-tenant-id"),
        Source(SourceKind.CONTEXT_EXTENSION, "tenant"),
        Source(SourceKind.PRINCIPAL),
        Source(SourceKind.JWT_CLAIM, "org", "jwt_payload"),
    )
    assert {Stage.WINDOW: Mode.SHADOW, Stage.BUCKET: Mode.OFF} == policy.modes


@pytest.mark.parametrize("path", ERRORS, ids=lambda path: path.stem)
def test_each_mistake_is_told_with_place_and_remedy(path):
    """The leading comment of each file is what the operator reads about it."""
    text = path.read_text("utf-8")
    expected = []
    for line in text.splitlines():
        if not line.startswith("# "):
            break
        expected.append(f"policy.yaml:{line[2:]}")

    assert tuple(expected) == problems(text)


def test_without_a_file_the_environment_is_the_policy():
    policy = load_policy(None, DEFAULTS, "x-org")

    plan = policy.plan_for("anybody")
    assert ("default", Tier.STANDARD, FailureMode.LOCAL) == (plan.name, plan.tier, plan.on_store_failure)
    assert (100, 60_000_000, 20, 10_000_000_000) == (plan.limit, plan.window_us, plan.burst, plan.refill_nano)
    assert (Source(SourceKind.HEADER, "x-org"),) == policy.sources


@pytest.mark.parametrize(
    "text", ["", "# nothing yet\n", "---\n", "{}", "plans:\ntenants:\nupstreams:\nstages:\n", "\ufeff{}"]
)
def test_an_empty_file_is_the_environments_policy(tmp_path, text):
    path = tmp_path / "policy.yaml"
    path.write_text(text, "utf-8")

    assert load_policy(None, DEFAULTS, "x-tenant-id") == load_policy(path, DEFAULTS, "x-tenant-id")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "{path}: cannot be read: No such file or directory"),
        (b"plans:\n  g\xf6ld: {}\n", "{path}:2:4: is not UTF-8 text (byte 0xf6)"),
        ("plans: {}".encode("utf-16"), "{path}:1:1: is not UTF-8 text (byte 0xff)"),
        (b"plans:\n  go\x00ld: {}\n", "{path}:2:5: not valid YAML: control characters are not allowed"),
        (b"#" * (MAX_FILE_BYTES + 1), "{path}: is larger than 16 MiB"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, content, message):
    path = tmp_path / "policy.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(PolicyError) as caught:
        load_policy(path, DEFAULTS, "x-tenant-id")

    assert (message.format(path=path),) == caught.value.problems


def test_a_directory_is_no_policy(tmp_path):
    with pytest.raises(PolicyError, match="cannot be read: Is a directory"):
        load_policy(tmp_path, DEFAULTS, "x-tenant-id")


def test_a_systematic_mistake_does_not_flood_the_terminal():
    found = problems("plans:\n" + "".join(f"  p{n}: {{limit: -1}}\n" for n in range(150)))

    assert MAX_PROBLEMS + 1 == len(found)
    assert "policy.yaml: and 50 more" == found[-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "plans:\n" + "".join(f"  p{n}: {{}}\n" for n in range(1001)),
            "plans: holds 1001 entries, allowed are at most 1000",
        ),
        (
            "tenants:\n" + "".join(f"  t{n}*: default\n" for n in range(1001)),
            "tenants: at most 1000 patterns with * are allowed (got 1001)",
        ),
        ("identify:\n" + "- principal: true\n" * 17, "identify: holds 17 entries, allowed are at most 16"),
        (
            "upstreams:\n" + "".join(f"  u{n}: {{}}\n" for n in range(255)),
            "upstreams: holds 255 entries, allowed are at most 254",
        ),
    ],
    ids=["plans", "patterns", "sources", "upstreams"],
)
def test_tables_have_bounds(text, message):
    (found,) = problems(text)

    assert found.endswith(message)


def test_tables_are_full_at_their_bounds():
    policy = load("upstreams:\n" + "".join(f"  u{n}: {{}}\n" for n in range(254)))

    assert 254 == len(policy.upstreams)


def test_a_warning_has_its_place_and_is_no_problem():
    policy = load("upstreams:\n  'a*': {slo: 500ms}\n")

    (found,) = policy.warnings
    assert found.startswith('policy.yaml:2:9: upstreams."a*": names of upstreams are no patterns; ')
    assert 500_000 == policy.upstream("a*").slo_us


def test_warnings_do_not_flood_the_log():
    found = load("upstreams:\n" + "".join(f"  u{n}*: {{}}\n" for n in range(150))).warnings

    assert MAX_PROBLEMS + 1 == len(found)
    assert "policy.yaml: and 50 more" == found[-1]


def test_too_many_tenants_are_refused():
    (found,) = problems("tenants:\n" + "".join(f"  t{n}: x\n" for n in range(100_001)))

    assert found.endswith("tenants: holds 100001 entries, allowed are at most 100000")


def only_a_policy_or_its_error(text: str) -> None:
    found: tuple[str, ...] = ("policy.yaml",)
    try:
        load(text)
    except PolicyError as error:
        found = error.problems

    assert found
    assert all(line.startswith("policy.yaml") and "\n" not in line for line in found)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_a_policy_or_a_policy_error(text):
    only_a_policy_or_its_error(text)


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 12),
    st.one_of(
        st.text(max_size=4),
        st.sampled_from(
            ["*a", "&a ", "!!int ", "<<: ", "- ", "? ", "{", "]", "'", "\t", "-1", "~", "1e99", "\n", ": "]
        ),
    ),
)
def test_a_damaged_policy_is_a_policy_or_a_policy_error(at, cut, inserted):
    only_a_policy_or_its_error(GOOD[:at] + inserted + GOOD[at + cut :])


WORDS = [
    "plans",
    "tenants",
    "gold",
    "a*",
    "[key]",
    "plan",
    "limit",
    "window",
    "refill",
    "identify",
    "header",
    "principal",
    "payload",
    "stages",
    "bucket",
    "default_plan",
    "version",
    "tier",
    "guaranteed",
    "weight",
    "upstreams",
    "orders",
    "slo",
    "timeout",
    "capacity",
    "failures",
    "count_500",
    "breaker",
    "cooldown",
    "slow",
    "slow_rate",
    "successes",
]
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["gold", "off", "60s", "5/m", "vital", ""])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(
    VALUES, st.sampled_from(["{}", "plans: {}", "tenants: {}", "identify: {}", "stages: {}", "upstreams: {}"])
)
def test_any_shape_is_a_policy_or_a_policy_error(value, frame):
    only_a_policy_or_its_error(frame.replace("{}", json.dumps(value)))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plans: {a: {on_store_failure: closed}}\ndefault_plan: a\n", True),
        ("plans: {default: {on_store_failure: closed}}\n", True),
        ("plans: {a: {on_store_failure: closed}}\n", False),
        ("plans: {a: {on_store_failure: closed}, b: {}}\ndefault_plan: a\n", True),
        ("plans: {a: {on_store_failure: closed}, b: {}}\ndefault_plan: a\ntenants: {x: b}\n", False),
        ("plans: {a: {on_store_failure: closed}, b: {}}\ndefault_plan: a\ntenants: {'x-*': b}\n", False),
    ],
)
def test_the_store_is_needed_where_every_plan_that_somebody_has_is_closed(text: str, expected: bool) -> None:
    assert expected is load(text).needs_store


def test_what_is_no_file_ends_the_start_as_it_breaks_a_reload(tmp_path: Path) -> None:
    """A pipe without a writer would keep `serve` waiting; a device is as strange and never waits."""
    path = tmp_path / "policy.yaml"
    path.symlink_to("/dev/null")

    with pytest.raises(PolicyError) as caught:
        load_all(Settings.load({"POLICY_FILE": str(path)}, None))

    assert (f"{path}: is not a file",) == caught.value.problems
