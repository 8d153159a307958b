"""The Dockerfile: by hadolint, and held to what the chart, the settings and the package say of the image.

What its builder does is run by `make image-check`, which needs pip's index and minutes.
"""

from __future__ import annotations

import fnmatch
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from support.image import DOCKERFILE, ROOT, health_check, python_version, stages
from typer.main import get_command

from sentinel_ext.cli.root import app
from sentinel_ext.settings import Settings

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
VALUES = yaml.safe_load((ROOT / "helm/sentinel/values.yaml").read_text())
BUILDER, FINAL = stages()


def hadolint(path: Path) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).parent / "hadolint"), "--no-color", "--format", "tty", str(path)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def is_sent(name: str) -> bool:
    """Whether .dockerignore lets a file in: the last pattern that fits it, or a folder above it, counts."""
    sent = True
    places = [name, *(str(above) for above in Path(name).parents if str(above) != ".")]
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        if pattern and not line.startswith("#"):
            names = {Path(place).name for place in places} if "**/" in line else set(places)
            if any(
                fnmatch.fnmatchcase(each, pattern) and each.count("/") == pattern.count("/") for each in names
            ):
                sent = line.startswith("!")
    return sent


def test_hadolint_has_nothing_to_say():
    done = hadolint(DOCKERFILE)

    assert (0, "") == (done.returncode, done.stdout + done.stderr)


def test_hadolint_says_what_is_wrong(tmp_path: Path):
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN pip install x\nENTRYPOINT sentinel-ext\n")
    done = hadolint(tmp_path / "Dockerfile")

    assert 0 != done.returncode
    assert {"DL3007", "DL3013", "DL3025"} <= set(re.findall(r"DL\d+", done.stdout))


def test_both_stages_are_the_same_pinned_python():
    assert BUILDER.image == FINAL.image
    least = PROJECT["requires-python"].removeprefix(">=").split(".")
    assert [int(part) for part in least] <= [int(part) for part in python_version().split(".")]


def test_pip_takes_pinned_wheels_and_nothing_for_development():
    commands = [command for text in BUILDER.all("RUN") for command in re.split(r" && ", text)]
    installs = [command for command in commands if re.search(r"\bpip\b.* install ", command)]

    assert 3 == len(installs)
    assert [] == [each for each in installs if "--only-binary :all: -c constraints.txt" not in each]
    assert installs[-1].endswith("--force-reinstall --no-deps opentelemetry-proto")
    assert "[" not in " ".join(commands), "an extra"
    assert ["/opt/sentinel /opt/sentinel"] == [
        text.removeprefix("--from=builder ") for text in FINAL.all("COPY")
    ]


def test_what_is_copied_is_there_and_sent_and_nothing_else_is():
    names = [name for text in BUILDER.all("COPY") for name in text.split()[:-1]]

    assert {"constraints.txt", "pyproject.toml", "sentinel_ext"} <= set(names)
    assert [] == [name for name in names if not (ROOT / name).exists() or not is_sent(name)]
    assert is_sent("sentinel_ext/cli/root.py")
    secret = [".env", ".git/config", ".venv/bin/python", "tests/conftest.py", "deploy/compose/envoy.yaml"]
    assert [] == [name for name in [*secret, "sentinel_ext/__pycache__/x.pyc"] if is_sent(name)]


def test_what_is_copied_is_enough_to_build_from(tmp_path: Path):
    """With the builder's own tool; `make image-check` runs its lines as they are."""
    for text in BUILDER.all("COPY"):
        *names, target = text.split()
        for name in names:
            to = tmp_path / (name if target == "./" else target)
            to.parent.mkdir(parents=True, exist_ok=True)
            (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, to)
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "wheels")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stdout + done.stderr
    assert 1 == len(list((tmp_path / "wheels").glob("*.whl")))


def test_the_user_is_the_charts():
    context = VALUES["securityContext"]

    assert [f"{context['runAsUser']}:{context['runAsGroup']}"] == FINAL.all("USER")
    assert context["runAsGroup"] == VALUES["podSecurityContext"]["fsGroup"]
    assert context["readOnlyRootFilesystem"]
    assert "1" == FINAL.variables()["PYTHONDONTWRITEBYTECODE"]


def test_the_program_and_its_health_check_exist():
    (entrypoint,), (command,) = FINAL.all("ENTRYPOINT"), FINAL.all("CMD")
    known = get_command(app).commands  # type: ignore[attr-defined]  the root is a group

    assert [next(iter(PROJECT["scripts"]))] == json.loads(entrypoint)
    assert ["serve"] == json.loads(command)
    assert ["SIGTERM"] == FINAL.all("STOPSIGNAL")
    assert ["sentinel-ext", "healthcheck"] == health_check()
    assert {"serve", "healthcheck"} <= set(known)
    assert FINAL.variables()["PATH"].startswith("/opt/sentinel/bin:")
    assert VALUES["image"]["python"] == "python3", "a venv has it beside sentinel-ext"


def test_the_ports_are_those_that_the_settings_open():
    variables = {name: value for name, value in FINAL.variables().items() if name.endswith("_ADDRESS")}
    settings = Settings.load(variables, None)
    opened = [settings.grpc_addresses[0], settings.admin_address]

    assert [f"{opened[0].port} {opened[1].port}"] == FINAL.all("EXPOSE")
    assert {"0.0.0.0"} == {address.host for address in opened}
    assert {opened[0].port, opened[1].port} == set(VALUES["ports"].values())
    assert settings.debug_address is not None
    assert "127.0.0.1" == settings.debug_address.host


@pytest.mark.parametrize("label", ["title", "description", "licenses", "version", "revision", "base.name"])
def test_a_label_is_filled_in(label: str):
    (text,) = FINAL.all("LABEL")
    said = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', text))
    expected = {
        "version": PROJECT["version"], "description": PROJECT["description"], "licenses": PROJECT["license"],
        "base.name": f"docker.io/library/{FINAL.image}",
    }  # fmt: skip

    assert said[label]
    assert expected.get(label, said[label]) == said[label]
