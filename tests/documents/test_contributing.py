"""What CONTRIBUTING.md tells of the code is so: layers, files, targets."""

from __future__ import annotations

import re
import tomllib

from support.documents import ROOT

TEXT = (ROOT / "CONTRIBUTING.md").read_text()
BLOCKS = re.findall(r"(?s)```\n(.*?)```", TEXT)


def test_the_picture_of_the_layers_is_the_contract() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layers,) = (contract["layers"] for contract in contracts if contract["type"] == "layers")

    assert [layer.replace("sentinel_ext.", "") for layer in layers] in [
        block.splitlines() for block in BLOCKS
    ]


def test_files_and_folders_exist() -> None:
    names = set(re.findall(r"`([\w.]+/[\w./]*|\w+\.py)`", TEXT)) - {"dist/"}
    places = (ROOT, ROOT / "sentinel_ext", ROOT / "helm/sentinel", ROOT / "tests/unit/telemetry")

    assert {"core/pipeline.py", "telemetry/summing.py", "deploy/grafana/rows.py"} < names
    assert set() == {name for name in names if not any((place / name).exists() for place in places)}


def test_names_of_the_code_exist() -> None:
    """Those that a step says to look for in a file: `Name` ... in `file.py`, or the other way round."""
    pairs = re.findall(r"`([A-Za-z_]+)` (?:in|of) `([\w/]+\.py)`", TEXT)

    assert 5 <= len(pairs)
    for name, file in pairs:
        path = next(place / file for place in (ROOT / "sentinel_ext", ROOT) if (place / file).exists())
        assert re.search(rf"\b{name}\b", path.read_text()), f"{name} in {file}"


def test_every_target_of_make_is_told() -> None:
    targets = re.findall(r"(?m)^([a-z-]+):.*## ", (ROOT / "Makefile").read_text())
    told = set(re.findall(r"make ([a-z-]+)", TEXT))

    assert {"demo", "test", "dist"} < set(targets)
    assert set(targets) == told & set(targets)
    assert set() == set(re.findall(r"`make ([a-z-]+)", TEXT)) - set(targets)
