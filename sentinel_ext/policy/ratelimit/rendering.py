"""Rules as people read them: the tree that check-config prints, and the same as plain data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentinel_ext.core.ratelimit.rules import Algorithm, Unit
from sentinel_ext.policy.kinds import length
from sentinel_ext.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sentinel_ext.core.ratelimit.rules import Limit, Node, Rules

_FLAGS = ("shadow", "quota", "share_threshold", "detailed_metric", "value_to_metric")


def render_tree(rules: Rules) -> str:
    """Return the domains and their descriptors, one per line, each indented under its parent."""
    lines = []
    for name, domain in rules.domains.items():
        lines.append(f"domain {_shown(name)}")
        lines += _lines(domain, "  ")
    return "\n".join(lines)


def _lines(node: Node, indent: str) -> Iterator[str]:
    for child in _children(node):
        flags = "".join(f", {flag}" for flag in _FLAGS if getattr(child, flag))
        limits = "; ".join(map(in_words, child.limits)) or ("" if _children(child) else "no limit")
        text = f"{_shown(child.key)}={_shown(child.value)}" if child.value else _shown(child.key)
        yield f"{indent}{text}" + (f": {limits}{flags}" if limits else flags)
        yield from _lines(child, indent + "  ")


def _shown(text: str) -> str:
    """Return text that neither ends the line nor speaks to the terminal."""
    return text if text.isprintable() and text.strip() == text else quoted(text)


def in_words(limit: Limit) -> str:
    """Return `10 per minute, fixed_window`."""
    name = f"{quoted(limit.name)} " if limit.name else ""
    if limit.unlimited:
        return f"{name}unlimited"
    window = limit.unit.value if limit.unit is not Unit.UNKNOWN else length(limit.window_us)
    words = [f"{name}{limit.requests} per {window}", limit.algorithm.value]
    if limit.algorithm is Algorithm.GCRA:
        words.append(f"burst {limit.capacity}")
    if limit.tier is not None:
        words.append(f"tier {limit.tier.value} of upstream {_shown(limit.upstream)}")
    if limit.on_store_failure is not None:
        words.append(f"{limit.on_store_failure.value} without the store")
    return ", ".join(words)


def tree(rules: Rules) -> list[dict[str, Any]]:
    """Return the rules as JSON-ready data."""
    return [
        {"domain": name, "descriptors": [_plain(child) for child in _children(domain)]}
        for name, domain in rules.domains.items()
    ]


def _plain(node: Node) -> dict[str, Any]:
    made: dict[str, Any] = {"key": node.key}
    if node.value:
        made["value"] = node.value
    if node.limits:
        made["limits"] = [_plain_limit(limit) for limit in node.limits]
    made |= {flag: True for flag in _FLAGS if getattr(node, flag)}
    if node.metadata is not None:
        made["metadata"] = node.metadata
    below = [_plain(child) for child in _children(node)]
    return made | ({"descriptors": below} if below else {}) | {"place": node.place}


def _plain_limit(limit: Limit) -> dict[str, Any]:
    made: dict[str, Any] = {"text": in_words(limit), "unlimited": limit.unlimited}
    if not limit.unlimited:
        made |= {
            "requests": limit.requests,
            "window_ms": limit.window_us // 1000,
            "unit": limit.unit.value,
            "algorithm": limit.algorithm.value,
            "count_denied": limit.count_denied,
        }
    if limit.algorithm is Algorithm.GCRA:
        made["burst"] = limit.capacity
    if limit.on_store_failure is not None:
        made["on_store_failure"] = limit.on_store_failure.value
    if limit.tier is not None:
        made |= {"tier": limit.tier.value, "upstream": limit.upstream}
    if limit.name:
        made["name"] = limit.name
    if limit.replaces:
        made["replaces"] = list(limit.replaces)
    return made


def _children(node: Node) -> list[Node]:
    return [*node.exact.values(), *node.by_key.values()]
