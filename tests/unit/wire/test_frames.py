"""Frames as bytes."""

from __future__ import annotations

import pytest
from support.wire_peer import split

from sentinel_ext.wire import frames


def test_a_frame_header_is_nine_bytes_in_network_order() -> None:
    assert frames.frame(0x4, 0x1, 0x01020304, bytes(0x010203))[:9] == bytes.fromhex("010203040101020304")


def test_settings_are_pairs_in_order() -> None:
    assert bytes.fromhex("00000c040000000000000400000005000100000000") == frames.settings([(4, 5), (1, 0)])


def test_ping_carries_its_bytes() -> None:
    assert bytes.fromhex("0000080600000000003031323334353637") == frames.ping(b"01234567", ack=False)
    assert frames.ping(b"01234567", ack=True)[4] == frames.ACK


def test_goaway_carries_id_code_and_ascii_text() -> None:
    assert bytes.fromhex("00000a070000000000000000070000000b3f21") == frames.goaway(7, 11, "ü!")


def test_rst_stream_and_window_update_carry_one_number() -> None:
    assert bytes.fromhex("00000403000000000900000008") == frames.rst_stream(9, 8)
    assert bytes.fromhex("00000408000000000900001000") == frames.window_update(9, 4096)


@pytest.mark.parametrize("size", [0, 1, 99, 100, 101, 200, 201, 250])
def test_a_block_is_cut_at_the_peers_frame_size(size: int) -> None:
    block = bytes(range(size))

    first, *rest = split(frames.headers(3, block, 100, end_stream=True))

    assert block == b"".join(frame.payload for frame in (first, *rest))
    assert first.flags & frames.END_STREAM
    assert [bool(frame.flags & frames.END_HEADERS) for frame in (first, *rest)] == [False] * len(rest) + [
        True
    ]
    assert {frame.kind for frame in rest} <= {frames.CONTINUATION}
    assert len(rest) == max(0, (size - 1) // 100)


@pytest.mark.parametrize(
    ("payload", "body"),
    [
        (b"\0abc", b"abc"),
        (b"\x02abc", b"a"),
        (b"\x03abc", b""),
        (b"\x04abc", None),
        (b"\0", b""),
        (b"", None),
    ],
)
def test_padding_is_taken_off_or_does_not_fit(payload: bytes, body: bytes | None) -> None:
    assert body == frames.unpad(payload, frames.PADDED)
    assert payload == frames.unpad(payload, 0)
