"""Which limits apply: the walk down the tree, its labels, and what replaces what."""

from __future__ import annotations

import pytest
from support.limits import limit

from sentinel_ext.core.ratelimit.matching import fits, match, overridden, replaced
from sentinel_ext.core.ratelimit.query import Override
from sentinel_ext.core.ratelimit.rules import Unit
from sentinel_ext.policy.ratelimit import parse_rules

RULES = parse_rules(
    {
        "a.yaml": """
domain: d
descriptors:
  - {key: wild, value: "foo*", rate_limit: {unit: day, requests_per_unit: 1}}
  - {key: wild, value: "*", rate_limit: {unit: day, requests_per_unit: 2}}
  - {key: wild, value: foobar, rate_limit: {unit: day, requests_per_unit: 3}}
  - {key: wild, rate_limit: {unit: day, requests_per_unit: 4}}
  - {key: a_b, rate_limit: {unit: day, requests_per_unit: 5}}
  - {key: white, value: x}
  - {key: white, rate_limit: {unit: day, requests_per_unit: 12}}
  - {key: mid, value: "a*b*c", rate_limit: {unit: day, requests_per_unit: 13}}
  - {key: both, value: "a*a", rate_limit: {unit: day, requests_per_unit: 14}}
  - {key: shared, value: "s*", share_threshold: true, rate_limit: {unit: day, requests_per_unit: 15}}
  - {key: seen, value_to_metric: true, rate_limit: {unit: day, requests_per_unit: 16}}
  - key: deep
    descriptors:
      - {key: below, detailed_metric: true, rate_limit: {unit: day, requests_per_unit: 17}}
      - {key: plain, rate_limit: {unit: day, requests_per_unit: 18}}
"""
    },
    merge=False,
    lenient=False,
)


@pytest.mark.parametrize(
    ("entries", "expected"),
    [
        ([("wild", "foo1")], 1),
        ([("wild", "foobar")], 3),
        ([("wild", "zzz")], 2),
        ([("wild", "")], 2),
        ([("wild", "foo*")], 1),
        ([("white", "x")], None),
        ([("white", "y")], 12),
        ([("Wild", "foo1")], None),
        ([("a", "b")], None),  # pairs are pairs: a_b is another key
        ([("a_b", "c")], 5),
        ([("mid", "abc")], 13),
        ([("mid", "aXbYc")], 13),
        ([("mid", "ac")], None),
        ([("mid", "abcd")], None),
        ([("both", "a")], None),
        ([("both", "aa")], 14),
        ([("both", "aXa")], 14),
        ([("deep", "x")], None),
        ([("deep", "x"), ("below", "y")], 17),
        ([("deep", "x"), ("below", "y"), ("more", "z")], None),
        ([("below", "y"), ("deep", "x")], None),
        ([], None),
    ],
)
def test_the_walk(entries, expected):
    found = match(RULES, "d", entries)

    assert expected == (None if found is None else found.limits[0].requests)


def test_an_unknown_domain_limits_nothing():
    assert match(RULES, "D", [("wild", "x")]) is None


@pytest.mark.parametrize(
    ("entries", "label", "identity"),
    [
        ([("wild", "foo1")], "wild_foo*", (("wild", "foo1"),)),
        ([("wild", "foobar")], "wild_foobar", (("wild", "foobar"),)),
        ([("white", "y")], "white", (("white", "y"),)),
        ([("shared", "s1")], "shared_s*", (("shared", "s*"),)),
        ([("seen", "v")], "seen_v", (("seen", "v"),)),
        ([("deep", "x"), ("below", "y")], "deep_x.below_y", (("deep", "x"), ("below", "y"))),
        ([("deep", "x"), ("plain", "y")], "deep.plain", (("deep", "x"), ("plain", "y"))),
    ],
)
def test_labels_and_what_tells_counters_apart(entries, label, identity):
    found = match(RULES, "d", entries)

    assert found is not None
    assert (label, identity) == (found.rule, found.identity)


def test_an_override_has_full_values_and_no_name():
    found = overridden("d", (("a", "1"), ("b", "")), Override(7, Unit.WEEK))

    assert ("a_1.b", 7, "", 604_800_000_000) == (
        found.rule, found.limits[0].requests, found.limits[0].name, found.limits[0].window_us,
    )  # fmt: skip


def test_mutual_replacement_drops_both_and_nobody_without_a_name():
    left, right = limit(1, name="l", replaces=("r",)), limit(1, name="r", replaces=("l",))
    nameless = limit(1)

    assert [(), (), (nameless,)] == replaced([(left,), (right,), (nameless,)])


# Whoever went back and forth over such values would not end: 10^11 steps and more.
@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [
        ("a*b*c", "a" + "b" * 1_000_000 + "c", True),
        ("*ab*ac*", "ab" * 500_000, False),
        ("*" + "a*" * 1_000 + "b", "a" * 1_000_000 + "b", True),
        ("*" + "aab*" * 1_000, "a" * 1_000_000, False),
    ],
)
def test_a_megabyte_of_value_is_gone_over_once(pattern, value, expected):
    assert expected == fits(pattern.split("*"), value)


@pytest.mark.parametrize(
    ("pattern", "value", "expected"),
    [("*a*a*", "a", False), ("*a*a*", "aa", True), ("*aa*aa*", "aaa", False), ("ab*ba", "aba", False)],
)
def test_no_character_counts_twice(pattern, value, expected):
    assert expected == fits(pattern.split("*"), value)


def test_stars_in_a_row_are_one():
    text = "domain: d\ndescriptors: [{key: k, value: 'a%sb', rate_limit: {unit: day, requests_per_unit: 1}}]"
    rules = parse_rules({"a.yaml": text % ("*" * 100_000)}, merge=False, lenient=False)

    assert [("k", ("a", "b"))] == [(key, parts) for key, parts, _ in rules.domains["d"].wildcards]
    assert match(rules, "d", [("k", "ab")]) is not None


def test_a_pattern_of_one_key_is_none_of_another():
    assert match(RULES, "d", [("shared2", "s1")]) is None


def test_a_limit_halfway_counts_for_requests_that_end_there():
    text = """
domain: d
descriptors:
  - key: a
    rate_limit: {unit: day, requests_per_unit: 1}
    descriptors: [{key: b}]
"""
    rules = parse_rules({"a.yaml": text}, merge=False, lenient=False)

    found = match(rules, "d", [("a", "x")])
    assert found is not None
    assert 1 == found.limits[0].requests
    assert match(rules, "d", [("a", "x"), ("b", "y")]) is None


def test_shared_patterns_of_upper_levels_stay_in_the_identity_and_win_in_the_label():
    text = """
domain: d
descriptors:
  - key: path
    value: /api/*
    share_threshold: true
    value_to_metric: true
    descriptors:
      - {key: user, detailed_metric: true, rate_limit: {unit: day, requests_per_unit: 1}}
"""
    rules = parse_rules({"a.yaml": text}, merge=False, lenient=False)
    found = match(rules, "d", [("path", "/api/x"), ("user", "u")])

    assert found is not None
    assert ("path_/api/*.user_u", (("path", "/api/*"), ("user", "u"))) == (found.rule, found.identity)
    assert (("path", "/api/*"), ("user", "")) == found.path


@pytest.mark.parametrize("shown", ["detailed_metric", "value_to_metric"])
def test_a_requests_values_are_in_the_label_where_the_rules_say_so_and_never_in_the_path(shown):
    text = f"""
domain: d
descriptors:
  - {{key: api_key, {shown}: true, rate_limit: {{unit: day, requests_per_unit: 1}}}}
  - {{key: api_key, value: free, rate_limit: {{unit: day, requests_per_unit: 1}}}}
"""
    rules = parse_rules({"a.yaml": text}, merge=False, lenient=False)
    found, named = (match(rules, "d", [("api_key", value)]) for value in ("sk-live-4f9a", "free"))

    assert ("api_key_sk-live-4f9a", (("api_key", ""),)) == (found.rule, found.path)
    assert ("api_key_free", (("api_key", "free"),)) == (named.rule, named.path)


def test_an_overrides_values_are_in_the_label_alone():
    found = overridden("d", [("api_key", "sk-live-4f9a"), ("path", "")], Override(1, Unit.DAY))

    assert ("api_key_sk-live-4f9a.path", (("api_key", ""), ("path", ""))) == (found.rule, found.path)
