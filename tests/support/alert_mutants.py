"""Change every number of every alert and recording rule, one at a time; a case of promtool must fail then.

`make alerts-mutants` runs it. Thresholds, factors, windows, steps, offsets and `for` are doubled and halved.
A zero becomes 0.05 where rates are compared with it, else 1. Each mutant meets only the cases that name its
rule, or an alert that reads it, and only the rules these need: that makes it a matter of two minutes.
Unchanged, each rule passes them.
"""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from support.prometheus import program

if TYPE_CHECKING:
    from collections.abc import Iterator

PROMETHEUS = Path(__file__).parents[2] / "deploy/prometheus"
Rule = dict[str, Any]

# Strings and names are passed over; what stands in brackets are durations.
_TOKEN = re.compile(
    r'"[^"]*"|(?P<window>\[[^\]]*\])|[a-zA-Z_:][\w:]*|(?P<duration>\d+[smhd])|(?P<number>\d+(?:\.\d+)?)'
)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Mutant(NamedTuple):
    """A rule with one number changed, and what was done, for people."""

    name: str
    rule: Rule
    told: str


def name_of(rule: Rule) -> str:
    """Return the name of an alert or of what is recorded."""
    return str(rule.get("alert") or rule["record"])


def _changed(text: str, zero: str) -> tuple[str, ...]:
    found = re.fullmatch(r"(\d+)([smhd])", text)
    if found is not None:
        seconds = int(found[1]) * _SECONDS[found[2]]
        return f"{seconds * 2}s", f"{seconds * 500}ms"
    return (f"{float(text) * 2:.10g}", f"{float(text) / 2:.10g}") if float(text) else (zero,)


def _spans(expression: str) -> Iterator[tuple[int, int]]:
    """Where the numbers and durations of an expression stand."""
    for token in _TOKEN.finditer(expression):
        if token["window"]:
            for inner in re.finditer(r"\d+[smhd]", token[0]):
                yield token.start() + inner.start(), token.start() + inner.end()
        elif token["duration"] or token["number"]:
            yield token.span()


def mutants(rule: Rule) -> Iterator[Mutant]:
    """Every change of one rule."""
    expression = rule["expr"]
    # rate() itself, or what was recorded of it: names such as ratelimit have the word, too.
    zero = "0.05" if re.search(r"\brate[(\d]", expression) else "1"
    for start, end in _spans(expression):
        for new in _changed(expression[start:end], zero):
            before, after = expression[max(0, start - 50) : start], expression[end : end + 15]
            told = f"...{before}{{{expression[start:end]} -> {new}}}{after}..."
            changed = expression[:start] + new + expression[end:]
            yield Mutant(name_of(rule), {**rule, "expr": changed}, re.sub(r"\s+", " ", told))
    if "for" in rule:
        for new in _changed(rule["for"], ""):
            yield Mutant(name_of(rule), {**rule, "for": new}, f"for: {rule['for']} -> {new}")


class Suite:
    """The rules and cases as they stand, and a folder to try mutants in."""

    def __init__(self, folder: Path) -> None:
        groups = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]
        self.rules: list[Rule] = [rule for group in groups for rule in group["rules"]]
        paths = sorted((PROMETHEUS / "tests").glob("*.yaml"))
        self.cases = [yaml.safe_load(path.read_text()) for path in paths]
        self._folder, self._promtool = folder, program("promtool")

    def _needed(self, names: set[str]) -> list[Rule]:
        while True:
            found = [rule for rule in self.rules if name_of(rule) in names]
            read = {name_of(one) for one in self.rules for rule in found if name_of(one) in rule["expr"]}
            if read <= names:
                return found
            names = names | read

    def _chosen(self, names: set[str]) -> tuple[list[dict[str, Any]], set[str]]:
        """Files of the cases that ask for one of the rules, and all that these ask for."""
        files, asked = [], set(names)
        for case in self.cases:
            tests = [one for one in case["tests"] if names & _asked(one)]
            if tests:
                # One group, whose rules have an order.
                given = {"rule_files": ["rules.yaml"], "group_eval_order": ["all"], "tests": tests}
                files.append({**case, **given})
                asked = asked.union(*map(_asked, tests))
        return files, asked

    def survives(self, mutant: Mutant) -> bool:
        """Return whether all cases still pass."""
        names = {mutant.name}
        if "record" in mutant.rule:
            names |= {name_of(rule) for rule in self.rules if mutant.name in rule["expr"]}
        original = next(rule for rule in self.rules if _same(rule, mutant.rule))
        cases, asked = self._chosen(names)
        rules = [copy.copy(mutant.rule) if rule is original else rule for rule in self._needed(asked)]
        with tempfile.TemporaryDirectory(dir=self._folder) as folder:
            place = Path(folder)
            (place / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
            paths = [place / f"{number}.yaml" for number in range(len(cases))]
            for path, case in zip(paths, cases, strict=True):
                path.write_text(yaml.safe_dump(case))
            done = subprocess.run([self._promtool, "test", "rules", *paths], capture_output=True, check=False)
        return done.returncode == 0


def _asked(case: dict[str, Any]) -> set[str]:
    """Return the words of what a case asks for, names of rules among them."""
    expressions = [one["expr"] for one in case.get("promql_expr_test", ())]
    alerts = {one["alertname"] for one in case.get("alert_rule_test", ())}
    return alerts.union(re.findall(r"[\w:]+", " ".join(expressions)))


def _same(rule: Rule, other: Rule) -> bool:
    return name_of(rule) == name_of(other) and rule.get("labels") == other.get("labels")


def main(wanted: list[str]) -> int:
    """Try all mutants, or those of the rules whose names contain a word; print those that survive."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        suite = Suite(Path(folder))
        rules = [rule for rule in suite.rules if not wanted or any(word in name_of(rule) for word in wanted)]
        same = [Mutant(name_of(rule), rule, "unchanged") for rule in rules]
        broken = [
            one.name for one, passed in zip(same, pool.map(suite.survives, same), strict=True) if not passed
        ]
        if broken:
            print(f"fail as they are: {', '.join(broken)}")
            return 1
        tried = [mutant for rule in rules for mutant in mutants(rule)]
        outcomes = list(pool.map(suite.survives, tried))
    alive = [mutant for mutant, survived in zip(tried, outcomes, strict=True) if survived]
    for mutant in alive:
        print(f"SURVIVES {mutant.name}: {mutant.told}")
    named = len({one.name for one in tried})
    print(f"{len(tried)} mutants of {named} rules, {len(alive)} survive ({time.monotonic() - began:.0f} s)")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
