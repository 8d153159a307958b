"""What `make dist` builds: the same bytes each time, all that is needed, and a wheel that serves."""

from __future__ import annotations

import subprocess
import tarfile
import tomllib
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from packaging.metadata import Metadata
from support import clean_venv, scripts
from support.fleet import Sentinel

import sentinel_ext
from sentinel_ext.telemetry.tracing.intact import REPAIR

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.redis_server import RedisServer

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VERSION = PROJECT["version"]
# What `demo --with-prometheus` loads: deploy/ has it, the wheel a copy.
ALERTS = "sentinel_ext/demo/alerts.yaml"
# Any time will do, and this one no file has.
EPOCH = 1_600_000_000
SAME_FILES = ("xds-protos", "opentelemetry-proto")


dist = scripts.load("deploy/dist")


@dataclass
class Built:
    """The files, and the folder that the source distribution was unpacked in."""

    packed: Path
    wheel: Path
    tree: Path
    folder: Path

    @property
    def metadata(self) -> Metadata:
        with zipfile.ZipFile(self.wheel) as archive:
            text = archive.read(f"sentinel_ext-{VERSION}.dist-info/METADATA")
        return Metadata.from_email(text)


@pytest.fixture(scope="module")
def built(module_folder: Path) -> Built:
    packed, wheel = dist.build(ROOT, module_folder / "first", EPOCH)
    return Built(packed, wheel, dist.unpack(packed, module_folder), module_folder)


@pytest.fixture(scope="module")
def programs(built: Built) -> Path:
    """The folder of programs of an environment that has the wheel and what it declares."""
    requirements = [str(each) for each in built.metadata.requires_dist or ()]
    return clean_venv.make(built.folder / "venv", built.wheel, requirements)


def not_ignored(folder: Path) -> set[str]:
    """What git would commit, whether or not the tree is a clone."""
    git = ["git", f"--git-dir={folder}", f"--work-tree={ROOT}"]
    subprocess.run(["git", "init", "-q", "--bare", folder], check=True)
    listed = subprocess.run(
        [*git, "ls-files", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    ).stdout
    return set(listed.splitlines())


def run(programs: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [programs / "sentinel-ext", *arguments],
        env={"PATH": str(programs), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        cwd=programs,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_built_from_the_source_distribution_the_bytes_are_the_same(built: Built) -> None:
    """Other folder, other times of files: neither shows."""
    again = dist.build(built.tree, built.folder / "second", EPOCH)

    assert dist.digests([built.packed, built.wheel]) == dist.digests(again)


def test_the_source_distribution_is_what_git_holds(built: Built) -> None:
    with tarfile.open(built.packed) as archive:
        names = {member.name.partition("/")[2] for member in archive if member.isfile()}

    expected = not_ignored(built.folder / "git")
    assert {"pyproject.toml", "constraints.txt", "Makefile", "tests/deploy/test_dist.py"} <= expected
    assert expected | {"PKG-INFO"} == names


def test_the_wheel_is_the_package_and_its_licence(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = set(archive.namelist())
        alerts = archive.read(ALERTS)

    about = f"sentinel_ext-{VERSION}.dist-info/"
    package = {name for name in not_ignored(built.folder / "git") if name.startswith("sentinel_ext/")}
    assert {".lua", ".html", ".css", ".js", ".yaml", ".pyi", ".typed"} < {
        Path(name).suffix for name in package
    }
    listed = ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")
    assert (ROOT / "deploy/prometheus/alerts.yaml").read_bytes() == alerts
    assert package | {ALERTS} | {about + name for name in listed} == names


def test_an_index_would_take_it(built: Built) -> None:
    assert [] == list(dist.problems(built.packed, built.wheel))
    assert VERSION == str(built.metadata.version) == sentinel_ext.__version__, "install anew: make test does"
    assert set(PROJECT["optional-dependencies"]) == set(built.metadata.provides_extra or ())


def test_what_an_index_would_not_take_is_told(tmp_path: Path) -> None:
    about = "Metadata-Version: 2.4\nName: x\nVersion: 1\n"
    described = f"{about}Description-Content-Type: text/markdown\n\n[a](docs/a.md) ![b](b.png) [c](#c)\n"
    packed, wheel = tmp_path / "x-1.tar.gz", tmp_path / "x-1-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x-1.dist-info/METADATA", described)
    (tmp_path / "PKG-INFO").write_text(about)
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(tmp_path / "PKG-INFO", "x-1/PKG-INFO")

    told = list(dist.problems(packed, wheel))

    assert 3 == len(told)
    assert all(word in text for word, text in zip(("different", "docs/a.md", "b.png"), told, strict=True))


def test_it_is_the_wheel_that_runs_and_says_its_version(programs: Path) -> None:
    where = subprocess.run(
        [programs / "python", "-c", "import sentinel_ext; print(sentinel_ext.__file__)"],
        cwd=programs,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    assert Path(where.strip()).is_relative_to(programs.parent)
    assert f"sentinel-ext {VERSION}\n" == run(programs, "--version").stdout


def test_the_demo_says_which_extra_it_lacks(programs: Path) -> None:
    done = run(programs, "demo", "--once")

    assert (1, "") == (done.returncode, done.stdout)
    assert "pip install 'sentinel-ext[demo]'" in done.stderr


def test_descriptors_are_written_from_the_wheel_alone(programs: Path, tmp_path: Path) -> None:
    assert 0 == run(programs, "protoset", "-o", str(tmp_path / "made")).returncode

    assert (ROOT / "protos" / "sentinel.protoset").read_bytes() == (tmp_path / "made").read_bytes()


def test_two_dependencies_have_the_same_files_and_tracing_says_what_to_do(programs: Path) -> None:
    """Pip unpacks xds-protos last, so after each install its old messages are there."""
    requirements = clean_venv.needed(list(SAME_FILES))
    both = set.intersection(*(clean_venv.files_of(requirements[name]) for name in SAME_FILES))
    (name,) = (each for each in both if each.endswith("common/v1/common_pb2.py"))
    (packages,) = programs.parent.glob("lib/python*/site-packages")
    (packages / name).unlink()
    (packages / name).write_text("")

    done = run(programs, "serve", ENABLE_TRACING="true", OTLP_ENDPOINT="grpc://127.0.0.1:4317")

    assert 1 == done.returncode
    assert REPAIR in done.stderr


@pytest.fixture
async def sentinel(programs: Path, module_folder: Path, shared_redis: RedisServer) -> AsyncIterator[Sentinel]:
    environment = {"REDIS_URL": shared_redis.url, "BURST_CAPACITY": "1", "STORE_TIMEOUT_MS": "1000"}
    running = Sentinel(module_folder, environment)
    running.program = (str(programs / "sentinel-ext"),)
    running.start()
    try:
        await running.ready()
        yield running
    finally:
        running.stop()


async def test_it_serves_with_what_it_declares(sentinel: Sentinel) -> None:
    """A Check over gRPC that the scripts in Redis counted, a second one refused, metrics, the page."""
    request = external_auth_pb2.CheckRequest()
    request.attributes.request.http.headers["x-tenant-id"] = "of-the-wheel"
    async with grpc.aio.insecure_channel(f"127.0.0.1:{sentinel.grpc_port}") as channel:
        stub = external_auth_pb2_grpc.AuthorizationStub(channel)
        answers = [await stub.Check(request, timeout=10) for _ in range(2)]

    assert ["ok_response", "denied_response"] == [each.WhichOneof("http_response") for each in answers]
    assert 429 == answers[1].denied_response.status.code
    assert 1.0 == (await sentinel.metrics())[f'sentinel_build_info{{version="{VERSION}"}}']
    assert "<style" in page(sentinel)


def page(sentinel: Sentinel) -> str:
    request = urllib.request.Request(f"{sentinel.admin}/", headers={"accept": "text/html"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.read().decode()
