"""The cache is never seen: with and without it, any blocks mean the same, on any number of connections."""

from __future__ import annotations

import hpack
import msgspec
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support import blocks

from sentinel_ext.wire import huffman
from sentinel_ext.wire.block_cache import BlockCache
from sentinel_ext.wire.fieldwalk import FieldWalk, OversizedError
from sentinel_ext.wire.hpack import HeaderDecoder, HpackError
from sentinel_ext.wire.limits import Limits

SETTINGS = settings(max_examples=250, deadline=None, derandomize=True)
LIMITS = Limits.trusted()
# Small, so that generations turn within a test.
TIGHT = Limits(cache_entries=4, memo_entries=4, cache_entry_size=200, memo_value_size=30)
METHODS = blocks.methods()
ENDED = "connection ends"
GIVES_UP = blocks.SIZE_ZERO + blocks.block(*blocks.request())
CONNECTIONS = 2

names = st.sampled_from(
    [
        *(b"te", b"grpc-timeout", b"content-type", b"x-a", b"x-b", b"traceparent", b"x-request-id"),
        *(b"authorization", b"cookie", b"host", b"content-length", b"x-raw-bin", b"grpc-encoding"),
        *(b":path", b":method", b":authority", b"Upper", b"", b"connection", b"x-a-name-of-some-length" * 6),
    ]
)
values = st.one_of(
    st.sampled_from(
        [b"trailers", b"500m", b"1S", b"0n", b"application/grpc", b"AAE", b"!", b"gzip", b"", b"a" * 140]
    ),
    st.binary(max_size=12),
)
fields = st.tuples(names, values)
ways = st.sampled_from([blocks.PLAIN, blocks.INSERT, blocks.NEVER])
literals = st.builds(
    lambda field, how, coded: blocks.literal(*field, how, coded=coded), fields, ways, st.booleans()
)
# Static, the first dynamic entries, and what no table has.
indices = st.sampled_from([2, 3, 6, 7, 8, 15, 16, 58, 61, 62, 63, 64, 70, 127, 200, 0]).map(blocks.indexed)
updates = st.sampled_from([0, 0, 0, 64, 4096, 5000]).map(lambda size: blocks.integer(size, 5, 0x20))
tails = st.lists(st.one_of(literals, indices), max_size=5).map(b"".join)
requests = st.builds(
    lambda timeout, how, coded, path: blocks.block(
        *blocks.request(path, timeout=timeout), how=how, coded=coded
    ),
    st.sampled_from([None, b"500m", b"7S"]),
    ways,
    st.booleans(),
    st.sampled_from([blocks.CHECK, blocks.LOG, b"/unknown/Method"]),
)
heads = st.sampled_from([b"", b"", b"", b"", b"\x20", b"\x20", b"\x20\x20", b"\x3f\xe1\x1f"])
good = st.builds(lambda request, tail: request + tail, requests, tails)
any_block = st.one_of(
    good,
    st.builds(lambda head, request, tail: head + request + tail, heads, requests, tails),
    st.builds(lambda request, cut: request[: cut % (len(request) + 1)], requests, st.integers(0, 500)),
    st.lists(st.one_of(literals, indices, updates), max_size=8).map(b"".join),
    st.binary(max_size=20),
)
# Of Envoy, of grpc-go (its timeout is last), and traced.
usual = st.builds(
    lambda extra, how: blocks.block(*blocks.request(), *extra, how=how),
    st.sampled_from(
        [
            blocks.ENVOY,
            [(b"traceparent", b"00-1-1-01"), *blocks.ENVOY],
            [(b"x-request-id", b"7"), (b"authorization", b"secret")],
            [(b"x-a", b"1"), (b"x-b", b"2")],
            [(b"x-raw-bin", b"!"), (b"x-a", b"1")],
        ]
    ),
    ways,
)
goes = st.builds(
    lambda *tail: blocks.block(*blocks.request(timeout=None), *tail),
    st.tuples(st.just(b"grpc-timeout"), st.sampled_from([b"1S", b"2S", b"0n", b"bad", b"99999999H"])),
    st.sampled_from([(b"x-a", b"1"), (b"grpc-timeout", b"3S"), (b"te", b"trailers")]),
)
# Blocks come again and again, else nothing would be found in a cache. What ends a connection is in few pools.
pools = st.one_of(
    st.lists(st.one_of(usual, usual, goes, good), min_size=1, max_size=5),
    st.lists(st.one_of(usual, goes, good, any_block), min_size=1, max_size=5),
)
ACK = -1
TRAILERS = 1000
steps = st.lists(
    st.tuples(
        st.integers(0, CONNECTIONS - 1),
        st.one_of(st.integers(0, 4), st.integers(0, 4), st.just(ACK), st.integers(TRAILERS, TRAILERS + 4)),
        st.integers(1, 4),
        st.booleans(),
    ),
    min_size=5,
    max_size=30,
)


def decoders(cache: BlockCache, limits: Limits) -> tuple[HeaderDecoder, HeaderDecoder]:
    """A new connection with the cache, and one without."""
    return HeaderDecoder(cache, METHODS, limits), HeaderDecoder(None, METHODS, limits)


def outcome(decoder: HeaderDecoder, block: bytes, *, trailers: bool = False) -> object:
    """What a connection learns from a block; all ways to end it are one."""
    try:
        head = decoder.decode_trailers(block) if trailers else decoder.decode(block)
    except HpackError:
        return ENDED
    return ENDED if head.is_oversized else msgspec.structs.astuple(head)


@SETTINGS
@given(pools, steps, st.sampled_from([LIMITS, TIGHT]))
def test_cache_on_equals_cache_off(pool, schedule, limits):
    """Two connections of one cache against two without; they give up their tables when the schedule says.

    A connection that ends makes room for a new one, as outside.
    """
    cache = BlockCache(METHODS, limits)
    pairs = [decoders(cache, limits) for _ in range(CONNECTIONS)]
    found = 0
    for turn, (connection, what, times, is_unique) in enumerate(schedule):
        for _ in range(times):
            cached, plain = pairs[connection]
            block = pool[what % TRAILERS % len(pool)]
            if is_unique:
                block += blocks.literal(b"x-turn", b"%d" % turn)
            if what == ACK and not cached.is_context_free:
                cached.settings_acked()
                plain.settings_acked()
                block = GIVES_UP if times > 1 else block  # else a block that often does not, and ends it
            misses = cache.misses

            expected = outcome(plain, block, trailers=what >= TRAILERS)

            assert expected == outcome(cached, block, trailers=what >= TRAILERS)
            found += cached.is_context_free and misses == cache.misses
            if expected is ENDED:
                pairs[connection] = decoders(cache, limits)
    event(f"whole blocks found: {bool(found)}, beginnings found: {bool(cache.prefix_hits)}")
    assert len(cache.blocks) <= limits.cache_entries
    assert len(cache.fields) <= limits.memo_entries


@SETTINGS
@given(st.sampled_from([None, b"500m"]), st.lists(tails, min_size=1, max_size=12))
def test_what_follows_a_known_beginning_is_judged_in_full(timeout, endings):
    """The beginning is learned first; then any fields behind it, against the library."""
    cache = BlockCache(METHODS, LIMITS)
    beginning = blocks.block(*blocks.request(timeout=timeout))
    cached, plain = decoders(cache, LIMITS)
    for decoder in (cached, plain):
        decoder.settings_acked()
        decoder.decode(GIVES_UP)
    for turn in range(3):
        cached.decode(beginning + blocks.literal(b"x-turn", b"%d" % turn))

    for ending in endings:
        hits = cache.prefix_hits
        expected = outcome(plain, beginning + ending)
        assert expected == outcome(cached, beginning + ending)
        event(f"beginning found: {cache.prefix_hits > hits}")
        if expected is ENDED:
            break


@SETTINGS
@given(
    st.lists(st.lists(fields, max_size=4), min_size=1, max_size=6), st.lists(st.integers(0, 5), max_size=30)
)
def test_a_real_encoder_is_understood_before_and_after_it_gives_up_its_table(extras, order):
    """Hpack's own encoder, which inserts all it can, then has a table of size 0."""
    cache = BlockCache(METHODS, LIMITS)
    decoder, encoder = HeaderDecoder(cache, METHODS, LIMITS), hpack.Encoder()
    for turn, choice in enumerate(order):
        if turn == len(order) // 2:
            encoder.header_table_size = 0
            decoder.settings_acked()
        request = [*blocks.request(), *(field for field in extras[choice % len(extras)] if field[0])]
        plain = HeaderDecoder(None, METHODS, LIMITS)

        head = decoder.decode(encoder.encode(request))

        expected = plain.decode(hpack.Encoder().encode(request))
        assert msgspec.structs.astuple(expected) == msgspec.structs.astuple(head)


@SETTINGS
@given(st.one_of(any_block, st.binary(max_size=60)), st.integers(1, 3))
def test_the_walk_reads_what_the_library_reads(block, times):
    """With a table of size 0; also a second time, when the memo answers."""
    library = hpack.Decoder()
    library.max_allowed_table_size = library.header_table_size = 0
    walk = FieldWalk(BlockCache(METHODS, LIMITS))
    try:
        expected = [
            (bytes(name), bytes(value).strip(b" \t")) for name, value in library.decode(block, raw=True)
        ]
    except hpack.HPACKError:
        expected = None

    for _ in range(times):
        try:
            read = [(name, value) for name, value, _, _ in walk.read(block)[0]]
        except OversizedError:
            raise AssertionError("no block here is that large") from None
        except HpackError:
            read = None
        assert expected == read


@SETTINGS
@given(st.binary(max_size=100))
def test_huffman_strings_are_decoded(text):
    assert text == huffman.decode(blocks.huffman(text))


@SETTINGS
@given(
    st.one_of(st.binary(max_size=40), st.binary(max_size=6).map(lambda end: blocks.huffman(b"abc/1") + end))
)
def test_any_octets_decode_as_the_library_decodes_them_or_fail_with_it(data):
    library = hpack.Decoder()
    field = b"\x00\x01x" + blocks.integer(len(data), 7, 0x80) + data
    try:
        expected = bytes(next(iter(library.decode(field, raw=True)))[1])
    except hpack.HPACKError:
        expected = None
    try:
        decoded = huffman.decode(data)
    except HpackError:
        decoded = None

    assert expected == decoded
