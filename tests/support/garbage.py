"""Finds reference cycles of ours: what the collector has to free although nothing refers to it."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def cycles() -> Iterator[list[str]]:
    """Collect before and after; the list holds then the types of our objects that were in cycles.

    Only ours: grpcio's client and pytest leave cycles of their own, at any time.
    """
    found: list[str] = []
    gc.collect()
    gc.disable()
    try:
        yield found
        gc.set_debug(gc.DEBUG_SAVEALL)
        gc.collect()
        kinds = [type(thing) for thing in gc.garbage]
        found += sorted(kind.__qualname__ for kind in kinds if kind.__module__.startswith("sentinel_ext"))
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
        gc.enable()
