"""What the engine needs of a store: windows, refunds, presence. One suite tests every implementation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import msgspec

from sentinel_ext.errors import SentinelError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.decision import StoreFault


class StoreError(SentinelError):
    """The store did not do what it was asked.

    Attributes:
        fault: the metric label and log word.
    """

    status = 14  # UNAVAILABLE

    def __init__(self, fault: StoreFault, message: str) -> None:
        super().__init__(message)
        self.fault = fault


class Ask(msgspec.Struct, frozen=True, gc=False):
    """`count` requests of `hits` each against one window, served first come first served.

    Attributes:
        key: hash-tagged key; equal keys may stand in one batch several times.
        count: 0 looks: nothing is counted, and `retry_us` says when one such request fits.
        sub_us: width of one sub-window, microseconds.
    """

    key: bytes
    sub_us: int
    limit: int
    hits: int
    count: int


class Answer(msgspec.Struct, frozen=True, gc=False):
    """What one Ask got: see core.window.WindowReply for the units.

    Attributes:
        granted: how many of the Ask's requests pass.
        used: hits counted after all of them.
    """

    granted: int
    used: int
    reset_us: int
    retry_us: int
    slot: int


class Refund(msgspec.Struct, frozen=True, gc=False):
    """Hits to give back to the sub-window `slot` that took them."""

    key: bytes
    sub_us: int
    slot: int
    hits: int


class Store(Protocol):
    """Counters shared by all instances."""

    def is_available(self) -> bool:
        """Say whether asking now can succeed, without asking."""
        ...

    async def start(self) -> None:
        """Connect in the background; never raises because the store is away."""
        ...

    async def acquire(self, asks: Sequence[Ask]) -> Sequence[Answer | StoreFault]:
        """Answer all asks in one atomic step, in their order; of a cluster, each slot's in one.

        An ask that a part of the store could not answer gets the fault in its place.

        Raises:
            StoreError: nothing is known of the asks; some may have been counted.
        """
        ...

    async def refund(self, refunds: Sequence[Refund]) -> None:
        """Give hits back; what has left the window since is ignored.

        Raises:
            StoreError: the hits stay counted until they leave the window.
        """
        ...

    async def forget(self, keys: Sequence[bytes]) -> int:
        """Forget windows, for operators; return how many there were.

        Raises:
            StoreError: it may or may not be done.
        """
        ...

    async def presence(self, instance: str, lease_ms: int, *, leaving: bool = False) -> int:
        """Sign on, or off, and return how many instances are alive.

        Raises:
            StoreError: nobody knows.
        """
        ...

    async def fleet(self, at_most: int) -> Sequence[str]:
        """Name instances that are signed on; none where there is one alone. For people.

        Raises:
            StoreError: nobody knows.
        """
        ...

    async def close(self) -> None:
        """Let connections go."""
        ...
