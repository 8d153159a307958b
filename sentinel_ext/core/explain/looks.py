"""What looking at a stage finds: its verdict, and the numbers it would go by."""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from sentinel_ext.core.decision import Decision, Reason, StoreFault
from sentinel_ext.core.model import FailureMode, Mode, Stage, Word


class Verdict(Word):
    """What a stage would do; NONE where it has nothing to say."""

    PASS = "pass"  # noqa: S105  no password
    REFUSE = "refuse"
    NONE = "none"


class BucketNumbers(msgspec.Struct, frozen=True):
    """The local token bucket. `refill_per_s` is tokens per second."""

    tokens: int
    burst: int
    refill_per_s: float
    hits: int


class WindowNumbers(msgspec.Struct, frozen=True):
    """The tenant's window over all instances.

    Attributes:
        limit: the plan's.
        effective_limit: that holds now.
        fault: why the store did not answer; None when it did.
        fallback: what decides then.
    """

    limit: int
    effective_limit: int
    used: int
    remaining: int
    reset_ms: int
    window_ms: int
    hits: int
    key: str
    fault: StoreFault | None = None
    fallback: FailureMode | None = None


class PressureNumbers(msgspec.Struct, frozen=True):
    """The upstream's load. Scores and signals are 0 to 100, rates requests per second.

    Attributes:
        cause: what sheds: share, guard or local; "" when nothing does.
        credit: that may pass over all instances; None lets all pass.
        places: in flight for this tier at this instance; None while the guard is not active.
    """

    score: float
    shed_probability: float
    tier: str
    cause: str
    credit: float | None
    offered: float
    in_flight: int
    places: float | None
    is_blind: bool
    signals: dict[str, float]


class BreakerNumbers(msgspec.Struct, frozen=True):
    """The upstream's breaker; `state` is `none` without one."""

    state: str
    forced: str = "auto"
    reason: str = ""
    retry_ms: int = 0
    ok: int = 0
    failed: int = 0
    slow: int = 0
    consecutive: int = 0
    permits: int = 0
    permits_max: int = 0
    without_store: bool = False


Numbers: TypeAlias = BucketNumbers | WindowNumbers | PressureNumbers | BreakerNumbers


class StageLook(msgspec.Struct, frozen=True):
    """One stage.

    Attributes:
        reason: of a refusal.
        text: what it saw, in words.
        retry_ms: of a refusal: when asking again makes sense.
    """

    stage: Stage
    mode: Mode
    verdict: Verdict
    text: str
    reason: Reason | None = None
    retry_ms: int = 0
    numbers: Numbers | None = None

    @property
    def refuses(self) -> bool:
        """It would refuse, and its word counts."""
        return self.verdict is Verdict.REFUSE and self.mode is Mode.ENFORCE


class Explanation(msgspec.Struct, frozen=True):
    """All of it.

    Attributes:
        decision: that would be made.
        looks: at every stage, in the order in which they run.
        decides: the stage that refuses; None when the request passes.
        sentence: what it comes to.
        advice: what would have to change; "" when the request passes.
    """

    decision: Decision
    looks: tuple[StageLook, ...]
    decides: Stage | None
    sentence: str
    advice: str
