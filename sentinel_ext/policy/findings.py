"""What compiling a policy finds across the whole file, gathered for the loader to give places to."""

from __future__ import annotations

# Keys down to the value, and what is to be said about it.
Finding = tuple[tuple[str, ...], str]


class Findings:
    """Everything found so far.

    Attributes:
        problems: mistakes; with any, the compiled policy is of no use.
        warnings: what is allowed but looks like a mistake.
    """

    __slots__ = ("problems", "warnings")

    def __init__(self) -> None:
        """Start with nothing."""
        self.problems: list[Finding] = []
        self.warnings: list[Finding] = []

    def wrong(self, path: tuple[str, ...], message: str) -> None:
        """Add a mistake."""
        self.problems.append((path, message))

    def doubtful(self, path: tuple[str, ...], message: str) -> None:
        """Add a warning."""
        self.warnings.append((path, message))
