"""Runs the files of helm-unittest (helm/sentinel/tests) with Helm's own code, also where there is no Go.

As much of its language as these files use; a word that this does not know is an error, not a pass.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml
from support.helm import Helm, RefusedError

if TYPE_CHECKING:
    from pathlib import Path

_STEP = re.compile(r"([^.\[\]]+)|\[(\d+)\]")
_MISSING = object()


class Case(NamedTuple):
    """One `it:` of a suite, with what it has of the suite."""

    name: str
    release: str
    template: str
    values: dict[str, Any]
    asserts: list[dict[str, Any]]


def cases(path: Path) -> list[Case]:
    """Read a suite."""
    suite = yaml.safe_load(path.read_text())
    _known(suite, "suite", "release", "templates", "set", "tests")
    found = []
    for test in suite["tests"]:
        _known(test, "it", "template", "set", "asserts")
        values: dict[str, Any] = {}
        for name, value in {**suite.get("set", {}), **test.get("set", {})}.items():
            _put(values, name.split("."), value)
        template = test.get("template") or suite["templates"][0]
        name = f"{suite['suite']}: {test['it']}"
        found.append(Case(name, suite["release"]["name"], template, values, test["asserts"]))
    return found


def failures(case: Case, helm: Helm) -> list[str]:
    """Return the assertions that do not hold."""
    message, documents = "", []
    try:
        files = helm.files(case.values, release=case.release)
        documents = [one for one in yaml.safe_load_all(files[f"sentinel/templates/{case.template}"]) if one]
    except RefusedError as error:
        message = str(error)
    found = []
    for assertion in case.asserts:
        ((word, given),) = assertion.items()
        if word in {"failedTemplate", "notFailedTemplate"}:
            pattern = given.get("errorPattern", "")
            holds = (message != "") == (word == "failedTemplate") and re.search(pattern, message) is not None
        else:
            holds = message == "" and _holds(word, given, documents)
        if not holds:
            found.append(f"{case.name}: {assertion} {message}")
    return found


def _holds(word: str, given: dict[str, Any], documents: list[dict[str, Any]]) -> bool:
    if word == "hasDocuments":
        return given["count"] == len(documents)
    # Without documents nothing would be asked.
    return bool(documents) and all(_holds_in(word, given, one) for one in documents)


def _holds_in(word: str, given: dict[str, Any], document: dict[str, Any]) -> bool:
    found = _at(document, given["path"]) if "path" in given else _MISSING
    if word == "isKind":
        return bool(document["kind"] == given["of"])
    if word == "equal":
        return bool(found == given["value"])
    if word == "notExists":
        return found is _MISSING
    if word == "contains":
        return isinstance(found, list) and given["content"] in found
    if word == "matchRegex":
        return re.search(given["pattern"], str(found)) is not None
    raise AssertionError(f"unknown assertion {word}")


def _at(node: Any, path: str) -> Any:
    for key, index in _STEP.findall(path):
        if index:
            node = node[int(index)] if isinstance(node, list) and int(index) < len(node) else _MISSING
        else:
            node = node.get(key, _MISSING) if isinstance(node, dict) else _MISSING
    return node


def _put(values: dict[str, Any], path: list[str], value: object) -> None:
    *above, last = path
    for key in above:
        values = values.setdefault(key, {})
    values[last] = value


def _known(mapping: dict[str, Any], *words: str) -> None:
    unknown = set(mapping) - set(words)
    assert not unknown, f"unknown words {unknown}"
