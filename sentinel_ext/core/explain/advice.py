"""What would have to change for a refused request to pass: for the operator who looks it up."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.core.decision import Reason
from sentinel_ext.core.explain.looks import (
    BreakerNumbers,
    BucketNumbers,
    PressureNumbers,
    StageLook,
    WindowNumbers,
)
from sentinel_ext.core.explain.words import duration
from sentinel_ext.core.model import Tier

if TYPE_CHECKING:
    from sentinel_ext.core.explain.stages import Scene


def advice(scene: Scene, refusing: StageLook) -> str:
    """Say what helps."""
    numbers = refusing.numbers
    plan = scene.check.tenant.plan
    if isinstance(numbers, BucketNumbers):
        return _bucket(numbers, plan.name)
    if isinstance(numbers, WindowNumbers):
        return _window(scene, refusing, numbers)
    if isinstance(numbers, PressureNumbers):
        return _pressure(scene, numbers)
    if isinstance(numbers, BreakerNumbers):
        return _breaker(scene.check.upstream, numbers)
    return ""


def _bucket(numbers: BucketNumbers, plan: str) -> str:
    if numbers.hits > numbers.burst:
        return f"A burst of {numbers.burst} can never hold it: raise `burst` of plan {plan}."
    return (
        f"Send no more than {numbers.burst} at once and {numbers.refill_per_s:g} per second after that, or "
        f"raise `burst` or `refill` of plan {plan}. Each instance has a bucket of its own."
    )


def _window(scene: Scene, refusing: StageLook, numbers: WindowNumbers) -> str:
    plan = scene.check.tenant.plan
    if not numbers.limit:
        return f"Plan {plan.name} denies all: give the tenant another plan, or raise `limit`."
    if refusing.reason is Reason.STORE_UNAVAILABLE:
        return f"Bring Redis back, or let plan {plan.name} do without (`on_store_failure: local` or `open`)."
    if numbers.fault is not None:
        share = f"its part of the limit, {numbers.effective_limit} of {numbers.limit}"
        return f"Bring Redis back: without it each instance enforces {share}."
    if numbers.hits > numbers.effective_limit:
        return (
            f"It costs {numbers.hits}, more than the limit: it never fits. Raise `limit` of plan {plan.name}."
        )
    wait = f"Wait {duration(refusing.retry_ms)}"
    if numbers.effective_limit < numbers.limit:
        return (
            f"{wait}. The limit of {numbers.limit} is lowered to {numbers.effective_limit} while upstream "
            f"{scene.check.upstream!r} is overloaded, and rises by itself; tier vital keeps its limit."
        )
    return (
        f"{wait}, raise `limit` of plan {plan.name}, give the tenant another plan, or forget what it has "
        "used (ResetTenant, with ADMIN_ACTIONS=true)."
    )


def _pressure(scene: Scene, numbers: PressureNumbers) -> str:
    upstream = scene.check.upstream
    if numbers.cause == "local":
        return "This instance of Sentinel is short of CPU: give it more, or add instances."
    capacity = f"Give upstream {upstream!r} more capacity, or let less be sent to it"
    if scene.check.tenant.plan.tier is Tier.VITAL:
        return f"{capacity}. Tier vital is shed last: a contract (`guaranteed`) is served before all others."
    return f"{capacity}; or move the tenant to a plan of a higher tier. Shedding ends with the pressure."


def _breaker(upstream: str, numbers: BreakerNumbers) -> str:
    if numbers.forced == "open":
        return "An operator forced it open: SetBreaker with mode auto lets it go."
    look = f"Look at upstream {upstream!r}: {numbers.failed} of {numbers.ok + numbers.failed} requests failed"
    if numbers.reason == "slow_calls":
        look += f", {numbers.slow} were slow"
    return f"{look}. It is tried again by itself; SetBreaker with mode closed lets all requests pass at once."
