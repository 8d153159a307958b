"""The stages in order: `begin` runs what is local, `resume` ends what had to ask the store.

A stage never does I/O. What a stage took is given back when the request does not pass after all: refused
later, timed out or cancelled. Local stages of a later number run before the window is asked (DESIGN §3): a
request that they refuse costs no round trip and no quota.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.model import FailureMode, Mode, Stage
from sentinel_ext.core.scaling import scaled_limit
from sentinel_ext.core.shedding import Shedding
from sentinel_ext.core.window import WindowQuery, WindowReply

if TYPE_CHECKING:
    from sentinel_ext.core.controller import Controller
    from sentinel_ext.core.identify import Check
    from sentinel_ext.core.policy import Policy
    from sentinel_ext.core.shedding import Hold

# When nothing the caller can wait for would help (limit 0, burst 0): ask again in a minute.
NEVER_RETRY_MS = 60_000
# A store is back within a second or two, or an operator is busy with it.
STORE_RETRY_MS = 1_000
# Names of this module cost half of an enum's attribute, and these are read per request.
_ENFORCE, _SHADOW, _OFF = Mode.ENFORCE, Mode.SHADOW, Mode.OFF
_WINDOW, _ALLOWED = Stage.WINDOW, Reason.ALLOWED


class Pending:
    """A check that waits for the store: what it holds, and what it asks.

    Attributes:
        query: of the window; None when only a permit is asked for.
        hold: what the upstream's load and breaker count for it; None without those stages.
        passed: the decision once the window has granted and only the permit is missing.
    """

    __slots__ = ("check", "hold", "passed", "query", "shadow", "took_bucket")

    def __init__(
        self,
        check: Check,
        query: WindowQuery | None,
        shadow: tuple[ShadowDenial, ...],
        hold: Hold | None = None,
        *,
        took_bucket: bool,
    ) -> None:
        """Hold the bucket's tokens (`took_bucket`) and the place in flight (`hold`) until the check ends."""
        self.check = check
        self.query = query
        self.shadow = shadow
        self.hold = hold
        self.passed: Decision | None = None
        self.took_bucket = took_bucket


class Pipeline:
    """Runs the stages as the policy's modes say; 3 and 4 only with a `controller`."""

    __slots__ = ("_bucket", "_shedding", "_window")

    def __init__(self, policy: Policy, controller: Controller | None = None) -> None:
        """Take the stages' modes from `policy`."""
        self._bucket = policy.mode(Stage.BUCKET)
        self._window = policy.mode(Stage.WINDOW)
        self._shedding = None if controller is None else Shedding(policy, controller)

    def begin(self, check: Check, now_ns: int) -> Decision | Pending:
        """Run the local stages. A Pending must end in exactly one of resume, resume_without_store, cancel."""
        tenant = check.tenant
        bucket = tenant.bucket
        shadow: tuple[ShadowDenial, ...] = ()
        took = False
        if bucket is not None and self._bucket is not _OFF:
            took = bucket.try_acquire(check.hits, now_ns)
            if not took:
                if self._bucket is _ENFORCE:
                    return _bucket_denial(check)
                shadow = (ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),)
        limit = tenant.plan.limit
        hold: Hold | None = None
        if self._shedding is not None and (limit != 0 or self._window is not _ENFORCE):
            held = self._shedding.admit(check, shadow, now_ns)
            if isinstance(held, Decision):
                _refund(check, took=took)
                return held
            hold = held
            if hold.shadow:
                shadow = (*shadow, *hold.shadow)
        if limit is None or self._window is _OFF:
            return self._without_window(check, shadow, hold, took=took)
        if tenant.scaled is not None or (hold is not None and hold.rates):
            rate = None if hold is None else hold.rates.get(tenant.name)
            limit = scaled_limit(tenant, limit, rate, now_ns)
        query = WindowQuery(tenant.key, tenant.sub_us, limit, check.hits)
        pending = Pending(check, query, shadow, hold, took_bucket=took)
        if limit == 0:
            # Deny all needs no store: the answer is the same whatever was counted.
            return self._without_limit(pending)
        return pending

    def resume(self, pending: Pending, reply: WindowReply, now_ns: int) -> Decision:
        """End a check with the store's answer; if `wants_permit` then, it ends with the permit's."""
        pending.check.tenant.remember(reply, now_ns)
        return self._end(pending, reply, _asked(pending).limit)

    def resume_without_store(self, pending: Pending, instances: int, now_ns: int) -> Decision:
        """End a check that the store did not answer, by its plan's failure mode.

        Args:
            instances: how many instances shared the store when it was last heard of; at least 1.
        """
        check = pending.check
        mode = check.tenant.plan.on_store_failure
        if mode is FailureMode.LOCAL:
            reply, share = check.tenant.acquire_locally(check.hits, instances, now_ns)
            return self._end(pending, reply, share, mode)
        if mode is FailureMode.OPEN or self._window is _SHADOW:
            shadow = pending.shadow
            if mode is FailureMode.CLOSED:
                shadow = (*shadow, ShadowDenial(_WINDOW, Reason.STORE_UNAVAILABLE))
            return Decision(
                check,
                True,
                _WINDOW,
                _ALLOWED,
                _asked(pending).limit,
                shadow=shadow,
                fallback=mode,
                ticket=_ticket(pending),
            )
        self.cancel(pending)
        return Decision(
            check,
            False,
            _WINDOW,
            Reason.STORE_UNAVAILABLE,
            _asked(pending).limit,
            retry_ms=STORE_RETRY_MS,
            shadow=pending.shadow,
            fallback=mode,
        )

    def resume_with_permit(self, pending: Pending, permit: str, now_ns: int) -> Decision:
        """End a check whose permit was asked for; `permit` is "" when none was granted."""
        assert self._shedding is not None  # noqa: S101  only then a permit is asked for
        assert pending.hold is not None  # noqa: S101
        assert pending.passed is not None  # noqa: S101
        decision, goes_out = self._shedding.permit_settled(
            pending.check, pending.hold, pending.passed, permit, now_ns
        )
        if not goes_out:
            pending.hold = None
            self.cancel(pending)
        return decision

    def cancel(self, pending: Pending) -> None:
        """Give back what the local stages took."""
        check = pending.check
        _refund(check, took=pending.took_bucket)
        pending.took_bucket = False
        if pending.hold is not None and self._shedding is not None:
            self._shedding.withdraw(check, pending.hold)
            pending.hold = None

    def _without_window(
        self, check: Check, shadow: tuple[ShadowDenial, ...], hold: Hold | None, *, took: bool
    ) -> Decision | Pending:
        decision = _bucket_allowance(check, shadow, hold, enforced=self._bucket is _ENFORCE)
        if hold is None or not hold.wants_permit:
            return decision
        pending = Pending(check, None, shadow, hold, took_bucket=took)
        pending.passed = decision
        return pending

    def _without_limit(self, pending: Pending) -> Decision | Pending:
        """Refuse all. In shadow it passes, and a half-open breaker may still have the last word."""
        nothing = WindowReply(granted=False, used=0, reset_us=0, retry_us=0, slot=0)
        decision = self._end(pending, nothing, 0)
        if not decision.allowed or pending.hold is None or not pending.hold.wants_permit:
            return decision
        pending.query, pending.passed = None, decision
        return pending

    def _end(
        self, pending: Pending, reply: WindowReply, limit: int, fallback: FailureMode | None = None
    ) -> Decision:
        check = pending.check
        remaining = limit - reply.used if limit > reply.used else 0
        reset_ms = -(-reply.reset_us // 1000)
        if reply.granted or self._window is _SHADOW:
            shadow = pending.shadow
            if not reply.granted:
                shadow = (*shadow, ShadowDenial(_WINDOW, Reason.RATE_LIMITED))
            return Decision(
                check,
                True,
                _WINDOW,
                _ALLOWED,
                limit,
                remaining,
                reset_ms,
                0,
                shadow,
                fallback,
                "" if pending.hold is None else pending.hold.ticket,
            )
        self.cancel(pending)
        retry_ms = -(-reply.retry_us // 1000) or NEVER_RETRY_MS
        return Decision(
            check,
            False,
            _WINDOW,
            Reason.RATE_LIMITED,
            limit,
            remaining,
            retry_ms,
            retry_ms,
            pending.shadow,
            fallback,
        )


def _refund(check: Check, *, took: bool) -> None:
    bucket = check.tenant.bucket
    if took and bucket is not None:
        bucket.refund(check.hits)


def _bucket_denial(check: Check) -> Decision:
    bucket, burst = check.tenant.bucket, check.tenant.plan.burst
    wait_ms = None if bucket is None else bucket.wait_ms(check.hits)
    retry_ms = NEVER_RETRY_MS if wait_ms is None else max(1, wait_ms)
    return Decision(check, False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, burst, 0, retry_ms, retry_ms)


def _bucket_allowance(
    check: Check, shadow: tuple[ShadowDenial, ...], hold: Hold | None, *, enforced: bool
) -> Decision:
    """Allow without asking the window; the numbers are the bucket's where it is enforced."""
    bucket = check.tenant.bucket
    ticket = "" if hold is None else hold.ticket
    if bucket is None or not enforced:
        return Decision(check, True, Stage.IDENTIFY, _ALLOWED, shadow=shadow, ticket=ticket)
    tokens = bucket.tokens
    reset_ms = bucket.wait_ms(tokens + 1) or 0
    burst = check.tenant.plan.burst
    return Decision(check, True, Stage.BUCKET, _ALLOWED, burst, tokens, reset_ms, 0, shadow, ticket=ticket)


def _asked(pending: Pending) -> WindowQuery:
    assert pending.query is not None  # noqa: S101  who resumes with the store's word has asked it
    return pending.query


def _ticket(pending: Pending) -> str:
    return "" if pending.hold is None else pending.hold.ticket
