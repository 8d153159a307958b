"""The streams of a connection: the open ones, and how the latest of the closed ones ended."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel_ext.wire.stream import Stream


class Fate(Enum):
    """What we know of a stream id that is not in the table."""

    IDLE = "idle"  # the client may still open it
    ENDED = "ended"  # the client ended or reset it: it must send nothing more
    RESET = "reset"  # we reset or refused it: frames that were under way are ignored
    FORGOTTEN = "forgotten"  # closed long ago, or skipped by the client


class StreamTable:
    """Open streams by id, and a ring of the latest closed ids: no memory that depends on time.

    Attributes:
        open: open streams.
        last_id: highest id the client used.
        opened: how many streams it opened.
        ring: closed id * 2 + (1 if we reset it), at (id // 2) modulo the size; 0 is empty.
        mask: size of the ring - 1.
    """

    __slots__ = ("last_id", "mask", "open", "opened", "ring")

    def __init__(self, remembered: int) -> None:
        self.open: dict[int, Stream] = {}
        self.last_id = 0
        self.opened = 0
        self.ring = [0] * remembered
        self.mask = remembered - 1

    def close(self, stream_id: int, *, by_us: bool) -> None:
        """Take a stream out, and remember who ended it. Also for an id that never got in."""
        self.open.pop(stream_id, None)
        self.ring[(stream_id >> 1) & self.mask] = stream_id << 1 | by_us

    def fate(self, stream_id: int) -> Fate:
        """What became of an id that is not open. Even ids are ours and stay idle: we never push."""
        if stream_id > self.last_id or not stream_id & 1:
            return Fate.IDLE
        mark = self.ring[(stream_id >> 1) & self.mask]
        if mark >> 1 != stream_id:
            return Fate.FORGOTTEN
        return Fate.RESET if mark & 1 else Fate.ENDED
