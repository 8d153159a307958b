"""Names of counters in the store; no two counters share one."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from sentinel_ext.core.keys import hash_tagged
from sentinel_ext.core.ratelimit.rules import Algorithm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.ratelimit.rules import Limit

# Longer identities are named by their digest: a client chooses values, and Redis keeps keys in memory.
MAX_IDENTITY_BYTES: Final = 512
_LETTER = {Algorithm.FIXED_WINDOW: "f", Algorithm.SLIDING_WINDOW: "s", Algorithm.GCRA: "g"}


def counter_key(domain: str, identity: Sequence[tuple[str, str]], limit: Limit) -> bytes:
    """Return the counter's key: `sentinel:r:{domain|key=value|…}:<algorithm's letter><window, microseconds>`.

    The part in braces is Redis Cluster's hash tag, so the limits of one rule share a slot. The number of
    requests is not part of it: a counter survives that its limit is changed.
    """
    parts = [_escaped(domain), *(f"{_escaped(key)}={_escaped(value)}" for key, value in identity)]
    name = hash_tagged("|".join(parts))
    if len(name.encode("utf-8", "surrogatepass")) > MAX_IDENTITY_BYTES:
        digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=32).hexdigest()
        name = f"{{#{digest}}}"  # no escaped text starts with #
    suffix = f"{_LETTER[limit.algorithm]}{limit.window_us}"
    return f"sentinel:r:{name}:{suffix}".encode("utf-8", "surrogatepass")


def _escaped(text: str) -> str:
    # `%` first; hash_tagged then escapes braces, and each `%` once more, which keeps names apart as well.
    return text.replace("%", "%25").replace("|", "%7C").replace("=", "%3D").replace("#", "%23")
