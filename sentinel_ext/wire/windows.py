"""Flow windows (RFC 9113 §5.2, §6.9) as plain numbers: they say how much, and never send anything.

The connection's window is credited as bytes arrive, so that one stalled handler cannot stop the others. A
stream's window is credited as its handler takes messages, and at once for the bytes of a message that is
still incomplete: a message larger than the window would otherwise wait for itself.
"""

from __future__ import annotations

from sentinel_ext.wire.limits import MAX_WINDOW


class ConnectionInflow:
    """What the peer may still send us on the whole connection.

    Attributes:
        left: bytes; below zero the peer has overrun it.
        half: at or below this many bytes left, `credit` has something to give.
    """

    __slots__ = ("half", "left", "size")

    def __init__(self, size: int) -> None:
        self.size = size
        self.left = size
        self.half = size // 2

    def credit(self) -> int:
        """The increment that fills the window again; 0 while more than half is left.

        Batched, because Envoy counts the updates it gets against the DATA it sent.
        """
        if self.left > self.half:
            return 0
        increment = self.size - self.left
        self.left = self.size
        return increment


class StreamInflow:
    """What the peer may still send us on one stream, and who holds what it sent.

    Attributes:
        left: bytes the peer may send; below zero it has overrun the window.
        held: bytes of messages that the handler was given and has not taken.
        unread: how many such messages.
        owed: bytes to give back with the next update.
    """

    __slots__ = ("half", "held", "left", "owed", "unread")

    def __init__(self, size: int) -> None:
        self.left = size
        self.half = size // 2
        self.held = 0
        self.unread = 0
        self.owed = 0

    def received(self, length: int) -> bool:
        """Count one DATA frame, its padding too. False: the peer overran the window."""
        self.left -= length
        self.owed += length
        return self.left >= 0

    def hold(self, messages: int, size: int) -> None:
        """Whole messages of `size` bytes on the wire went to the handler: their credit waits.

        Of a message larger than the window most was credited while it came in; the rest is what can wait.
        """
        size = min(size, self.owed)
        self.owed -= size
        self.held += size
        self.unread += messages

    def consumed(self, size: int) -> None:
        """The handler took one message of `size` bytes.

        A compressed message was shorter on the wire than it is now, so the last message gives back whatever
        is still held: no byte of the window gets lost.
        """
        if not self.unread:
            return
        self.unread -= 1
        size = self.held if not self.unread else min(size, self.held)
        self.held -= size
        self.owed += size

    def credit(self) -> int:
        """The increment to send; 0 while less than half a window is owed."""
        if self.owed < self.half or not self.owed:
            return 0
        increment = self.owed
        self.owed = 0
        self.left += increment
        return increment


def widened(window: int, increment: int) -> int | None:
    """A send window after WINDOW_UPDATE or a SETTINGS change; None if it overflows 2^31-1 (§6.9.1)."""
    total = window + increment
    return None if total > MAX_WINDOW else total
