"""Names in the store's keys."""

from __future__ import annotations


def hash_tagged(name: str) -> str:
    """Return `{name}` as Redis Cluster's hash tag: all keys with it share a slot, and no two names share one.

    Braces in a name would move or end the tag, so they are escaped, and `%` with them.
    """
    tag = name.replace("%", "%25").replace("{", "%7B").replace("}", "%7D")
    return f"{{{tag}}}"
