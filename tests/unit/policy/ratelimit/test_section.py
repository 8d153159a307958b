"""The section `ratelimit:` of the policy file: the same format, read as strictly as the rest of that file."""

from __future__ import annotations

import pytest

from sentinel_ext.core.policy import PlanDefaults, Policy
from sentinel_ext.errors import PolicyError
from sentinel_ext.policy import parse_policy

DEFAULTS = PlanDefaults(limit=10, window_us=1_000_000, burst=10, refill_nano=1_000_000_000)
LIMIT = "{unit: day, requests_per_unit: 1}"


def parse(text: str) -> Policy:
    return parse_policy(text, "policy.yaml", DEFAULTS, "x-tenant-id")


def problems(text: str) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        parse(text)
    return caught.value.problems


def test_a_policy_without_the_section_has_no_rules():
    assert [None, None] == [parse(text).ratelimit for text in ("", "ratelimit:\n")]


@pytest.mark.parametrize(
    ("text", "domains"),
    [
        (f"ratelimit:\n  domain: d\n  descriptors: [{{key: k, rate_limit: {LIMIT}}}]\n", ["d"]),
        ("ratelimit: [{domain: d}, {domain: e}]\n", ["d", "e"]),
        ("ratelimit: []\n", []),
    ],
    ids=["one domain", "several", "none"],
)
def test_the_section_is_a_domain_or_a_list_of_them(text, domains):
    rules = parse(text).ratelimit

    assert rules is not None
    assert domains == list(rules.domains)


def test_yaml_in_the_section_is_that_of_rate_limit_files():
    rules = parse(
        f"""
ratelimit:
  domain: d
  descriptors:
    - &base {{key: a, value: yes, rate_limit: {LIMIT}}}
    - {{<<: *base, key: b}}
"""
    ).ratelimit

    assert rules is not None
    assert [("a", "yes"), ("b", "yes")] == list(rules.domains["d"].exact)


def test_descriptors_nest_as_deep_as_in_files():
    lines = "".join(f"{'  ' * at}descriptors:\n{'  ' * at}- key: k{at}\n" for at in range(1, 33))
    rules = parse(f"ratelimit:\n  domain: d\n{lines}").ratelimit

    assert rules is not None
    assert "nested deeper than 16 levels" in problems(f"plans: {'[' * 40}{']' * 40}\n")[0]


# Each alone: told once, with its place in the file.
REFUSED = {
    "key twice": (
        "ratelimit:\n  domain: d\n  domain: e\n",
        "policy.yaml:3:3: ratelimit.domain: stands twice, first at line 2, column 3",
    ),
    "section twice": (
        "ratelimit:\n  domain: d\nratelimit:\n  domain: e\n",
        "policy.yaml:3:1: ratelimit: stands twice, first at line 1, column 1",
    ),
    "section twice, once empty": (
        "ratelimit:\nratelimit:\n  domain: e\n",
        "policy.yaml:2:1: ratelimit: stands twice, first at line 1, column 1",
    ),
    "bad merge": (
        "ratelimit:\n  domain: d\n  <<: 3\n",
        'policy.yaml:2:3: ratelimit."<<": a merge key takes a mapping, or a list of them',
    ),
    "bad tag": (
        "ratelimit:\n  domain: !!int d\n",
        'policy.yaml:2:11: ratelimit.domain: the tag "!!int" does not fit "d"',
    ),
    "no mapping": (
        "ratelimit: hello\n",
        (
            "policy.yaml:1:12: ratelimit: error loading config file: yaml: "
            "must be a mapping with domain and descriptors"
        ),
    ),
    "domain twice": (
        "ratelimit: [{domain: d}, {domain: d}]\n",
        (
            'policy.yaml:1:35: ratelimit[1].domain: duplicate domain "d" in config file; '
            "first at policy.yaml:1:22"
        ),
    ),
    "doubtful": (
        "ratelimit:\n  domain: d\n  unit: day\n",
        "policy.yaml:3:3: ratelimit.unit: has no effect here; it belongs inside rate_limit",
    ),
}


@pytest.mark.parametrize(("text", "told"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_in_the_section_is_told_once(text, told):
    assert (told,) == problems(text)


def test_merge_keys_stay_mistakes_elsewhere():
    assert any("no merge keys" in line for line in problems("plans:\n  a: &a {limit: 1}\n  b: {<<: *a}\n"))


def test_problems_of_section_and_policy_are_told_together():
    told = problems("plans: {gold: {limit: x}}\nratelimit: {domain: d, what: 1}\n")

    assert 2 == len(told)
