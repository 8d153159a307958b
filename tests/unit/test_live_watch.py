"""Changes that the system tells of, as editors, copies and the kubelet make them, without the slow look."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest
from support.build import make_policy

from sentinel_ext import live as module
from sentinel_ext.live import LivePolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sentinel_ext.core.policy import Policy

# Notices take 0.2 s; a machine that is busy with other tests takes longer.
NOTICED_S = 20.0


class Watched:
    """A policy file and a folder of rules beside it, whose texts are what is put in force."""

    def __init__(self, folder: Path) -> None:
        self.file, self.rules = folder / "etc" / "policy.yaml", folder / "rules"
        self.file.parent.mkdir()
        self.file.write_text("1")
        self.rules.mkdir()
        self.now: list[str] = []
        self._applied = asyncio.Event()
        self.live = LivePolicy([self.file], [self.rules], self._load, self._apply, lambda: 0.0)
        self.live.settle_s = 0.02
        self.faults: list[Exception] = []
        self.live.failed = self.faults.append

    def _load(self) -> Policy:
        texts = [self.file.read_text()] if self.file.exists() else ["-"]
        texts += [path.read_text() for path in sorted(self.rules.glob("*.yaml")) if path.exists()]
        return make_policy_of(texts)

    def _apply(self, policy: Policy) -> None:
        self.now = list(policy.warnings)
        self._applied.set()

    async def until(self, *texts: str) -> None:
        async with asyncio.timeout(NOTICED_S):
            while list(texts) != self.now:
                self._applied.clear()
                await self._applied.wait()


def make_policy_of(texts: list[str]) -> Policy:
    policy = make_policy()
    return type(policy)(
        policy.plans, policy.default_plan, {}, (), policy.sources, policy.modes, warnings=tuple(texts)
    )


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(module, "POLL_S", 60.0)
    watched = Watched(tmp_path)
    await watched.live.start()
    # The watch has begun when a first change was noticed; writing before may be too early.
    async with asyncio.timeout(NOTICED_S):
        number = 0
        while not watched.now:
            number += 1
            watched.file.write_text(f"start {number}")
            try:
                async with asyncio.timeout(1):
                    await watched._applied.wait()
            except TimeoutError:
                continue
    yield watched
    await watched.live.close()
    assert [] == watched.faults


def written(path: Path, text: str) -> None:
    path.write_text(text)


def renamed(path: Path, text: str) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def backed_up(path: Path, text: str) -> None:
    """As editors do that keep the file they found."""
    path.rename(path.with_name(f"{path.name}~"))
    path.write_text(text)


@pytest.mark.parametrize("write", [written, renamed, backed_up])
async def test_what_writes_a_file_does_not_matter(
    watched: Watched, write: Callable[[Path, str], None]
) -> None:
    for text in ("2", "3", "4"):
        write(watched.file, text)
        await watched.until(text)


async def test_files_of_the_folder_come_change_and_go(watched: Watched) -> None:
    watched.file.write_text("2")
    (watched.rules / "a.yaml").write_text("a")
    await watched.until("2", "a")
    (watched.rules / "b.yaml").write_text("b")
    await watched.until("2", "a", "b")
    (watched.rules / "a.yaml").unlink()
    await watched.until("2", "b")


async def test_a_file_that_went_comes_back(watched: Watched) -> None:
    watched.file.unlink()
    await watched.until("-")
    watched.file.write_text("2")
    await watched.until("2")


async def test_a_folder_that_went_and_came_back_is_watched_again(watched: Watched) -> None:
    watched.file.write_text("2")
    (watched.rules / "a.yaml").write_text("a")
    await watched.until("2", "a")

    shutil.rmtree(watched.rules)
    await watched.until("2")
    watched.rules.mkdir()
    (watched.rules / "a.yaml").write_text("b")
    await watched.until("2", "b")
    (watched.rules / "a.yaml").write_text("c")
    await watched.until("2", "c")


async def test_a_folder_that_another_one_replaced_is_watched(watched: Watched) -> None:
    fresh = watched.rules.with_name("fresh")
    fresh.mkdir()
    (fresh / "a.yaml").write_text("a")
    watched.file.write_text("2")
    watched.rules.rename(watched.rules.with_name("old"))
    fresh.rename(watched.rules)
    await watched.until("2", "a")

    (watched.rules / "a.yaml").write_text("b")
    await watched.until("2", "b")


async def test_the_folder_behind_a_link_that_was_swapped_is_watched(watched: Watched) -> None:
    """As releases are switched: `rules` is a link to the one in use."""
    watched.file.write_text("2")
    root = watched.rules.parent
    watched.rules.rmdir()
    for name in ("r1", "r2"):
        (root / name).mkdir()
        (root / name / "a.yaml").write_text(name)
    for name in ("r1", "r2"):
        (root / "next").symlink_to(name)
        (root / "next").rename(watched.rules)
        await watched.until("2", name)

    (root / "r2" / "a.yaml").write_text("in place")
    await watched.until("2", "in place")


async def test_a_configmap_s_swap_is_one_change(watched: Watched) -> None:
    """The kubelet's steps: a new folder, `..data` renamed over the old link, then the old folder goes."""
    watched.file.write_text("2")

    def publish(version: str) -> None:
        (watched.rules / version).mkdir()
        for name in ("a.yaml", "b.yaml"):
            (watched.rules / version / name).write_text(f"{name} {version}")
        (watched.rules / "..data_tmp").symlink_to(version)
        (watched.rules / "..data_tmp").rename(watched.rules / "..data")

    publish("..1")
    for name in ("a.yaml", "b.yaml"):
        (watched.rules / name).symlink_to(f"..data/{name}")
    await watched.until("2", "a.yaml ..1", "b.yaml ..1")
    for before, version in (("..1", "..2"), ("..2", "..3")):
        publish(version)
        shutil.rmtree(watched.rules / before)
        await watched.until("2", f"a.yaml {version}", f"b.yaml {version}")


async def test_a_link_to_a_file_elsewhere_is_followed(watched: Watched) -> None:
    elsewhere = watched.rules.with_name("elsewhere")
    elsewhere.mkdir()
    (elsewhere / "real.yaml").write_text("2")
    watched.file.unlink()
    watched.file.symlink_to(elsewhere / "real.yaml")
    await watched.until("2")

    (elsewhere / "real.yaml").write_text("3")
    await watched.until("3")


async def test_sighup_needs_no_change(watched: Watched) -> None:
    before = watched.live.generation

    watched._applied.clear()
    watched.live.reload()
    async with asyncio.timeout(NOTICED_S):
        await watched._applied.wait()

    assert before + 1 == watched.live.generation


async def test_where_the_system_does_not_tell_the_slow_look_finds_it(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def nothing_left(*_folders: Path, **_options: object) -> None:
        raise OSError("no more watches")

    await watched.live.close()
    monkeypatch.setattr(module, "awatch", nothing_left)
    monkeypatch.setattr(module, "POLL_S", 0.05)
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    watched.live = LivePolicy([watched.file], [watched.rules], watched._load, watched._apply, lambda: 0.0)
    await watched.live.start()
    for text in ("2", "3"):
        watched.file.write_text(text)
        await watched.until(text)

    assert ["no more watches"] == [record.why for record in caplog.records if hasattr(record, "why")]
