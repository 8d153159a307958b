"""`sentinel-ext check-config`: are these files right, and what comes of them."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from sentinel_ext.cli import _files
from sentinel_ext.cli._options import print_json
from sentinel_ext.core.policy import Policy
from sentinel_ext.core.ratelimit.rules import Rules
from sentinel_ext.wording import printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sentinel_ext.settings import Settings

STDIN = "-"
# What a terminal shows of a line that somebody wrote without an end, in columns.
MAX_LINE = 120
# What of it stands before the place.
_BEFORE = 100
# As YAML ends lines.
_LINE_END = re.compile(r"\r\n|[\n\r\x85\u2028\u2029]")
_PLACE = re.compile(r"(?P<file>.+?):(?P<line>[0-9]+):(?P<column>[0-9]+): ")

_MORE = re.compile(r": and ([0-9]+) more$")


class Texts:
    """What was read, by name and line: for the lines that problems are about."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._texts: dict[str, str] = {}
        self._lines: dict[str, list[str]] = {}

    def add(self, name: str, text: str) -> None:
        """Remember a text."""
        self._texts[name] = text

    def line(self, name: str, number: int) -> str | None:
        """Return a line, from 1; files of folders are read when they are first asked for."""
        if name not in self._lines:
            text = self._texts[name] if name in self._texts else _again(name)
            self._lines[name] = _LINE_END.split(text) if text else []
        lines = self._lines[name]
        return lines[number - 1] if 1 <= number <= len(lines) else None


class Report(msgspec.Struct):
    """What was found."""

    problems: list[str] = []
    warnings: list[str] = []
    texts: Texts = msgspec.field(default_factory=Texts)
    policies: dict[str, Policy] = {}
    rules: dict[str, Rules] = {}


def command(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Policy files, rate limit files, folders of rate limit files; - reads standard input."
        ),
    ],
    merge_domains: Annotated[
        bool,
        typer.Option("--merge-domains", help="Files may share a domain, as RATELIMIT_MERGE_DOMAINS=true."),
    ] = False,
    lenient: Annotated[
        bool,
        typer.Option(
            "--lenient", help="What envoyproxy/ratelimit takes is a warning, as RATELIMIT_LENIENT=true."
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings are errors.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print problems and warnings only.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Check policy and rate limit files; print every problem with its line, or what comes of the files.

    A file whose top level has `domain` is a rate limit file (envoyproxy/ratelimit's format), any other a
    policy file. Rate limit files given together are checked together, as in one folder. What files leave out
    comes from the environment, as in `serve`.

    Exit codes: 0 all is right, 1 there are problems, 2 wrong arguments or environment.

    Example: `sentinel-ext check-config policy.yaml ratelimit/`, before a commit
    `sentinel-ext check-config --strict --quiet policy.yaml`, and of a template
    `helm template . | yq .data.policy | sentinel-ext check-config -`
    """
    from sentinel_ext.settings import Settings  # noqa: PLC0415  other commands do not pay for it

    settings = Settings.load()
    merge = merge_domains or settings.ratelimit_merge_domains
    report = check(paths, settings, merge=merge, lenient=lenient or settings.ratelimit_lenient)
    failed = bool(report.problems or (strict and report.warnings))
    if as_json:
        print_json(_plain(report, ok=not failed))
    else:
        _print(report, quiet=quiet)
    raise typer.Exit(1 if failed else 0)


def check(paths: Sequence[str], settings: Settings, *, merge: bool, lenient: bool) -> Report:
    """Read and check everything; problems of all files, in the order of `paths`."""
    from sentinel_ext.errors import PolicyError  # noqa: PLC0415  as above
    from sentinel_ext.policy.loader import parse_policy  # noqa: PLC0415
    from sentinel_ext.policy.ratelimit import load_rules, parse_rules  # noqa: PLC0415

    report, limits = Report(), {}
    for path in dict.fromkeys(paths):
        try:
            if path != STDIN and Path(path).is_dir():
                rules = load_rules(Path(path), merge=merge, lenient=lenient)
                report.rules[path] = rules
                report.warnings += rules.warnings
                continue
            text = _text(path)
            name = "<stdin>" if path == STDIN else path
            report.texts.add(name, text)
            if _is_ratelimit(text):
                limits[name] = text
                continue
            policy = parse_policy(text, name, settings.plan_defaults, settings.tenant_header)
            report.policies[name] = policy
            report.warnings += policy.warnings
        except PolicyError as error:
            report.problems += error.problems
    if limits:
        try:
            rules = parse_rules(limits, merge=merge, lenient=lenient)
            report.rules[", ".join(limits)] = rules
            report.warnings += rules.warnings
        except PolicyError as error:
            report.problems += error.problems
    report.warnings += _double(report)
    return report


def _double(report: Report) -> Iterator[str]:
    """The service refuses limits in both places, if these are the files that it is given."""
    elsewhere = ", ".join(report.rules)
    for name, policy in report.policies.items():
        if policy.ratelimit is not None and elsewhere:
            yield f"{name}: ratelimit: {elsewhere} has rate limits, too; the service takes one of the two"


def _text(path: str) -> str:
    from sentinel_ext.policy.document import MAX_FILE_BYTES  # noqa: PLC0415
    from sentinel_ext.policy.texts import decoded, read_file  # noqa: PLC0415

    if path == STDIN:
        return decoded(_files.read_stdin(MAX_FILE_BYTES + 1), "<stdin>")
    return read_file(Path(path))


def _is_ratelimit(text: str) -> bool:
    from sentinel_ext.policy.document import DocumentError, parse  # noqa: PLC0415

    try:
        root = parse(text, raw=True).root
        return any(root.child(key) is not None for key in ("domain", "descriptors"))
    except DocumentError:
        # Which of the two it was meant to be does not matter: neither reads it.
        return False


def _print(report: Report, *, quiet: bool) -> None:
    from sentinel_ext.policy.ratelimit import render_tree  # noqa: PLC0415

    _print_findings(report)
    if quiet or report.problems:
        return
    for name, policy in report.policies.items():
        _say(name, _policy_lines(policy))
        if policy.ratelimit is not None:
            _say("", render_tree(policy.ratelimit).splitlines())
    for name, rules in report.rules.items():
        _say(name, render_tree(rules).splitlines())


def _say(name: str, lines: Iterable[str]) -> None:
    if name:
        typer.echo(f"{printable(name)}: right")
    for line in lines:
        typer.echo(f"  {printable(line)}")


def _print_findings(report: Report) -> None:
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    # Told, because rich sees a terminal wherever FORCE_COLOR is set, as CI services do. It knows NO_COLOR.
    console = Console(stderr=True, force_terminal=sys.stderr.isatty(), highlight=False, soft_wrap=True)
    for kind, colour, lines in (("error", "red", report.problems), ("warning", "yellow", report.warnings)):
        for line in lines:
            console.print(Text.assemble((f"{kind}: ", f"bold {colour}"), printable(line)))
            shown = excerpt(line, report.texts)
            if shown:
                console.print(Text(shown))
    if report.problems or report.warnings:
        errors, warnings = _many(_total(report.problems), "error"), _many(_total(report.warnings), "warning")
        console.print(Text(f"{errors}, {warnings}"))


def _total(lines: Sequence[str]) -> int:
    """Count what was found: a last line may say that there are more."""
    return len(lines) + sum(int(more[1]) - 1 for line in lines if (more := _MORE.search(line)))


def excerpt(line: str, texts: Texts) -> str:
    """Return the line of the file that a problem is about, with a caret under the place; "" if unknown."""
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415

    match = _PLACE.match(line)
    if match is None:
        return ""
    number, before = int(match["line"]), int(match["column"]) - 1
    found = texts.line(match["file"], number)
    if found is None:
        return ""
    start = max(0, before - _BEFORE)
    source = "".join(mark if mark.isprintable() else " " for mark in found[start : start + 2 * MAX_LINE])
    prefix = f"{number:>6} | "
    shown = set_cell_size(source, MAX_LINE).rstrip() if cell_len(source) > MAX_LINE else source.rstrip()
    # Some characters are two columns wide, and some none.
    return f"{prefix}{shown}\n{' ' * (len(prefix) + cell_len(source[: before - start]))}^"


def _again(name: str) -> str:
    from sentinel_ext.errors import PolicyError  # noqa: PLC0415
    from sentinel_ext.policy.texts import read_file  # noqa: PLC0415

    try:
        return read_file(Path(name))
    except PolicyError:
        return ""


def _policy_lines(policy: Policy) -> list[str]:
    lines = []
    for name, plan in policy.plans.items():
        limit = "unlimited" if plan.limit is None else f"{plan.limit} per {plan.window_us / 1_000_000:g} s"
        default = ", default" if plan is policy.default_plan else ""
        lines.append(f"plan {name}: {limit}, tier {plan.tier.value}{default}")
    count = len(policy.tenants) + len(policy.patterns)
    lines.append(f"{_many(count, 'tenant')}, {_many(len(policy.patterns), 'pattern')} among them")
    lines += [f"upstream {name}" for name in policy.upstreams]
    lines += [f"stage {stage.value}: {mode.value}" for stage, mode in policy.modes.items()]
    return lines


def _plain(report: Report, *, ok: bool) -> dict[str, Any]:
    from sentinel_ext.policy.ratelimit import tree  # noqa: PLC0415

    policies = {
        name: {
            "plans": list(policy.plans),
            "tenants": len(policy.tenants) + len(policy.patterns),
            "upstreams": list(policy.upstreams),
            "ratelimit": None if policy.ratelimit is None else tree(policy.ratelimit),
        }
        for name, policy in report.policies.items()
    }
    return {
        "ok": ok,
        "problems": [_placed(line) for line in report.problems],
        "warnings": [_placed(line) for line in report.warnings],
        "policies": policies,
        "ratelimit": {name: tree(rules) for name, rules in report.rules.items()},
    }


def _placed(line: str) -> dict[str, Any]:
    match = _PLACE.match(line)
    if match is None:
        return {"message": line}
    place = {"file": match["file"], "line": int(match["line"]), "column": int(match["column"])}
    return {**place, "message": line[match.end() :]}


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
