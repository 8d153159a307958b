"""The status page as one self-contained HTML document, and the policy that lets nothing else run in it."""

from __future__ import annotations

import base64
import functools
import hashlib
from importlib import resources
from typing import Final

import msgspec

HEADERS: Final = {
    "content-type": "text/html; charset=utf-8",
    "cache-control": "no-store",
    "vary": "accept",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
# In their order: how to write into the page, what stands where, and the stream that feeds it.
SCRIPTS: Final = ("writing.js", "parts.js", "stream.js")


class Page(msgspec.Struct, frozen=True):
    """The document; `headers` name the policy that fits it."""

    body: bytes
    headers: dict[str, str]


@functools.cache
def page() -> Page:
    """Put the document together, once."""
    style, html = _read("page.css"), _read("page.html")
    script = "\n".join(_read(name) for name in SCRIPTS)
    body = html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script)
    policy = (
        "default-src 'none'",
        f"style-src '{_hash(style)}'",
        f"script-src '{_hash(script)}'",
        "connect-src 'self'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        # A browser that knows it refuses innerHTML and its like altogether.
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return Page(body.encode(), {"content-security-policy": "; ".join(policy)})


def _read(name: str) -> str:
    return resources.files(__name__).joinpath(name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Name an inline element in a Content-Security-Policy (CSP level 3, hash-source)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
