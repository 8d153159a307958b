"""What the status page shows: one instant of a process, or of several workers together, as plain values.

It is what `GET /status` answers as JSON. Rates are per second, over the last RATE_S seconds; counts are over
the last COUNT_S. Shares and signals are 0 to 100 where the name does not say otherwise.
"""

from __future__ import annotations

from typing import Final

import msgspec

from sentinel_ext.core.model import Word
from sentinel_ext.core.views import BreakerView, PressureView

RATE_S: Final = 3
COUNT_S: Final = 60
# What one snapshot lists at most; the totals say how many there are.
MAX_TENANTS_SHOWN: Final = 20
MAX_UPSTREAMS_SHOWN: Final = 32
MAX_CHANGES_SHOWN: Final = 20
MAX_NAMES_SHOWN: Final = 64


class Severity(Word):
    """How much a finding matters, the least first."""

    OK = "ok"
    NOTICE = "notice"
    WARNING = "warning"
    CRITICAL = "critical"


class Finding(msgspec.Struct, frozen=True):
    """Something an operator should know.

    Attributes:
        topic: the part of the page that has the details.
    """

    severity: Severity
    topic: str
    text: str


class StageTraffic(msgspec.Struct, frozen=True):
    """What one stage refuses.

    Attributes:
        mode: enforce, shadow or off; `policy` is what the policy says, an operator may have set another one.
        reasons: rates of refusals by reason.
        shadow: rate of requests that it would refuse but lets pass, in shadow mode.
    """

    stage: str
    mode: str
    policy: str
    refused: float
    reasons: dict[str, float]
    shadow: float


class TierTraffic(msgspec.Struct, frozen=True):
    """What became of a tier's requests.

    Attributes:
        allowed, refused: counts of decisions.
        good, events: of the service level objective, as access logs tell it (telemetry/red.py).
    """

    tier: str
    per_s: float
    allowed: int
    refused: int
    good: int
    events: int


class Traffic(msgspec.Struct, frozen=True):
    """Decisions, and rate limit requests.

    Attributes:
        fallbacks: rate of decisions that a plan's on_store_failure made.
        limits: rates of rate limit requests by verdict (ok, over_limit, error).
        history: rates of the last two minutes, one a second, oldest first: allow, each stage, limits_ok,
            limits_over.
    """

    allowed: float
    refused: float
    fallbacks: float
    stages: tuple[StageTraffic, ...]
    tiers: tuple[TierTraffic, ...]
    limits: dict[str, float]
    history: dict[str, list[float]]


class TenantRow(msgspec.Struct, frozen=True):
    """One of the busiest tenants.

    Attributes:
        refused: rate of its refusals; None when it has just come up.
        allowed, denied: counts here since it was first seen.
        used: hits in its window over all instances; None when nothing is known.
        limit: that holds now; None is unlimited.
    """

    name: str
    plan: str
    tier: str
    rate: float
    refused: float | None
    allowed: int
    denied: int
    used: int | None
    limit: int | None
    window_s: float


class BreakerChange(msgspec.Struct, frozen=True):
    """A change of a breaker; `at_s` is seconds since the epoch."""

    upstream: str
    at_s: float
    before: str
    after: str
    reason: str
    forced: str


class StoreState(msgspec.Struct, frozen=True):
    """The store, as this side sees it.

    Attributes:
        url: without its password.
        p99_ms: of calls in the last seconds; None when there were none.
        calls, errors: rates.
    """

    url: str
    is_up: bool
    p99_ms: float | None
    calls: float
    errors: dict[str, float]


class LogState(msgspec.Struct, frozen=True):
    """Envoy's access logs.

    Attributes:
        unmatched: rate of entries of requests that nobody here knows.
        garbled: messages of the last minute that could not be read.
        flush_ms: distance of messages.
    """

    streams: int
    messages: float
    entries: float
    unmatched: float
    garbled: int
    flush_ms: float
    was_heard: bool


class ConfigState(msgspec.Struct, frozen=True):
    """The configuration in force. Times are seconds since the epoch; `problems` is cut, see problem_count."""

    generation: int
    digest: str
    ok: bool
    loaded_at: float
    broken_at: float | None = None
    problem_count: int = 0
    problems: tuple[str, ...] = ()
    file: str | None = None


class ProcessState(msgspec.Struct, frozen=True):
    """One process: the only one, or a worker.

    Attributes:
        per_s: decisions and rate limit requests.
        pressure: its own score.
        faults: exceptions of Sentinel itself in the last minute.
    """

    name: str
    uptime_s: float
    is_ready: bool
    is_draining: bool
    per_s: float
    pressure: float
    faults: int
    restarts: int = 0


class Snapshot(msgspec.Struct, frozen=True):
    """Everything the page shows.

    Attributes:
        at_s: when it was made, seconds since the epoch.
        findings: what an operator should know, the worst first.
        tenant_count: tenants remembered, of several workers at least that; `tenants_max` bounds one worker.
        upstream_count: of these the pressure lists the most pressed; breakers that are not closed come first.
        changes: of breakers, the latest first.
        instances: that share the store; `names` of them, where known.
    """

    at_s: float
    version: str
    is_ready: bool
    is_draining: bool
    traffic: Traffic
    pressure: PressureView
    tenants: tuple[TenantRow, ...]
    tenant_count: int
    tenants_max: int
    upstream_count: int
    breakers: tuple[BreakerView, ...]
    changes: tuple[BreakerChange, ...]
    store: StoreState
    log: LogState
    config: ConfigState
    instances: int
    names: tuple[str, ...]
    processes: tuple[ProcessState, ...]
    findings: tuple[Finding, ...] = ()
