"""What the operator's files hold, as one digest, and which folders tell when that changes.

What counts is what files hold and not their times: a Kubernetes ConfigMap changes by a symlink, editors
rename, and a copy may keep the time of the original.
"""

from __future__ import annotations

import stat
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from sentinel_ext.policy.document import MAX_FILE_BYTES
from sentinel_ext.policy.ratelimit.files import MAX_FILES, SUFFIXES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

DIGEST_BYTES: Final = 16
# Read at a time: what is hashed without the interpreter's lock, and held in memory.
_PIECE_BYTES: Final = 1 << 20


def fingerprint(files: Iterable[Path], folders: Iterable[Path]) -> bytes:
    """Return a digest of all contents; what cannot be read counts as the reason.

    Without the folders that files are in: instances with equal contents have equal digests.
    """
    digest = blake2b(digest_size=DIGEST_BYTES)
    for path in files:
        digest.update(b"file\0" + _content(path))
    for folder in folders:
        digest.update(b"folder\0")
        for path in _inside(folder):
            digest.update(path.name.encode("utf-8", "surrogateescape") + b"\0" + _content(path))
    return digest.digest()


def irregular(files: Iterable[Path]) -> list[Path]:
    """Return those that are there and are not files: a pipe would keep its reader for ever."""
    return [path for path in files if not stat.S_ISREG(_mode(path) or stat.S_IFREG)]


def watched(files: Iterable[Path], folders: Iterable[Path]) -> dict[Path, tuple[int, int]]:
    """Return the folders whose notices say that something changed, with the identity of each (device, inode).

    Links are followed: a folder behind a link is another one after the link was swapped.
    """
    wanted: dict[Path, None] = {}
    for path in files:
        wanted.update(dict.fromkeys((path.parent, _resolved(path).parent)))
    for folder in folders:
        wanted.update(dict.fromkeys((folder.parent, folder, _resolved(folder).parent, _resolved(folder))))
    found: dict[tuple[int, int], Path] = {}
    for folder in wanted:
        try:
            status = folder.stat()
        except OSError:
            continue
        if stat.S_ISDIR(status.st_mode):
            found.setdefault((status.st_dev, status.st_ino), folder)
    return {folder: identity for identity, folder in found.items()}


def _content(path: Path) -> bytes:
    """Return the digest of one file, or of why there is none; of one length, so none runs into the next."""
    mode = _mode(path)
    if mode is None or not stat.S_ISREG(mode):
        return _no_content(b"missing" if mode is None else b"no file")
    digest, left = blake2b(digest_size=DIGEST_BYTES), MAX_FILE_BYTES + 1
    try:
        with path.open("rb") as file:
            while left > 0 and (piece := file.read(min(left, _PIECE_BYTES))):
                digest.update(piece)
                left -= len(piece)
    except OSError as error:
        return _no_content(f"errno {error.errno}".encode())
    return digest.digest()


def _no_content(why: bytes) -> bytes:
    """Return a digest that no content has."""
    return blake2b(digest_size=DIGEST_BYTES, person=why).digest()


def _inside(folder: Path) -> Iterator[Path]:
    try:
        found = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES and path.name[0] != ".")
    except OSError:
        return
    yield from found[: MAX_FILES + 1]


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except OSError:
        return None


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):  # a loop of links
        return path
