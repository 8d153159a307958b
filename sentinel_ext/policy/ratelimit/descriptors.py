"""`descriptors` → core.ratelimit.rules.Node, level by level."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from sentinel_ext.core.ratelimit.rules import Limit, Node
from sentinel_ext.policy.nodes import Problem
from sentinel_ext.policy.ratelimit.limits import read_limit
from sentinel_ext.policy.ratelimit.reading import DESCRIPTOR, Fields, free_map
from sentinel_ext.wording import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sentinel_ext.policy import nodes as yaml_nodes
    from sentinel_ext.policy.nodes import KeyPath
    from sentinel_ext.policy.ratelimit.reading import Found

# A request's value is held against them one by one: 1,000 take about 0.2 ms.
MAX_WILDCARDS: Final = 1_000
# In all files: about six seconds of reading.
MAX_DESCRIPTORS: Final = 100_000
# Each is a counter of its own for every request.
MAX_LIMITS: Final = 8
# Metadata goes out with every answer. Readers of protobuf stop at 100 levels; one of YAML takes up to three.
MAX_METADATA_VALUES: Final = 1_000
MAX_METADATA_DEPTH: Final = 16


class Budget:
    """How many descriptors may still be read, over all files."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        """Start with all of them."""
        self.left = MAX_DESCRIPTORS


class Reader:
    """Reads the descriptors of one file.

    Attributes:
        names: of limits, to check what `replaces` says.
        replaced: where each replaced name stands.
    """

    def __init__(self, file: str, found: Found, budget: Budget) -> None:
        """Tell problems to `found`."""
        self._file, self._found, self._budget = file, found, budget
        self.names: set[str] = set()
        self.replaced: list[tuple[str, Problem]] = []

    def level(self, fields: Fields, path: str) -> list[Node]:
        """Read the descriptors of one level; `path` is what the level's duplicates are told by."""
        found = []
        for item, where in fields.mappings("descriptors"):
            self._budget.left -= 1
            if self._budget.left < 0:
                if self._budget.left == -1:
                    self._found.wrong(item.position, where, f"more than {MAX_DESCRIPTORS} descriptors")
                break
            node = self._descriptor(item, where, path)
            if node is not None:
                found.append(node)
        return found

    def _descriptor(self, item: yaml_nodes.Node, where: KeyPath, path: str) -> Node | None:
        fields = Fields(item, where, DESCRIPTOR, self._found)
        key, value = fields.text("key"), fields.text("value")
        if not key:
            self._found.wrong(item.position, where, "descriptor has empty key")
            return None
        if "*" in key:
            fields.doubtful("key", "a * in a key is no pattern; patterns stand in the value")
        own = f"{path}.{key}_{value}" if value else f"{path}.{key}"
        limits = self._limits(fields)
        share = bool(fields.flag("share_threshold"))
        if share and "*" not in value:
            message = "share_threshold can only be used with wildcard values (containing '*'), but found key "
            fields.wrong("share_threshold", message + quoted(own.partition(".")[2]))
        below = self.level(fields, own)
        exact, wildcards, by_key = tables(below, own, self._found)
        return Node(
            key=key,
            value=value,
            limits=limits,
            shadow=bool(fields.flag("shadow_mode")),
            quota=bool(fields.flag("quota_mode")),
            detailed_metric=bool(fields.flag("detailed_metric")),
            value_to_metric=bool(fields.flag("value_to_metric")),
            share_threshold=share,
            metadata=self._metadata(fields),
            exact=exact,
            wildcards=wildcards,
            by_key=by_key,
            place=f"{self._file}:{item.position}",
        )

    def _limits(self, fields: Fields) -> tuple[Limit, ...]:
        one, path = fields.get("rate_limit"), fields.path
        items = [] if one is None else [(one, (*path, "rate_limit"))]
        if "rate_limits" in fields:
            if one is not None:
                fields.wrong("rate_limits", "stands beside rate_limit; put all limits into rate_limits")
            items += fields.mappings("rate_limits")
        if len(items) > MAX_LIMITS:
            fields.wrong("rate_limits", f"at most {MAX_LIMITS} limits are allowed (got {len(items)})")
            return ()
        limits: list[Limit] = []
        for item, where in items:
            limit = read_limit(item, where, self._found)
            if limit is None:
                continue
            self._check_beside(limit, limits, item, where)
            limits.append(limit)
            self.names.add(limit.name)
            for name in limit.replaces:
                problem = Problem(
                    item.position, (*where, "replaces"), f"no limit of this domain is called {quoted(name)}"
                )
                self.replaced.append((name, problem))
        return tuple(limits)

    def _check_beside(self, limit: Limit, others: list[Limit], item: yaml_nodes.Node, where: KeyPath) -> None:
        """Find what only the limits of one descriptor together show."""
        window = (limit.algorithm, limit.window_us)
        for other in others:
            if limit.unlimited or other.unlimited:
                message = "unlimited stands alone: what stands beside it limits all the same"
            elif limit.name in other.replaces or other.name in limit.replaces:
                message = "replaces should not contain name of same descriptor: one of the two never applies"
            elif window == (other.algorithm, other.window_us):
                message = "has the algorithm and window of an earlier limit here"
            else:
                continue
            self._found.wrong(item.position, where, message)
            return

    def _metadata(self, fields: Fields) -> dict[str, Any] | None:
        node = fields.get("metadata")
        if node is None:
            return None
        path = (*fields.path, "metadata")
        if not isinstance(node.value, dict):
            self._found.wrong(node.position, path, "error parsing metadata: must be a mapping")
            return None
        if node.size > MAX_METADATA_VALUES or node.depth > MAX_METADATA_DEPTH:
            message = f"at most {MAX_METADATA_VALUES} values in {MAX_METADATA_DEPTH} levels are allowed"
            self._found.wrong(node.position, path, f"error parsing metadata: {message}")
            return None
        plain = free_map(node, lambda where, message: self._found.wrong(where.position, path, message))
        return dict(plain)


Tables = tuple[dict[tuple[str, str], Node], tuple[tuple[str, tuple[str, ...], Node], ...], dict[str, Node]]


def tables(below: Iterable[Node], path: str, found: Found) -> Tables:
    """Arrange one level for matching; a pattern is also the exact value that it looks like."""
    exact: dict[tuple[str, str], Node] = {}
    wildcards: list[tuple[str, tuple[str, ...], Node]] = []
    by_key: dict[str, Node] = {}
    for node in below:
        own = f"{path}.{node.key}_{node.value}" if node.value else f"{path}.{node.key}"
        first = exact.get((node.key, node.value)) if node.value else by_key.get(node.key)
        if first is not None:
            message = (
                f"{node.place}: duplicate descriptor composite key {quoted(own)}; first at {first.place}"
            )
            found.problems.append(Problem(None, (), message))
            continue
        if not node.value:
            by_key[node.key] = node
            continue
        exact[node.key, node.value] = node
        if "*" in node.value:
            head, *middle, tail = node.value.split("*")
            # Two stars in a row are one.
            wildcards.append((node.key, (head, *filter(None, middle), tail), node))
    if len(wildcards) > MAX_WILDCARDS:
        message = f"{wildcards[-1][2].place}: more than {MAX_WILDCARDS} patterns with * on one level"
        found.problems.append(Problem(None, (), message))
    return exact, tuple(wildcards), by_key
