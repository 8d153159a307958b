"""Every number of the wire in one place, with its unit and the reason for it.

Two presets. `trusted()` is for a proxy on the same host (a Unix socket or loopback): what bounds memory and
CPU is on, what counts a peer's rate is off, because a proxy whose upstream stalls legitimately resets
thousands of streams at once. `exposed()` turns the rate limits on as well.
"""

from __future__ import annotations

import msgspec

KIB = 1024
MIB = 1024 * 1024
MS = 1_000_000
SECOND = 1_000_000_000

MAX_WINDOW = 2**31 - 1
DEFAULT_WINDOW = 65_535
DEFAULT_FRAME_SIZE = 16_384
DEFAULT_TABLE_SIZE = 4096


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The numbers of one listener. Sizes are bytes, times nanoseconds, the rest counts; 0 time means off.

    Raises:
        ValueError: when built with a number out of its range; all faults in one message.
    """

    # What we advertise.
    header_table_size: int = 0  # 0: blocks need no context and can be cached; else 4096, the default
    max_concurrent_streams: int = 1000
    stream_window: int = 256 * KIB
    connection_window: int = 4 * MIB
    max_frame_size: int = DEFAULT_FRAME_SIZE  # larger frames let one stream hold the connection
    max_header_list: int = 16 * KIB  # above it, while the block decodes: grpc-status 8

    # Header blocks (CONTINUATION flood, HPACK bomb, "HTTP/2 Bomb"): above them the connection ends.
    max_header_list_hard: int = 64 * KIB  # counted as RFC 9113 §6.5.2: name + value + 32 per field
    max_header_fields: int = 100  # enforced while decoding
    max_header_block: int = 32 * KIB  # compressed
    max_continuations: int = 8
    header_block_timeout_ns: int = 5 * SECOND
    max_huffman_string: int = 4 * KIB

    # The block cache (wire/hpack.py).
    cache_entries: int = 4096
    cache_entry_size: int = KIB
    memo_entries: int = 4096
    memo_value_size: int = 256

    # Messages.
    max_message: int = 4 * MIB  # grpc's own default
    gzip_floor: int = 512 * KIB  # a compressed message may unpack to this much whatever its size ...
    gzip_ratio: int = 100  # ... and to so many times its size: 5 KB that become 5 MB hold the loop for 15 ms
    max_reassembly: int = 16 * MIB  # one connection's incomplete or unread messages
    max_timeout_ns: int = 24 * 3600 * SECOND  # a longer grpc-timeout is cut to this

    # Work (rapid reset, CVE-2023-44487): calls whose handler has not returned, cancelled ones too.
    max_in_flight: int = 1000

    # Streams that we end with a stream error; the worst offences end the connection anyway (CVE-2025-8671).
    max_local_resets: int = 100
    closed_streams: int = 1024  # how many closed ids we remember, a power of two

    # Control frames.
    max_settings_entries: int = 32  # in one frame
    max_settings_frames: int = 32  # in one period
    settings_period_ns: int = 10 * SECOND
    ping_burst: int = 64  # refilled when HEADERS or DATA is sent
    ping_refill_ns: int = SECOND  # one more PING each
    max_control_queued: int = 1000  # answers to control frames that the peer does not read
    max_useless_frames: int = 100  # empty or PRIORITY frames, forgiven by a useful frame

    # Output towards a slow reader.
    max_output: int = MIB  # queued; above it we stop reading, if it is the transport that is full
    max_output_hard: int = 16 * MIB  # above it new calls are refused: closed windows must not stop reading
    progress_timeout_ns: int = 30 * SECOND  # bytes wait and none moved
    stream_flush_timeout_ns: int = 60 * SECOND  # an ended reply waits for its window
    tiny_frame: int = 256
    max_tiny_frames: int = 1000  # window-forced DATA below tiny_frame, not the last of its message

    # Life of a connection.
    preface_timeout_ns: int = 10 * SECOND  # preface and first SETTINGS
    settings_timeout_ns: int = 10 * SECOND  # until our SETTINGS are acknowledged
    keepalive_after_ns: int = 2 * 3600 * SECOND  # silence before we ping
    keepalive_timeout_ns: int = 20 * SECOND
    max_idle_ns: int = 0  # since the last stream closed
    max_age_ns: int = 0  # the shell adds its jitter
    goaway_pause_ns: int = SECOND  # between the two GOAWAYs, if the PING is not acknowledged
    drain_grace_ns: int = 30 * SECOND  # after the second GOAWAY
    linger_ns: int = SECOND  # after a GOAWAY for an error, keep discarding: a TCP RST would eat it
    max_stream_id: int = 1_610_612_736  # three quarters of 2^31: drain before the ids run out

    # Rate limits of `exposed()`.
    rate_limits: bool = False
    reset_sample: int = 1000  # of this many streams ...
    max_young_resets: int = 500  # ... at most so many reset younger than
    young_reset_ns: int = 5 * MS
    window_update_slack: int = 100  # Envoy's formula: slack + 5 + 2 * (streams + 10 * DATA sent)

    # Tests only: a path answered as plain HTTP with 200 and a body, for h2spec. Empty: no such path. h2spec
    # does not follow a header table of 0 either, so it needs header_table_size 4096 as well.
    test_route: bytes = b""

    @classmethod
    def trusted(cls) -> Limits:
        """For a proxy on this host."""
        return cls()

    @classmethod
    def exposed(cls) -> Limits:
        """For peers that nobody vouches for."""
        return cls(rate_limits=True)

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {value}, not in {low}..{high}"
            for name, (low, high) in _RANGES.items()
            if not low <= (value := getattr(self, name)) <= high
        ]
        faults += [
            f"{name} is negative"
            for name in self.__struct_fields__
            if name not in _RANGES and isinstance(value := getattr(self, name), int) and value < 0
        ]
        if self.header_table_size not in {0, DEFAULT_TABLE_SIZE}:
            faults.append(f"header_table_size is neither 0 nor {DEFAULT_TABLE_SIZE}")
        if self.closed_streams & (self.closed_streams - 1):
            faults.append("closed_streams is not a power of two")
        if self.max_header_list > self.max_header_list_hard:
            faults.append("max_header_list is above max_header_list_hard")
        if self.max_output > self.max_output_hard:
            faults.append("max_output is above max_output_hard")
        if self.max_message > self.max_reassembly:
            faults.append("max_message is above max_reassembly")
        if faults:
            raise ValueError("; ".join(faults))


# What the protocol itself allows, and the smallest numbers with which a connection can still work.
_RANGES: dict[str, tuple[int, int]] = {
    "max_concurrent_streams": (1, MAX_WINDOW),
    "stream_window": (1, MAX_WINDOW),
    "connection_window": (DEFAULT_WINDOW, MAX_WINDOW),
    "max_frame_size": (DEFAULT_FRAME_SIZE, 2**24 - 1),
    "max_header_list": (KIB, MAX_WINDOW),
    "max_header_fields": (8, 10_000),
    "max_message": (0, 2**32 - 1),
    "closed_streams": (2, 2**20),
    "max_in_flight": (1, MAX_WINDOW),
    "max_stream_id": (1, MAX_WINDOW),
    "ping_burst": (1, MAX_WINDOW),
    "ping_refill_ns": (1, 3600 * SECOND),
    "reset_sample": (1, 1_000_000),
}


class ProcessBudget:
    """What the connections of one process share. One event loop owns it; not safe for threads.

    Attributes:
        in_flight: calls given to handlers that have not returned, over all connections.
        max_in_flight: bound of that; a call above it is answered RESOURCE_EXHAUSTED.
        reassembly: bytes of incomplete request messages held.
        max_reassembly: bound of that.
    """

    __slots__ = ("in_flight", "max_in_flight", "max_reassembly", "reassembly")

    def __init__(self, max_in_flight: int = 4000, max_reassembly: int = 256 * MIB) -> None:
        self.in_flight = 0
        self.max_in_flight = max_in_flight
        self.reassembly = 0
        self.max_reassembly = max_reassembly
