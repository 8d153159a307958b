"""Snapshots of the status page with defaults, so that a test writes only what it is about."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from sentinel_ext.core.snapshot import (
    ConfigState,
    LogState,
    ProcessState,
    Snapshot,
    StageTraffic,
    StoreState,
    TenantRow,
    TierTraffic,
    Traffic,
)
from sentinel_ext.core.views import BreakerView, PressureView, UpstreamView

SERIES = ("allow", "bucket", "window", "pressure", "breaker", "limits_ok", "limits_over")


def make_stage(
    stage: str, *, mode: str = "enforce", policy: str = "", shadow: float = 0.0, **reasons: float
) -> StageTraffic:
    return StageTraffic(stage, mode, policy or mode, sum(reasons.values()), reasons, shadow)


def make_traffic(*stages: StageTraffic, **fields: Any) -> Traffic:
    given = {stage.stage: stage for stage in stages}
    names = ("bucket", "window", "pressure", "breaker")
    traffic = Traffic(
        allowed=10.0,
        refused=sum(stage.refused for stage in stages),
        fallbacks=0.0,
        stages=tuple(given.get(name) or make_stage(name) for name in names),
        tiers=tuple(TierTraffic(tier, 1.0, 6, 4, 5, 6) for tier in ("vital", "standard", "economy")),
        limits={"ok": 0.0, "over_limit": 0.0, "error": 0.0},
        history={name: [1.0, 2.0] for name in SERIES},
    )
    return replace(traffic, **fields)


def make_row(name: str = "acme", **fields: Any) -> TenantRow:
    return replace(TenantRow(name, "gold", "vital", 2.0, 0.0, 20, 0, 5, 100, 60.0), **fields)


def make_upstream(name: str = "default", **fields: Any) -> UpstreamView:
    shares = {"vital": 1.0, "standard": 1.0, "economy": 1.0}
    view = UpstreamView(name, 0.0, {}, 10.0, 10.0, 10.0, None, 0.0, 5.0, 1, shares, False, 1)
    return replace(view, **fields)


def make_pressure(*upstreams: UpstreamView, **fields: Any) -> PressureView:
    return replace(PressureView(0.0, "normal", 0.0, {}, upstreams), **fields)


def make_breaker(upstream: str = "default", **fields: Any) -> BreakerView:
    view = BreakerView(upstream, "closed", "auto", "", 0, 10, 0, 0, 0, 0, 5, 1, 0, False)
    return replace(view, **fields)


def make_process(name: str = "host:1", **fields: Any) -> ProcessState:
    return replace(ProcessState(name, 60.0, True, False, 10.0, 0.0, 0), **fields)


def make_snapshot(**fields: Any) -> Snapshot:
    snapshot = Snapshot(
        at_s=1_000.0,
        version="1.2.3",
        is_ready=True,
        is_draining=False,
        traffic=make_traffic(),
        pressure=make_pressure(make_upstream()),
        tenants=(make_row(),),
        tenant_count=1,
        tenants_max=32_768,
        upstream_count=1,
        breakers=(make_breaker(),),
        changes=(),
        store=StoreState("redis://h", True, 0.5, 10.0, {}),
        log=LogState(1, 10.0, 10.0, 0.0, 0, 100.0, True),
        config=ConfigState(1, "abcd", True, 900.0),
        instances=1,
        names=(),
        processes=(make_process(),),
    )
    return replace(snapshot, **fields)
