"""Names seen lately: what is remembered, and in how much memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.recent import MAX_NAMES, Recent


def test_a_name_is_new_once():
    recent = Recent()

    assert [True, False, False] == [recent.is_new(b"a") for _ in range(3)]


def test_the_last_names_are_remembered_and_older_ones_forgotten():
    recent = Recent(bound=10)
    names = [b"%d" % number for number in range(100)]

    assert [True] * 100 == [recent.is_new(name) for name in names]
    assert [False] * 10 == [recent.is_new(name) for name in names[-10:]]
    assert recent.is_new(names[0])


def test_memory_is_bounded():
    recent = Recent()
    for number in range(3 * MAX_NAMES):
        recent.is_new(b"%d" % number)

    assert 2 * MAX_NAMES == len(recent)


@given(st.lists(st.integers(0, 30)), st.integers(1, 20))
def test_whatever_comes_the_last_distinct_names_are_known(numbers, bound):
    recent = Recent(bound)
    names = [b"%d" % number for number in numbers]
    known = [not recent.is_new(name) for name in names]

    for index, name in enumerate(names):
        before = names[:index]
        assert not known[index] or name in before
        if name in before and len(set(before[before.index(name) :])) <= bound:
            assert known[index]
    assert len(recent) <= 2 * bound
