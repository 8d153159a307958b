"""Why a connection ends by error: one value for each cause. They are returned, never raised.

Where RFC 9113 asks for a stream error only, and an attacker gains by provoking one (CVE-2025-8671), ours is
a connection error, as §5.4.1 allows.
"""

from __future__ import annotations

import msgspec

from sentinel_ext.wire.codes import ErrorCode


class Fault(msgspec.Struct, frozen=True):
    """The end of a connection.

    Attributes:
        code: goes out in GOAWAY.
        reason: one word for counters and logs, and GOAWAY's debug text.
    """

    code: ErrorCode
    reason: str


def _protocol(reason: str) -> Fault:
    return Fault(ErrorCode.PROTOCOL_ERROR, reason)


def _calm(reason: str) -> Fault:
    return Fault(ErrorCode.ENHANCE_YOUR_CALM, reason)


# Framing and state (RFC 9113 §4 to §6).
BAD_PREFACE = _protocol("bad_preface")
FIRST_NOT_SETTINGS = _protocol("first_frame_not_settings")
FRAME_SIZE = Fault(ErrorCode.FRAME_SIZE_ERROR, "frame_size")
WRONG_STREAM_ZERO = _protocol("wrong_stream_zero")
IDLE_STREAM = _protocol("frame_on_idle_stream")
BAD_STREAM_ID = _protocol("bad_stream_id")
BAD_PADDING = _protocol("bad_padding")
SELF_DEPENDENCY = _protocol("stream_depends_on_itself")
PUSH_PROMISE = _protocol("push_promise_from_client")
CONTINUATION = _protocol("continuation_expected_or_unexpected")
TRAILERS_WITHOUT_END = _protocol("trailers_without_end_stream")
BAD_SETTING = _protocol("bad_setting")
ZERO_INCREMENT = _protocol("zero_window_increment")
STREAM_CLOSED = Fault(ErrorCode.STREAM_CLOSED, "frame_on_closed_stream")
BAD_INITIAL_WINDOW = Fault(ErrorCode.FLOW_CONTROL_ERROR, "bad_initial_window")
WINDOW_OVERFLOW = Fault(ErrorCode.FLOW_CONTROL_ERROR, "window_overflow")
WINDOW_OVERRUN = Fault(ErrorCode.FLOW_CONTROL_ERROR, "window_overrun")
COMPRESSION = Fault(ErrorCode.COMPRESSION_ERROR, "hpack")

# Floods.
HEADER_LIST = _calm("header_list_too_large")
HEADER_BLOCK = _calm("header_block_too_large")
CONTINUATION_FLOOD = _calm("continuation_flood")
SETTINGS_FLOOD = _calm("settings_flood")
PING_FLOOD = _calm("too_many_pings")  # grpc clients read this very text and ping less often
USELESS_FRAMES = _calm("useless_frames")
STREAM_ERRORS = _calm("too_many_stream_errors")
RAPID_RESET = _calm("rapid_reset")
WINDOW_UPDATES = _calm("window_update_flood")
CONTROL_QUEUE = _calm("control_frames_unread")
TINY_WINDOWS = _calm("tiny_windows")

# Time.
PREFACE_TIMEOUT = _protocol("preface_timeout")
SETTINGS_TIMEOUT = Fault(ErrorCode.SETTINGS_TIMEOUT, "settings_timeout")
HEADER_BLOCK_TIMEOUT = _calm("header_block_timeout")
SLOW_READER = _calm("slow_reader")
KEEPALIVE_TIMEOUT = Fault(ErrorCode.NO_ERROR, "keepalive_timeout")
