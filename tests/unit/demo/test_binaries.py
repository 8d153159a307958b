"""Which redis-server and which envoy the demo runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from sentinel_ext.demo.binaries import find_envoy, find_redis
from sentinel_ext.errors import StartError

if TYPE_CHECKING:
    from pathlib import Path


def program(folder: Path, name: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def test_redis_from_path_comes_before_the_wheels(tmp_path: Path) -> None:
    wheel, own = program(tmp_path / "venv", "redis-server"), program(tmp_path / "bin", "redis-server")

    assert own == find_redis(wheel.parent, str(own.parent))


def test_envoy_of_the_wheel_comes_before_paths(tmp_path: Path) -> None:
    wheel, own = program(tmp_path / "venv", "envoy"), program(tmp_path / "bin", "envoy")

    assert wheel == find_envoy(wheel.parent, str(own.parent))


def test_each_is_found_in_the_other_place(tmp_path: Path) -> None:
    redis, envoy = program(tmp_path / "venv", "redis-server"), program(tmp_path / "bin", "envoy")

    assert redis == find_redis(tmp_path / "venv", str(tmp_path / "bin"))
    assert envoy == find_envoy(tmp_path / "venv", str(tmp_path / "bin"))


def test_a_link_into_a_wheel_is_not_followed(tmp_path: Path) -> None:
    real = program(tmp_path / "wheel", "envoy-1.40")
    (tmp_path / "venv").mkdir()
    (tmp_path / "venv" / "envoy").symlink_to(real)

    assert find_envoy(tmp_path / "venv", "") == tmp_path / "venv" / "envoy"


@pytest.mark.parametrize(("find", "name"), [(find_redis, "redis-server"), (find_envoy, "envoy")])
def test_a_missing_program_is_named_with_where_it_was_looked_for_and_the_remedy(tmp_path, find, name) -> None:
    (tmp_path / name).write_text("not executable")

    with pytest.raises(StartError) as caught:
        find(tmp_path, str(tmp_path))

    message = str(caught.value)
    assert message.startswith(f"{name} is neither on PATH nor in {tmp_path}: ")
    assert "pip install" in message
    assert "\n" not in message
