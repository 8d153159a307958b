"""The circuit breaker of one upstream: trips on failures, waits, tries a few requests, closes or waits on.

The same arithmetic runs in Redis, shared by all instances (store/lua/breaker.lua); the store tests hold both
to the same rows. Here it serves a single instance, an instance whose store is away, and the simulator.
docs/breaker.md has the machine and what it promises.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sentinel_ext.core.model import Word
from sentinel_ext.core.tally import SLOTS, Batch, Ring

# Back-off doubles the cooldown at most this often: to 16 times.
MAX_LEVEL: Final = 4
# Epochs from here on belong to an instance alone (core/circuit.py) and mean nothing to the shared breaker.
LOCAL_EPOCHS: Final = 2**40
# A share of fewer requests than this says nothing, however many instances divide the minimum.
MIN_LOCAL_REQUESTS: Final = 5
# How far the logical clock may lag behind what it has seen; Lua writes its value at least this often.
_CLOCK_STEP_MS = 1_000


class CircuitState(Word):
    """What the breaker lets pass: everything, nothing, or a few probes."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Force(Word):
    """An operator's word; it stands until changed. AUTO also resets: closed, nothing counted."""

    AUTO = "auto"
    OPEN = "open"
    CLOSED = "closed"


class TripReason(Word):
    """Why the breaker opened last."""

    FAILURE_RATE = "failure_rate"
    CONSECUTIVE_FAILURES = "consecutive_failures"
    SLOW_CALLS = "slow_calls"
    PROBE_FAILED = "probe_failed"
    PROBE_LOST = "probe_lost"
    FORCED = "forced"


class BreakerOptions(msgspec.Struct, frozen=True, gc=False):
    """When a breaker trips, and how it tries again.

    Attributes:
        failure_threshold: share of failed requests in the window that trips it.
        consecutive_failures: failures in a row, over all instances, that trip it.
        min_requests: with fewer requests in the window, no share trips it.
        window_ms: over which shares are taken.
        cooldown_ms: OPEN lasts at least this long, the first time; doubles up to 16 times.
        half_open_max: probes per half-open epoch, over all instances.
        successes_needed: successful probes that close it; more than `half_open_max` counts as that many.
        probe_ttl_ms: a probe that has not ended by then has failed; the route's timeout and two log flushes.
        slow_rate: share of slow requests in the window that trips it; None never does.
    """

    failure_threshold: float = 0.5
    consecutive_failures: int = 10
    min_requests: int = 20
    window_ms: int = 10_000
    cooldown_ms: int = 30_000
    half_open_max: int = 5
    successes_needed: int = 3
    probe_ttl_ms: int = 30_200
    slow_rate: float | None = None

    @property
    def slot_ms(self) -> int:
        """Width of one slot of the window."""
        return max(1, self.window_ms // SLOTS)

    @property
    def life_ms(self) -> int:
        """How long a breaker that nobody asks is remembered: until nothing in it matters any more."""
        longest_open_ms = self.cooldown_ms * 2**MAX_LEVEL * 11 // 10
        return max(10 * self.window_ms, 2 * longest_open_ms, 2 * self.probe_ttl_ms)


def alone(options: BreakerOptions, instances: int) -> BreakerOptions:
    """Return what one of `instances` goes by while the store is away: its share of the traffic, one probe."""
    share = max(MIN_LOCAL_REQUESTS, -(-options.min_requests // max(1, instances)))
    return msgspec.structs.replace(
        options, min_requests=min(options.min_requests, share), half_open_max=1, successes_needed=1
    )


class View(msgspec.Struct, frozen=True, gc=False):
    """A breaker as of one moment.

    Attributes:
        epoch: rises with every transition.
        retry_ms: OPEN: until it half-opens; forced open: the cooldown, as a hint. Else 0.
        reason: of the last trip since the last reset.
        level: of the back-off.
        permits: probes granted in this epoch.
        consecutive: failures in a row up to now.
        ok: in the window; likewise `failed`, and `slow` of both.
    """

    state: CircuitState = CircuitState.CLOSED
    epoch: int = 0
    retry_ms: int = 0
    forced: Force = Force.AUTO
    reason: TripReason | None = None
    level: int = 0
    permits: int = 0
    consecutive: int = 0
    ok: int = 0
    failed: int = 0
    slow: int = 0


def open_ms(cooldown_ms: int, level: int, epoch: int) -> int:
    """Return how long OPEN lasts: the cooldown, doubled `level` times, and 0 to 10 % more by epoch."""
    base_ms = cooldown_ms << level
    return base_ms + base_ms * (epoch % 1009 * 389 % 101) // 1000


def share_tripped(options: BreakerOptions, ok: int, failed: int, slow: int) -> TripReason | None:
    """Say whether these counts of a window trip the breaker."""
    requests = ok + failed
    if requests < options.min_requests or not requests:
        return None
    if failed / requests >= options.failure_threshold:
        return TripReason.FAILURE_RATE
    if options.slow_rate and slow / requests >= options.slow_rate:
        return TripReason.SLOW_CALLS
    return None


class Breaker:
    """One breaker. `now_ms` may be any clock that all callers share; it may be set back.

    Every operation first does what time alone does: OPEN half-opens when its time has come, and HALF_OPEN
    opens again when a probe was lost. Each returns whether it did what it was asked, and the view after it.
    """

    __slots__ = (
        "_epoch", "_epoch_floor", "_floor_ms", "_force", "_level", "_offset_ms", "_open_until_ms", "_permits",
        "_reason", "_ring", "_state", "_successes", "_used", "options",
    )  # fmt: skip

    def __init__(self, options: BreakerOptions) -> None:
        """Start closed with nothing counted; `options` may be replaced at any time."""
        self.options = options
        self._state, self._force = CircuitState.CLOSED, Force.AUTO
        self._reason: TripReason | None = None
        self._level = self._epoch = self._epoch_floor = 0
        self._floor_ms = self._offset_ms = self._open_until_ms = 0
        self._used = self._successes = 0
        self._ring = Ring()
        self._permits: dict[str, int] = {}  # id -> when it is lost

    @classmethod
    def resumed(cls, options: BreakerOptions, view: View, epoch_floor: int, now_ms: int) -> Breaker:
        """Go on from what `view` shows, but for its window and probes.

        Args:
            epoch_floor: epochs that begin here are at least this.
        """
        self = cls(options)
        self._state, self._force, self._reason = view.state, view.forced, view.reason
        self._level, self._epoch, self._epoch_floor = view.level, view.epoch, epoch_floor
        self._open_until_ms = now_ms + view.retry_ms
        self._ring = Ring(view.consecutive)
        return self

    @property
    def is_forced(self) -> bool:
        """Whether an operator's word stands."""
        return self._force is not Force.AUTO

    def view(self, now_ms: int) -> View:
        """Show it as of now."""
        return self._view(self._at(now_ms))

    def report(self, epoch: int, batch: Batch, now_ms: int) -> tuple[bool, View]:
        """Count what ended; say whether it was counted. Only CLOSED counts, and only its own epoch."""
        at_ms = self._at(now_ms)
        if self._epoch < epoch < LOCAL_EPOCHS:
            # Somebody saw what this breaker has forgotten (its store lost writes): never use an epoch twice.
            self._epoch = epoch + 1
        counts = self._state is CircuitState.CLOSED and epoch == self._epoch
        if counts and batch.ok + batch.failed:
            reason = self._count(batch, at_ms)
            if reason is not None and self._force is Force.AUTO:
                self._open(reason, 0, at_ms)
        return counts, self._view(at_ms)

    def acquire(self, permit: str, now_ms: int) -> tuple[bool, View]:
        """Ask to send one request; asking again is harmless. CLOSED needs no permit, HALF_OPEN has a few."""
        at_ms = self._at(now_ms)
        granted = self._state is CircuitState.CLOSED
        if self._state is CircuitState.HALF_OPEN:
            granted = permit in self._permits
            if not granted and self._used < self.options.half_open_max:
                self._used += 1
                self._permits[permit] = at_ms + self.options.probe_ttl_ms
                granted = True
        return granted, self._view(at_ms)

    def result(self, epoch: int, permit: str, ok: bool, now_ms: int) -> tuple[bool, View]:
        """Take a probe's result; a repeated, stale or unknown one changes nothing."""
        at_ms = self._at(now_ms)
        known = self._state is CircuitState.HALF_OPEN and epoch == self._epoch and permit in self._permits
        if known:
            del self._permits[permit]
            if ok:
                self._successes += 1
                self._close_if_healed()
            else:
                self._open(TripReason.PROBE_FAILED, self._level + 1, at_ms)
        return known, self._view(at_ms)

    def release(self, permit: str, now_ms: int) -> tuple[bool, View]:
        """Give back a permit whose request never left; another may have its slot."""
        at_ms = self._at(now_ms)
        known = self._state is CircuitState.HALF_OPEN and self._permits.pop(permit, None) is not None
        if known:
            self._used -= 1
        return known, self._view(at_ms)

    def force(self, mode: Force, now_ms: int) -> tuple[bool, View]:
        """Obey an operator; say whether anything changed."""
        at_ms = self._at(now_ms)
        changes = mode is Force.AUTO or mode is not self._force
        if changes:
            self._force = mode
            if mode is Force.OPEN:
                self._open(TripReason.FORCED, 0, at_ms)
            else:
                self._level = 0
                self._reason = None
                self._move(CircuitState.CLOSED)
        return changes, self._view(at_ms)

    def _at(self, now_ms: int) -> int:
        """Return the logical time, which goes on when the clock is set back; do what time alone does."""
        at_ms = now_ms + self._offset_ms
        if at_ms < self._floor_ms:
            self._offset_ms += self._floor_ms - at_ms
            at_ms = self._floor_ms
        elif at_ms >= self._floor_ms + _CLOCK_STEP_MS:
            self._floor_ms = at_ms
        if self._state is CircuitState.OPEN and self._force is Force.AUTO and at_ms >= self._open_until_ms:
            self._move(CircuitState.HALF_OPEN)
        elif self._state is CircuitState.HALF_OPEN:
            if any(expires_ms <= at_ms for expires_ms in self._permits.values()):
                self._open(TripReason.PROBE_LOST, self._level + 1, at_ms)
            else:
                self._close_if_healed()  # fewer may be needed since the options changed
        return at_ms

    def _close_if_healed(self) -> None:
        if self._successes >= max(1, min(self.options.successes_needed, self.options.half_open_max)):
            self._level = 0
            self._move(CircuitState.CLOSED)

    def _open(self, reason: TripReason, level: int, at_ms: int) -> None:
        self._reason = reason
        self._level = min(level, MAX_LEVEL)
        self._move(CircuitState.OPEN)
        self._open_until_ms = at_ms + open_ms(self.options.cooldown_ms, self._level, self._epoch)

    def _move(self, state: CircuitState) -> None:
        self._state = state
        self._epoch = max(self._epoch + 1, self._epoch_floor)
        self._permits.clear()
        self._used = self._successes = 0
        self._ring.clear()

    def _count(self, batch: Batch, at_ms: int) -> TripReason | None:
        run = self._ring.add(batch, self.options.slot_ms, at_ms)
        if run >= self.options.consecutive_failures:
            return TripReason.CONSECUTIVE_FAILURES
        return share_tripped(self.options, *self._ring.sums(at_ms))

    def _view(self, at_ms: int) -> View:
        retry_ms = 0
        if self._state is CircuitState.OPEN:
            is_auto = self._force is Force.AUTO
            retry_ms = self._open_until_ms - at_ms if is_auto else self.options.cooldown_ms
        return View(
            self._state, self._epoch, retry_ms, self._force, self._reason, self._level, self._used,
            self._ring.run, *self._ring.sums(at_ms),
        )  # fmt: skip
