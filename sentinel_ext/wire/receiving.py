"""From bytes to frames (RFC 9113 §3.4, §4): the preface, the frame loop, header blocks in pieces."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.wire import faults, frames

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.wire.control import Control
    from sentinel_ext.wire.faults import Fault
    from sentinel_ext.wire.limits import Limits
    from sentinel_ext.wire.requests import Requests

_PRIORITY_SIZE = 5


class Block:
    """A header block whose END_HEADERS has not come."""

    __slots__ = ("flags", "fragments", "parts", "size", "started_ns", "stream_id")

    def __init__(self, stream_id: int, flags: int, fragment: bytes, started_ns: int) -> None:
        self.stream_id = stream_id
        self.flags = flags
        self.parts = [fragment]
        self.size = len(fragment)
        self.fragments = 0
        self.started_ns = started_ns


class Receiver:
    """Cuts what comes in into frames, and hands each to its owner, until one finds a fault.

    Attributes:
        block: the header block that is still incomplete: nothing else may come before its end.
        is_open: preface and the first SETTINGS are here.
        requests: who gets HEADERS and DATA.
    """

    __slots__ = (
        "_control",
        "_handlers",
        "_limits",
        "_preface_left",
        "_rest",
        "block",
        "is_open",
        "requests",
    )

    def __init__(self, control: Control, requests: Requests, limits: Limits) -> None:
        self._control = control
        self.requests = requests
        self._limits = limits
        self._rest = b""
        self._preface_left = frames.PREFACE
        self.block: Block | None = None
        self.is_open = False
        self._handlers: dict[int, Callable[[int, int, bytes], Fault | None]] = {
            frames.DATA: self._data,
            frames.HEADERS: self._headers,
            frames.PRIORITY: control.priority,
            frames.RST_STREAM: control.rst_stream,
            frames.SETTINGS: control.settings,
            frames.PUSH_PROMISE: control.push_promise,
            frames.PING: control.ping,
            frames.GOAWAY: control.goaway,
            frames.WINDOW_UPDATE: control.window_update,
        }

    def receive(self, data: bytes, now_ns: int) -> Fault | None:
        """Take a piece of the byte stream, cut anywhere; what is incomplete waits for the next."""
        if self._preface_left:
            size = min(len(data), len(self._preface_left))
            if data[:size] != self._preface_left[:size]:
                return faults.BAD_PREFACE
            self._preface_left = self._preface_left[size:]
            data = data[size:]
        # The rest is shorter than one frame, so a peer that sends byte by byte costs a bounded copy.
        buffer = self._rest + data if self._rest else data
        self._control.now_ns = now_ns
        return self._frames(buffer, now_ns)

    def _frames(self, buffer: bytes, now_ns: int) -> Fault | None:
        """The frame loop. The two frames of a unary request go straight to their owner."""
        requests = self.requests
        unpack = frames.FRAME.unpack_from
        max_frame = self._limits.max_frame_size
        is_plain = self.is_open and self.block is None
        at, end = 0, len(buffer)
        while end - at >= frames.HEADER_SIZE:
            high, low, kind, flags, stream_id = unpack(buffer, at)
            start = at + frames.HEADER_SIZE
            length = high << 8 | low
            if length > max_frame:
                return faults.FRAME_SIZE
            at = start + length
            if at > end:
                at = start - frames.HEADER_SIZE
                break
            if is_plain and kind == frames.HEADERS and flags == frames.END_HEADERS:
                fault = requests.headers(stream_id & frames.STREAM_ID, flags, buffer[start:at], now_ns)
            elif is_plain and kind == frames.DATA and flags == frames.END_STREAM:
                fault = requests.whole(stream_id & frames.STREAM_ID, buffer, start, at)
            else:
                fault = self._frame(kind, flags, stream_id & frames.STREAM_ID, buffer[start:at])
                is_plain = self.is_open and self.block is None
            if fault is not None:
                return fault
        self._rest = buffer[at:]
        return None

    def _frame(self, kind: int, flags: int, stream_id: int, payload: bytes) -> Fault | None:
        if self.block is not None:
            if kind != frames.CONTINUATION or stream_id != self.block.stream_id:
                return faults.CONTINUATION
            return self._continuation(self.block, flags, payload)
        if not self.is_open:
            if kind != frames.SETTINGS or flags & frames.ACK:
                return faults.FIRST_NOT_SETTINGS
            self.is_open = True
        if kind == frames.CONTINUATION:
            return faults.CONTINUATION
        handler = self._handlers.get(kind)
        # Unknown types are ignored (§4.1), but not without end.
        return self._control.useless() if handler is None else handler(flags, stream_id, payload)

    def _data(self, flags: int, stream_id: int, payload: bytes) -> Fault | None:
        return self.requests.data(stream_id, flags, payload) if stream_id else faults.WRONG_STREAM_ZERO

    def _headers(self, flags: int, stream_id: int, payload: bytes) -> Fault | None:
        """HEADERS (§6.2) with whatever padding, priority and continuation it has."""
        if not stream_id:
            return faults.WRONG_STREAM_ZERO
        fragment = frames.unpad(payload, flags)
        if fragment is None:
            return faults.BAD_PADDING
        if flags & frames.PRIORITY_FLAG:
            if len(fragment) < _PRIORITY_SIZE:
                return faults.FRAME_SIZE
            if frames.U32.unpack_from(fragment)[0] & frames.STREAM_ID == stream_id:
                return faults.SELF_DEPENDENCY
            fragment = fragment[_PRIORITY_SIZE:]
        if not flags & frames.END_HEADERS:
            self.block = Block(stream_id, flags, fragment, self._control.now_ns)
            return None if fragment else self._control.useless()
        return self._whole_block(stream_id, flags, fragment)

    def _continuation(self, block: Block, flags: int, payload: bytes) -> Fault | None:
        """CONTINUATION (§6.10), so many and no more (VU#421644)."""
        block.parts.append(payload)
        block.size += len(payload)
        block.fragments += 1
        if block.fragments > self._limits.max_continuations:
            return faults.CONTINUATION_FLOOD
        if block.size > self._limits.max_header_block:
            return faults.HEADER_BLOCK
        if not flags & frames.END_HEADERS:
            return None if payload else self._control.useless()
        self.block = None
        return self._whole_block(block.stream_id, block.flags, b"".join(block.parts))

    def _whole_block(self, stream_id: int, flags: int, block: bytes) -> Fault | None:
        return self.requests.headers(stream_id, flags, block, self._control.now_ns)
