"""Rate limit files in, rules or every problem out: what envoyproxy/ratelimit refuses, and what it should."""

from __future__ import annotations

import pytest

from sentinel_ext.core.model import Tier
from sentinel_ext.core.ratelimit.rules import Algorithm, OnStoreFailure, Rules, Unit
from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.ratelimit import parse_rules

MINUTE = "{unit: minute, requests_per_unit: 1}"


def parse(text: str, *, lenient: bool = False) -> Rules:
    return parse_rules({"a.yaml": text}, merge=False, lenient=lenient)


def problems(text: str, *, lenient: bool = False) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        parse(text, lenient=lenient)
    return caught.value.problems


def one(limit: str, more: str = "") -> str:
    return f"domain: d\ndescriptors:\n  - key: k\n{more}    rate_limit: {limit}\n"


# Each with the words that users of envoyproxy/ratelimit may look for.
REFUSED = {
    "no domain": ("descriptors: []\n", "1:1: config file cannot have empty domain"),
    "empty file": ("", "1:1: config file cannot have empty domain"),
    "comment only": ("# nothing\n", "config file cannot have empty domain"),
    "empty key": ("domain: d\ndescriptors: [{value: x}]\n", "2:15: descriptors[0]: descriptor has empty key"),
    "duplicate": (
        f"domain: d\ndescriptors:\n - {{key: a, value: b, rate_limit: {MINUTE}}}\n - {{key: a, value: b}}\n",
        '4:4: duplicate descriptor composite key "d.a_b"',
    ),
    "key-only twice": (
        "domain: d\ndescriptors: [{key: a}, {key: a, value: ''}]\n",
        "duplicate descriptor composite key",
    ),
    "nested duplicate": (
        "domain: d\ndescriptors:\n - key: a\n   descriptors: [{key: b}, {key: b}]\n",
        'duplicate descriptor composite key "d.a.b"',
    ),
    "bad unit": (one("{unit: foo, requests_per_unit: 1}"), 'invalid rate limit unit "foo"'),
    "near unit": (one("{unit: minutes, requests_per_unit: 1}"), 'did you mean "minute"?'),
    "no unit": (one("{requests_per_unit: 1}"), 'invalid rate limit unit ""'),
    "unknown unit": (one("{unit: unknown, requests_per_unit: 1}"), 'invalid rate limit unit "unknown"'),
    "unlimited with unit": (
        one("{unlimited: true, unit: day}"),
        "should not specify rate limit unit when unlimited",
    ),
    "empty replaces": (
        one("{unit: day, requests_per_unit: 1, replaces: [{name: ''}]}"),
        "should not have an empty replaces entry",
    ),
    "self replaces": (
        one("{unit: day, requests_per_unit: 1, name: n, replaces: [{name: n}]}"),
        "replaces should not contain name of same descriptor",
    ),
    "share without star": (
        one(MINUTE, "    share_threshold: true\n"),
        "share_threshold can only be used with wildcard values (containing '*'), but found key \"k\"",
    ),
    "metadata list": (one(MINUTE, "    metadata: [1]\n"), "error parsing metadata"),
    "metadata nan": (one(MINUTE, "    metadata: {a: .nan}\n"), "error parsing metadata"),
    "misspelt": (
        "domain: d\ndescriptors: [{key: a, ratelimit: {}}]\n",
        'config error, unknown key "ratelimit"',
    ),
    "misspelt deep": (one("{unit: day, requests_per_unit: 1, nam: x}"), 'config error, unknown key "nam"'),
    "key no text": ("domain: d\n0.25: x\n", "config error, key is not of type string"),
    "list of scalars": ("domain: d\ndescriptors: [a]\n", "yaml file contains list of type other than map"),
    "limit list": (one("[a]"), "yaml file contains list of type other than map"),
    "replaces scalars": (
        one("{unit: day, requests_per_unit: 1, replaces: [x]}"),
        "yaml file contains list of type other than map",
    ),
    "fraction value": ("domain: d\ndescriptors: [{key: a, value: 1.5}]\n", "error checking config"),
    "fraction limit": (one("{unit: day, requests_per_unit: 5.0}"), "error checking config"),
    "huge value": (f"domain: d\ndescriptors: [{{key: a, value: {2**63}}}]\n", "error checking config"),
    "negative": (one("{unit: day, requests_per_unit: -1}"), "from 0 to 4294967295"),
    "too large": (one(f"{{unit: day, requests_per_unit: {2**32}}}"), "from 0 to 4294967295"),
    "quoted number": (one('{unit: day, requests_per_unit: "5"}'), "error loading config file: yaml"),
    "flag as number": (
        one(MINUTE, "    shadow_mode: 1\n"),
        "error loading config file: yaml: must be true or false",
    ),
    "flag as text": (one(MINUTE, '    shadow_mode: "true"\n'), "must be true or false"),
    "map for list": ("domain: d\ndescriptors: {key: a}\n", "error loading config file: yaml: must be a list"),
    "top level list": ("- domain: d\n", "error loading config file: yaml: must be a mapping"),
    "top level text": ("hello\n", "error loading config file: yaml: must be a mapping"),
    "syntax": ("domain: [\n", "error loading config file: yaml"),
    "tab": ("domain: d\ndescriptors:\n\t- key: a\n", "indent with spaces"),
    "per and unit": (one("{unit: day, per: 30s, requests_per_unit: 1}"), "has one window"),
    "bad per": (one("{per: 10ms, requests_per_unit: 1}"), "from 100ms to 366d"),
    "burst of a window": (one("{unit: day, requests_per_unit: 1, burst: 2}"), "needs algorithm: gcra"),
    "bad algorithm": (one("{unit: day, requests_per_unit: 1, algorithm: gcrs}"), 'did you mean "gcra"?'),
    "sliding counts denied": (
        one("{unit: day, requests_per_unit: 1, algorithm: sliding_window, count_denied: true}"),
        "leave it out",
    ),
    "upstream without tier": (one("{unit: day, requests_per_unit: 1, upstream: u}"), "give it one"),
    "bad tier": (one("{unit: day, requests_per_unit: 1, tier: gold}"), "must be vital, standard or economy"),
    "limit and limits": (one(MINUTE, f"    rate_limits: [{MINUTE}]\n"), "put all limits into rate_limits"),
    "same window twice": (
        f"domain: d\ndescriptors: [{{key: a, rate_limits: [{MINUTE}, {{per: 1m, requests_per_unit: 2}}]}}]\n",
        "has the algorithm and window of an earlier limit",
    ),
    "bad merge": ("domain: d\n<<: 3\n", "a merge key takes a mapping"),
    "decimal with a leading 0": ("domain: d\ndescriptors: [{key: a, value: 08540}]\n", "write it in quotes"),
    "endless number": (f"domain: d\ndescriptors: [{{key: a, value: {'9' * 5_000}}}]\n", "write it in quotes"),
    "endless limit": (one(f"{{unit: day, requests_per_unit: {'9' * 5_000}}}"), "from 0 to 4294967295"),
    "digitless limit": (one("{unit: day, requests_per_unit: 0b_}"), "from 0 to 4294967295"),
    "metadata too large": (one(MINUTE, "    metadata: {a: 1e999}\n"), "error parsing metadata"),
    "unlimited beside a limit": (
        one(f"[{{unlimited: true}}, {MINUTE}]").replace("rate_limit", "rate_limits"),
        "unlimited stands alone",
    ),
    "replaces its neighbour": (
        one(
            f"[{MINUTE[:-1]}, name: n}}, {{unit: day, requests_per_unit: 1, replaces: [{{name: n}}]}}]"
        ).replace("rate_limit", "rate_limits"),
        "replaces should not contain name of same descriptor",
    ),
    "burst for ever": (
        one("{unit: year, requests_per_unit: 1, algorithm: gcra, burst: 11}"),
        "takes 4015 days to come back at this rate; at most 3660 are allowed",
    ),
}


@pytest.mark.parametrize(("text", "words"), REFUSED.values(), ids=REFUSED)
def test_a_mistake_is_told_with_file_line_and_words(text, words):
    told = problems(text, lenient=True)

    assert any(words in line for line in told), told
    assert all(line.startswith("a.yaml:") for line in told)


# What envoyproxy/ratelimit takes without a word: refused, or a warning and taken as it does.
DOUBTFUL = {
    "shadow in limit": (
        one("{unit: day, requests_per_unit: 1, shadow_mode: true}"),
        "it belongs on the descriptor",
    ),
    "unit on descriptor": (one(MINUTE, "    unit: day\n"), "it belongs inside rate_limit"),
    "limit at the top": (f"domain: d\nrate_limit: {MINUTE}\n", "it belongs on the descriptor"),
    "unlimited, bad unit": (one("{unlimited: true, unit: foo}"), "and unlimited has none"),
    "unlimited and number": (
        one("{unlimited: true, requests_per_unit: 3}"),
        "has no effect beside unlimited",
    ),
    "no number": (one("{unit: day}"), "requests_per_unit is missing, which denies all"),
    "key twice": (one("{unit: day, requests_per_unit: 1, requests_per_unit: 2}"), "stands twice"),
    "second document": ("domain: d\n---\ndomain: e\n", "a second document starts here"),
    "blank domain": ("domain: ' '\n", "is blank"),
    "replaces nobody": (
        one("{unit: day, requests_per_unit: 1, replaces: [{name: nobody}]}"),
        'no limit of this domain is called "nobody"',
    ),
    "star in key": ("domain: d\ndescriptors: [{key: 'p*'}]\n", "patterns stand in the value"),
}


@pytest.mark.parametrize(("text", "words"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_passes_elsewhere_is_refused_or_with_lenient_warned_about(text, words):
    (told,) = problems(text)
    assert words in told
    assert "RATELIMIT_LENIENT=true makes this a warning" in told

    (warning,) = parse(text, lenient=True).warnings
    assert words in warning


def test_a_misspelt_key_is_told_once_and_not_as_missing():
    (told,) = problems(one("{unit: day, requestsperunit: 1}"))

    assert 'did you mean "requests_per_unit"?' in told


def test_lenient_takes_the_last_of_a_key_and_denies_all_without_a_number():
    twice = parse(one("{unit: day, requests_per_unit: 1, requests_per_unit: 2}"), lenient=True)
    none = parse(one("{unit: day}"), lenient=True)

    assert [2, 0] == [rules.domains["d"].by_key["k"].limits[0].requests for rules in (twice, none)]


def test_values_stay_what_was_written():
    text = "domain: d\ndescriptors:\n" + "".join(
        f"  - {{key: k, value: {value}}}\n" for value in ("404", "yes", "0x10", "2026-11-25", "'5.0'", "null")
    )
    found = parse(text).domains["d"]

    assert {"404", "yes", "0x10", "2026-11-25", "5.0"} == {value for _, value in found.exact}
    assert ["k"] == list(found.by_key)  # null is no value


def test_anchors_merges_any_case_and_bases_are_read():
    found = (
        parse(
            """
domain: d
descriptors:
  - key: a
    rate_limit: &base {unit: MINUTE, requests_per_unit: 0x10, name: base}
  - key: b
    rate_limit: {<<: *base, name: own, unit: Day}
  - key: c
    rate_limit:
    shadow_mode: yes
    quota_mode: on
    detailed_metric: true
    value_to_metric: true
"""
        )
        .domains["d"]
        .by_key
    )

    a, b = found["a"].limits[0], found["b"].limits[0]
    assert (16, Unit.MINUTE, "base") == (a.requests, a.unit, a.name)
    assert (16, Unit.DAY, "own") == (b.requests, b.unit, b.name)
    assert () == found["c"].limits
    assert (True, True, True, True) == (
        found["c"].shadow, found["c"].quota, found["c"].detailed_metric, found["c"].value_to_metric,
    )  # fmt: skip


def test_what_goes_beyond_is_read():
    found = (
        parse(
            """
domain: d
descriptors:
  - key: a
    metadata: {n: 1, x: [true, 1.5, text, y, 2026-11-25, "1", 12345678901234567890], none: }
    rate_limits:
      - {per: 30s, requests_per_unit: 5, algorithm: sliding_window, on_store_failure: local}
      - {unit: day, requests_per_unit: 100, count_denied: false, tier: economy, upstream: orders}
      - {unit: hour, requests_per_unit: 60, algorithm: gcra, burst: 10}
"""
        )
        .domains["d"]
        .by_key["a"]
    )

    sliding, day, gcra = found.limits
    assert (30_000_000, Unit.UNKNOWN, Algorithm.SLIDING_WINDOW) == (
        sliding.window_us,
        sliding.unit,
        sliding.algorithm,
    )
    assert (False, OnStoreFailure.LOCAL) == (sliding.count_denied, sliding.on_store_failure)
    assert (False, Tier.ECONOMY, "orders") == (day.count_denied, day.tier, day.upstream)
    assert (10, 10, False) == (gcra.burst, gcra.capacity, gcra.count_denied)
    assert {
        "n": 1,
        "x": [True, 1.5, "text", True, "2026-11-25", "1", 12345678901234567890.0],
        "none": None,
    } == found.metadata


def test_windows_have_the_lengths_of_the_peer():
    days = {"week": 7, "month": 30, "year": 365, "day": 1}
    for unit, length in days.items():
        found = parse(one(f"{{unit: {unit}, requests_per_unit: 1}}")).domains["d"].by_key["k"].limits[0]
        assert length * 86_400_000_000 == found.window_us


def test_files_are_merged_in_their_order_and_only_where_that_is_wanted():
    texts = {
        "a.yaml": f"domain: d\ndescriptors: [{{key: k, value: 'x*', rate_limit: {MINUTE}}}]\n",
        "b.yaml": f"domain: d\ndescriptors: [{{key: k, value: 'xy*', rate_limit: {MINUTE}}}]\n",
    }
    merged = parse_rules(texts, merge=True, lenient=False)
    assert ["x*", "xy*"] == [node.value for _, _, node in merged.domains["d"].wildcards]

    with pytest.raises(PolicyError, match='duplicate domain "d" in config file') as caught:
        parse_rules(texts, merge=False, lenient=False)
    assert caught.value.problems[0].startswith("b.yaml:1:9:")
    texts["c.yaml"] = "domain: d\ndescriptors: [{key: k, value: 'x*'}]\n"
    with pytest.raises(PolicyError, match=r"c\.yaml:2:15: duplicate descriptor composite key"):
        parse_rules(texts, merge=True, lenient=False)
