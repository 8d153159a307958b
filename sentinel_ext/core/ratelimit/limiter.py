"""Decides rate limit requests: `begin` with what this instance knows, `resume` with the store's word.

The store is asked only for what is neither leased nor known to be over. A request that is refused costs
nothing where a limit says so (`count_denied` false): what other limits took for it is given back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.ratelimit import answers, usual
from sentinel_ext.core.ratelimit.asks import BINDING, GiveBack
from sentinel_ext.core.ratelimit.outcome import Cause, Outcome, Problem
from sentinel_ext.core.ratelimit.pending import Pending
from sentinel_ext.core.ratelimit.rules import STRICTEST_FIRST, OnStoreFailure

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.ratelimit.admission import Admission
    from sentinel_ext.core.ratelimit.asks import CounterAnswer, CounterAsk
    from sentinel_ext.core.ratelimit.known import Known, PartResult
    from sentinel_ext.core.ratelimit.pending import Options
    from sentinel_ext.core.ratelimit.plan import Part, Plan

# A store is back within a second or two, or an operator is busy with it.
STORE_RETRY_US = 1_000_000
# All instances' leases together take at most this part of what a window has left.
LEASED_PART = 8
# Counters with a lease, for each of which a sweep looks whether it has expired; beyond it none is asked for.
MAX_LEASED = 4_096
_US_PER_MS = 1000
_NS_PER_US = 1000
# Places of a request with one part; its identity marks such a request.
_ONLY = [0]


class Limiter:
    """Belongs to one event loop.

    Attributes:
        give_back: takes hits that go back to the store.
        instances: how many share the store.
        admission: sheds by tier; None sheds nobody.
        leased: counters that have a lease, for `sweep`.
        divisor: at most this part of what is free is leased; 0 leases nothing.
    """

    def __init__(self, options: Options) -> None:
        """Wire `give_back`, `instances` and `admission` before use."""
        self.options = options
        self.give_back: Callable[[GiveBack], None] = lambda _back: None
        self.instances: Callable[[], int] = lambda: 1
        self.admission: Admission | None = None
        self.leased: dict[Known, None] = {}
        self.divisor = LEASED_PART if options.leases else 0

    def begin(self, plan: Plan, now_ns: int) -> Outcome | Pending:
        """Decide with what is known, or say what to ask."""
        pending = Pending(plan, now_ns)
        if plan.shed is None and plan.only is not None:
            part = plan.only
            known, hits = part.known, part.hits
            if known.lease >= hits and now_ns < known.lease_until_ns:
                known.seen += hits
                known.lease -= hits
                reset_us = (known.reset_ns - now_ns) // _NS_PER_US
                return usual.one_passed(plan, part, known.used - known.lease, reset_us, self.options)
            if now_ns < known.over_until_ns and hits >= known.over_hits:
                return usual.one_over(plan, part, self.options, now_ns)
            known.seen += hits
            pending.places, pending.results = _ONLY, [None]
            pending.asks = (known.ask(part.ask, self.divisor, now_ns),)
            return pending
        if plan.shed is not None and self.admission is not None:
            admitted = self.admission.admit(plan.shed)
            if isinstance(admitted, int):
                return answers.shed(plan, admitted * _US_PER_MS, self.options)
            pending.admitted = admitted
        if plan.is_plain and not self.options.metadata:
            passed = usual.all_leased(plan, now_ns)
            if passed is not None:
                return passed
        return self.begin_parts(pending, now_ns)

    def begin_parts(self, pending: Pending, now_ns: int) -> Outcome | Pending:
        """Begin without the short ways; what comes of each part then stands in `pending.results`."""
        plan = pending.plan
        results, places = pending.results, pending.places
        is_refused = False
        for at, part in enumerate(plan.parts):
            known, hits = part.known, part.hits
            # Leased hits first: they are counted, and may be spent after the rest of the limit is used up.
            if 0 < hits <= known.lease and now_ns < known.lease_until_ns:
                known.lease -= hits
                known.seen += hits
                pending.held.append((part, known.slot))
                results.append(known.from_lease(now_ns))
            elif now_ns < known.over_until_ns and hits >= known.over_hits:
                results.append(known.from_over(now_ns))
                is_refused = is_refused or part.flags & BINDING != 0
            else:
                known.seen += max(0, hits)
                results.append(None)
                places.append(at)
        if is_refused:
            self._drop_uncounted(pending, now_ns)
        if not places:
            return self._finish(pending, [])
        parts, divisor = plan.parts, self.divisor
        pending.asks = tuple([parts[at].known.ask(parts[at].ask, divisor, now_ns) for at in places])
        return pending

    def _drop_uncounted(self, pending: Pending, now_ns: int) -> None:
        """The request is refused already: ask only counters that count denied hits, or give hits back."""
        parts, kept = pending.plan.parts, []
        for at in pending.places:
            part = parts[at]
            if part.known.limit.count_denied or part.hits < 0:
                kept.append(at)
            else:
                pending.results[at] = part.known.unasked(now_ns)
        pending.places[:] = kept

    def resume(self, pending: Pending, replies: Sequence[CounterAnswer], now_ns: int) -> Outcome:
        """End a request with the store's answer to its asks."""
        plan = pending.plan
        if plan.only is not None and pending.places is _ONLY and not replies[0].over:
            reply, known = replies[0], plan.only.known
            self._learn(known, pending, pending.asks[0], reply, now_ns)
            used = max(0, reply.used - known.lease)
            return usual.one_passed(plan, plan.only, used, reply.reset_us, self.options)
        results, counted = pending.results, []
        for at, ask, reply in zip(pending.places, pending.asks, replies, strict=True):
            part = pending.plan.parts[at]
            self._learn(part.known, pending, ask, reply, now_ns)
            if reply.over and self._spend(pending, at, replies, now_ns):
                if reply.counted:
                    self._return(part, reply.slot)  # as refused, which it is not
                results[at] = part.known.from_lease(now_ns)
                continue
            if reply.counted and part.hits > 0:
                counted.append((part, reply.slot))
            results[at] = (
                reply.over,
                max(0, reply.used - part.known.lease),
                reply.reset_us,
                reply.retry_us,
                False,
            )
        return self._finish(pending, counted)

    @staticmethod
    def _spend(pending: Pending, at: int, replies: Sequence[CounterAnswer], now_ns: int) -> bool:
        """The store refuses what a lease, taken by a request before this one, still has hits for.

        Many requests at once may travel together and none come after them: what one of them leased would be
        stranded (measured: 9 of 10 admitted). Only where this counter alone refuses and all others counted:
        else the request would pass uncounted.
        """
        part = pending.plan.parts[at]
        known, hits = part.known, part.hits
        if not 0 < hits <= known.lease or now_ns >= known.lease_until_ns:
            return False
        for place, reply in zip(pending.places, replies, strict=True):
            if place != at and (reply.over or not reply.counted):
                return False
        known.lease -= hits
        pending.held.append((part, known.slot))
        return True

    def _learn(
        self, known: Known, pending: Pending, ask: CounterAsk, reply: CounterAnswer, now_ns: int
    ) -> None:
        old = known.answered(ask, reply, pending.asked_ns, now_ns)
        if old is not None:
            self.give_back(old)
        if reply.leased:
            self.leased[known] = None
            if len(self.leased) >= MAX_LEASED:
                self.divisor = 0  # until the next sweep: what is under way already may come on top

    def resume_without_store(self, pending: Pending, now_ns: int) -> Outcome | Problem:
        """End a request that the store did not answer, as each limit says."""
        parts, results = pending.plan.parts, pending.results
        instances, is_closed = self.instances(), False
        self._forget(pending)
        modes = [
            parts[at].known.limit.on_store_failure or self.options.on_store_failure for at in pending.places
        ]
        is_refused = any(
            result is not None and result[0] and part.flags & BINDING
            for part, result in zip(parts, results, strict=True)
        )
        if OnStoreFailure.ERROR in modes and not is_refused:
            self.cancel(pending)
            return Problem.STORE
        for at, mode in zip(pending.places, modes, strict=True):
            part = parts[at]
            if mode is OnStoreFailure.LOCAL:
                results[at] = part.known.locally(part.hits, instances, now_ns)
            elif mode is OnStoreFailure.CLOSED and part.hits >= 0:
                is_closed = is_closed or part.flags != 0
                results[at] = (True, part.known.capacity, STORE_RETRY_US, STORE_RETRY_US, False)
            else:
                results[at] = part.known.unasked(now_ns)
        outcome = self._finish(pending, [], is_closed=is_closed and not is_refused)
        fallback = None if is_refused else min(modes, key=STRICTEST_FIRST.index)
        return msgspec.structs.replace(outcome, fallback=fallback)

    def cancel(self, pending: Pending) -> None:
        """The caller is gone, or nothing can be decided: what was taken for it goes back."""
        self._put_back(pending, [])
        if pending.admitted is not None and self.admission is not None:
            self.admission.withdraw(pending.admitted)
            pending.admitted = None

    def late(
        self, pending: Pending, replies: Sequence[CounterAnswer], now_ns: int, *, is_wanted: bool
    ) -> None:
        """Take a reply that came after the request was ended without it.

        Args:
            is_wanted: the request went on; else what was counted for it goes back.
        """
        counted = []
        for at, ask, reply in zip(pending.places, pending.asks, replies, strict=True):
            part = pending.plan.parts[at]
            self._learn(part.known, pending, ask, reply, now_ns)
            if reply.counted and part.hits > 0 and not is_wanted:
                counted.append((part, reply.slot))
        self._put_back(pending, counted)

    def sweep(self, now_ns: int) -> None:
        """Give back what expired unspent, follow the number of instances; call it every few milliseconds."""
        for known in [known for known in self.leased if now_ns >= known.lease_until_ns or not known.lease]:
            del self.leased[known]
            back = known.take_lease()
            if back is not None:
                self.give_back(back)
        is_leasing = self.options.leases and len(self.leased) < MAX_LEASED
        self.divisor = LEASED_PART * max(1, self.instances()) if is_leasing else 0

    def close(self) -> None:
        """Give all leases back."""
        for known in self.leased:
            back = known.take_lease()
            if back is not None:
                self.give_back(back)
        self.leased.clear()

    def _forget(self, pending: Pending) -> None:
        """The store did not answer: nobody waits for these leases any more."""
        for at, ask in zip(pending.places, pending.asks, strict=True):
            if ask.lease:
                pending.plan.parts[at].known.asking_until_ns = 0

    def _finish(
        self, pending: Pending, counted: list[tuple[Part, int]], *, is_closed: bool = False
    ) -> Outcome:
        results: list[PartResult] = pending.results  # type: ignore[assignment]  # all are known now
        outcome = answers.finish(pending.plan, results, self.options)
        if outcome.over or outcome.refused:
            self._put_back(pending, counted)
            if is_closed:
                outcome = msgspec.structs.replace(outcome, cause=Cause.STORE_UNAVAILABLE)
        admitted = pending.admitted
        if admitted is not None and self.admission is not None:
            if outcome.over:
                self.admission.withdraw(admitted)
            outcome = answers.with_ticket(outcome, pending.plan, self.admission.ticket(admitted))
        return outcome

    def _put_back(self, pending: Pending, counted: list[tuple[Part, int]]) -> None:
        """Undo what a request took that does not pass, where its limits do not count the denied."""
        for part, slot in pending.held:
            known = part.known
            if not known.limit.count_denied:
                back = known.put_back(part.hits, slot)
                if back is not None:
                    self.give_back(back)
        for part, slot in counted:
            if not part.known.limit.count_denied:
                self._return(part, slot)
        pending.held = []

    def _return(self, part: Part, slot: int) -> None:
        known, limit = part.known, part.known.limit
        back = GiveBack(known.key, known.kind, limit.window_us, limit.requests, slot, part.hits)
        self.give_back(back)
        known.used = max(0, known.used - part.hits)
