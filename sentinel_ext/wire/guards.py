"""Budgets against floods: each is O(1) per frame, holds a few integers, and says no by returning False."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel_ext.wire.limits import Limits


class Guards:
    """One connection's budgets (wire floods: CVE-2019-9511 to -9518, CVE-2023-44487, CVE-2025-8671).

    Methods return True while the peer keeps to its budget. None of them is called on the unary fast path;
    where a budget is refilled by useful work, it looks at a counter that exists anyway.
    """

    __slots__ = (
        "_limits",
        "_local_resets",
        "_opened",
        "_ping_ns",
        "_pings",
        "_progress",
        "_sent",
        "_settings",
        "_settings_ns",
        "_tiny",
        "_updates",
        "_useless",
        "_young",
        "control",
    )

    def __init__(self, limits: Limits, now_ns: int) -> None:
        self._limits = limits
        self._pings = limits.ping_burst
        self._ping_ns = now_ns
        self._sent = 0
        self._settings = 0
        self._settings_ns = now_ns
        self._useless = 0
        self._progress = (0, 0)
        self._local_resets = 0
        self._opened = 0
        self._young = 0
        self._updates = 0
        self._tiny = 0
        self.control = 0

    def ping(self, sent: int, now_ns: int) -> bool:
        """One PING came. `sent` is a counter of HEADERS and DATA that we sent: a move of it refills all."""
        limits = self._limits
        if sent != self._sent:
            self._sent = sent
            self._pings = limits.ping_burst
            self._ping_ns = now_ns
        elif (earned := (now_ns - self._ping_ns) // limits.ping_refill_ns) > 0:
            self._pings = min(limits.ping_burst, self._pings + earned)
            self._ping_ns += earned * limits.ping_refill_ns
        self._pings -= 1
        return self._pings >= 0

    def settings(self, now_ns: int) -> bool:
        """One SETTINGS frame came: so many in a period, counted from the first."""
        if now_ns - self._settings_ns > self._limits.settings_period_ns:
            self._settings = 0
            self._settings_ns = now_ns
        self._settings += 1
        return self._settings <= self._limits.max_settings_frames

    def useless(self, last_stream_id: int, useful: int) -> bool:
        """A frame without use came: empty DATA, HEADERS or CONTINUATION, PRIORITY, an unknown type.

        The two counters move with every stream and every DATA frame with a body; then all is forgiven.
        """
        progress = (last_stream_id, useful)
        if progress != self._progress:
            self._progress = progress
            self._useless = 0
        self._useless += 1
        return self._useless <= self._limits.max_useless_frames

    def local_reset(self) -> bool:
        """We had to end a stream for the peer's fault (RFC 9113 §5.4.2)."""
        self._local_resets += 1
        return self._local_resets <= self._limits.max_local_resets

    def peer_reset(self, opened: int, age_ns: int) -> bool:
        """The peer reset a live stream of this age; `opened` counts all streams it ever opened.

        Only where rate limits are on: a trusted proxy whose upstream stalls resets everything, rightly.
        """
        limits = self._limits
        if not limits.rate_limits:
            return True
        if opened - self._opened > limits.reset_sample:
            self._opened = opened
            self._young //= 2  # older streams fade, a burst just past the border stays counted
        if age_ns < limits.young_reset_ns:
            self._young += 1
        return self._young <= limits.max_young_resets

    def window_update(self, opened: int, data_sent: int) -> bool:
        """One WINDOW_UPDATE came; Envoy's own formula, with slack, where rate limits are on."""
        if not self._limits.rate_limits:
            return True
        self._updates += 1
        return self._updates <= self._limits.window_update_slack + 5 + 2 * (opened + 10 * data_sent)

    def answer(self) -> bool:
        """We queue an answer to a control frame; `control` is set to 0 when the peer has read them."""
        self.control += 1
        return self.control <= self._limits.max_control_queued

    def tiny(self) -> bool:
        """A small window made us send a tiny DATA frame that does not end its message."""
        self._tiny += 1
        return self._tiny <= self._limits.max_tiny_frames
