"""Files as text, and how many problems a person is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.document import MAX_FILE_BYTES
from sentinel_ext.policy.nodes import Position

if TYPE_CHECKING:
    from pathlib import Path

# What a person reads in one go; a generated file with a systematic mistake could have 100 000.
MAX_PROBLEMS = 100


def read_file(path: Path) -> str:
    """Read a file of at most MAX_FILE_BYTES of UTF-8.

    Raises:
        PolicyError: with why it cannot be read.
    """
    try:
        with path.open("rb") as file:
            # One byte more than allowed tells a file that is too large, however large it is.
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise PolicyError([f"{path}: cannot be read: {error.strerror}"]) from None
    return decoded(content, str(path))


def decoded(content: bytes, name: str) -> str:
    """Return what was read of a file; at most one byte more than allowed.

    Raises:
        PolicyError: it is too large, or not UTF-8.
    """
    if len(content) > MAX_FILE_BYTES:
        raise PolicyError([f"{name}: is larger than {MAX_FILE_BYTES >> 20} MiB"])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        position = Position(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise PolicyError(
            [f"{name}:{position}: is not UTF-8 text (byte 0x{content[error.start]:02x})"]
        ) from None
