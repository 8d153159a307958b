"""When the cache may be asked: only of a peer that gave up its dynamic table."""

from __future__ import annotations

import hpack
import msgspec
import pytest
from support.blocks import (
    CHECK,
    ENVOY,
    INSERT,
    LOG,
    NEVER,
    SIZE_ZERO,
    block,
    indexed,
    literal,
    methods,
    request,
)

from sentinel_ext.wire.hpack import BlockCache, HeaderDecoder, HpackError
from sentinel_ext.wire.limits import Limits

LIMITS = Limits.trusted()
METHODS = methods()
PLAIN = block(*request(), *ENVOY)
TRACED = block(*request(), (b"traceparent", b"00-1-2-01"), *ENVOY)


def connection(cache=None, *, gave_up=True):
    """A decoder; of a peer that has acknowledged our SETTINGS and emptied its table, or is new."""
    cache = cache or BlockCache(METHODS, LIMITS)
    decoder = HeaderDecoder(cache, METHODS, LIMITS)
    if gave_up:
        decoder.settings_acked()
        decoder.decode(SIZE_ZERO + block(*request(LOG)))
    return decoder, cache


def pairs(head):
    return [(name, value) for name, value, _, _ in head.fields]


def test_a_new_connection_neither_asks_nor_tells_the_cache():
    decoder, cache = connection(gave_up=False)
    for _ in range(5):
        decoder.decode(PLAIN)

    assert not decoder.is_context_free
    assert (0, 0) == (len(cache.blocks), cache.misses)


def test_the_acknowledgement_alone_is_not_enough():
    decoder, _ = connection(gave_up=False)

    decoder.settings_acked()

    assert not decoder.is_context_free
    with pytest.raises(HpackError):
        decoder.decode(PLAIN)


def test_giving_up_the_table_alone_is_not_enough():
    """Before the acknowledgement the peer may take it back."""
    decoder, _ = connection(gave_up=False)

    decoder.decode(SIZE_ZERO + PLAIN)
    assert not decoder.is_context_free
    decoder.decode(b"\x3f\xe1\x1f" + PLAIN + literal(b"x", b"1", INSERT))
    decoder.decode(SIZE_ZERO + PLAIN)
    decoder.settings_acked()
    decoder.decode(PLAIN)

    assert decoder.is_context_free


def test_the_same_bytes_mean_what_they_mean_before_and_after():
    """An inserting literal changes the table before, and nothing after: `be` is its field, or an error."""
    cache = BlockCache(METHODS, LIMITS)
    before, _ = connection(cache, gave_up=False)
    after, _ = connection(cache)
    inserting = block(*request()) + literal(b"x-user", b"alice", INSERT)
    for _ in range(4):
        after.decode(inserting)
        before.decode(inserting)

    assert (b"x-user", b"alice") == pairs(before.decode(block(*request()) + indexed(62)))[-1]
    with pytest.raises(HpackError, match="dynamic table"):
        after.decode(block(*request()) + indexed(62))


def test_a_block_that_comes_again_is_one_verdict():
    decoder, cache = connection()
    first, second, third, fourth = (decoder.decode(PLAIN) for _ in range(4))

    assert third is fourth
    assert third is second
    assert third is not first
    assert METHODS.get(CHECK) is third.method
    assert 2 == cache.misses
    assert [*request(), *ENVOY] == pairs(third)


def test_connections_share_what_one_has_learnt():
    one, cache = connection()
    for _ in range(2):
        one.decode(PLAIN)
    other, _ = connection(cache)
    misses = cache.misses

    other.decode(PLAIN)

    assert misses == cache.misses


def test_a_traced_request_is_found_by_its_beginning():
    decoder, cache = connection()
    for number in range(10):
        trace = b"00-%032x-%016x-01" % (number, number)
        head = decoder.decode(block(*request(), (b"traceparent", trace), *ENVOY))

        assert [*request(), (b"traceparent", trace), *ENVOY] == pairs(head)
    assert 8 == cache.prefix_hits
    assert 1 == len(cache.blocks)


def test_a_timeout_that_changes_is_read_behind_a_known_beginning():
    """As grpc-go writes it: last, and never the same."""
    decoder, cache = connection()
    timeouts = []
    for number in range(5):
        head = decoder.decode(block(*request(timeout=None), (b"grpc-timeout", b"%dm" % (number + 1))))
        timeouts.append(head.timeout_ns // 1_000_000)

    assert [1, 2, 3, 4, 5] == timeouts
    assert 3 == cache.prefix_hits


@pytest.mark.parametrize(
    ("tail", "status"),
    [
        pytest.param(literal(b"grpc-timeout", b"1S"), 13, id="second timeout"),
        pytest.param(literal(b"grpc-encoding", b"br"), 12, id="encoding"),
        pytest.param(literal(b"x-bin", b"!"), 13, id="binary"),
        pytest.param(literal(b"te", b"gzip"), None, id="te"),
        pytest.param(indexed(3), None, id="pseudo"),
        pytest.param(literal(b"x", b"a" * 9000) * 2, 8, id="size"),
    ],
)
def test_a_tail_can_still_refuse_the_request(tail, status):
    decoder, _ = connection()
    for number in range(3):
        decoder.decode(block(*request()) + literal(b"x", b"%d" % number))

    head = decoder.decode(block(*request()) + tail)

    assert head.refusal is not None
    assert status == head.refusal.grpc_status
    assert head.method is None


@pytest.mark.parametrize(
    ("tail", "status"),
    [
        pytest.param(literal(b"grpc-timeout", b"0n"), 4, id="over already"),
        pytest.param(literal(b"grpc-timeout", b"soon"), 13, id="bad"),
        pytest.param(literal(b"grpc-timeout", b"1S") * 2, 13, id="two"),
    ],
)
def test_a_timeout_behind_a_known_beginning_is_judged(tail, status):
    decoder, cache = connection()
    for number in range(3):
        decoder.decode(block(*request(timeout=None)) + literal(b"x", b"%d" % number))
    hits = cache.prefix_hits

    assert status == decoder.decode(block(*request(timeout=None)) + tail).refusal.grpc_status
    assert hits + 1 == cache.prefix_hits


def test_more_fields_than_allowed_behind_a_known_beginning_are_too_many():
    decoder, _ = connection()
    for number in range(3):
        decoder.decode(block(*request()) + literal(b"x", b"%d" % number))

    assert not decoder.decode(block(*request()) + literal(b"x", b"") * 93).is_oversized
    assert decoder.decode(block(*request()) + literal(b"x", b"") * 94).is_oversized


@pytest.mark.parametrize(
    "secret",
    [literal(b"authorization", b"Bearer x"), literal(b"x-key", b"1", NEVER), literal(b"cookie", b"a")],
)
def test_no_byte_of_a_secret_stays_in_the_cache(secret):
    decoder, cache = connection()
    for _ in range(5):
        head = decoder.decode(block(*request()) + secret)

    assert head.refusal is None
    kept = [*cache.blocks.recent, *cache.fields.recent]
    assert not [key for key in kept if secret in key]
    assert all(len(head.fields) == len(request()) for head in cache.blocks.recent.values())


def test_unique_traces_leave_the_cache_flat():
    """Of requests that differ only in volatile fields, a flood adds nothing."""
    decoder, cache = connection()
    sizes = set()
    for number in range(2000):
        decoder.decode(block(*request(), (b"traceparent", b"00-%d" % number), *ENVOY))
        if number >= 3:
            sizes.add((len(cache.blocks), len(cache.fields), len(cache.names)))

    assert 1 == len(sizes)


def test_a_peer_s_several_methods_are_all_found_by_their_beginnings():
    decoder, cache = connection()
    for number in range(6):
        for path in (CHECK, LOG):
            head = decoder.decode(block(*request(path), (b"traceparent", b"%d" % number)))
            assert path == head.path

    assert 8 == cache.prefix_hits


@pytest.mark.parametrize("gave_up", [False, True])
def test_a_bomb_of_indexed_fields_is_stopped(gave_up):
    """Seeded before the acknowledgement, when there is a table to amplify (CVE-2016-6581)."""
    decoder, _ = connection(gave_up=gave_up)
    if not gave_up:
        decoder.decode(block(*request()) + literal(b"x", b"a" * 3500, INSERT))

    head = decoder.decode(indexed(3 if gave_up else 62) * 16_000)

    assert head.is_oversized


@pytest.mark.parametrize("gave_up", [False, True])
def test_a_long_huffman_string_is_too_large_before_it_is_decoded(gave_up):
    decoder, _ = connection(gave_up=gave_up)

    assert decoder.decode(block(*request(), (b"x", b"a" * 7000))).is_oversized


def test_a_list_beyond_the_hard_limit_is_a_value():
    decoder, _ = connection(gave_up=False)
    decoder.decode(block(*request()) + literal(b"x", b"a" * 3500, INSERT))

    assert decoder.decode(indexed(62) * 19).is_oversized


def test_between_soft_and_hard_limit_the_table_stays_in_step():
    decoder, _ = connection(gave_up=False)
    large = decoder.decode(
        block(*request()) + literal(b"x", b"a" * 17_000) + literal(b"x-user", b"alice", INSERT)
    )

    assert 8 == large.refusal.grpc_status
    assert (b"x-user", b"alice") == pairs(decoder.decode(block(*request()) + indexed(62)))[-1]


@pytest.mark.parametrize("gave_up", [False, True])
@pytest.mark.parametrize(
    ("trailers", "is_malformed"),
    [(literal(b"x", b"1"), False), (b"", False), (indexed(3), True), (literal(b"X", b"1"), True)],
)
def test_trailers_are_decoded_and_judged(gave_up, trailers, is_malformed):
    decoder, _ = connection(gave_up=gave_up)

    assert is_malformed is (decoder.decode_trailers(trailers).refusal is not None)


@pytest.mark.parametrize("gave_up", [False, True])
def test_trailers_have_the_same_bounds(gave_up):
    decoder, _ = connection(gave_up=gave_up)

    assert decoder.decode_trailers(indexed(3) * 101).is_oversized
    with pytest.raises(HpackError):
        decoder.decode_trailers(indexed(0))


def test_trailers_may_be_the_block_that_gives_up_the_table():
    decoder, _ = connection(gave_up=False)
    decoder.settings_acked()

    decoder.decode_trailers(SIZE_ZERO + literal(b"x", b"1"))

    assert decoder.is_context_free


def test_without_a_cache_the_library_decodes_every_block():
    decoder, encoder = HeaderDecoder(None, METHODS, LIMITS), hpack.Encoder()
    decoder.settings_acked()
    encoder.header_table_size = 0
    for _ in range(3):
        assert [*request(), *ENVOY] == pairs(decoder.decode(encoder.encode([*request(), *ENVOY])))

    assert not decoder.is_context_free


def test_a_cache_of_other_methods_or_limits_is_refused():
    cache = BlockCache(METHODS, LIMITS)

    with pytest.raises(ValueError, match="belongs to other"):
        HeaderDecoder(cache, methods(), LIMITS)
    with pytest.raises(ValueError, match="belongs to other"):
        HeaderDecoder(cache, METHODS, Limits(max_header_fields=50))


def test_methods_cannot_change_behind_a_verdict():
    table = methods()
    HeaderDecoder(None, table, LIMITS)

    with pytest.raises(RuntimeError, match="frozen"):
        table.add(METHODS.get(CHECK))


def test_a_cache_serves_connections_that_differ_in_what_no_verdict_depends_on():
    """Each connection has an age of its own, so that a fleet's do not end in the same second."""
    cache = BlockCache(METHODS, LIMITS)

    HeaderDecoder(cache, METHODS, msgspec.structs.replace(LIMITS, max_age_ns=1_000_000_000))
