"""What counts as a change of files, and which folders tell of it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from sentinel_ext.policy.contents import fingerprint, irregular, watched
from sentinel_ext.policy.document import MAX_FILE_BYTES
from sentinel_ext.policy.ratelimit.files import MAX_FILES

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("plans: {}\n")
    return path


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    folder = tmp_path / "rules"
    folder.mkdir()
    (folder / "a.yaml").write_text("domain: a\n")
    (folder / "b.yml").write_text("domain: b\n")
    return folder


def test_the_time_of_a_file_is_no_change_and_one_byte_is(policy, rules):
    before = fingerprint([policy], [rules])

    os.utime(policy, (1, 1))
    assert before == fingerprint([policy], [rules])
    policy.write_text("plans: [}\n")
    assert before != fingerprint([policy], [rules])


def test_equal_contents_in_other_folders_are_equal(policy, rules):
    before = fingerprint([policy], [rules])
    elsewhere = rules.rename(rules.with_name("elsewhere"))

    assert before == fingerprint([policy.rename(policy.with_name("other.yaml"))], [elsewhere])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda folder: (folder / "a.yaml").rename(folder / "c.yaml"), id="renamed"),
        pytest.param(lambda folder: (folder / "a.yaml").unlink(), id="gone"),
        pytest.param(lambda folder: (folder / "c.yaml").write_text(""), id="an empty one more"),
        pytest.param(lambda folder: (folder / "a.yaml").write_text(""), id="emptied"),
        pytest.param(
            lambda folder: (
                (folder / "a.yaml").write_text("domain: a\ndomain"),
                (folder / "b.yml").write_text(": b\n"),
            ),
            id="a byte moved to the other",
        ),
        pytest.param(lambda folder: folder.rename(folder.with_name("away")), id="the folder went"),
    ],
)
def test_what_happens_to_files_of_a_folder_is_a_change(rules, change):
    before = fingerprint([], [rules])

    change(rules)

    assert before != fingerprint([], [rules])


def test_what_the_service_does_not_read_is_no_change(rules):
    before = fingerprint([], [rules])

    for name in ("README", ".a.yaml.swp", ".hidden.yaml", "a.yaml~"):
        (rules / name).write_text("anything")

    assert before == fingerprint([], [rules])


def test_missing_empty_a_pipe_a_folder_and_a_loop_differ(tmp_path):
    path = tmp_path / "policy.yaml"
    seen = [fingerprint([path], [])]
    path.write_text("")
    seen.append(fingerprint([path], []))
    path.unlink()
    os.mkfifo(path)  # opening it would wait for a writer for ever
    seen.append(fingerprint([path], []))
    assert [path] == irregular([path])
    path.unlink()
    path.symlink_to(path)

    assert 3 == len(set(seen))
    assert seen[0] == fingerprint([path], []), "a loop of links leads nowhere"
    assert [] == irregular([path])


def test_no_more_than_the_bound_of_a_file_is_read(policy):
    with policy.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    before = fingerprint([policy], [])
    with policy.open("ab") as file:
        file.truncate(1 << 40)  # without blocks: reading all of it would take minutes

    assert before == fingerprint([policy], [])


def test_no_more_than_the_bound_of_files_is_read(rules):
    for number in range(MAX_FILES - 2):
        (rules / f"c{number:04}.yaml").touch()
    at_the_bound = fingerprint([], [rules])
    (rules / "d.yaml").touch()
    beyond = fingerprint([], [rules])
    (rules / "e.yaml").touch()

    assert at_the_bound != beyond, "one more is a change: it is refused then"
    assert beyond == fingerprint([], [rules])


def test_the_folders_of_files_are_watched_and_those_behind_links(tmp_path, rules):
    release = tmp_path / "release-1"
    release.mkdir()
    (release / "policy.yaml").write_text("")
    (tmp_path / "etc").mkdir()
    policy = tmp_path / "etc" / "policy.yaml"
    policy.symlink_to(release / "policy.yaml")

    assert {policy.parent, release, tmp_path, rules} == set(watched([policy], [rules]))


def test_a_folder_that_was_replaced_is_another_one_and_a_missing_one_is_left_out(tmp_path, rules):
    before = watched([], [rules])
    rules.rename(tmp_path / "old")
    without = watched([], [rules])
    rules.mkdir()

    assert {tmp_path} == set(without)
    assert before.keys() == watched([], [rules]).keys()
    assert before != watched([], [rules])


def test_a_loop_of_links_is_watched_where_it_stands(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)

    assert {tmp_path} == set(watched([loop / "policy.yaml", loop], [loop]))
