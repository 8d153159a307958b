"""The Dockerfile, read; and `make image-check`, which does what its builder does where there is no engine.

    python -m support.image

It asks pip's index for every wheel of the image, for both platforms; runs the builder's lines with a Python
of the image's version, paths moved below a temporary folder; and serves from what they made, as user 65532 on
a read-only root where this process may arrange that (root, Linux).
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from support.envoy import free_port

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
MACHINES = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
# glibc of the image's Debian 13, and the oldest that wheels of Python 3.13 are made for.
GLIBC_MINORS = range(41, 16, -1)
READY_S = 60.0


@dataclass
class Stage:
    """What stands between two FROM lines: (instruction, its text with continued lines joined)."""

    image: str
    lines: list[tuple[str, str]] = field(default_factory=list)

    def all(self, instruction: str) -> list[str]:
        return [text for name, text in self.lines if name == instruction]

    def variables(self) -> dict[str, str]:
        """Return what ENV sets; all values stand without spaces."""
        pairs = [pair for text in self.all("ENV") for pair in shlex.split(text)]
        return dict(pair.split("=", 1) for pair in pairs)


def stages() -> list[Stage]:
    """Read the Dockerfile; ARG's defaults are filled in."""
    text = "\n".join(line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#"))
    found: list[Stage] = []
    defaults: dict[str, str] = {}
    for line in filter(None, text.replace("\\\n", " ").splitlines()):
        name, _, rest = line.strip().partition(" ")
        if name == "ARG":
            defaults.update([rest.split("=", 1)])
        rest = re.sub(r"\$\{(\w+)\}", lambda match: defaults.get(match[1], match[0]), " ".join(rest.split()))
        if name == "FROM":
            found.append(Stage(rest.split(" AS ")[0]))
        elif found:
            found[-1].lines.append((name, rest))
    return found


def python_version() -> str:
    """Return the image's Python: `3.13`."""
    match = re.fullmatch(r"python:(\d+\.\d+)[\d.]*-slim-\w+", stages()[0].image)
    assert match is not None, stages()[0].image
    return match[1]


def resolved(machine: str, folder: Path) -> dict[str, str]:
    """Return name → file of every wheel of the image for a machine, as pip's index has them now."""
    version = python_version()
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed"]
    command += ["--only-binary", ":all:", "-c", str(ROOT / "constraints.txt"), "--target", str(folder)]
    command += ["--python-version", version, "--implementation", "cp"]
    for abi in (f"cp{version.replace('.', '')}", "abi3", "none"):
        command += ["--abi", abi]
    for platform in (*(f"manylinux_2_{minor}" for minor in GLIBC_MINORS), "manylinux2014"):
        command += ["--platform", f"{platform}_{machine}"]
    report = folder / "report.json"
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    subprocess.run([*command, "--report", str(report), *wanted], check=True)
    installs = json.loads(report.read_text())["install"]
    return {
        each["metadata"]["name"].lower().replace("_", "-"): Path(each["download_info"]["url"]).name
        for each in installs
    }


def build(python: str, folder: Path) -> Path:
    """Run the builder's COPY and RUN lines below `folder`; return the /opt/sentinel that they make."""
    source, base = folder / "src", folder / "base"
    subprocess.run([python, "-m", "venv", str(base)], check=True)
    source.mkdir()
    environment = {
        **os.environ,
        "PATH": f"{base / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "PIP_QUIET": "1",
    }
    for name, text in stages()[0].lines:
        if name == "COPY":
            *names, target = text.split()
            for each in names:
                copy(ROOT / each, source / target / (each if target == "./" else ""))
        elif name == "RUN":
            line = text.replace("/opt/sentinel", f"{folder}/opt/sentinel").replace(
                "/wheels", f"{folder}/wheels"
            )
            subprocess.run(["/bin/sh", "-ec", line], cwd=source, env=environment, check=True)
    return folder / "opt/sentinel"


def copy(path: Path, target: Path) -> None:
    """Copy as COPY does."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        shutil.copytree(path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(path, target)


def confined(program: list[str], user: str, folder: Path) -> list[str]:
    """Return a command that runs `program` as `user`, on this machine's root mounted read-only."""
    mounted = folder / "root"
    mounted.mkdir()
    folder.chmod(0o755)
    lines = [f"mount --bind / {mounted}", f"mount -o remount,ro,bind {mounted}"]
    # Containers have them, too.
    lines += [f"mount --bind /{each} {mounted}/{each}" for each in ("dev", "proc")]
    prefix = (Path(program[0]).parent / "python").resolve().parents[1]
    # A Python in somebody's home is shown at its place, and nothing else of that home.
    closed = [above for above in reversed(prefix.parents) if not above.stat().st_mode & 0o001]
    if closed:
        place = f"{mounted}{prefix}"
        lines += [f"mount -t tmpfs -o mode=755 none {mounted}{closed[0]}", f"mkdir -p {place}"]
        lines.append(f"mount --bind {prefix} {place}")
    lines.append(f"exec chroot --userspec={user} {mounted} {shlex.join(program)}")
    return ["unshare", "--mount", "sh", "-ec", "\n".join(lines)]


def serve(built: Path, folder: Path) -> str:
    """Start what was built as the image does, until its own health check says SERVING; say how it ran."""
    final = stages()[-1]
    path = f"{built / 'bin'}:/usr/sbin:/usr/bin:/sbin:/bin"
    environment = {**final.variables(), "PATH": path, "REDIS_URL": "memory://", "DEBUG_GRPC_ADDRESS": "off"}
    environment |= {name: f"127.0.0.1:{free_port()}" for name in ("GRPC_ADDRESS", "ADMIN_ADDRESS")}
    # With messages of OpenTelemetry that are too old it would not start; nobody answers there.
    environment |= {"ENABLE_TRACING": "true", "OTLP_ENDPOINT": "grpc://127.0.0.1:1"}
    health = [str(built / "bin" / word) if i == 0 else word for i, word in enumerate(health_check())]
    program = [
        str(built / "bin" / json.loads(final.all("ENTRYPOINT")[0])[0]),
        *json.loads(final.all("CMD")[0]),
    ]
    (user,) = final.all("USER")
    is_confined = os.geteuid() == 0 and shutil.which("unshare") is not None
    command = confined(program, user, folder) if is_confined else program
    process = subprocess.Popen(command, env=environment, cwd="/")
    try:
        deadline = time.monotonic() + READY_S
        while subprocess.run(health, env=environment, cwd="/", check=False, capture_output=True).returncode:
            assert process.poll() is None, "Sentinel ended"
            assert time.monotonic() < deadline, "Sentinel does not get healthy"
        process.terminate()
        assert process.wait(15) == 0, "SIGTERM did not end it well"
    finally:
        process.kill()
    return (
        f"as {user} on a read-only root"
        if is_confined
        else "as this user (root could make the root read-only)"
    )


def health_check() -> list[str]:
    """Return the command of the image's HEALTHCHECK."""
    (text,) = stages()[-1].all("HEALTHCHECK")
    words: list[str] = json.loads(text.partition("CMD ")[2])
    return words


def check_wheels() -> None:
    """Ask for every wheel of both platforms."""
    pinned = (ROOT / "constraints.txt").read_text().lower().replace("_", "-")
    for platform, machine in MACHINES.items():
        with tempfile.TemporaryDirectory(prefix="snt-") as name:
            found = resolved(machine, Path(name))
        assert [] == [each for each in found if f"{each}==" not in pinned], "constraints.txt lacks some"
        own = sum(f"_{machine}." in file for file in found.values())
        print(f"{platform}: {len(found)} wheels for Python {python_version()}, {own} of them for {machine}")


def image_python() -> str:
    """Return the image's version of Python; where there is none, this one, and say so."""
    found = shutil.which(f"python{python_version()}")
    # A shim of pyenv is there and fails.
    if found is None or subprocess.run([found, "-V"], check=False, capture_output=True).returncode:
        print(f"NO python{python_version()} ON PATH: the builder's lines run with {sys.version.split()[0]}")
        return sys.executable
    return found


def main() -> None:
    """Check and print."""
    check_wheels()
    with tempfile.TemporaryDirectory(prefix="snt-") as name:
        built = build(image_python(), Path(name))
        code = "import pathlib, sentinel_ext.demo.prometheus as p; "
        code += "print(p.ALERTS.parent == pathlib.Path(p.__file__).parent)"
        found = subprocess.run([built / "bin/python", "-c", code], cwd="/", check=True, capture_output=True)
        assert found.stdout == b"True\n", "the wheel lacks the alerts"
        extra = {"pip", "pytest", "envoy", "redis-server"} & {path.name for path in (built / "bin").iterdir()}
        assert set() == extra, "the image has what only development needs"
        size = sum(
            path.stat().st_size for path in built.rglob("*") if path.is_file() and not path.is_symlink()
        )
        print(f"/opt/sentinel: {size / 1e6:.0f} MB")
        print(f"served, was healthy and ended by SIGTERM {serve(built, Path(name))}")


if __name__ == "__main__":
    main()
