"""What an instance shows of itself: tenants, pressure, breakers. For the debug port, the status page, people.

Looking changes nothing. Looks at many tenants are cut into slices, so that requests go on between them.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Final

from sentinel_ext.core import usage
from sentinel_ext.core.usage import Order, Top
from sentinel_ext.core.views import (
    MAX_CHANGES,
    BreakerView,
    Change,
    PressureView,
    TenantView,
    breaker_view,
    change_view,
    pressure_view,
    tenant_view,
)
from sentinel_ext.core.window import WindowQuery
from sentinel_ext.errors import SentinelError
from sentinel_ext.store.base import Answer
from sentinel_ext.store.looking import MAX_LOOKS, look

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.circuit import Transition
    from sentinel_ext.core.controller import Controller, Protected
    from sentinel_ext.core.policy import Policy
    from sentinel_ext.core.tenant import Tenant, Tenants
    from sentinel_ext.store.base import Store

# How often each tenant's rate is measured.
MEASURE_S: Final = 2.0
# What one answer lists at most.
MAX_LISTED: Final = 1_000
_NO_RATES: dict[str, float] = {}


class UnknownNameError(SentinelError):
    """No such upstream is known here."""

    status = 5  # NOT_FOUND


class Inspector:
    """Belongs to one event loop.

    Attributes:
        instance: names this process to people: host and a few random digits.
        policy: in force.
    """

    def __init__(
        self,
        instance: str,
        policy: Policy,
        tenants: Tenants,
        controller: Controller,
        store: Store,
        clocks: tuple[Callable[[], int], Callable[[], float]],
    ) -> None:
        """Look at these.

        Args:
            clocks: monotonic nanoseconds, and wall clock seconds.
        """
        self.instance, self.policy = instance, policy
        self.failed: Callable[[Exception], None] = lambda _error: None
        self._tenants, self._controller, self._store = tenants, controller, store
        self.now_ns, self._wall_s = clocks
        # Upstreams are bounded by the controller's table.
        self._changes: dict[str, deque[Change]] = defaultdict(lambda: deque(maxlen=MAX_CHANGES))
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to measure."""
        self._task = asyncio.create_task(self._measure(), name="inspection-measure")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def changed(self, protected: Protected, transition: Transition) -> None:
        """Remember a change of a breaker."""
        self._changes[protected.name].appendleft(change_view(transition, self._wall_s()))

    async def tenant(self, name: str) -> TenantView:
        """Show one tenant, known or not, with what the store says of it."""
        tenant, is_known = self._tenants.look(name, self.now_ns())
        (used,) = await self._used([tenant])
        return self._shown(tenant, used, is_known=is_known)

    async def tenants(
        self, limit: int = 20, order: Order = Order.RATE, prefix: str = ""
    ) -> tuple[list[TenantView], int]:
        """Return the first `limit` tenants (at most MAX_LISTED), and how many there are here.

        The store is asked for the first MAX_LOOKS of them; of the others its last word stands.
        """
        top = Top(min(limit, MAX_LISTED), order, prefix, self.now_ns())
        everybody = self._tenants.all()
        for some in usage.slices(everybody):
            top.offer(some)
            await asyncio.sleep(0)
        ranked = top.ranked()
        used = await self._used(ranked[:MAX_LOOKS])
        used += [None] * (len(ranked) - len(used))
        shown = [self._shown(tenant, hits, is_known=True) for tenant, hits in zip(ranked, used, strict=True)]
        return shown, len(everybody)

    def pressure(self, upstream: str = "") -> PressureView:
        """Show the pressure of one upstream, or of all.

        Raises:
            UnknownNameError: there is no such upstream here.
        """
        self._ensure_known(upstream)
        return pressure_view(self._controller, upstream)

    def breakers(self, upstream: str = "") -> list[BreakerView]:
        """Show the breakers of all upstreams that have one, or of one.

        Raises:
            UnknownNameError: there is no such upstream here, or it has no breaker.
        """
        self._ensure_known(upstream)
        now_ns, shown = self.now_ns(), []
        for name, protected in list(self._controller.upstreams.items()):
            if upstream in {"", name}:
                view = breaker_view(protected, now_ns, tuple(self._changes.get(name, ())))
                if view is not None:
                    shown.append(view)
        if upstream and not shown:
            raise UnknownNameError(f"upstream {upstream!r} has no breaker: the policy says so")
        return shown

    def _ensure_known(self, upstream: str) -> None:
        names = list(self._controller.upstreams)
        if upstream and upstream not in names:
            listed = ", ".join(sorted(names)[:20])
            raise UnknownNameError(f"no upstream {upstream!r} is known to this instance; known: {listed}")

    async def _used(self, tenants: Sequence[Tenant]) -> list[int | None]:
        """Ask the store for the hits in the windows of tenants that have one."""
        asked = [at for at, tenant in enumerate(tenants) if tenant.plan.limit is not None]
        queries = [
            WindowQuery(tenants[at].key, tenants[at].sub_us, tenants[at].plan.limit or 0, 1) for at in asked
        ]
        used: list[int | None] = [None] * len(tenants)
        for at, answer in zip(asked, await look(self._store, queries), strict=True):
            used[at] = answer.used if isinstance(answer, Answer) else None
        return used

    def _shown(self, tenant: Tenant, used: int | None, *, is_known: bool) -> TenantView:
        rates = _NO_RATES
        for protected in self._controller.upstreams.values():
            # A tenant's limit follows the upstream it goes to; the tightest is what an operator looks for.
            found = protected.load.shared.rates
            if tenant.name in found and found[tenant.name] < rates.get(tenant.name, float("inf")):
                rates = found
        rule = self.policy.rule_for(tenant.name)
        return tenant_view(tenant, rule, self.now_ns(), is_known=is_known, rates=rates, used=used)

    async def _measure(self) -> None:
        while True:
            await asyncio.sleep(MEASURE_S)
            try:
                for some in usage.slices(self._tenants.all()):
                    usage.measure(some, self.now_ns())
                    await asyncio.sleep(0)
            except Exception as error:  # noqa: BLE001  a bug of ours must not end the loop
                self.failed(error)
