"""What a PromQL expression reads, held to the series that programs print: names, labels, their values.

A misspelt one makes no error in Prometheus, only an empty answer: an alert that never fires.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import promql_parser as promql
from support.promql_words import FREE, words

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What Prometheus adds to every series when it scrapes; `namespace` is what Kubernetes' discovery adds.
TARGET = frozenset({"job", "instance", "namespace"})
_LINE = re.compile(r"^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? ", re.ASCII)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')

Labels = frozenset[str]


class Series:
    """Labels of every metric by its name, and the values of those that were seen."""

    def __init__(self) -> None:
        # Prometheus' own metric.
        self.labels: dict[str, Labels] = {"up": TARGET}
        self.values: dict[tuple[str, str], set[str]] = {}

    def read(self, exposition: str) -> None:
        """Add what a program prints as Prometheus' text format."""
        for line in exposition.splitlines():
            found = _LINE.match(line)
            if found is not None:
                pairs = _LABEL.findall(found[2] or "")
                self.labels[found[1]] = self.labels.get(found[1], TARGET) | {name for name, _ in pairs}
                for name, value in pairs:
                    self.values.setdefault((found[1], name), set()).add(value)

    def record(self, rule: dict[str, Any]) -> list[str]:
        """Add what a recording rule makes; return the problems of its expression."""
        labels, problems = check(rule["expr"], self)
        name = rule["record"]
        self.labels[name] = self.labels.get(name, frozenset()) | labels | frozenset(rule.get("labels", ()))
        return problems


def check(expression: str, series: Series) -> tuple[Labels, list[str]]:
    """Return the labels of what an expression gives, and what it reads that nobody prints."""
    problems: list[str] = []
    return _Walk(series, problems).labels(promql.parse(expression)), problems


def metrics(node: Any) -> Iterator[str]:
    """Every name of a metric in a parsed expression."""
    if isinstance(node, promql.VectorSelector) and node.name:
        yield node.name
    for below in _below(node):
        yield from metrics(below)


def _below(node: Any) -> Iterable[Any]:
    if isinstance(node, promql.Call):
        return node.args
    names = ("lhs", "rhs", "expr", "vector_selector")
    return [getattr(node, name) for name in names if getattr(node, name, None) is not None]


class _Walk:
    def __init__(self, series: Series, problems: list[str]) -> None:
        self._series, self._problems = series, problems

    def labels(self, node: Any) -> Labels:
        """Return the labels of what a part gives."""
        if isinstance(node, promql.VectorSelector):
            return self._selected(node)
        if isinstance(node, promql.AggregateExpr):
            return self._aggregated(node)
        if isinstance(node, promql.BinaryExpr):
            return self._joined(node)
        if isinstance(node, promql.Call):
            return self._called(node)
        found = [self.labels(below) for below in _below(node)]
        return found[0] if found else frozenset()

    def _need(self, wanted: Iterable[str], given: Labels, where: str) -> None:
        self._problems += [f"no label {name} in {where}" for name in wanted if name not in given]

    def _selected(self, node: Any) -> Labels:
        matchers = list(node.matchers.matchers)
        if node.name:
            if node.name not in self._series.labels:
                self._problems.append(f"no metric {node.name}")
                return TARGET
            found = {node.name: self._series.labels[node.name]}
        else:
            pattern = next((one.value for one in matchers if one.name == "__name__"), "")
            found = {k: v for k, v in self._series.labels.items() if re.fullmatch(pattern, k)}
            if not found:
                self._problems.append(f"no metric like {pattern}")
        labels = frozenset().union(*found.values())
        self._need((one.name for one in matchers if one.name != "__name__"), labels, str(node.name))
        for one in matchers:
            if one.name not in FREE:
                known = words(str(node.name), one.name, self._series.values)
                # `a|b` are two words to =~ and one to =.
                given = one.value.split("|") if "Re" in str(one.op) else [one.value]
                self._problems += [f"no {one.name}={it} in {node.name}" for it in given if it not in known]
        return labels

    def _aggregated(self, node: Any) -> Labels:
        below = self.labels(node.expr)
        if node.modifier is None:
            return below if str(node.op) in {"topk", "bottomk"} else frozenset()
        named = frozenset(node.modifier.labels)
        self._need(named, below, f"{node.op} of {' '.join(metrics(node.expr))}")
        return named if str(node.modifier.type).endswith("By") else below - named

    def _joined(self, node: Any) -> Labels:
        left, right = self.labels(node.lhs), self.labels(node.rhs)
        matching = node.modifier.matching if node.modifier is not None else None
        if matching is not None and str(matching.type).endswith("Include"):
            for side, labels in ((node.lhs, left), (node.rhs, right)):
                if labels:
                    self._need(matching.labels, labels, f"one side of {node.op}: {' '.join(metrics(side))}")
        return left | right if str(node.op) == "or" else left or right

    def _called(self, node: Any) -> Labels:
        given = [self.labels(below) for below in node.args]
        if node.func.name == "histogram_quantile":
            self._need(["le"], given[-1], "histogram_quantile")
            return given[-1] - {"le"}
        if node.func.name == "label_replace":
            return given[0] | {node.args[1].val}
        return given[-1] if given and node.func.name not in {"vector", "scalar", "time"} else frozenset()
