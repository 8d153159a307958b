"""Which limits apply to a request: its descriptors walked down the tree of rules (docs/ratelimit.md).

Entries are compared as pairs of key and value, never as joined text: (a, b_c) and (a_b, c) are different.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from sentinel_ext.core.ratelimit.rules import UNIT_SECONDS, US_PER_S, Limit, Node

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sentinel_ext.core.ratelimit.query import Override
    from sentinel_ext.core.ratelimit.rules import Rules

_NO_RULE = Node()


class Match(msgspec.Struct, frozen=True):
    """What a descriptor ended at.

    Attributes:
        limits: of the node.
        identity: the entries that tell counters apart; a shared pattern stands for its values.
        rule: the metric's label: `key_value` of each level joined by dots, as far as the rules show values.
        path: key and value of each level as the rules name them, "" for any: no value of a request.
    """

    node: Node
    limits: tuple[Limit, ...]
    identity: tuple[tuple[str, str], ...]
    rule: str
    path: tuple[tuple[str, str], ...]


def match(rules: Rules, domain: str, entries: Sequence[tuple[str, str]]) -> Match | None:
    """Walk `entries` down the tree; None where nothing applies.

    At each level the exact value wins, then the first pattern of the file, then the key alone; there is no
    way back from the branch taken.
    """
    node = rules.domains.get(domain)
    if node is None or not entries:
        return None
    identity, labels, path = [], [], []
    for key, value in entries:
        node = _child(node, key, value)
        if node is None:
            return None
        identity.append((key, node.value if node.share_threshold else value))
        path.append((key, node.value))
        is_shown = node.value_to_metric and not node.share_threshold
        labels.append(_joined(key, value if is_shown else node.value))
    if not node.limits:
        return None
    if node.detailed_metric:
        labels = [_joined(*entry) for entry in identity]
    return Match(node, node.limits, tuple(identity), ".".join(labels), tuple(path))


def _child(node: Node, key: str, value: str) -> Node | None:
    found = node.exact.get((key, value))
    if found is not None:
        return found
    for pattern_key, parts, child in node.wildcards:
        if pattern_key == key and fits(parts, value):
            return child
    return node.by_key.get(key)


def fits(parts: Sequence[str], value: str) -> bool:
    """Say whether `value` is the parts in order with anything between them.

    The first and last are anchored, those between are looked for leftmost: linear in the value's length for
    each part.
    """
    first, last = parts[0], parts[-1]
    if len(value) < len(first) + len(last) or not value.startswith(first) or not value.endswith(last):
        return False
    at, end = len(first), len(value) - len(last)
    for part in parts[1:-1]:
        found = value.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def _joined(key: str, value: str) -> str:
    return f"{key}_{value}" if value else key


def overridden(domain: str, entries: Sequence[tuple[str, str]], override: Override) -> Match:  # noqa: ARG001  the domain was looked at
    """Make the match of a descriptor that brings its own limit: no name, no mode, all values in the label."""
    limit = Limit(
        requests=override.requests, window_us=UNIT_SECONDS[override.unit] * US_PER_S, unit=override.unit
    )
    rule = ".".join(_joined(*entry) for entry in entries)
    return Match(_NO_RULE, (limit,), tuple(entries), rule, tuple((key, "") for key, _ in entries))


def replaced(limits: Sequence[Sequence[Limit]]) -> list[tuple[Limit, ...]]:
    """Take away the limits whose name another limit of the same request replaces."""
    names = {name for some in limits for limit in some for name in limit.replaces}
    if not names:
        return [tuple(some) for some in limits]
    return [tuple(limit for limit in some if not limit.name or limit.name not in names) for some in limits]
