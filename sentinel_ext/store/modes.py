"""Modes of stages that an operator set, shared by all instances: `sentinel:modes`, which never expires."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Protocol, TypeAlias

from sentinel_ext.core.decision import StoreFault
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.store.base import StoreError
from sentinel_ext.store.link import Script

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Run: TypeAlias = Callable[..., Awaitable[Any]]

MODES_KEY: Final = b"sentinel:modes"
# What may be set; who calls is found out in any case.
STAGES: Final = (Stage.BUCKET, Stage.WINDOW, Stage.PRESSURE, Stage.BREAKER)
_STAGES = {stage.value.encode(): stage for stage in STAGES}
_MODES = {mode.value.encode(): mode for mode in Mode}


class ModeStore(Protocol):
    """Modes that an operator set."""

    async def read(self) -> dict[Stage, Mode]:
        """Return them.

        Raises:
            StoreError: nobody knows.
        """
        ...

    async def write(self, stage: Stage, mode: Mode | None) -> dict[Stage, Mode]:
        """Set a stage's mode, or forget it; return all.

        Raises:
            StoreError: it may or may not be done.
        """
        ...


class RedisModes:
    """In Redis. Words that this version does not know are left out."""

    def __init__(self, run: Run) -> None:
        """Ask through `run`: (script, keys, arguments) → reply."""
        self._run = run
        self._script = Script("modes")

    async def read(self) -> dict[Stage, Mode]:
        """See ModeStore."""
        return _decode(await self._run(self._script, [MODES_KEY]))

    async def write(self, stage: Stage, mode: Mode | None) -> dict[Stage, Mode]:
        """See ModeStore."""
        word = "" if mode is None else mode.value
        return _decode(await self._run(self._script, [MODES_KEY], stage.value, word))


class MemoryModes:
    """Of a single instance."""

    def __init__(self) -> None:
        """Start with none."""
        self._modes: dict[Stage, Mode] = {}

    async def read(self) -> dict[Stage, Mode]:
        """See ModeStore."""
        return dict(self._modes)

    async def write(self, stage: Stage, mode: Mode | None) -> dict[Stage, Mode]:
        """See ModeStore."""
        if mode is None:
            self._modes.pop(stage, None)
        else:
            self._modes[stage] = mode
        return dict(self._modes)


def _decode(reply: object) -> dict[Stage, Mode]:
    if not isinstance(reply, list) or not all(isinstance(word, bytes) for word in reply):
        raise StoreError(StoreFault.ERROR, "Redis replied something else than the modes script does")
    pairs = zip(reply[::2], reply[1::2], strict=False)
    return {_STAGES[stage]: _MODES[mode] for stage, mode in pairs if stage in _STAGES and mode in _MODES}
