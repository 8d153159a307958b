"""The only clock reads and the only randomness of the package; everything else gets them passed in."""

from __future__ import annotations

import random
import time
from typing import Final

# Ids need to be unlike each other, not unguessable: Mersenne Twister seeded by the system costs 0.3 µs for
# 128 bits as hex, `secrets` 0.9 µs.
_RANDOM: Final = random.Random()  # noqa: S311  ids, not keys


# Nanoseconds of a clock that never goes back. The built-in itself: read three times per request.
monotonic_ns: Final = time.monotonic_ns


def monotonic_us() -> int:
    """Microseconds of a clock that never goes back."""
    return time.monotonic_ns() // 1000


def wall_s() -> float:
    """Seconds since the epoch, for logs."""
    return time.time()


def random_hex(count: int) -> str:
    """Return `count` random bytes as hex; never all zero (W3C Trace Context forbids such ids)."""
    return f"{_RANDOM.getrandbits(count * 8) or 1:0{count * 2}x}"


def random_unit() -> float:
    """Return a number in [0, 1)."""
    return _RANDOM.random()
