"""What the README promises, for the tests that hold the program to it."""

from __future__ import annotations

import re
from pathlib import Path

README = Path(__file__).parents[2] / "README.md"


def redis_rights() -> list[str]:
    """Return the rights of Sentinel's Redis user, as ACL SETUSER takes them."""
    (rights,) = re.findall(r"`(~sentinel:[^`]*)`", README.read_text())
    return rights.split()
