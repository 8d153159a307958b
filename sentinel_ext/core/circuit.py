"""One instance's sight of one upstream's breaker: what requests ask, what is reported, what to do alone.

The shared breaker lives in the store. Between two reports an instance acts on the view it saw last, flips by
itself when OPEN's time is over, and asks the store only for permits it may get. With the store away it runs a
breaker of its own. One task reports: at most one batch of a circuit is under way.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_ext.core.breaker import LOCAL_EPOCHS, Breaker, CircuitState, Force, TripReason, View, alone
from sentinel_ext.core.outbox import MAX_RESULTS, Outbox, PermitResult
from sentinel_ext.core.tally import Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sentinel_ext.core.breaker import BreakerOptions

NS_PER_MS: Final = 1_000_000
# Probes are for vital requests first; others get a turn when none came for this long.
OTHERS_WAIT_NS: Final = 500 * NS_PER_MS
# What a refused request is told while probes are under way: their verdict is near.
VERDICT_MS: Final = 1_000
# An urgent report goes out this often at most, whatever comes of it.
URGENT_GAP_NS: Final = 20 * NS_PER_MS

_ONE = {  # (success, slow) -> a batch of one
    (True, False): Batch(ok=1),
    (True, True): Batch(ok=1, slow=1),
    (False, False): Batch(failed=1, lead=1, trail=1, longest=1),
    (False, True): Batch(failed=1, slow=1, lead=1, trail=1, longest=1),
}


class Transition(msgspec.Struct, frozen=True, gc=False):
    """A change of state, for logs and metrics. `is_local`: decided by this instance alone."""

    before: CircuitState
    after: CircuitState
    epoch: int
    reason: TripReason | None
    level: int
    forced: Force
    is_local: bool


class Circuit:
    """One upstream at one instance.

    Attributes:
        is_closed: requests pass without asking.
        epoch: what to write into the ticket of a request that passes.
        is_local: the store is away; `acquire_locally` answers for it.
        options: may be replaced when the policy changes.
        stale: results of another epoch, not counted.
        unknown_permits: results of permits that were never granted here, or answered before.
    """

    __slots__ = (
        "_asking", "_half_open_ns", "_local", "_local_floor", "_open_until_ns", "_outbox", "_permits",
        "_taken_epoch", "_told", "_urged_ns", "_used", "_view", "_vital_ns", "_was_heard", "epoch",
        "is_closed", "is_local", "options", "stale", "state", "unknown_permits",
    )  # fmt: skip

    def __init__(self, options: BreakerOptions, now_ns: int) -> None:
        """Start closed; the first report is urgent, it brings the shared state."""
        self.options = options
        self.is_closed, self.is_local = True, False
        self.epoch = self._taken_epoch = 0
        self.state = self._told = CircuitState.CLOSED
        self.stale = self.unknown_permits = 0
        self._view = View()
        self._was_heard = False
        self._outbox = Outbox(now_ns)
        self._permits: set[str] = set()  # granted here in this epoch, unanswered: at most half_open_max
        self._asking = self._used = 0
        self._open_until_ns = self._half_open_ns = self._vital_ns = now_ns
        self._urged_ns = now_ns - URGENT_GAP_NS
        self._local: Breaker | None = None
        self._local_floor = LOCAL_EPOCHS

    @property
    def lost_results(self) -> int:
        """Results of permits that were dropped because too many waited for a report."""
        return self._outbox.lost_results

    @property
    def view(self) -> View:
        """The breaker as last seen, for status pages."""
        return self._view

    def refusal_ms(self, now_ns: int) -> int:
        """Say when a refused request may come again."""
        if self.state is CircuitState.OPEN:
            if self._view.forced is Force.OPEN:
                return self._view.retry_ms
            left_ms = -(-(self._open_until_ns - now_ns) // NS_PER_MS)
            return left_ms if left_ms > 0 else VERDICT_MS
        return 0 if self.is_closed else VERDICT_MS

    def look(self, is_vital: bool, now_ns: int) -> tuple[CircuitState, bool]:
        """Return (state now, whether a request would pass or get to ask for a permit). Changes nothing."""
        state, since_ns, used = self.state, self._half_open_ns, self._used
        is_due = self._view.forced is Force.AUTO and now_ns >= self._open_until_ns
        if state is CircuitState.OPEN and is_due:
            state, since_ns, used = CircuitState.HALF_OPEN, now_ns, 0
        if state is not CircuitState.HALF_OPEN:
            return state, self.is_closed
        waits = not is_vital and now_ns - max(self._vital_ns, since_ns) < OTHERS_WAIT_NS
        most = 1 if self.is_local else self.options.half_open_max
        return state, not waits and used + self._asking < most

    def wants_permit(self, is_vital: bool, now_ns: int) -> bool:
        """Say whether a request should ask for a permit; if not, it is refused without asking.

        True reserves a place among those who ask: `permit_reply` or `permit_failed` must follow, or, when
        `is_local`, `acquire_locally`.
        """
        self._pass_time(now_ns)
        if self.state is not CircuitState.HALF_OPEN:
            return False
        if is_vital:
            self._vital_ns = now_ns
        elif now_ns - max(self._vital_ns, self._half_open_ns) < OTHERS_WAIT_NS:
            return False
        most = 1 if self.is_local else self.options.half_open_max
        if self._used + self._asking >= most:
            return False
        if not self.is_local:
            self._asking += 1
        return True

    def permit_reply(self, permit: str, granted: bool, view: View, now_ns: int) -> Transition | None:
        """Take the store's answer; then `is_closed` or `holds(permit)` say whether the request passes."""
        self._asking = max(0, self._asking - 1)
        transition = self.adopt(view, now_ns)
        if granted and self.state is CircuitState.HALF_OPEN and view.epoch == self.epoch:
            self._permits.add(permit)
        return transition

    def permit_failed(self, permit: str) -> None:
        """Note that the store gave no answer: it may have granted; "" for one that was never asked for."""
        self._asking = max(0, self._asking - 1)
        if permit:
            self._outbox.queue([PermitResult(self.epoch, permit, None)])

    def acquire_locally(self, permit: str, now_ns: int) -> bool:
        """Ask this instance's own breaker."""
        if self._local is None:
            return False
        granted, view = self._local.acquire(permit, now_ns // NS_PER_MS)
        self._apply(view, now_ns)
        if granted and self.state is CircuitState.HALF_OPEN:
            self._permits.add(permit)
        return granted

    def holds(self, permit: str) -> bool:
        """Say whether this permit was granted in this epoch and not used up."""
        return permit in self._permits

    def release(self, permit: str, now_ns: int) -> None:
        """Give back the permit of a request that did not go out after all."""
        if permit not in self._permits:
            return
        self._permits.discard(permit)
        if self._local is not None:
            self._apply(self._local.release(permit, now_ns // NS_PER_MS)[1], now_ns)
        else:
            self._outbox.queue([PermitResult(self.epoch, permit, None)])

    def ended(self, epoch: int, permit: str, success: bool, slow: bool, now_ns: int) -> None:
        """Count how a request of this instance ended; `permit` is "" for all but probes."""
        if epoch != self.epoch or not (permit or self.is_closed):
            self.stale += 1
        elif permit:
            self._probe_ended(permit, success and not (slow and self.options.slow_rate), now_ns)
        elif self._local is not None:
            _, view = self._local.report(epoch, _ONE[success, slow], now_ns // NS_PER_MS)
            self._apply(view, now_ns)
        else:
            self._outbox.count(success, slow)

    def ended_elsewhere(self, epoch: int, permit: str, success: bool | None) -> None:
        """Pass on how a probe of another instance ended (None: it never left); told twice, it counts once."""
        if epoch < LOCAL_EPOCHS:
            self._outbox.queue([PermitResult(epoch, permit, success)])

    def take_batch(self) -> Batch:
        """Return what to report; an empty batch asks how things stand."""
        self._taken_epoch = self.epoch
        return self._outbox.take_batch()

    def put_back(self, batch: Batch) -> None:
        """Keep a batch whose report failed; the next one repeats it and counts once."""
        if self.is_local or self._taken_epoch != self.epoch:
            self.stale += batch.ok + batch.failed
        else:
            self._outbox.put_back(batch)

    def take_results(self, most: int = MAX_RESULTS) -> Sequence[PermitResult]:
        """Return what became of permits, to be told to the store in this order."""
        return self._outbox.take_results(most)

    def put_back_results(self, results: Iterable[PermitResult]) -> None:
        """Keep results whose report failed; told twice, they count once."""
        self._outbox.queue(results)

    def is_urgent(self, now_ns: int) -> bool:
        """Say whether to report now: own counts alone would trip it, a probe ended, nothing is known yet."""
        if self.is_local or now_ns - self._urged_ns < URGENT_GAP_NS:
            return False
        outbox = self._outbox
        if self._was_heard and not outbox.has_results and not outbox.would_trip(self.options):
            return False
        self._urged_ns = now_ns
        return True

    def adopt(self, view: View, now_ns: int) -> Transition | None:
        """Follow the shared breaker, also when the store is back; an answer that was overtaken is ignored."""
        self._was_heard = True
        # The shared epoch passes any that an instance reports, so an older one is an older answer.
        if view.epoch < self.epoch < LOCAL_EPOCHS:
            return None
        self._local, self.is_local = None, False
        self._apply(view, now_ns)
        return self._transition()

    def store_lost(self, instances: int, now_ns: int) -> Transition | None:
        """Go on alone from the state last known; `instances` shared the traffic until now."""
        if self._local is not None:
            return None
        left_ms = max(0, -(-(self._open_until_ns - now_ns) // NS_PER_MS))
        known = msgspec.structs.replace(
            self._view, state=self.state, epoch=self.epoch, retry_ms=left_ms, consecutive=0
        )
        now_ms = now_ns // NS_PER_MS
        options = alone(self.options, instances)
        local = self._local = Breaker.resumed(options, known, self._local_floor, now_ms)
        self.is_local, self._asking = True, 0
        for permit in self._permits:
            local.acquire(permit, now_ms)
        for batch in self._outbox.drain():
            local.report(self.epoch, batch, now_ms)
        self._apply(local.view(now_ms), now_ns)
        return self._transition()

    def tick(self, now_ns: int) -> Transition | None:
        """Do what time alone does, and return a change of state that nobody was told of yet."""
        self._pass_time(now_ns)
        return self._transition()

    def _pass_time(self, now_ns: int) -> None:
        if self._local is not None:
            self._apply(self._local.view(now_ns // NS_PER_MS), now_ns)
        elif (
            self.state is CircuitState.OPEN
            and self._view.forced is Force.AUTO
            and now_ns >= self._open_until_ns
        ):
            # The store does the same by its own clock when it is asked next; its epoch comes with the answer.
            self.state, self._half_open_ns, self._used = CircuitState.HALF_OPEN, now_ns, 0

    def _probe_ended(self, permit: str, ok: bool, now_ns: int) -> None:
        if permit not in self._permits:
            self.unknown_permits += 1
            return
        self._permits.discard(permit)
        if self.epoch < LOCAL_EPOCHS:
            # Also while the store is away: it may come back before the permit is lost.
            self._outbox.queue([PermitResult(self.epoch, permit, ok)])
        if self._local is not None:
            self._apply(self._local.result(self.epoch, permit, ok, now_ns // NS_PER_MS)[1], now_ns)

    def _apply(self, view: View, now_ns: int) -> None:
        """Take a view over: state, epoch, and what hangs on them."""
        if view.epoch != self.epoch:
            self.stale += self._outbox.counted
            self._outbox.drain()
            self._permits.clear()
            if view.state is CircuitState.HALF_OPEN and self.state is not CircuitState.HALF_OPEN:
                self._half_open_ns = now_ns
        if view.epoch >= self._local_floor:
            self._local_floor = view.epoch + 1
        self._view = view
        self.state, self.epoch, self._used = view.state, view.epoch, view.permits
        self.is_closed = view.state is CircuitState.CLOSED
        self._open_until_ns = now_ns + view.retry_ms * NS_PER_MS

    def _transition(self) -> Transition | None:
        before, self._told = self._told, self.state
        if before is self._told:
            return None
        view = self._view
        return Transition(
            before, self.state, self.epoch, view.reason, view.level, view.forced, self._local is not None
        )
