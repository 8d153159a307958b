"""YAML 1.2 scalars, positions, and bounds."""

from __future__ import annotations

import pytest

from sentinel_ext.policy import document
from sentinel_ext.policy.document import DocumentError, Position, parse, path_text


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("0x1F", "0x1F"),
        ("1_000", "1_000"),
        (".inf", ".inf"),
        ("=", "="),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("007", 7),
        ("-5", -5),
        ("9" * 19, "9" * 19),
        ("0.5", 0.5),
        ("1e3", 1000.0),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("!!int 5", 5),
        ("|\n  two\n  lines", "two\nlines"),
    ],
)
def test_scalars_follow_yaml_1_2(written, value):
    found = parse(f"a: {written}")

    assert {"a": value} == found.root.plain()
    assert type(value) is type(found.root.plain()["a"])
    assert not found.problems


def test_keys_are_the_text_that_was_written():
    assert {"007": 1, "on": 2, "null": 3, "1:30": 4} == parse(
        "{007: 1, on: 2, null: 3, '1:30': 4}"
    ).root.plain()


def test_values_and_keys_know_their_place():
    root = parse("plans:\n  gold:\n    limit: -5\nidentify: [{header: a}]\n").root

    assert Position(3, 12) == root.locate(("plans", "gold", "limit"))
    assert Position(3, 5) == root.locate(("plans", "gold", "limit"), key=True)
    assert Position(4, 21) == root.locate(("identify", 0, "header"))
    assert Position(3, 5) == root.locate(("plans", "gold", "absent")), "the nearest parent"


def test_an_alias_is_its_anchors_value():
    assert {"a": {"x": 1}, "b": {"x": 1}} == parse("a: &it {x: 1}\nb: *it\n").root.plain()


def test_an_anchor_may_stand_on_a_key():
    assert {"gold": {}, "d": "gold"} == parse("&g gold: {}\nd: *g\n").root.plain()


def test_nested_aliases_are_counted_expanded(monkeypatch):
    monkeypatch.setattr(document, "MAX_NODES", 1000)
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]

    with pytest.raises(DocumentError, match="more than 1000 values, aliases expanded"):
        parse("\n".join(lines))


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "{a: " * 100_000, "? {" * 100_000, "- " * 5000, "&a [" * 10_000]
)
def test_depth_is_bounded_before_anything_is_built(text):
    with pytest.raises(DocumentError, match=r"nested deeper than 16 levels|not valid YAML"):
        parse(text)


def test_aliases_do_not_get_around_the_depth():
    lines = ["a0: &a0 [[[[[[[x]]]]]]]"] + [f"a{n}: &a{n} [*a{n - 1}]" for n in range(1, 12)]

    with pytest.raises(DocumentError, match="nested deeper than 16 levels"):
        parse("\n".join(lines))


def test_values_are_bounded_at_the_bound(monkeypatch):
    monkeypatch.setattr(document, "MAX_NODES", 4)
    assert ["x"] * 3 == parse("[x, x, x]").root.plain()

    with pytest.raises(DocumentError):
        parse("[x, x, x, x]")


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ((), ""),
        (("plans", "gold", "limit"), "plans.gold.limit"),
        (("identify", 0, "header"), "identify[0].header"),
        (("tenants", "trial-*"), 'tenants."trial-*"'),
        (("tenants", "a\nb"), 'tenants."a\\nb"'),
    ],
)
def test_paths_are_unambiguous_on_one_line(path, text):
    assert text == path_text(path)
