"""The recipe that is Envoy's own configuration, by a real Envoy; and the pages beside the recipes."""

from __future__ import annotations

from support.envoy import validate
from support.manifests import RECIPES

PAGES = sorted(RECIPES.glob("*.md"))


def test_a_real_envoy_takes_the_plain_recipe():
    done = validate(RECIPES / "envoy" / "envoy.yaml")

    assert 0 == done.returncode, done.stderr
    assert "deprecated" not in done.stderr.lower()


def test_every_manifest_is_named_by_a_page():
    told = " ".join(page.read_text() for page in PAGES)
    files = {path.relative_to(RECIPES).as_posix() for path in RECIPES.glob("*/*.yaml")}

    assert set() == {name for name in files if name not in told and name.split("/")[1] not in told}


def test_the_index_names_every_page():
    index = (RECIPES / "README.md").read_text()

    assert [] == [page.name for page in PAGES if page.name != "README.md" and f"({page.name})" not in index]
