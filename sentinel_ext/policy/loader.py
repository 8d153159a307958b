"""The policy file → core.policy.Policy, or every problem in it at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace
from pydantic import ValidationError

from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.compiler import compile_policy
from sentinel_ext.policy.contents import irregular
from sentinel_ext.policy.document import RATELIMIT, DocumentError, Node, Position, Problem, parse
from sentinel_ext.policy.explanation import existing, explain, without
from sentinel_ext.policy.ratelimit import rules_of_section
from sentinel_ext.policy.ratelimit.reading import is_null
from sentinel_ext.policy.schema import PolicyFile
from sentinel_ext.policy.texts import MAX_PROBLEMS, read_file

if TYPE_CHECKING:
    from pathlib import Path

    from sentinel_ext.core.policy import PlanDefaults, Policy
    from sentinel_ext.policy.findings import Finding


__all__ = ["MAX_PROBLEMS", "load_policy", "parse_policy"]


def load_policy(path: Path | None, defaults: PlanDefaults, tenant_header: str) -> Policy:
    """Read, check and compile the policy file.

    Args:
        path: the file; None is the policy of the environment alone: one plan for all. A file that is empty
            or only has comments is the same.
        defaults: what plans have where the file leaves it out.
        tenant_header: header with the tenant's name, unless the file has `identify`; lower case.

    Raises:
        PolicyError: every problem as `FILE:LINE:COLUMN: path.to.value: message`, in the file's order.
    """
    if path is None:
        return compile_policy(PolicyFile(), defaults, tenant_header)[0]
    # A pipe or a device could keep its reader for ever, and nothing would ever be served.
    if irregular([path]) and not path.is_dir():
        raise PolicyError([f"{path}: is not a file"])
    return parse_policy(read_file(path), str(path), defaults, tenant_header)


def parse_policy(text: str, file: str, defaults: PlanDefaults, tenant_header: str) -> Policy:
    """Check and compile the text of a policy file; `file` is its name in messages.

    Raises:
        PolicyError: as load_policy.
    """
    try:
        document = parse(text)
    except DocumentError as error:
        raise PolicyError([error.problem.line(file)]) from None
    # What is in the section of rate limits has a reader of its own, and rules of its own for YAML.
    problems = [
        problem for problem in document.problems if problem.path[:1] != (RATELIMIT,) or len(problem.path) == 1
    ]
    warnings: list[Problem] = []
    policy = _checked(document.root, defaults, tenant_header, problems, warnings)
    lines = _lines(problems, file)
    rules = None
    if not is_null(document.root.child(RATELIMIT)):
        try:
            rules = rules_of_section(text, file)
        except PolicyError as error:
            lines += [line for line in error.problems if line not in lines]
    if policy is None or lines:
        raise PolicyError(lines)
    return replace(policy, warnings=tuple(_lines(warnings, file)), ratelimit=rules)


def _checked(
    root: Node, defaults: PlanDefaults, tenant_header: str, problems: list[Problem], warnings: list[Problem]
) -> Policy | None:
    plain = {} if root.value is None else root.plain()
    try:
        file = PolicyFile.model_validate(plain)
    except ValidationError as error:
        errors = error.errors()
        problems += [explain(found, root) for found in errors]
        rest = without(plain, errors) if isinstance(plain, dict) else None
        try:
            # A second look, without what is wrong: names of plans are checked across the whole file.
            file = PolicyFile.model_validate(rest)
        except ValidationError:
            return None
    policy, findings = compile_policy(file, defaults, tenant_header)
    problems += [_problem(finding, root) for finding in findings.problems]
    warnings += [_problem(finding, root) for finding in findings.warnings]
    return policy


def _problem(finding: Finding, root: Node) -> Problem:
    path = existing(finding[0], root)
    return Problem(root.locate(path), path, finding[1])


def _lines(problems: list[Problem], file: str) -> list[str]:
    ordered = sorted(problems, key=lambda problem: problem.position or Position(0, 0))
    lines = list(dict.fromkeys(problem.line(file) for problem in ordered))
    if len(lines) > MAX_PROBLEMS:
        lines[MAX_PROBLEMS:] = [f"{file}: and {len(lines) - MAX_PROBLEMS} more"]
    return lines
