"""The cache's bounds and its doorkeeper."""

from __future__ import annotations

import pytest
from support.blocks import methods

from sentinel_ext.wire.block_cache import BlockCache, Generations
from sentinel_ext.wire.head import SECRET, UNKNOWN_METHOD, VOLATILE, Head
from sentinel_ext.wire.limits import Limits


def test_no_more_is_held_than_the_size():
    kept = Generations(10)
    for key in range(1000):
        kept.put(key, key + 1)
        assert len(kept) <= 10

    assert 1000 == kept.get(999)
    assert kept.get(0) is None


def test_what_is_in_use_outlives_a_flood():
    kept = Generations(10)
    kept.put("in use", 1)
    for key in range(1000):
        kept.put(key, 1)
        if key % 4 == 0:
            assert 1 == kept.get("in use")


def test_the_recent_generation_is_one_object_for_ever():
    kept = Generations(4)
    find = kept.recent.get
    for key in range(9):
        kept.put(key, key + 1)
        assert key + 1 == find(key)


def test_a_block_gets_in_at_its_second_sight():
    cache = BlockCache(methods(), Limits())
    head = Head()

    cache.offer(b"block", head)
    assert cache.blocks.get(b"block") is None
    cache.offer(b"block", head)
    assert head is cache.blocks.get(b"block")


@pytest.mark.parametrize(
    "head", [Head(kinds=SECRET), Head(kinds=VOLATILE), Head(refusal=UNKNOWN_METHOD)], ids=str
)
def test_what_is_secret_volatile_or_refused_never_gets_in(head):
    cache = BlockCache(methods(), Limits())
    for _ in range(5):
        cache.offer(b"block", head)

    assert 0 == len(cache.blocks)


@pytest.mark.parametrize(("size", "is_kept"), [(1024, True), (1025, False)])
def test_a_large_block_never_gets_in(size, is_kept):
    cache = BlockCache(methods(), Limits())
    for _ in range(3):
        cache.offer(b"b" * size, Head())

    assert is_kept is (len(cache.blocks) == 1)


def test_blocks_seen_once_leave_only_a_bounded_set_of_marks():
    cache = BlockCache(methods(), Limits(cache_entries=8))
    for number in range(1000):
        cache.offer(b"%d" % number, Head())

    assert 0 == len(cache.blocks)
    assert len(cache._seen) <= 8
