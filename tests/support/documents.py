"""The repository's pages in Markdown: their links and their headings' anchors."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt

ROOT = Path(__file__).parents[2]
_PARSER = MarkdownIt("commonmark").enable("table")


def pages() -> list[Path]:
    """Every page that is the project's own."""
    folders = [folder for folder in ROOT.iterdir() if folder.is_dir() and not folder.name.startswith(".")]
    ours = [folder for folder in folders if folder.name not in {"dist", "build"}]
    return sorted([*ROOT.glob("*.md"), *(page for folder in ours for page in folder.rglob("*.md"))])


@dataclass
class Page:
    """What a page says.

    Attributes:
        targets: where links and images lead, as written.
        anchors: what a link can name after `#`.
        texts: what is shown of everything that is no code.
    """

    targets: list[str] = field(default_factory=list)
    anchors: set[str] = field(default_factory=set)
    texts: list[str] = field(default_factory=list)


def read(text: str) -> Page:
    """Parse a page."""
    page, seen = Page(), Counter[str]()
    tokens = _PARSER.parse(text)
    for before, token in zip([None, *tokens], tokens, strict=False):
        children = token.children or []
        page.targets += [
            str(each.attrGet("href") or each.attrGet("src"))
            for each in children
            if each.type in {"link_open", "image"}
        ]
        page.texts += [each.content for each in children if each.type == "text"]
        if before is not None and before.type == "heading_open":
            slug = slug_of("".join(each.content for each in children))
            page.anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
    return page


@cache
def page_of(path: Path) -> Page:
    """Read and parse a file."""
    return read(path.read_text())


def slug_of(heading: str) -> str:
    """Return a heading's anchor as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def broken(path: Path, page: Page) -> list[str]:
    """Return the links of a page that lead to no file, or to no heading of one."""
    found = [f"no such reference: {text}" for text in page.texts if "][" in text]
    for target in page.targets:
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        leads_to = (path.parent / name).resolve() if name else path
        if not leads_to.exists():
            found.append(target)
        elif anchor:
            anchors = page.anchors if leads_to == path else page_of(leads_to).anchors
            if anchor not in anchors:
                found.append(target)
    return found
