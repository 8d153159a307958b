"""Rate limit rules against models that are too simple to be wrong; and readers that no text can break."""

from __future__ import annotations

import json
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from support.limits import limit

from sentinel_ext.core.ratelimit.keys import counter_key
from sentinel_ext.core.ratelimit.matching import fits, match, replaced
from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.ratelimit import parse_rules, render_tree, tree

KEYS = st.sampled_from(["a", "b", "a_b"])
VALUES = st.text(alphabet="ab_*", max_size=4)


def _levels(below: st.SearchStrategy[list[dict[str, Any]]]) -> st.SearchStrategy[list[dict[str, Any]]]:
    descriptor = st.fixed_dictionaries(
        {"key": KEYS, "value": VALUES, "limited": st.booleans(), "share": st.booleans(), "descriptors": below}
    )
    return st.lists(descriptor, max_size=5, unique_by=lambda one: (one["key"], one["value"]))


TREES = st.recursive(st.just([]), _levels, max_leaves=12)
ENTRIES = st.lists(st.tuples(KEYS, VALUES), max_size=4)


def _file(level: list[dict[str, Any]], numbers: dict[int, int]) -> list[dict[str, Any]]:
    """Return descriptors as a file has them; each limit gets a number of its own."""
    made = []
    for one in level:
        numbers[id(one)] = len(numbers)
        descriptor: dict[str, Any] = {"key": one["key"], "descriptors": _file(one["descriptors"], numbers)}
        if one["value"]:
            descriptor["value"] = one["value"]
        if one["share"] and "*" in one["value"]:
            descriptor["share_threshold"] = True
        if one["limited"]:
            descriptor["rate_limit"] = {"unit": "day", "requests_per_unit": numbers[id(one)]}
        made.append(descriptor)
    return made


def _choose(level: list[dict[str, Any]], key: str, value: str) -> dict[str, Any] | None:
    same_key = [one for one in level if one["key"] == key]
    exact = [one for one in same_key if one["value"] and one["value"] == value]
    patterns = [one for one in same_key if "*" in one["value"] and _regex(one["value"]).fullmatch(value)]
    plain = [one for one in same_key if not one["value"]]
    return next(iter([*exact, *patterns, *plain]), None)


def _regex(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)


@given(TREES, ENTRIES)
def test_the_walk_is_the_models(level, entries):
    numbers: dict[int, int] = {}
    text = json.dumps({"domain": "d", "descriptors": _file(level, numbers)})
    rules = parse_rules({"a.yaml": text}, merge=False, lenient=False)

    expected, identity = None, []
    for at, (key, value) in enumerate(entries):
        chosen = _choose(level, key, value)
        if chosen is None:
            break
        shares = chosen["share"] and "*" in chosen["value"]
        identity.append((key, chosen["value"] if shares else value))
        level = chosen["descriptors"]
        if at == len(entries) - 1 and chosen["limited"]:
            expected = (numbers[id(chosen)], tuple(identity))
    found = match(rules, "d", entries)

    assert expected == (None if found is None else (found.limits[0].requests, found.identity))


@given(
    st.lists(st.text(alphabet="ab*", max_size=3), min_size=2, max_size=4).map("*".join),
    st.text(alphabet="ab*\n", max_size=12),
)
def test_patterns_match_what_a_regular_expression_says(pattern, value):
    assert (_regex(pattern).fullmatch(value) is not None) == fits(pattern.split("*"), value)


NAMES = st.sampled_from(["", "x", "y", "z"])


@given(st.lists(st.lists(st.tuples(NAMES, st.lists(NAMES.filter(bool), max_size=2)), max_size=3), max_size=4))
def test_a_limit_stays_unless_one_of_the_request_replaces_its_name(request_limits):
    limits = [tuple(limit(1, name=name, replaces=tuple(of)) for name, of in some) for some in request_limits]
    named = {name for some in limits for one in some for name in one.replaces}

    kept = replaced(limits)

    assert len(limits) == len(kept)
    assert [[one for one in some if one.name not in named] for some in limits] == [
        list(some) for some in kept
    ]


# What the names are put together with, and both sides of where digests begin.
SHORT = st.text(alphabet="ab|={}%#:257BCDd", max_size=4)
TEXTS = st.builds(lambda text, times: text * times, SHORT, st.sampled_from([1, 1, 1, 100, 300]))
IDENTITIES = st.tuples(TEXTS, st.lists(st.tuples(TEXTS, TEXTS), max_size=3))


@given(IDENTITIES, IDENTITIES)
@example(("a", [("b", "c|d=e")]), ("a", [("b", "c"), ("d", "e")]))
@example(("a|b", [("c", "d")]), ("a", [("b|c", "d")]))
@example(("a", []), ("a", [("", "")]))
@example(("a", [("b_c", "d")]), ("a", [("b", "c_d")]))
def test_no_two_identities_share_a_key(one, other):
    day = limit(1)
    keys = [counter_key(domain, entries, day) for domain, entries in (one, other)]

    assert (one == other) == (keys[0] == keys[1])
    assert all(key.count(b"{") == key.count(b"}") == 1 for key in keys)


# Pieces of such files, put together without sense.
KNOWN = (
    "domain descriptors key value rate_limit rate_limits unit requests_per_unit unlimited name replaces "
    "metadata share_threshold shadow_mode per burst algorithm count_denied tier upstream"
)
ODD = (
    "10 0x_ 0b_ 0x10 08 -1 1.5 .nan 1e999 yes null ~ a* *a &a << ! !!int !!map --- ... - : , { } [ ] ' \" # |"
)
SPACES = ["\n", "\n  ", "\n    ", ": ", ", ", "\t", "\x00", "\U0001f600", "9" * 5_000]
WORDS = st.sampled_from([*KNOWN.split(), *ODD.split(), *SPACES])
NONSENSE = st.lists(WORDS, max_size=40).map("".join) | st.lists(WORDS, max_size=40).map(" ".join) | st.text()


@given(NONSENSE, st.booleans())
def test_any_text_is_rules_or_problems_on_single_lines(text, lenient):
    problems = _problems(text, lenient=lenient)

    assert all(line.startswith("a.yaml:") and "\n" not in line for line in problems), problems


SCALARS = st.sampled_from(
    ["d", "''", "a*", "day", "yes", "10", "-1", "1.5", "0x_", "~", "[]", "{}", "30s", "*x"]
)
LIMITS = st.recursive(
    SCALARS,
    lambda below: (
        st.lists(below, max_size=3).map(lambda items: f"[{', '.join(items)}]")
        | st.dictionaries(st.sampled_from(KNOWN.split()), below, max_size=5).map(
            lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}"
        )
    ),
    max_leaves=20,
)


@given(st.lists(LIMITS, max_size=4), st.booleans())
def test_any_structure_is_rules_or_problems(items, lenient):
    text = "domain: d\ndescriptors:\n" + "".join(f"  - key: k\n    rate_limit: {item}\n" for item in items)
    problems = _problems(text, lenient=lenient)

    assert all(line.startswith("a.yaml:") for line in problems), problems


def _problems(text: str, *, lenient: bool) -> tuple[str, ...]:
    """Return what is wrong, () if all can be used."""
    try:
        rules = parse_rules({"a.yaml": text}, merge=False, lenient=lenient)
    except PolicyError as error:
        return error.problems
    assert len(rules.domains) == len(tree(rules))
    assert render_tree(rules).startswith("domain ")
    return ()
