"""Folders of rate limit files: what is read of them, what is left out, and what cannot be read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sentinel_ext.errors import PolicyError
from sentinel_ext.policy.ratelimit import files, load_rules

if TYPE_CHECKING:
    from pathlib import Path

LIMIT = "{unit: day, requests_per_unit: 1}"


def domain(name: str) -> str:
    return f"domain: {name}\ndescriptors: [{{key: k, rate_limit: {LIMIT}}}]\n"


def test_a_folder_is_read_as_a_configmap_is_mounted(tmp_path: Path):
    data = tmp_path / "..2026"
    data.mkdir()
    (data / "a.yaml").write_text(domain("d"))
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    (tmp_path / ".hidden.yaml").write_text("no")

    rules = load_rules(tmp_path, merge=False, lenient=False)

    assert ["d"] == list(rules.domains)
    assert () == rules.warnings


def test_what_is_left_out_is_told(tmp_path: Path):
    (tmp_path / "a.yml").write_text(domain("d"))
    (tmp_path / "b.yaml").mkdir()
    (tmp_path / "notes.txt").write_text("hello")

    assert (
        f"{tmp_path}/b.yaml: left out; folders in a folder are not read",
        f"{tmp_path}/notes.txt: left out; rate limit files end in .yaml or .yml",
    ) == load_rules(tmp_path, merge=False, lenient=False).warnings


def test_warnings_are_as_many_as_a_person_reads(tmp_path: Path):
    for number in range(files.MAX_PROBLEMS + 5):
        (tmp_path / f"{number:03}.txt").write_text("")
    warnings = load_rules(tmp_path, merge=False, lenient=False).warnings

    assert files.MAX_PROBLEMS + 1 == len(warnings)
    assert "and 6 more" == warnings[-1]  # the last one says that nothing is limited


def test_an_empty_folder_limits_nothing_and_says_so(tmp_path: Path):
    rules = load_rules(tmp_path, merge=False, lenient=False)

    assert {} == rules.domains
    assert "nothing is limited" in rules.warnings[0]


def test_files_are_merged_in_the_order_of_their_names(tmp_path: Path):
    for name, pattern in (("b.yaml", "xy*"), ("a.yaml", "x*"), ("c.yml", "z*")):
        (tmp_path / name).write_text(f"domain: d\ndescriptors: [{{key: k, value: '{pattern}'}}]\n")
    rules = load_rules(tmp_path, merge=True, lenient=False)

    assert ["x*", "xy*", "z*"] == [node.value for _, _, node in rules.domains["d"].wildcards]


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        ("missing", "rules: cannot be read: No such file or directory"),
        ("file", "rules: cannot be read: Not a directory"),
        ("binary", "rules/a.yaml:1:9: is not UTF-8 text"),
        ("dangling", "rules/a.yaml: cannot be read: No such file or directory"),
        ("pipe", "rules/a.yaml: cannot be read: not a regular file"),
        ("loop", "rules/a.yaml: cannot be read: Too many levels of symbolic links"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, prepare: str, words: str):
    folder = tmp_path / "rules"
    if prepare == "file":
        folder.write_text("")
    elif prepare != "missing":
        folder.mkdir()
        (folder / "b.yaml").write_text("domain: d\ndescriptors: [{key: ''}]\n")
    if prepare == "binary":
        (folder / "a.yaml").write_bytes(b"domain: \xff\xfe")
    elif prepare == "dangling":
        (folder / "a.yaml").symlink_to("nowhere")
    elif prepare == "pipe":
        os.mkfifo(folder / "a.yaml")
    elif prepare == "loop":
        (folder / "a.yaml").symlink_to("a.yaml")

    with pytest.raises(PolicyError) as caught:
        load_rules(folder, merge=False, lenient=False)

    assert words in caught.value.problems[0]
    # The others are looked at all the same.
    assert len(caught.value.problems) == (1 if prepare in {"missing", "file"} else 2)


def test_files_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MAX_FILES", 2)
    for number in range(2):
        (tmp_path / f"{number}.yaml").write_text(domain(f"d{number}"))
    assert 2 == len(load_rules(tmp_path, merge=False, lenient=False).domains)

    (tmp_path / "2.yaml").write_text(domain("d2"))
    with pytest.raises(PolicyError, match="more than 2 files"):
        load_rules(tmp_path, merge=False, lenient=False)


def test_files_are_weighed_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    each = domain("d0")
    monkeypatch.setattr(files, "MAX_TOTAL_BYTES", 2 * len(each))
    for number in range(2):
        (tmp_path / f"{number}.yaml").write_text(domain(f"d{number}"))
    assert 2 == len(load_rules(tmp_path, merge=False, lenient=False).domains)

    (tmp_path / "2.yaml").write_text("#")
    (tmp_path / "3.yaml").symlink_to("nowhere")
    with pytest.raises(PolicyError, match="rate limit files are larger than") as caught:
        load_rules(tmp_path, merge=False, lenient=False)
    # What is beyond the bound is not even opened.
    assert 1 == len(caught.value.problems)
