"""Links between the repository's pages lead to a file, and to a heading of it; every page is in an index."""

from __future__ import annotations

from support.documents import ROOT, broken, page_of, pages, read

DOCS = ROOT / "docs"
INDEX = DOCS / "README.md"


def test_links_and_anchors_lead_somewhere() -> None:
    found = {str(path.relative_to(ROOT)): broken(path, page_of(path)) for path in pages()}

    assert {"README.md", "docs/README.md", "docs/install/helm.md", "helm/sentinel/README.md"} < set(found)
    assert {} == {path: links for path, links in found.items() if links}


def test_a_broken_link_is_found_whatever_is_broken_of_it() -> None:
    good = "# A `b` of c\n[1](docs) [2](#a-b-of-c) [3](docs/README.md#start)\n"
    bad = {
        "[4](no.md)": "no.md",
        "[5](#no)": "#no",
        "[6](docs/README.md#no)": "docs/README.md#no",
        "![7](no.png)": "no.png",
    }
    page = ROOT / "README.md"

    assert [] == broken(page, read(good))
    for text, told in bad.items():
        assert [told] == broken(page, read(f"{good}{text}\n"))
    assert ["no such reference: [8][no]"] == broken(page, read(f"{good}\n[8][no]\n"))


def test_a_second_heading_of_the_same_words_has_an_anchor_of_its_own() -> None:
    assert {"one", "one-1"} == read("# One\n## One\n").anchors


def test_every_file_of_docs_is_in_its_folders_index() -> None:
    """Of docs itself, all files; of folders below, the pages, by an index there that the first one names."""
    for folder in sorted({DOCS, *(path.parent for path in DOCS.rglob("*.md"))}):
        index = folder / "README.md"
        targets = {(folder / target.partition("#")[0]).resolve() for target in page_of(index).targets}
        wanted = {path for path in folder.glob("*" if folder == DOCS else "*.md") if path.is_file()}
        assert set() == {path.name for path in wanted - targets - {index}}, index
        if folder != DOCS:
            assert f"{folder.relative_to(DOCS)}/README.md" in page_of(INDEX).targets


def test_the_readme_leads_to_the_index() -> None:
    assert "docs/README.md" in page_of(ROOT / "README.md").targets
