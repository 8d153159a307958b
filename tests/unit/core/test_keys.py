"""Hash tags: no two names share one, and no name moves its end."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel_ext.core.keys import hash_tagged

NAMES = st.text("ab{}%257BD", max_size=8)


@pytest.mark.parametrize(
    ("name", "tag"),
    [("acme", "{acme}"), ("a{b}", "{a%7Bb%7D}"), ("a%7Bb", "{a%257Bb}"), ("", "{}"), ("é", "{é}")],
)
def test_a_name_stands_in_braces_with_its_own_escaped(name, tag):
    assert tag == hash_tagged(name)


@given(NAMES, NAMES)
def test_two_names_have_two_tags(one, other):
    assert (one == other) == (hash_tagged(one) == hash_tagged(other))


@given(st.text(max_size=20))
def test_what_redis_takes_for_the_tag_is_the_whole_name(name):
    key = f"sentinel:x:{hash_tagged(name)}:more"

    assert f"{{{re.search('{([^}]*)}', key)[1]}}}" == hash_tagged(name)
