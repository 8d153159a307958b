"""Names of counters: one slot for a rule, short whatever a client sends."""

from __future__ import annotations

from support.limits import limit

from sentinel_ext.core.ratelimit.keys import MAX_IDENTITY_BYTES, counter_key
from sentinel_ext.core.ratelimit.rules import Algorithm

DAY = limit(1, window_us=86_400_000_000)


def test_a_key_is_readable():
    entries = (("remote_address", "192.0.2.7"), ("method", ""))
    expected = b"sentinel:r:{shop|remote_address=192.0.2.7|method=}:f86400000000"

    assert expected == counter_key("shop", entries, DAY)


def test_a_key_keeps_its_slot_for_all_limits_of_a_rule_and_its_name_when_a_number_changes():
    identity = (("user", "{x}"),)
    limits = [limit(1), limit(9), limit(1, window_us=1_000_000), limit(1, algorithm=Algorithm.SLIDING_WINDOW)]
    keys = [counter_key("d", identity, each) for each in limits]

    assert keys[0] == keys[1]
    assert 3 == len(set(keys))
    assert 1 == len({key[key.index(b"{") : key.index(b"}") + 1] for key in keys})


def test_each_algorithm_has_a_letter_of_its_own():
    keys = {counter_key("d", (), limit(1, algorithm=algorithm)) for algorithm in Algorithm}

    assert len(Algorithm) == len(keys)


def test_identities_are_written_out_up_to_the_bound_and_named_by_their_digest_beyond_it():
    fixed = len("{d|k=}")
    longest = counter_key("d", (("k", "v" * (MAX_IDENTITY_BYTES - fixed)),), DAY)
    beyond = counter_key("d", (("k", "v" * (MAX_IDENTITY_BYTES - fixed + 1)),), DAY)

    assert b"vvv" in longest
    assert b"vvv" not in beyond
    assert len("sentinel:r:{#}:f86400000000") + 64 == len(beyond)


def test_the_bound_counts_bytes_and_not_characters():
    assert b"{#" in counter_key("d", (("k", "\u20ac" * (MAX_IDENTITY_BYTES // 2)),), DAY)


def test_nobody_can_write_the_digest_of_another_identity():
    beyond = counter_key("d", (("k", "v" * 5_000),), DAY)
    digest = beyond[beyond.index(b"{") + 1 : beyond.index(b"}")].decode()

    assert beyond != counter_key(digest, (), DAY)
    assert beyond != counter_key(digest[1:], (), DAY)


def test_text_that_is_no_unicode_has_a_key_too():
    broken = [
        counter_key("d", (("k", value * count),), DAY) for value in ("\ud800", "\udfff") for count in (1, 400)
    ]

    assert 4 == len(set(broken))
