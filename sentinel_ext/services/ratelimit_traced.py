"""RateLimitService with tracing on: the same answers, and a record of the sampled requests.

A RateLimitRequest has no headers of the client: only the proxy's own call can say in which trace it is.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from sentinel_ext.core.ratelimit.outcome import Outcome, Problem
from sentinel_ext.core.ratelimit.query import Query
from sentinel_ext.core.traced_identify import begin_trace
from sentinel_ext.services.ratelimit import SERVICE, RateLimits, _as_it_is
from sentinel_ext.services.registry import RequestError, Unary

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from sentinel_ext.core.ratelimit.plan import Plan
    from sentinel_ext.core.trace import Begun, Sampler, Trace, Value
    from sentinel_ext.core.tracecontext import Fields
    from sentinel_ext.services.ratelimit import Deliver, Headers, Parse
    from sentinel_ext.services.registry import Answer, Cancellable

    # Told of a sampled request that ended: its trace, its span's id, attributes, why it was refused, what
    # went wrong ("" for neither).
    Ended: TypeAlias = Callable[[Trace, str, dict[str, Value], str, str], None]
    # How it went; None is a fault that was heard of elsewhere.
    Ending: TypeAlias = "Outcome | Problem | Cancelled | Exception"


class DecideTraced(Protocol):
    """Limiting.decide."""

    def __call__(
        self, message: bytes, parse: Parse, deliver: Deliver, begun: Begun | None = None
    ) -> Outcome | Problem | Cancellable:
        """Decide, and tell observers of `begun`."""
        ...


class Cancelled(Enum):
    """A request whose caller gave it up."""

    CANCELLED = "cancelled"


CANCELLED: Final = Cancelled.CANCELLED


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
    """The service; see RateLimits."""

    def __init__(
        self, decide: DecideTraced, headers: Headers, failed: Callable[[Exception], None], tracing: Tracing
    ) -> None:
        """Answer with what `decide` says."""
        super().__init__(decide, headers, failed)
        self._tracing = tracing
        self._decide_traced = decide
        self._begun: Begun | None = None
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
        if begun is None:
            return self.should_rate_limit(message, reply)
        begun[0].started_ns = tracing.now_ns()
        self._begun = begun  # for the next call alone, which is the one below
        return self._recorded.should_rate_limit(message, reply)

    def told(self, plan: Plan, outcome: Outcome | Problem, _elapsed_ns: int, begun: Begun | None) -> None:
        """Be an observer: end the span of a sampled request."""
        if begun is not None:
            self._end(begun, plan, outcome)

    def _decide_recorded(
        self, message: bytes, parse: Parse, deliver: Deliver
    ) -> Outcome | Problem | Cancellable:
        begun, self._begun = self._begun, None
        assert begun is not None  # noqa: S101  `traced` set it
        query: Query | None = None

        def parse_once(data: bytes) -> Query:
            nonlocal query
            query = parse(data)
            return query

        def delivered(outcome: Outcome | Problem | None) -> bool:
            is_sent = deliver(outcome)
            if outcome is None:  # a fault, of which observers are not told
                self._end(begun, query, None)
            return is_sent

        try:
            outcome = self._decide_traced(message, parse_once, delivered, begun)
        except Exception as error:
            self._end(begun, query, error)
            raise
        if isinstance(outcome, Problem):  # observers are told of those alone that have a plan
            self._end(begun, query, outcome)
        if isinstance(outcome, (Outcome, Problem)):
            return outcome
        return _Waiting(outcome, lambda: self._end(begun, query or parse(message), CANCELLED))

    def _end(self, begun: Begun, asked: Plan | Query | None, outcome: Ending | None) -> None:
        """End the span of a request, once: who comes first knows best how it went."""
        if begun[0].is_over:
            return
        begun[0].is_over = True
        try:
            attributes, denied, error = _described(asked, outcome)
            self._tracing.ended(*begun, attributes, denied, error)
        except Exception as fault:  # noqa: BLE001  the record of a request must not cost its answer
            self._failed(fault)


class _Waiting:
    """A sampled request that waits for the store: a caller that gives it up ends its span, too."""

    __slots__ = ("_given_up", "_waiting")

    def __init__(self, waiting: Cancellable, given_up: Callable[[], None]) -> None:
        self._waiting, self._given_up = waiting, given_up

    def cancel(self) -> None:
        """Stop; nothing will be replied."""
        self._waiting.cancel()
        self._given_up()


def _described(asked: Plan | Query | None, outcome: Ending | None) -> tuple[dict[str, Value], str, str]:
    attributes: dict[str, Value] = {}
    if asked is not None:
        attributes["sentinel.domain"] = asked.domain
        lines = asked.descriptors if isinstance(asked, Query) else asked.lines
        attributes["sentinel.descriptors"] = len(lines)
    if outcome is CANCELLED:
        return {**attributes, "sentinel.verdict": "cancelled"}, "", "the caller gave up"
    if not isinstance(outcome, Outcome):
        error = "internal"  # a fault's own words are for the log
        if isinstance(outcome, (Problem, RequestError)):
            error = outcome.value if isinstance(outcome, Problem) else str(outcome)
        return {**attributes, "sentinel.verdict": "error"}, "", error
    attributes["sentinel.verdict"] = "over_limit" if outcome.over else "ok"
    for status in outcome.statuses:
        if status.over and status.limit is not None:
            attributes["sentinel.limit.name"] = status.limit.name
    reason = "" if outcome.cause is None else outcome.cause.value
    return attributes, (reason or "over_limit") if outcome.over else "", ""
