"""WatchDecisions: decisions as they are made, to a few people at once, and never at the requests' cost.

While nobody watches nothing runs. A decision that a watcher is to see is written at once, at most
MAX_PER_SECOND for all watchers together; what comes beyond that, or faster than a watcher reads, is counted
as missed and told with its next event.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from google.protobuf.message import DecodeError

from sentinel_ext._pb.sentinel.v1 import decision_service_pb2 as pb
from sentinel_ext.core.model import Stage
from sentinel_ext.core.ratelimit.outcome import Outcome
from sentinel_ext.core.token_bucket import NANO, TokenBucket
from sentinel_ext.services.registry import INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.decision import Decision
    from sentinel_ext.core.ratelimit.outcome import Problem
    from sentinel_ext.core.ratelimit.plan import Plan
    from sentinel_ext.core.trace import Begun
    from sentinel_ext.services.registry import OpenStream

MAX_WATCHERS: Final = 16
# Writing one costs some 100 µs, grpcio's share included: 5 % of a core.
MAX_PER_SECOND: Final = 500
MAX_NAMES: Final = 100
_STAGES = frozenset(stage.value for stage in Stage)
_VERDICTS = {"": None, "allow": True, "deny": False}
_KINDS = frozenset({"", "check", "rate_limit"})


class Watching:
    """All watchers of a process. Belongs to one event loop.

    Attributes:
        watchers: the open ones, at most MAX_WATCHERS.
        changed: called when the first one comes or the last one leaves, with whether there is one.
    """

    def __init__(self, now_ns: Callable[[], int], wall_s: Callable[[], float]) -> None:
        """Nobody watches yet."""
        self.watchers: list[Watcher] = []
        self.changed: Callable[[bool], None] = lambda _is_watched: None
        self._now_ns, self._wall_s = now_ns, wall_s
        self._bucket = TokenBucket(MAX_PER_SECOND, MAX_PER_SECOND * NANO, now_ns())
        self._drawn = self._full_until_ns = self._missed = 0

    @property
    def missed(self) -> int:
        """Events that some watcher did not get."""
        return self._missed + sum(watcher.missed for watcher in self.watchers)

    def told(self, missed: int) -> None:
        """Keep what a watcher missed until it was told so."""
        self._missed += missed

    def draw(self) -> int:
        """Return a number below 2^32, for requests without a random id: multiples of the golden ratio."""
        self._drawn = (self._drawn + 2_654_435_769) % 2**32
        return self._drawn

    def open(self, stream: OpenStream) -> Watcher:
        """Make the handler of a new stream."""
        return Watcher(self, stream)

    def add(self, watcher: Watcher) -> bool:
        """Let it see decisions from now on; False: there are too many."""
        if len(self.watchers) >= MAX_WATCHERS:
            return False
        self.watchers.append(watcher)
        if len(self.watchers) == 1:
            self.changed(True)
        return True

    def remove(self, watcher: Watcher) -> None:
        """Forget one."""
        if watcher in self.watchers:
            self.watchers.remove(watcher)
            self._missed += watcher.missed
            if not self.watchers:
                self.changed(False)

    def decided(self, decision: Decision, elapsed_ns: int) -> None:
        """Show a Check's decision to those who want it."""
        event: pb.DecisionEvent | None = None
        for watcher in self.watchers:
            if watcher.is_choosy and not watcher.wants(decision):
                continue
            if not watcher.is_open or not self._may_show():
                watcher.missed += 1
                continue
            if event is None:
                event = _event(decision, elapsed_ns, self._wall_s())
            watcher.show(event)

    def limited(
        self, plan: Plan, outcome: Outcome | Problem, elapsed_ns: int, _begun: Begun | None = None
    ) -> None:
        """Show a rate limit request to those who want it."""
        event: pb.DecisionEvent | None = None
        for watcher in self.watchers:
            if not watcher.wants_limits(outcome):
                continue
            if not watcher.is_open or not self._may_show():
                watcher.missed += 1
                continue
            if event is None:
                event = _limit_event(plan, outcome, elapsed_ns, self._wall_s())
            watcher.show(event)

    def _may_show(self) -> bool:
        """Say whether the bound leaves room; between two tokens that costs a look at the clock."""
        now_ns = self._now_ns()
        if now_ns < self._full_until_ns:
            return False
        if self._bucket.try_acquire(1, now_ns):
            return True
        self._full_until_ns = now_ns + NANO // MAX_PER_SECOND
        return False


class Watcher:
    """One watcher: a stream handler, and what it wants to see.

    Attributes:
        is_open: it reads.
        is_choosy: it does not want to see every Check.
        missed: events that it did not get since the last one that it got.
    """

    def __init__(self, watching: Watching, stream: OpenStream) -> None:
        """Wait for the request."""
        self._watching, self._stream = watching, stream
        self.is_open = self._is_asked = self.is_choosy = False
        self.missed = 0
        self._request = pb.WatchDecisionsRequest()
        self._allowed: bool | None = None
        self._below = 0

    # What is shown.

    def wants(self, decision: Decision) -> bool:
        """Say whether it wants to see this one."""
        request, check = self._request, decision.check
        return (
            request.kind != "rate_limit"
            and (self._allowed is None or self._allowed is decision.allowed)
            and (not request.tenants or check.tenant.name in request.tenants)
            and (not request.stages or decision.stage.value in request.stages)
            and (not request.upstreams or check.upstream in request.upstreams)
            # The same decisions for all who sample alike: the id is random.
            and (not self._below or int(check.decision_id[:8], 16) < self._below)
        )

    def wants_limits(self, outcome: Outcome | Problem) -> bool:
        """Likewise of a rate limit request, which has neither tenant, stage nor upstream."""
        request = self._request
        if request.kind == "check" or request.tenants or request.stages or request.upstreams:
            return False
        is_allowed = isinstance(outcome, Outcome) and not outcome.over
        if self._allowed is not None and self._allowed is not is_allowed:
            return False
        return not self._below or self._watching.draw() < self._below

    def show(self, event: pb.DecisionEvent) -> None:
        """Send it."""
        event.missed, self.missed = self.missed, 0
        self._watching.told(event.missed)
        self.is_open = self._stream.send(event.SerializeToString())

    # The stream (services.registry.StreamHandler).

    def on_message(self, message: bytes) -> None:
        """Take the request; there is only one."""
        if self._is_asked:
            return
        self._is_asked = True
        try:
            request = pb.WatchDecisionsRequest.FromString(message)
        except DecodeError:
            self._stream.finish(INVALID_ARGUMENT, "the request is not a sentinel.v1.WatchDecisionsRequest")
            return
        problem = _problem(request)
        if problem:
            self._stream.finish(INVALID_ARGUMENT, problem)
            return
        self._request, self._allowed = request, _VERDICTS[request.verdict]
        self._below = 0 if request.sample in {0.0, 1.0} else max(1, int(request.sample * 2**32))
        self.is_choosy = request != pb.WatchDecisionsRequest()
        self.is_open = self._watching.add(self)
        if not self.is_open:
            text = f"{MAX_WATCHERS} watch already; end one, or look at the metrics"
            self._stream.finish(RESOURCE_EXHAUSTED, text)

    def on_half_close(self) -> None:
        """A client says so after its only request; it stays for the events."""
        if not self._is_asked:
            self._stream.finish(INVALID_ARGUMENT, "a request is missing")

    def on_cancel(self) -> None:
        """It has left."""
        self._watching.remove(self)

    def on_writable(self) -> None:
        """It has read what waited."""
        self.is_open = True

    def on_drain(self) -> None:
        """Sentinel stops."""
        self._watching.remove(self)
        self._stream.finish(UNAVAILABLE, "Sentinel is stopping")


def _problem(request: pb.WatchDecisionsRequest) -> str:
    if request.verdict not in _VERDICTS:
        return "verdict: allow, deny, or nothing for both"
    if request.kind not in _KINDS:
        return "kind: check, rate_limit, or nothing for both"
    unknown = sorted(set(request.stages) - _STAGES)
    if unknown:
        return f"stages: no stage {unknown[0]!r}; there are {', '.join(stage.value for stage in Stage)}"
    if max(len(request.tenants), len(request.upstreams)) > MAX_NAMES:
        return f"tenants, upstreams: at most {MAX_NAMES} names"
    if not 0.0 <= request.sample <= 1.0:
        return "sample: a part between 0 and 1"
    return ""


def _event(decision: Decision, elapsed_ns: int, at_s: float) -> pb.DecisionEvent:
    check = decision.check
    plan = check.tenant.plan
    event = pb.DecisionEvent(
        kind="check",
        allowed=decision.allowed,
        stage=decision.stage.value,
        reason=decision.reason.value,
        tenant=check.tenant.name,
        tier=plan.tier.value,
        plan=plan.name,
        upstream=check.upstream,
        route=check.route,
        limit=decision.limit,
        remaining=decision.remaining,
        retry_ms=decision.retry_ms,
        duration_us=elapsed_ns // 1000,
        correlation_id=check.correlation_id,
        decision_id=check.decision_id,
        trace_id="" if check.trace is None else check.trace.trace_id,
        shadow=[f"{denial.stage.value}:{denial.reason.value}" for denial in decision.shadow],
        fallback="" if decision.fallback is None else decision.fallback.value,
    )
    event.time.FromMicroseconds(int(at_s * 1e6))
    return event


def _limit_event(plan: Plan, outcome: Outcome | Problem, elapsed_ns: int, at_s: float) -> pb.DecisionEvent:
    event = pb.DecisionEvent(kind="rate_limit", domain=plan.domain, duration_us=elapsed_ns // 1000)
    if isinstance(outcome, Outcome):
        event.allowed = not outcome.over
        event.reason = "allowed" if outcome.cause is None else outcome.cause.value
        event.retry_ms = -(-outcome.retry_us // 1000)
        over = [line.rule for line, status in zip(plan.lines, outcome.statuses, strict=True) if status.over]
        event.rules.extend(over or [line.rule for line in plan.lines if line.rule])
    else:
        event.reason = outcome.name.lower()
    event.time.FromMicroseconds(int(at_s * 1e6))
    return event
