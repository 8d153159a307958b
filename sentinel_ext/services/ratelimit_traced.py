"""RateLimitService with tracing on: the same answers, and a record of the sampled requests.

A RateLimitRequest has no headers of the client: only the proxy's own call can say in which trace it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.core.traced_identify import begin_trace
from sentinel_ext.services.ratelimit import SERVICE, RateLimits, _as_it_is, parse
from sentinel_ext.services.registry import RequestError, Unary

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from sentinel_ext.core.ratelimit.plan import Plan
    from sentinel_ext.core.trace import Sampler, Trace, Value
    from sentinel_ext.core.tracecontext import Fields
    from sentinel_ext.services.ratelimit import Decide, Deliver, Headers, Parse
    from sentinel_ext.services.registry import Answer, Cancellable

    # Told of a sampled request that ended: its trace, its span's id, attributes, why it was refused, what
    # went wrong ("" for neither).
    Ended: TypeAlias = Callable[[Trace, str, dict[str, Value], str, str], None]


class Tracing:
    """What it takes to trace rate limit requests."""

    def __init__(
        self,
        sampler: Sampler,
        random_hex: Callable[[int], str],
        now_ns: Callable[[], int],
        ended: Ended,
    ) -> None:
        """`random_hex(n)` returns n random bytes as hex, `now_ns` is a monotonic clock."""
        self.sampler, self.random_hex, self.now_ns, self.ended = sampler, random_hex, now_ns, ended


class TracedRateLimits(RateLimits):
    """The service; see RateLimits.

    Attributes:
        current: trace and span id of the request that is being decided, while observers are told of it.
    """

    def __init__(
        self, decide: Decide, headers: Headers, failed: Callable[[Exception], None], tracing: Tracing
    ) -> None:
        """Answer with what `decide` says."""
        super().__init__(decide, headers, failed)
        self._tracing = tracing
        self._untold = decide
        self.current: tuple[Trace, str] | None = None
        self._recorded = RateLimits(self._decide_recorded, headers, failed)

    def methods(self) -> tuple[Unary, ...]:
        """Return what a server mounts."""
        return (Unary(SERVICE, "ShouldRateLimit", _as_it_is, self.should_rate_limit, self.traced),)

    def traced(
        self, message: bytes, reply: Callable[[Answer], bool], carried: Fields
    ) -> Answer | Cancellable:
        """Answer, and record the request if it is sampled. Never raises."""
        tracing = self._tracing
        begun = begin_trace(carried, tracing.sampler, tracing.random_hex)
        self.current = begun
        if begun is None:
            return self.should_rate_limit(message, reply)
        begun[0].started_ns = tracing.now_ns()
        try:
            return self._recorded.should_rate_limit(message, reply)
        finally:
            self.current = None

    def told(self, _plan: Plan, _outcome: Outcome | Problem, _elapsed_ns: int) -> None:
        """Be the last observer: what comes next is another request."""
        self.current = None

    def _decide_recorded(
        self, message: bytes, parse: Parse, deliver: Deliver
    ) -> Outcome | Problem | Cancellable:
        current = self.current
        assert current is not None  # noqa: S101  `traced` set it

        def delivered(outcome: Outcome | Problem | None) -> bool:
            self.current = current  # observers are told next
            is_sent = deliver(outcome)
            self._end(current, message, outcome)
            return is_sent

        outcome = self._untold(message, parse, delivered)
        if isinstance(outcome, (Outcome, Problem)):
            self._end(current, message, outcome)
        return outcome

    def _end(self, begun: tuple[Trace, str], message: bytes, outcome: Outcome | Problem | None) -> None:
        try:
            attributes, denied, error = _described(message, outcome)
            self._tracing.ended(*begun, attributes, denied, error)
        except Exception as fault:  # noqa: BLE001  the record of a request must not cost its answer
            self._failed(fault)


def _described(message: bytes, outcome: Outcome | Problem | None) -> tuple[dict[str, Value], str, str]:
    attributes: dict[str, Value] = {}
    try:
        query = parse(message)
        attributes["sentinel.domain"] = query.domain
        attributes["sentinel.descriptors"] = len(query.descriptors)
    except RequestError:
        pass
    if outcome is None:
        return {**attributes, "sentinel.verdict": "error"}, "", "internal"
    if isinstance(outcome, Problem):
        return {**attributes, "sentinel.verdict": "error"}, "", outcome.value
    attributes["sentinel.verdict"] = "over_limit" if outcome.over else "ok"
    for status in outcome.statuses:
        if status.over and status.limit is not None:
            attributes["sentinel.limit.name"] = status.limit.name
    reason = "" if outcome.cause is None else outcome.cause.value
    return attributes, (reason or "over_limit") if outcome.over else "", ""
