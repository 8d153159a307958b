"""Bounds of rate limit files: what is at the bound is read, what is beyond it is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.ratelimit import descriptors, files, parse_rules, render_tree
from sentinel_ext.policy.ratelimit.descriptors import (
    MAX_LIMITS,
    MAX_METADATA_DEPTH,
    MAX_METADATA_VALUES,
    MAX_WILDCARDS,
)

if TYPE_CHECKING:
    from sentinel_ext.core.ratelimit.rules import Rules

# `descriptors` and its list for each, the file's own mapping, and the last descriptor's.
DEEPEST = 39


def parse(*texts: str) -> Rules:
    named = {f"{at}.yaml": text for at, text in enumerate(texts)}
    return parse_rules(named, merge=False, lenient=False)


def problems(*texts: str) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as caught:
        parse(*texts)
    return caught.value.problems


def nested(levels: int) -> str:
    lines = (f"{'  ' * at}descriptors:\n{'  ' * at}- key: k{at}\n" for at in range(levels))
    return "domain: d\n" + "".join(lines)


def test_descriptors_nest_so_deep_and_no_deeper():
    assert DEEPEST + 1 == len(render_tree(parse(nested(DEEPEST))).splitlines())
    assert "nested deeper than 80 levels" in problems(nested(DEEPEST + 1))[0]


def test_patterns_of_a_level_are_counted():
    def patterns(count: int) -> str:
        lines = "".join(f"  - {{key: k, value: '{number}*'}}\n" for number in range(count))
        return f"domain: d\ndescriptors:\n{lines}"

    assert MAX_WILDCARDS == len(parse(patterns(MAX_WILDCARDS)).domains["d"].wildcards)
    assert f"more than {MAX_WILDCARDS} patterns" in problems(patterns(MAX_WILDCARDS + 1))[0]


def test_descriptors_of_all_files_are_counted_and_that_is_told_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(descriptors, "MAX_DESCRIPTORS", 4)
    text = "domain: {}\ndescriptors: [{{key: a, descriptors: [{{key: b}}]}}{}]\n"
    one, other = text.format("d", ""), text.format("e", "")

    assert 2 == len(parse(one, other).domains)
    (told,) = problems(one, text.format("e", ", {key: c}, {key: d}"), text.format("f", ""))
    assert "1.yaml:2:50: descriptors[1]: more than 4 descriptors" == told


def test_values_of_all_files_are_counted_with_aliases_expanded(monkeypatch: pytest.MonkeyPatch):
    text = "domain: {}\ndescriptors: [{{key: a, metadata: &m {{x: 1}}}}, {{key: b, metadata: *m}}]\n"
    # Two files of 3 + 2 x 4 values.
    monkeypatch.setattr(files, "MAX_NODES", 22)

    assert 2 == len(parse(text.format("d"), text.format("e")).domains)
    (told,) = problems(text.format("d"), text.format("e"), "domain: f\n")
    assert told == "2.yaml: more than 22 values in all files, aliases expanded"


def test_a_few_lines_of_aliases_do_not_become_millions_of_descriptors():
    levels = "".join(
        f"x{at}: &x{at} {{key: k, descriptors: [{', '.join([f'*x{at - 1}'] * 9)}]}}\n" for at in range(1, 12)
    )
    told = problems(f"x0: &x0 {{key: k}}\n{levels}domain: d\ndescriptors: [*x11]\n")

    assert any("more than 2000000 values, aliases expanded" in line for line in told)


def test_limits_of_a_descriptor_are_counted():
    def limited(count: int) -> str:
        limits = ", ".join(f"{{per: {at + 1}s, requests_per_unit: 1}}" for at in range(count))
        return f"domain: d\ndescriptors: [{{key: k, rate_limits: [{limits}]}}]\n"

    assert MAX_LIMITS == len(parse(limited(MAX_LIMITS)).domains["d"].by_key["k"].limits)
    (told,) = problems(limited(MAX_LIMITS + 1))
    assert f"at most {MAX_LIMITS} limits are allowed (got {MAX_LIMITS + 1})" in told


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        (
            f"[{', '.join('1' * (MAX_METADATA_VALUES - 2))}]",
            f"[{', '.join('1' * (MAX_METADATA_VALUES - 1))}]",
        ),
        (
            "[" * (MAX_METADATA_DEPTH - 2) + "1" + "]" * (MAX_METADATA_DEPTH - 2),
            "[" * (MAX_METADATA_DEPTH - 1) + "1" + "]" * (MAX_METADATA_DEPTH - 1),
        ),
    ],
    ids=["values", "depth"],
)
def test_metadata_is_bounded(good: str, bad: str):
    text = "domain: d\ndescriptors: [{{key: k, metadata: {{a: {}}}}}]\n"

    assert parse(text.format(good)).domains["d"].by_key["k"].metadata is not None
    (told,) = problems(text.format(bad))
    assert "error parsing metadata: at most 1000 values in 16 levels are allowed" in told


def test_problems_are_as_many_as_a_person_reads_and_ordered_by_line():
    wrong = "".join(f"  - {{key: k{at}, what: x}}\n" for at in range(files.MAX_PROBLEMS + 3))
    told = problems(f"domain: d\ndescriptors:\n{wrong}")

    assert files.MAX_PROBLEMS + 1 == len(told)
    assert told[0].startswith("0.yaml:3:")
    assert "and 3 more" == told[-1]
