"""The stages in order: `begin` runs what is local, `resume` ends what had to ask the store.

A stage never does I/O. What a stage took from a tenant is given back when the request does not pass after
all: refused later, timed out or cancelled.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.decision import Decision, Reason, ShadowDenial
from sentinel_ext.core.model import FailureMode, Mode, Stage
from sentinel_ext.core.window import WindowQuery, WindowReply

if TYPE_CHECKING:
    from sentinel_ext.core.identify import Check
    from sentinel_ext.core.policy import Policy

# When nothing the caller can wait for would help (limit 0, burst 0): ask again in a minute.
NEVER_RETRY_MS = 60_000
# A store is back within a second or two, or an operator is busy with it.
STORE_RETRY_MS = 1_000


class Pending:
    """A check that waits for the store: what it holds, and what it asks."""

    __slots__ = ("check", "query", "shadow", "took_bucket")

    def __init__(
        self, check: Check, query: WindowQuery, shadow: tuple[ShadowDenial, ...], *, took_bucket: bool
    ) -> None:
        """Hold the bucket's tokens (`took_bucket`) until the check ends."""
        self.check = check
        self.query = query
        self.shadow = shadow
        self.took_bucket = took_bucket


class Pipeline:
    """Runs stages 1 and 2 as the policy's modes say. Stages 3 and 4 join between them (DESIGN §3)."""

    __slots__ = ("_bucket", "_window")

    def __init__(self, policy: Policy) -> None:
        """Take the stages' modes from `policy`."""
        self._bucket = policy.mode(Stage.BUCKET)
        self._window = policy.mode(Stage.WINDOW)

    def begin(self, check: Check, now_ns: int) -> Decision | Pending:
        """Run the local stages. A Pending must end in exactly one of resume, resume_without_store, cancel."""
        tenant = check.tenant
        bucket = tenant.bucket
        shadow: tuple[ShadowDenial, ...] = ()
        took = False
        if bucket is not None and self._bucket is not Mode.OFF:
            took = bucket.try_acquire(check.hits, now_ns)
            if not took:
                if self._bucket is Mode.ENFORCE:
                    return _bucket_denial(check)
                shadow = (ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),)
        limit = tenant.plan.limit
        if limit is None or self._window is Mode.OFF:
            return _bucket_allowance(check, shadow, enforced=self._bucket is Mode.ENFORCE)
        query = WindowQuery(tenant.key, tenant.sub_us, limit, check.hits)
        pending = Pending(check, query, shadow, took_bucket=took)
        if limit == 0:
            # Deny all needs no store: the answer is the same whatever was counted.
            return self._end(pending, WindowReply(granted=False, used=0, reset_us=0, retry_us=0, slot=0), 0)
        return pending

    def resume(self, pending: Pending, reply: WindowReply, now_ns: int) -> Decision:
        """End a check with the store's answer."""
        pending.check.tenant.remember(reply, now_ns)
        return self._end(pending, reply, pending.query.limit)

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
        if mode is FailureMode.OPEN or self._window is Mode.SHADOW:
            shadow = pending.shadow
            if mode is FailureMode.CLOSED:
                shadow = (*shadow, ShadowDenial(Stage.WINDOW, Reason.STORE_UNAVAILABLE))
            return Decision(
                check, True, Stage.WINDOW, Reason.ALLOWED, pending.query.limit, shadow=shadow, fallback=mode
            )
        self.cancel(pending)
        return Decision(
            check,
            False,
            Stage.WINDOW,
            Reason.STORE_UNAVAILABLE,
            pending.query.limit,
            retry_ms=STORE_RETRY_MS,
            shadow=pending.shadow,
            fallback=mode,
        )

    @staticmethod
    def cancel(pending: Pending) -> None:
        """Give back what the local stages took."""
        bucket = pending.check.tenant.bucket
        if pending.took_bucket and bucket is not None:
            bucket.refund(pending.check.hits)
            pending.took_bucket = False

    def _end(
        self, pending: Pending, reply: WindowReply, limit: int, fallback: FailureMode | None = None
    ) -> Decision:
        check = pending.check
        remaining = limit - reply.used if limit > reply.used else 0
        reset_ms = -(-reply.reset_us // 1000)
        if reply.granted:
            return Decision(
                check,
                True,
                Stage.WINDOW,
                Reason.ALLOWED,
                limit,
                remaining,
                reset_ms,
                0,
                pending.shadow,
                fallback,
            )
        if self._window is Mode.SHADOW:
            shadow = (*pending.shadow, ShadowDenial(Stage.WINDOW, Reason.RATE_LIMITED))
            return Decision(
                check, True, Stage.WINDOW, Reason.ALLOWED, limit, remaining, reset_ms, 0, shadow, fallback
            )
        self.cancel(pending)
        retry_ms = -(-reply.retry_us // 1000) or NEVER_RETRY_MS
        return Decision(
            check,
            False,
            Stage.WINDOW,
            Reason.RATE_LIMITED,
            limit,
            remaining,
            retry_ms,
            retry_ms,
            pending.shadow,
            fallback,
        )


def _bucket_denial(check: Check) -> Decision:
    bucket, burst = check.tenant.bucket, check.tenant.plan.burst
    wait_ms = None if bucket is None else bucket.wait_ms(check.hits)
    retry_ms = NEVER_RETRY_MS if wait_ms is None else max(1, wait_ms)
    return Decision(check, False, Stage.BUCKET, Reason.LOCAL_RATE_LIMITED, burst, 0, retry_ms, retry_ms)


def _bucket_allowance(check: Check, shadow: tuple[ShadowDenial, ...], *, enforced: bool) -> Decision:
    """Allow without asking the window; the numbers are the bucket's where it is enforced."""
    bucket = check.tenant.bucket
    if bucket is None or not enforced:
        return Decision(check, True, Stage.IDENTIFY, Reason.ALLOWED, shadow=shadow)
    tokens = bucket.tokens
    reset_ms = bucket.wait_ms(tokens + 1) or 0
    return Decision(
        check, True, Stage.BUCKET, Reason.ALLOWED, check.tenant.plan.burst, tokens, reset_ms, 0, shadow
    )
