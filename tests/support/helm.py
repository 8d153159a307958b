"""Helm's own code (its Go SDK as a wheel), in a process of its own: Go brings threads and signals."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple, Self

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "sentinel"
# The same as safe_load, in C: ten times as fast.
FAST = yaml.CSafeLoader
RELEASE, NAMESPACE = "rel", "shop"
# What everybody has to say, for no image is published: added to values of CHART that say nothing of it.
IMAGE = {"registry": "registry.example.com"}


class RefusedError(Exception):
    """Helm does not take the values or cannot render: its message."""


class Rendered(NamedTuple):
    """What a chart makes of values.

    Attributes:
        objects: all objects.
        notes: what Helm prints after an install.
    """

    objects: list[dict[str, Any]]
    notes: str

    def one(self, kind: str, suffix: str = "") -> dict[str, Any]:
        """Return the only object of a kind whose name ends so."""
        (found,) = [
            one for one in self.objects if kind == one["kind"] and one["metadata"]["name"].endswith(suffix)
        ]
        return found

    def kinds(self) -> list[str]:
        return sorted(f"{one['kind']}/{one['metadata']['name']}" for one in self.objects)


def nested(path: str, value: object) -> dict[str, Any]:
    """Return {"a": {"b": value}} for "a.b"."""
    first, _, rest = path.partition(".")
    return {first: nested(rest, value) if rest else value}


class Helm:
    """Renders and lints; a call takes a millisecond."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._process.communicate()

    def render(
        self, values: dict[str, Any] | None = None, chart: Path = CHART, release: str = RELEASE
    ) -> Rendered:
        """Check the values against the chart's schema and render it, as `helm template` does.

        Raises:
            RefusedError: with Helm's message.
        """
        files = self.files(values or {}, chart, release)
        notes = "".join(files.pop(name) for name in list(files) if name.endswith("/NOTES.txt"))
        objects = [one for text in files.values() for one in yaml.load_all(text, FAST) if one]
        return Rendered(objects, notes)

    def files(self, values: dict[str, Any], chart: Path = CHART, release: str = RELEASE) -> dict[str, str]:
        """Return the texts by template, such as `sentinel/templates/workload.yaml`; raises as `render`."""
        return self._ask("render", str(chart), _with_image(values) if chart == CHART else values, release)

    def refusal(self, values: dict[str, Any]) -> str:
        """Return why these values are refused."""
        try:
            self.render(values)
        except RefusedError as error:
            return str(error)
        raise AssertionError(f"taken: {values}")

    def lint(self, values: dict[str, Any]) -> list[str]:
        """Return what `helm lint --strict` finds."""
        report = self._ask("lint", str(CHART), _with_image(values), RELEASE)
        found = [message["error"] for message in report["messages"] if message["severity"] > 1]
        return [*found, *report["errors"]]

    def _ask(self, *order: Any) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        answer = json.loads(process.stdout.readline())
        if "refused" in answer:
            raise RefusedError(answer["refused"])
        done: dict[str, Any] = answer["done"]
        return done


def _with_image(values: dict[str, Any]) -> dict[str, Any]:
    given = values.get("image", {})
    return {**values, "image": IMAGE | given} if isinstance(given, dict) else values


def containers(workload: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the containers of a workload's or a Pod's, init containers first, by name."""
    spec = workload["spec"].get("template", workload)["spec"]
    return {one["name"]: one for one in (*spec.get("initContainers", ()), *spec["containers"])}


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables that have a value of their own."""
    return {one["name"]: one["value"] for one in container.get("env", ()) if "value" in one}


def _serve() -> None:
    import helm_python as helm  # noqa: PLC0415  only this process loads it

    charts: dict[str, helm.Chart] = {}
    for line in sys.stdin:
        what, chart, values, release = json.loads(line)
        try:
            if what == "lint":
                done: Any = helm.lint(chart, values, strict=True)
            else:
                loaded = charts.setdefault(chart, helm.Chart.load(chart))
                loaded.validate_schema(values)
                done = loaded.render(values, name=release, namespace=NAMESPACE)
            answer = {"done": done}
        except helm.HelmError as error:
            answer = {"refused": str(error)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _serve()
