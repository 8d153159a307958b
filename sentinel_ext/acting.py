"""What an operator may do over the API, and the audit log of it. Off unless ADMIN_ACTIONS is true."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from sentinel_ext.errors import SentinelError

if TYPE_CHECKING:
    from sentinel_ext.control import Control
    from sentinel_ext.core.breaker import Force
    from sentinel_ext.core.model import Mode, Stage
    from sentinel_ext.core.tenant import Tenants
    from sentinel_ext.core.views import BreakerView, StageView, TenantView
    from sentinel_ext.inspection import Inspector
    from sentinel_ext.stage_modes import StageModes
    from sentinel_ext.store.base import Store

audit = logging.getLogger("sentinel.audit")


class NotAllowedError(SentinelError):
    """Acting is switched off."""

    status = 7  # PERMISSION_DENIED

    def __init__(self) -> None:
        super().__init__("acting is switched off; set ADMIN_ACTIONS=true to allow it")


class Actions:
    """Belongs to one event loop. Every attempt stands in the log `sentinel.audit`, with who asked for it."""

    def __init__(
        self,
        inspector: Inspector,
        tenants: Tenants,
        control: Control,
        modes: StageModes,
        store: Store,
        *,
        may_act: bool,
    ) -> None:
        """Act on these, if `may_act`."""
        self._inspector, self._tenants, self._control = inspector, tenants, control
        self._modes, self._store, self._may_act = modes, store, may_act

    async def reset_tenant(self, name: str, peer: str) -> tuple[TenantView, bool]:
        """Forget what a tenant has used of its window, and fill its bucket here.

        Returns:
            the tenant afterwards, and whether anything was counted.

        Raises:
            NotAllowedError: acting is off.
            StoreError: it may or may not be done.
        """
        with _Audit("ResetTenant", peer, tenant=name) as entry:
            self._ensure_allowed()
            tenant, is_known = self._tenants.look(name, self._inspector.now_ns())
            had_used = await self._store.forget([tenant.key]) > 0
            if is_known:
                tenant.renew(self._inspector.now_ns())
            entry["had_used"] = had_used
        return await self._inspector.tenant(name), had_used

    async def set_breaker(self, upstream: str, mode: Force, peer: str) -> BreakerView:
        """Force a breaker for all instances.

        Raises:
            NotAllowedError: acting is off.
            UnknownNameError: there is no such breaker.
            StoreError: it may or may not be done.
        """
        with _Audit("SetBreaker", peer, upstream=upstream, mode=mode.value):
            self._ensure_allowed()
            self._inspector.breakers(upstream)
            await self._control.force(upstream, mode)
            return self._inspector.breakers(upstream)[0]

    async def set_stage_mode(self, stage: Stage, mode: Mode | None, peer: str) -> list[StageView]:
        """Run a stage in another mode than the policy's, on all instances; None goes by the policy again.

        Raises:
            NotAllowedError: acting is off.
            StoreError: it may or may not be done.
        """
        word = "policy" if mode is None else mode.value
        with _Audit("SetStageMode", peer, stage=stage.value, mode=word):
            self._ensure_allowed()
            await self._modes.set(stage, mode)
        return list(self._modes.views().values())

    def _ensure_allowed(self) -> None:
        if not self._may_act:
            raise NotAllowedError


class _Audit:
    """One line for one attempt, whatever becomes of it."""

    def __init__(self, action: str, peer: str, **what: Any) -> None:  # noqa: ANN401  the log's values
        self._fields: dict[str, Any] = {"action": action, "peer": peer, **what}

    def __enter__(self) -> dict[str, Any]:
        return self._fields

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if error is None:
            audit.warning("acted", extra=self._fields)
            return
        refused = isinstance(error, NotAllowedError)
        audit.warning("refused" if refused else "failed", extra={**self._fields, "why": str(error)})
