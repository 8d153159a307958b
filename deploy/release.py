"""Write a new version everywhere it stands: `make release VERSION=0.2.0`.

`pyproject.toml` is its source. What the changelog has as Unreleased gets a heading with version and date;
manifests that name Sentinel's image get the tag. The chart's own follow by `make chart`.
"""

from __future__ import annotations

import re
import sys
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
CHANGELOG = ROOT / "CHANGELOG.md"
IMAGE = re.compile(r"(?:(?<=/sentinel:)|(?<=ARG VERSION=))\d+\.\d+\.\d+")
UNRELEASED = "## [Unreleased]\n"
_VERSION = re.compile(r'(?m)^version = "(\d+\.\d+\.\d+)"$')


def manifests() -> list[Path]:
    """Return what names the image with its tag."""
    names = ("README.md", "Dockerfile", "docker-compose.yml", "helm/sentinel/README.md")
    found = [
        *(ROOT / name for name in names),
        *(path for path in (ROOT / "docs").rglob("*") if path.suffix in {".md", ".yaml"}),
    ]
    return sorted(path for path in found if IMAGE.search(path.read_text()))


def number(version: str) -> tuple[int, ...]:
    """Return what versions are ordered by.

    Raises:
        ValueError: it is not three numbers.
    """
    if re.fullmatch(r"(0|[1-9]\d*)(\.(0|[1-9]\d*)){2}", version) is None:
        raise ValueError(f"{version!r}: allowed: three numbers, such as 0.2.0")
    return tuple(int(part) for part in version.split("."))


def changelog(text: str, version: str, day: date) -> str:
    """Return the changelog with what is unreleased under a heading of its own.

    Raises:
        ValueError: nothing is unreleased.
    """
    before, heading, after = text.partition(UNRELEASED)
    if not heading or not after.lstrip().startswith("### "):
        raise ValueError("CHANGELOG.md: nothing stands under [Unreleased]")
    return f"{before}{heading}\n## [{version}] - {day.isoformat()}\n{after}"


def made(version: str, day: date, changes: str) -> dict[Path, str]:
    """Return the files that change, with their new text.

    Args:
        version: the new one.
        day: of the release.
        changes: the changelog's text.

    Raises:
        ValueError: the version is not a later one, or nothing changed since.
    """
    project = ROOT / "pyproject.toml"
    text = project.read_text()
    (old,) = _VERSION.findall(text)
    # The first release has the number that the project began with.
    if number(version) < number(old) or f"## [{version}]" in changes:
        raise ValueError(f"{version} is not later than {old}")
    return {
        project: _VERSION.sub(f'version = "{version}"', text),
        CHANGELOG: changelog(changes, version, day),
        **{path: IMAGE.sub(version, path.read_text()) for path in manifests()},
    }


if __name__ == "__main__":
    try:
        asked = sys.argv[1] if len(sys.argv) > 1 else ""
        files = made(asked, datetime.now(UTC).date(), CHANGELOG.read_text())
    except ValueError as error:
        sys.exit(f"make release VERSION=...: {error}")
    for path, text in files.items():
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
