"""The commands of the runbooks: parsed by our own parser, run on a real Redis, held to the chart."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import typer
import yaml
from support.helm import Helm, Rendered, containers
from support.redis_server import RedisServer
from support.runbooks import COMMANDS, PAGES, PROMQL, of, program, split
from typer.main import get_command

from sentinel_ext.cli.root import app

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
FILTERS = {"grep", "wc", "base64"}
# typer's own copy of click.
UsageError = typer.BadParameter.__mro__[1]


def parsed(arguments: list[str]) -> None:
    """Let the real parser take a command apart, without running it.

    Raises:
        UsageError: it does not.
    """
    command: Any = get_command(app)
    name, parent = "sentinel-ext", None
    while True:
        context = command.make_context(name, list(arguments), parent=parent)
        if not hasattr(command, "resolve_command"):
            return
        rest = [*context._protected_args, *context.args]
        if not rest:
            return
        name, command, arguments = command.resolve_command(context, rest)
        parent = context


def test_every_line_is_of_a_program_that_is_looked_at() -> None:
    known = {"sentinel-ext", "kubectl", "curl", "redis-cli"}
    first = Counter(program(split(line)[0]) for _, line in COMMANDS)

    assert known == set(first)
    assert FILTERS >= {piped[0] for _, line in COMMANDS for piped in split(line)[1:]}
    assert all(4 < first[one] for one in known), first
    assert {page.stem for page in PAGES} == {page for page, _ in [*COMMANDS, *PROMQL]}


@pytest.mark.parametrize(("page", "line"), of("sentinel-ext"))
def test_our_parser_takes_it(page: str, line: str) -> None:
    assert page
    parsed(split(line)[0][1:])


@pytest.mark.parametrize(
    "line",
    [
        "presure",
        "pressure --upstreams x",
        "tenants --order most",
        "breakers set orders ajar",
        "watch --count many",
    ],
)
def test_our_parser_refuses_what_is_wrong(line: str) -> None:
    with pytest.raises(UsageError):
        parsed(line.split())


def test_nobody_loads_a_sick_instance() -> None:
    """The pages name bench only to warn of it."""
    assert {"sentinel-ext bench"} >= {line for _, line in COMMANDS if "bench" in line}


@pytest.fixture(scope="module")
def secured(module_folder: Path) -> Iterator[RedisServer]:
    server = RedisServer(module_folder, "--requirepass", "s3cret", password="s3cret").start()
    yield server
    server.stop()


@pytest.mark.parametrize(("page", "line"), of("redis-cli"))
def test_redis_answers_it(page: str, line: str, secured: RedisServer) -> None:
    """With the password where the page puts it; its socket stands for the name."""
    assert "export REDISCLI_AUTH=" in next(one.read_text() for one in PAGES if one.stem == page)
    command = line.replace("-h REDIS_HOST", f"-s {secured.socket}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "REDISCLI_AUTH": "s3cret"}
    done = subprocess.run(
        shlex.split(command), env=environment, capture_output=True, text=True, timeout=20, check=True
    )

    assert str(secured.socket) in command
    assert not re.search(r"NOAUTH|WRONGPASS|\bERR\b", done.stdout + done.stderr)
    assert done.stdout.strip() or "slowlog" in line


@pytest.fixture(scope="module")
def installed() -> list[Rendered]:
    """The chart as the pages assume it, in both modes, with the admin port and the bundled Redis' Secret."""
    redis = {"bundled": {"enabled": True}, "auth": {"password": "x"}}
    files = {"policy": {"content": {"plans": {}}}, "rateLimit": {"files": {"a.yaml": {"domain": "a"}}}}
    with Helm() as helm:
        return [
            helm.render(
                {"mode": mode, "app": {"example": mode == "sidecar"}, "redis": redis, **files},
                release="sentinel",
            )
            for mode in ("service", "sidecar")
        ]


@pytest.mark.parametrize(("page", "line"), of("kubectl"))
def test_kubectl_names_what_the_chart_makes(page: str, line: str, installed: list[Rendered]) -> None:
    _, verb, *rest = split(line)[0]
    words, _, inner = " ".join(rest).partition(" -- ")

    assert page
    assert verb in {"get", "logs", "exec", "describe", "top", "port-forward", "delete", "scale", "config"}
    for rendered in installed:
        deployment = rendered.one("Deployment")
        if verb in {"logs", "exec"}:
            assert re.search(r"(?:^| )-c (\S+)", words)[1] in containers(deployment)  # type: ignore[index]
        for name in re.findall(r"deploy/(\S+)", words):
            assert name == deployment["metadata"]["name"]
        for name in re.findall(r"\bsecret (\S+)", words):
            assert "password" in rendered.one("Secret", name)["stringData"]
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        for selector in re.findall(r"-l (\S+)", words):
            assert dict(one.split("=") for one in selector.split(",")).items() <= labels.items()
        mounts = {mount["mountPath"] for mount in containers(deployment)["sentinel"]["volumeMounts"]}
        for path in re.findall(r"/etc/sentinel/\S+", inner):
            assert {path, str(Path(path).parent)} & mounts
    if verb == "port-forward":
        assert set(re.findall(r" (\d+)", words)) <= {"9464", "50052", "9901"}
    inside = shlex.split(inner)
    if inside and program(inside) == "sentinel-ext":
        parsed(inside[inside.index("sentinel-ext") + 1 :])


def test_logs_of_all_pods_are_asked_of_pods_that_have_the_container(installed: list[Rendered]) -> None:
    """One pod without it, such as the bundled Redis', ends the whole command."""
    selectors = {
        found[1] for _, line in of("kubectl") if (found := re.search(r"kubectl logs -l (\S+)", line))
    }
    templates = [
        one["spec"]["template"]
        for rendered in installed
        for one in rendered.objects
        if one["kind"] in {"Deployment", "StatefulSet"}
    ]
    chosen = [
        template
        for selector in selectors
        for template in templates
        if dict(one.split("=") for one in selector.split(",")).items()
        <= template["metadata"]["labels"].items()
    ]

    assert len(installed) == len(chosen) < len(templates)
    for template in chosen:
        spec = template["spec"]
        assert "sentinel" in {one["name"] for one in spec["containers"] + spec.get("initContainers", [])}


def test_the_page_makes_runbook_urls_whole(tmp_path: Path) -> None:
    """By its own two lines, on copies of both files."""
    lines = re.findall(r"^sed .*$", (ROOT / "docs/observability.md").read_text(), re.MULTILINE)
    for source in ("deploy/prometheus/alerts.yaml", "deploy/grafana/sentinel.json"):
        shutil.copy(ROOT / source, tmp_path)
    for line in lines:
        subprocess.run(shlex.split(line), cwd=tmp_path, check=True)
    groups = yaml.safe_load((tmp_path / "alerts.yaml").read_text())["groups"]
    urls = [one["annotations"]["runbook_url"] for each in groups for one in each["rules"] if "alert" in one]
    board = json.loads((tmp_path / "sentinel.json").read_text())
    where = next(one for one in board["templating"]["list"] if one["name"] == "runbooks")

    assert 2 == len(lines)
    assert {page.name for page in PAGES} - {"README.md"} == {url.rpartition("/")[2] for url in urls}
    assert {where["query"]} == {url.rpartition("/")[0] for url in urls}
    assert where["query"] == where["current"]["value"] == where["options"][0]["value"]
    assert where["query"].startswith("https://")


@pytest.mark.parametrize(("page", "line"), [one for one in of("kubectl") if "| grep" in one[1]])
def test_what_is_looked_for_in_the_log_is_logged(page: str, line: str) -> None:
    assert page
    (_, sought) = split(line)[-1]
    written = "\n".join(path.read_text() for path in (ROOT / "sentinel_ext").rglob("*.py"))
    assert sought in written
