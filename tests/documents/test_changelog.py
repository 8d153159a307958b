"""CHANGELOG.md has the form of Keep a Changelog."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING

import pytest
from support import scripts
from support.documents import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = (ROOT / "CHANGELOG.md").read_text()
SECTIONS = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
HEADING = re.compile(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)")
release = scripts.load("deploy/release")


def problems(text: str) -> Iterator[str]:
    """Tell what is not of the form: `## [Unreleased]` first, then versions with dates, newest first."""
    title, *versions = re.split(r"(?m)^## ", text)
    if not title.startswith("# Changelog\n"):
        yield "title"
    if not versions or not versions[0].startswith("[Unreleased]\n"):
        yield "does not begin with [Unreleased]"
    dated: list[tuple[date, tuple[int, ...]]] = []
    for version in versions[1:]:
        heading, _, rest = version.partition("\n")
        found = HEADING.fullmatch(heading)
        if found is None or not rest.strip():
            yield f"{heading}: no version with a date, or empty"
        else:
            dated.append((date.fromisoformat(found[2]), release.number(found[1])))
    if dated != sorted(dated, reverse=True) or len({version for _, version in dated}) < len(dated):
        yield "newest first, each once"
    for version in versions:
        yield from problems_of_sections(version)


def problems_of_sections(version: str) -> Iterator[str]:
    """Tell what is wrong below a version's heading: known sections in order, each once, each a list."""
    before, *sections = re.split(r"(?m)^### ", version)
    heading, *words = before.strip().splitlines()
    if words:
        yield f"{heading}: text before its first section"
    names = [section.partition("\n")[0] for section in sections]
    if names != [name for name in SECTIONS if name in names]:
        yield f"{heading}: sections {names}"
    for name, section in zip(names, sections, strict=True):
        lines = section.strip().splitlines()[1:]
        if not lines or any(not line.startswith(("- ", "  ")) for line in lines):
            yield f"{heading}: {name} is no list"


def test_it_has_the_form() -> None:
    assert [] == list(problems(TEXT))


GOOD = """# Changelog

## [Unreleased]

### Added
- a
  b

### Fixed
- c

## [0.1.0] - 2026-01-02

### Added
- d
"""


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("# Changelog", "# News"),
        ("[Unreleased]", "[Next]"),
        ("### Fixed", "### Mended"),
        ("### Added\n- a\n  b\n\n### Fixed\n- c", "### Fixed\n- c\n\n### Added\n- a"),
        ("### Fixed\n- c", "### Added\n- c"),
        ("- c", "c"),
        ("- c\n", ""),
        (" - 2026-01-02", ""),
        ("\n### Added\n- d\n", ""),
        ("## [0.1.0]", "## [0.0.9] - 2026-01-01\n\n### Added\n- e\n\n## [0.1.0]"),
        ("## [0.1.0]", "## [0.1.0] - 2026-01-02\n\n### Added\n- e\n\n## [0.1.0]"),
        ("## [Unreleased]\n", "## [Unreleased]\nwords\n"),
    ],
)
def test_what_is_not_of_the_form_is_found(old: str, new: str) -> None:
    assert [] == list(problems(GOOD))
    assert 1 == GOOD.count(old)

    assert [] != list(problems(GOOD.replace(old, new, 1)))


def test_a_release_dates_what_is_unreleased() -> None:
    """Of the example: in the real one nothing is unreleased when a release is tested."""
    text = release.changelog(GOOD, "99.0.0", date(2199, 1, 1))

    assert [] == list(problems(text))
    assert "## [Unreleased]\n\n## [99.0.0] - 2199-01-01\n\n### Added\n- a\n" in text
    with pytest.raises(ValueError, match="nothing"):
        release.changelog(text, "99.0.1", date(2199, 1, 1))
