"""Files that change: loaded when whole and right, else the last good ones stay, and who is told."""

from __future__ import annotations

import os
import sys
from io import BytesIO
from pathlib import Path

import pytest
from prometheus_client import generate_latest
from support.build import make_policy

from sentinel_ext.core.policy import PlanDefaults, Policy
from sentinel_ext.errors import PolicyError
from sentinel_ext.live import MAX_SHOWN, SWITCH_S, LivePolicy
from sentinel_ext.policy.contents import fingerprint
from sentinel_ext.policy.document import MAX_FILE_BYTES
from sentinel_ext.policy.loader import load_policy
from sentinel_ext.telemetry.config import publish_config
from sentinel_ext.telemetry.metrics import Metrics
from sentinel_ext.telemetry.summing import WorkerMetrics

DEFAULTS = PlanDefaults(100, 60_000_000, 20, 10_000_000_000)


class House:
    """A policy file, what became of it, and a clock that counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("plans: {default: {limit: 1}}\n")
        self.applied: list[int | None] = []
        self.faults: list[Exception] = []
        self.now_s = 1000.0
        self.live = self.watching(path)

    def watching(self, path: Path, seen: bytes | None = None) -> LivePolicy:
        live = LivePolicy([path], [], self.load, self.apply, lambda: self.now_s, seen=seen)
        live.failed, live.settle_s = self.faults.append, 0.0
        return live

    def load(self) -> Policy:
        return load_policy(self.path, DEFAULTS, "x-tenant-id")

    def apply(self, policy: Policy) -> None:
        self.applied.append(policy.default_plan.limit)

    async def write(self, text: str) -> None:
        self.path.write_text(text)
        self.now_s += 1
        await self.live.look()

    async def limit(self, limit: int) -> None:
        await self.write(f"plans: {{default: {{limit: {limit}}}}}\n")


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path / "policy.yaml")


async def test_what_changed_is_put_in_force_once(house):
    await house.limit(2)
    await house.live.look()
    await house.limit(3)

    assert [2, 3] == house.applied
    assert (3, {"ok": 2, "broken": 0}, 1002.0) == (
        house.live.generation, house.live.reloads, house.live.loaded_at,
    )  # fmt: skip
    assert fingerprint([house.path], []) == house.live.digest


async def test_the_same_content_is_loaded_again_only_by_order(house):
    os.utime(house.path, (1, 1))
    await house.live.look()
    assert ([], 1) == (house.applied, house.live.generation)

    await house.live.look(forced=True)
    assert ([1], 2) == (house.applied, house.live.generation)


async def test_a_change_since_the_first_reading_is_noticed(house):
    before = fingerprint([house.path], [])
    house.path.write_text("plans: {default: {limit: 2}}\n")

    await house.watching(house.path, before).look()

    assert [2] == house.applied


async def test_a_broken_file_changes_nothing_and_is_told_once(house, caplog):
    await house.limit(2)
    in_force = house.live.digest
    await house.write("plans: {default: {limit: x}}\nteants: {}\n")
    since = house.now_s
    await house.live.look()
    told = house.live.details()

    assert [2] == house.applied
    assert (2, in_force.hex(), False, 1001.0, since, 2) == tuple(
        told[name] for name in ("generation", "digest", "ok", "loaded_at", "broken_at", "problem_count")
    )
    assert f"{house.path}:1:26: plans.default.limit" in told["problems"][0]
    errors = [record for record in caplog.records if record.levelname == "ERROR"]
    assert [told["problems"]] == [record.problems for record in errors]


async def test_it_is_broken_since_the_first_of_several_and_right_again_when_all_is_right(house):
    await house.write("plans: [")
    since = house.now_s
    await house.write("plans: {{")
    assert since == house.live.details()["broken_at"]

    await house.limit(1)

    assert (True, 2, [1]) == (house.live.is_ok, house.live.generation, house.applied)
    assert {"generation", "digest", "ok", "loaded_at"} == house.live.details().keys()


async def test_problems_that_are_shown_have_a_bound(house):
    def load() -> Policy:
        raise PolicyError([f"problem {number}" for number in range(MAX_SHOWN + 1)])

    house.live._load = load
    await house.live.look(forced=True)

    told = house.live.details()
    assert (MAX_SHOWN, MAX_SHOWN + 1) == (len(told["problems"]), told["problem_count"])


def pipe(path: Path) -> None:
    os.mkfifo(path)


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        pytest.param(lambda _path: None, "cannot be read: No such file", id="gone"),
        pytest.param(Path.mkdir, "is not a file", id="folder"),
        pytest.param(pipe, "is not a file", id="pipe"),
        pytest.param(lambda path: path.symlink_to("/dev/zero"), "is not a file", id="device"),
        pytest.param(lambda path: path.symlink_to(path), "Too many levels of symbolic links", id="loop"),
        pytest.param(lambda path: path.symlink_to("nowhere"), "cannot be read: No such file", id="dangling"),
        pytest.param(lambda path: path.write_bytes(os.urandom(4096)), "is not UTF-8 text", id="binary"),
        pytest.param(lambda path: path.write_bytes(b"plans: {}\0"), "policy.yaml:1:10", id="zero byte"),
        pytest.param(sparse, "is larger than 16 MiB", id="too large"),
        pytest.param(lambda path: path.write_text("[" * 100_000), "deep", id="too deep"),
    ],
)
async def test_what_is_no_policy_keeps_the_last_good_one_until_it_is_one_again(house, make, said):
    house.path.unlink()
    make(house.path)
    await house.live.look()

    assert ([], False, 1, []) == (house.applied, house.live.is_ok, house.live.generation, house.faults)
    assert said in house.live.problems[0]

    if house.path.is_dir():
        house.path.rmdir()
    house.path.unlink(missing_ok=True)
    await house.limit(4)
    assert ([4], True) == (house.applied, house.live.is_ok)


class Growing(type(Path())):  # type: ignore[misc]  # the platform's class of paths
    """A file that is longer each time it is opened, until it is whole."""

    pieces: tuple[str, ...] = ()
    opened = 0

    def open(self, *_args, **_options) -> BytesIO:
        upto, self.opened = self.opened, self.opened + 1
        return BytesIO("".join(self.pieces[: upto + 1]).encode())


async def test_half_a_file_is_not_loaded_although_it_would_be_right(house):
    path = Growing(house.path)
    path.pieces = ("plans: {default: {limit: 5}}\n", "tenants:\n", "  a: default\n", "  b: default\n")
    live = house.watching(path)
    texts: list[str] = []

    def load() -> Policy:
        texts.append("".join(path.pieces[: path.opened]))
        return make_policy()

    live._load = load
    await live.look()

    assert ["".join(path.pieces)] == texts


async def test_a_file_that_never_comes_to_rest_is_loaded_as_it_is(house):
    path = Growing(house.path)
    path.pieces = ("plans: {}\n", *("# more\n",) * 10_000)
    await house.watching(path).look()

    assert 1 == len(house.applied)


@pytest.mark.parametrize("fails_in", ["_load", "_apply"])
async def test_a_bug_of_ours_is_no_success_and_does_not_end_the_watch(house, fails_in):
    right = getattr(house.live, fails_in)

    def bug(*_: object) -> None:
        raise ZeroDivisionError("of ours")

    setattr(house.live, fails_in, bug)
    await house.limit(2)
    assert (False, 1, ("internal error: ZeroDivisionError",)) == (
        house.live.is_ok, house.live.generation, house.live.problems,
    )  # fmt: skip
    assert [ZeroDivisionError] == [type(fault) for fault in house.faults]

    setattr(house.live, fails_in, right)
    await house.limit(3)
    assert (True, [3]) == (house.live.is_ok, house.applied)


@pytest.mark.parametrize("text", ["plans: {}\n", "plans: ["])
async def test_compiling_lets_the_event_loop_in_often_and_only_then(house, text):
    before, during = sys.getswitchinterval(), []
    right = house.live._load

    def load() -> Policy:
        during.append(sys.getswitchinterval())
        return right()

    house.live._load = load
    await house.write(text)

    assert before == sys.getswitchinterval()
    assert [pytest.approx(SWITCH_S)] == during


async def test_without_files_nothing_is_watched(house):
    live = LivePolicy([], [], house.load, house.apply, lambda: 0.0)
    await live.start()

    assert [] == live._tasks
    await live.close()


def samples(text: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in text.splitlines() if line.startswith("sentinel_config_")]
    return {name: float(value) for name, _, value in lines if "_created" not in name}


async def test_metrics_say_what_is_in_force_and_since_when(house):
    metrics = Metrics("1.0")
    publish_config(metrics, house.live)
    await house.limit(2)
    await house.write("plans: [")

    assert {
        'sentinel_config_reloads_total{result="ok"}': 1,
        'sentinel_config_reloads_total{result="broken"}': 1,
        "sentinel_config_last_reload_ok": 0,
        "sentinel_config_last_success_timestamp_seconds": 1001,
        "sentinel_config_generation": 2,
    } == samples(generate_latest(metrics.registry).decode())


async def test_of_several_workers_the_one_that_is_behind_is_shown(house, tmp_path):
    behind = House(tmp_path / "other.yaml")
    await house.limit(2)
    await behind.write("plans: [")
    joined = WorkerMetrics(2)
    for worker, each in enumerate((house, behind)):
        metrics = Metrics("1.0")
        publish_config(metrics, each.live)
        joined.update(worker, generate_latest(metrics.registry).decode())

    found = samples(generate_latest(joined).decode())
    assert (0, 1, 1000) == tuple(
        found[f"sentinel_config_{name}"]
        for name in ("last_reload_ok", "generation", "last_success_timestamp_seconds")
    )
