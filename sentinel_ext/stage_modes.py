"""Modes of stages that an operator set on top of the policy's, kept in step over all instances."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_ext.core.model import Stage
from sentinel_ext.core.views import StageView
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.modes import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.model import Mode
    from sentinel_ext.core.policy import Policy
    from sentinel_ext.store.base import Store
    from sentinel_ext.store.modes import ModeStore

# How long another instance's word takes at most to arrive.
POLL_S: Final = 1.0
# What needs no store is asked first (core/pipeline.py).
_AS_THEY_RUN: Final = tuple(sorted(STAGES, key=lambda stage: stage is Stage.WINDOW))

logger = logging.getLogger("sentinel.stages")


class StageModes:
    """Belongs to one event loop.

    Attributes:
        current: what an operator set, as last heard; it stands while the store is away.
        policy: as the files say.
        apply: told of the policy to go by, whenever that changes.
    """

    def __init__(self, store: Store, modes: ModeStore, policy: Policy) -> None:
        """Set `apply` before `start`."""
        self.current: dict[Stage, Mode] = {}
        self.policy = policy
        self.apply: Callable[[Policy], None] = lambda _policy: None
        self.failed: Callable[[Exception], None] = lambda _error: None
        self._store, self._modes = store, modes
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to follow."""
        self._task = asyncio.create_task(self._follow(), name="stage-modes")

    async def close(self) -> None:
        """Stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def replace(self, policy: Policy) -> None:
        """Go by another policy; what an operator set stays set."""
        self.policy = policy
        self.apply(self._effective())

    async def set(self, stage: Stage, mode: Mode | None) -> None:
        """Run a stage in `mode` on all instances; None goes by the policy again.

        Raises:
            StoreError: it may or may not be done.
        """
        self._adopt(await self._modes.write(stage, mode))

    def mode(self, stage: Stage) -> Mode:
        """Return how a stage runs."""
        return self.current.get(stage) or self.policy.mode(stage)

    def all(self) -> dict[Stage, Mode]:
        """Return how every stage runs."""
        return {stage: self.mode(stage) for stage in STAGES}

    def views(self) -> dict[Stage, StageView]:
        """Return the stages as people see them, in the order in which they run."""
        return {
            stage: StageView(stage, self.mode(stage), self.policy.mode(stage), stage in self.current)
            for stage in _AS_THEY_RUN
        }

    def shown(self) -> dict[str, dict[str, str]]:
        """Return the stages as /readyz shows them."""
        return {
            stage.value: {"mode": self.mode(stage).value, "policy": self.policy.mode(stage).value}
            for stage in STAGES
        }

    async def _follow(self) -> None:
        while True:
            try:
                if self._store.is_available():
                    with contextlib.suppress(StoreError):
                        self._adopt(await self._modes.read())
            except Exception as error:  # noqa: BLE001  a bug of ours must not end the loop
                self.failed(error)
            await asyncio.sleep(POLL_S if self._store.is_available() else POLL_S / 5)

    def _adopt(self, modes: dict[Stage, Mode]) -> None:
        if modes == self.current:
            return
        before = {stage: self.mode(stage) for stage in STAGES}
        self.current = modes
        for stage in STAGES:
            if before[stage] is not (now := self.mode(stage)):
                extra = {"stage": stage.value, "before": before[stage].value, "mode": now.value}
                logger.warning("stage mode changed", extra=extra)
        self.apply(self._effective())

    def _effective(self) -> Policy:
        if not self.current:
            return self.policy
        return msgspec.structs.replace(self.policy, modes={**self.policy.modes, **self.current})
