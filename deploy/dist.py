"""Build wheel and source distribution of the last commit, twice, and compare; check the metadata.

`make dist` runs this and leaves both in `dist/`. The second build is made from the first source distribution:
so it is complete, and neither time, folder nor umask shows in the files.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from packaging.metadata import Metadata

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]


def committed(folder: Path) -> int:
    """Write the files of the last commit into `folder`; return the commit's time in seconds since 1970."""
    packed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", folder], input=packed, check=True)
    told = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, stdout=subprocess.PIPE, check=True
    ).stdout
    return int(told)


def build(source: Path, out: Path, epoch: int) -> list[Path]:
    """Build into `out`, with the pinned hatchling: no download. Return source distribution and wheel.

    Args:
        source: a folder with pyproject.toml.
        out: made if absent.
        epoch: the time that files get, in seconds since 1970.

    Raises:
        RuntimeError: it cannot be built; says what the build said.
    """
    done = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", out.absolute()],
        cwd=source,
        env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch)},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout + done.stderr)
    (packed,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return [packed, wheel]


def unpack(packed: Path, folder: Path) -> Path:
    """Unpack a source distribution below `folder`; return the folder that it has inside."""
    with tarfile.open(packed) as archive:
        archive.extractall(folder, filter="data")
    return folder / packed.name.removesuffix(".tar.gz")


def digests(paths: list[Path]) -> dict[str, str]:
    """Return SHA-256 by file name."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def problems(packed: Path, wheel: Path) -> Iterator[str]:
    """Tell what is wrong with the metadata: invalid fields, links that lead nowhere on an index."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
        text = archive.read(name)
    with tarfile.open(packed) as archive:
        inner = archive.extractfile(f"{packed.name.removesuffix('.tar.gz')}/PKG-INFO")
        if inner is None or inner.read() != text:
            yield "wheel and source distribution have different metadata"
    # Raises an ExceptionGroup with all that is wrong; the build itself refuses unknown classifiers.
    described = Metadata.from_email(text, validate=True)
    if described.description_content_type != "text/markdown" or not described.description:
        yield "no description in Markdown"
    for target in links(described.description or ""):
        if not urlsplit(target).scheme and not target.startswith("#"):
            yield f"the description links to {target}, which an index cannot follow"


def links(markdown: str) -> Iterator[str]:
    """Tell where links and images of a text lead."""
    for block in MarkdownIt().parse(markdown):
        for token in block.children or ():
            target = token.attrGet("href") or token.attrGet("src")
            if target:
                yield str(target)


def main() -> None:
    """Build what `make dist` leaves in `dist/`; exit with 1 when it must not be published."""
    out = ROOT / "dist"
    out.mkdir(exist_ok=True)
    for old in out.glob("sentinel_ext-*"):
        old.unlink()
    with tempfile.TemporaryDirectory(prefix="sentinel-dist-") as name:
        folder = Path(name)
        (folder / "tree").mkdir()
        epoch = committed(folder / "tree")
        first = build(folder / "tree", folder / "first", epoch)
        second = build(unpack(first[0], folder), folder / "second", epoch)
        found = list(problems(*first))
        if digests(first) != digests(second):
            found.append(f"built twice, differs: {digests(first)}, {digests(second)}")
        if found:
            sys.exit("\n".join(found))
        made = [shutil.copy(path, out) for path in first]
    for file, digest in digests([Path(path) for path in made]).items():
        sys.stdout.write(f"{digest}  dist/{file}\n")


if __name__ == "__main__":
    main()
