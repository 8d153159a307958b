"""What is recorded of a sampled decision while it is made, and who is sampled. Times are passed in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_ext.core.model import Word

if TYPE_CHECKING:
    from typing import TypeAlias

    from sentinel_ext.core.tracecontext import Parent

# Two of a half-open breaker, one of each other stage; a stage that recorded more would be a bug.
MAX_STAGES: Final = 8
_ALL: Final = 1 << 64

Value = str | int | float | bool

if TYPE_CHECKING:
    # A sampled request that is no decision: its trace, and the id of our span in it.
    Begun: TypeAlias = "tuple[Trace, str]"


class StageName(Word):
    """Names of the spans below a decision."""

    BUCKET = "token_bucket_check"
    WINDOW = "distributed_limiter_check"
    PRESSURE = "pressure_check"
    PRIORITY = "priority_check"
    BREAKER = "circuit_breaker_check"


class Sampler(msgspec.Struct, frozen=True):
    """Who is sampled, as OTEL_TRACES_SAMPLER says it.

    Attributes:
        parent_based: go by the caller's decision where it made one.
        bound: of traces that we decide on: those whose last 16 digits sort before it (the OpenTelemetry SDK's
            TraceIdRatioBased decides the same for the same trace). Digits compare like numbers, at half
            the cost; `g` is behind them all.
    """

    parent_based: bool
    bound: str

    @classmethod
    def of(cls, ratio: float, *, parent_based: bool = True) -> Sampler:
        """Sample `ratio` of the traces that nobody has decided on."""
        bound = round(ratio * _ALL)
        return cls(parent_based, "g" if bound >= _ALL else f"{bound:016x}")

    def takes(self, trace_id: str) -> bool:
        """Decide on a trace whose caller did not."""
        return trace_id[16:] < self.bound

    def follows(self, parent: Parent, trace_id: str) -> bool:
        """Decide on a trace of a caller."""
        if self.parent_based and parent.sampled is not None:
            return parent.sampled
        return self.takes(trace_id)


class StageSpan(msgspec.Struct, frozen=True, gc=False):
    """A stage that ran. Monotonic nanoseconds.

    Attributes:
        denied: a word of why, "" if it let the request pass; also of a stage in shadow mode.
        asked_store: it went over the network.
    """

    name: StageName
    start_ns: int
    end_ns: int
    attributes: dict[str, Value]
    denied: str = ""
    asked_store: bool = False


class Trace:
    """A sampled decision on its way.

    Attributes:
        trace_id: 32 hexadecimal digits; the span id is the check's decision id.
        parent_id: of the caller's span, "" for a root.
        state: the caller's tracestate.
        started_ns: when the Check came, monotonic.
        stages: that have ended, in the order of their ends.
        is_over: its span has been made; of rate limit requests.
        admit_ns: when the admission at the upstream began; 0 if it did not.
        asked_ns: when the window was handed to the store; 0 if it was not.
        breaker_ns: when a breaker that is not closed began to decide; 0 if none did.
    """

    __slots__ = (
        "admit_ns",
        "asked_ns",
        "breaker_ns",
        "is_over",
        "parent_id",
        "stages",
        "started_ns",
        "state",
        "trace_id",
    )

    def __init__(self, trace_id: str, parent_id: str = "", state: str = "") -> None:
        """Nothing has run yet."""
        self.is_over = False
        self.trace_id, self.parent_id, self.state = trace_id, parent_id, state
        self.started_ns = self.admit_ns = self.asked_ns = self.breaker_ns = 0
        self.stages: list[StageSpan] = []

    @property
    def last_ns(self) -> int:
        """When the last stage so far ended."""
        return max((stage.end_ns for stage in self.stages), default=self.started_ns)

    def add(self, stage: StageSpan) -> None:
        """Record a stage; beyond MAX_STAGES it is left out."""
        if len(self.stages) < MAX_STAGES:
            self.stages.append(stage)
