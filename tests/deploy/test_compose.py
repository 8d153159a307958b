"""docker-compose.yml: read by Docker Compose itself, and what it mounts and says run by the real programs."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import aiohttp
import pytest
import yaml
from support.compose import FILE, ROOT, Stack, binds, compose, config, services
from support.envoy import validate
from support.image import stages
from support.prometheus import program

from sentinel_ext.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.e2e

DEPLOY = ROOT / "deploy/compose"
DASHBOARD = ROOT / "deploy/grafana/sentinel.json"
PUBLISHED = {
    "envoy": {3000: 3000}, "backend": {8080: 8080}, "prometheus": {9090: 9090}, "jaeger": {16686: 16686},
    "grafana": {3001: 3000}, "sentinel-1": {9464: 9464}, "sentinel-2": {9465: 9464},
}  # fmt: skip
TRIES = 40
TRIAL_LIMIT = 15

each_service = pytest.mark.parametrize("name", sorted(services()))


@pytest.fixture(scope="module")
async def stack(module_folder: Path) -> AsyncIterator[Stack]:
    async with Stack(module_folder) as running:
        yield running


async def get(url: str, tenant: str) -> tuple[int, dict[str, str], Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(url, headers={"x-tenant-id": tenant}) as answer,
    ):
        headers = {name.lower(): value for name, value in answer.headers.items()}
        return answer.status, headers, await answer.json(content_type=None)


async def metric(stack: Stack, service: str, name: str) -> float:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{stack.url(service, 9464)}/metrics") as answer,
    ):
        lines = (await answer.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}{{"))


def test_compose_refuses_what_it_does_not_know(tmp_path: Path) -> None:
    """So that what it accepts means something."""
    (tmp_path / "broken.yml").write_text(FILE.read_text().replace("depends_on:", "depend_on:"))

    done = compose(tmp_path / "broken.yml", "config", "--quiet")

    assert 0 != done.returncode
    assert "depend_on" in done.stderr
    assert 0 == compose(FILE, "config", "--quiet").returncode


def test_users_find_the_ports_they_know_on_loopback_only() -> None:
    ports = {name: each["ports"] for name, each in services().items() if "ports" in each}

    assert PUBLISHED == {
        name: {int(port["published"]): port["target"] for port in each} for name, each in ports.items()
    }
    assert {"127.0.0.1"} == {port["host_ip"] for each in ports.values() for port in each}


@each_service
def test_a_service_is_pinned_hardened_and_mounts_what_exists_read_only(name: str) -> None:
    service = services()[name]

    assert re.fullmatch(r"[\w./-]+:v?\d[\w.-]*", service["image"])
    assert (True, ["ALL"], ["no-new-privileges:true"]) == (
        service["read_only"], service["cap_drop"], service["security_opt"]
    )  # fmt: skip
    assert [] == [source for source in binds(service).values() if not source.exists()]
    mounts = [mount for mount in service.get("volumes", ()) if mount["type"] == "bind"]
    assert [] == [mount["target"] for mount in mounts if not mount.get("read_only")]
    assert not {"privileged", "network_mode", "pid", "cap_add"} & set(service)


def test_whoever_is_waited_for_as_healthy_has_a_health_check() -> None:
    waited = {
        (other, how["condition"])
        for each in services().values()
        for other, how in each.get("depends_on", {}).items()
    }

    assert {"service_healthy"} == {condition for _, condition in waited}
    assert {"redis", "backend", "sentinel-1", "sentinel-2", "prometheus"} == {name for name, _ in waited}
    assert {"jaeger"} == {name for name, each in services().items() if "healthcheck" not in each}
    assert stages()[-1].all("HEALTHCHECK")


@pytest.mark.parametrize("name", ["sentinel-1", "sentinel-2"])
def test_every_variable_of_sentinel_is_one_that_its_settings_know(name: str) -> None:
    told = {**stages()[-1].variables(), **services()[name]["environment"]}
    known = {field.upper() for field in Settings.model_fields} | {
        str(info.alias or info.validation_alias) for info in Settings.model_fields.values()
    }
    loaded = Settings.load(
        {k: v.replace("/etc/sentinel", str(DEPLOY / "sentinel")) for k, v in told.items()}, None
    )

    assert set(services()[name]["environment"]) <= known
    assert ("0.0.0.0", 50051) == (loaded.grpc_addresses[0].host, loaded.grpc_addresses[0].port)


def test_sentinels_image_is_built_here_under_the_charts_name() -> None:
    values = yaml.safe_load((ROOT / "helm/sentinel/values.yaml").read_text())["image"]
    version = yaml.safe_load((ROOT / "helm/sentinel/Chart.yaml").read_text())["appVersion"]
    own = {name for name, each in services().items() if "build" in each}

    assert {"sentinel-1", "sentinel-2", "backend"} == own
    assert {f"registry.example.com/{values['repository']}:{version}"} == {
        services()[name]["image"] for name in own
    }
    assert {str(ROOT)} == {services()[name]["build"]["context"] for name in own}


def test_envoys_configuration_is_what_the_command_renders(tmp_path: Path) -> None:
    environment = {**os.environ, "SENTINEL_EXT": str(Path(sys.executable).parent / "sentinel-ext")}
    subprocess.run([DEPLOY / "render.sh", tmp_path], env=environment, check=True, cwd=tmp_path)

    assert (tmp_path / "envoy.yaml").read_text() == (DEPLOY / "envoy.yaml").read_text(), "run `make examples`"
    assert 0 == validate(DEPLOY / "envoy.yaml").returncode


def test_grafana_finds_its_sources_and_the_dashboard() -> None:
    mounts = binds(services()["grafana"])
    sources = yaml.safe_load((DEPLOY / "grafana/datasources/sentinel.yaml").read_text())["datasources"]
    (provider,) = yaml.safe_load((DEPLOY / "grafana/dashboards/sentinel.yaml").read_text())["providers"]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    by_type = {source["type"]: source for source in sources}

    assert DASHBOARD == mounts[home]
    assert provider["options"]["path"] == str(Path(home).parent)
    assert {"/etc/grafana/provisioning/datasources", "/etc/grafana/provisioning/dashboards"} < set(mounts)
    assert ("http://prometheus:9090", "http://jaeger:16686") == (
        by_type["prometheus"]["url"],
        by_type["jaeger"]["url"],
    )
    (exemplar,) = by_type["prometheus"]["jsonData"]["exemplarTraceIdDestinations"]
    assert ("trace_id", by_type["jaeger"]["uid"]) == (exemplar["name"], exemplar["datasourceUid"])
    # Who may follow the link: it opens in Explore.
    assert services()["grafana"]["environment"]["GF_AUTH_ANONYMOUS_ORG_ROLE"] in {"Editor", "Admin"}
    assert "prometheus" == json.loads(mounts[home].read_text())["templating"]["list"][0]["query"]
    assert by_type["prometheus"]["isDefault"]


async def test_health_checks_fail_while_nothing_runs(stack: Stack) -> None:
    assert {"redis", "backend", "sentinel-1", "envoy"} == stack.failed_before
    assert all(stack.is_healthy(name) for name in stack.failed_before)


async def test_a_request_passes_and_says_what_is_left(stack: Stack) -> None:
    status, headers, seen = await get(f"{stack.url('envoy', 3000)}/orders", "acme")

    assert 200 == status, stack.log("envoy")
    assert ("1000", "/orders") == (headers["x-ratelimit-limit"], seen["path"])
    assert "vital" == seen["headers"]["x-sentinel-tier"]
    direct, _, _ = await get(f"{stack.url('backend', 8080)}/orders", "acme")
    assert 200 == direct


async def test_a_tenant_over_its_limit_is_refused_over_both_sentinels(stack: Stack) -> None:
    answers = [await get(f"{stack.url('envoy', 3000)}/orders", "trial-7") for _ in range(TRIES)]
    refused = [headers for status, headers, _ in answers if status == 429]

    # A busy machine presses Sentinel: an economy tenant's limit follows, and some of it may be shed.
    assert {200, 429} <= {status for status, _, _ in answers} <= {200, 429, 503}
    assert all(0 < int(headers["x-ratelimit-limit"]) <= TRIAL_LIMIT for headers in refused)
    assert all(int(headers["retry-after"]) >= 1 for headers in refused)
    for name in ("sentinel-1", "sentinel-2"):
        assert await metric(stack, name, "sentinel_decisions_total") > 0, name


async def test_both_send_their_spans_where_jaeger_would_be(stack: Stack) -> None:
    for _ in range(5):
        await get(f"{stack.url('envoy', 3000)}/orders", "acme")

    def both(spans: list[Any]) -> bool:
        return {"sentinel", "envoy"} <= {span.resource["service.name"] for span in spans}

    await stack.receiver.until(both)


async def test_prometheus_takes_the_configuration_and_scrapes_everybody(stack: Stack) -> None:
    for name in ("prometheus", "promtool"):
        stack.use(name, program(name))
    for target, source in binds(services()["prometheus"]).items():
        shutil.copy(source, stack.folder / Path(target).name)
    subprocess.run([program("promtool"), "check", "config", stack.folder / "prometheus.yml"], check=True)
    address = f"127.0.0.1:{stack.port('prometheus', 9090)}"
    await stack.start("prometheus", f"--web.listen-address={address}")

    def ask(path: str) -> Any:
        with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=5) as answer:
            return json.load(answer)["data"]

    async with asyncio.timeout(20):
        while {each["health"] for each in ask("targets")["activeTargets"]} != {"up"}:
            await asyncio.sleep(0.2)
    jobs = sorted(each["labels"]["job"] for each in ask("targets")["activeTargets"])
    rules = [rule for group in ask("rules")["groups"] for rule in group["rules"]]
    assert ["envoy", "sentinel", "sentinel"] == jobs
    assert len(rules) > 30
    # As the dashboard asks with "All" chosen, here where no series has a namespace.
    (panel,) = [
        each for each in json.loads(DASHBOARD.read_text())["panels"] if each["title"] == "Time of a decision"
    ]
    asked = next(target["expr"] for target in panel["targets"] if target.get("exemplar"))
    asked = re.sub(r"\$\w+", ".*", asked.replace("$__rate_interval", "1m"))
    chosen = quote(f"sum(sentinel_decisions_total{re.search(r'{.*?}', asked)[0]})")  # type: ignore[index]
    (sample,) = ask(f"query?query={chosen}")["result"]
    assert float(sample["value"][1]) > 0
    assert "namespace" in chosen
    async with asyncio.timeout(20):
        while not (found := ask(f"query_exemplars?query={quote(asked)}&start=0&end=9999999999")):
            await asyncio.sleep(0.2)
    traces = {one["labels"]["trace_id"] for series in found for one in series["exemplars"]}
    assert all(re.fullmatch("[0-9a-f]{32}", trace) for trace in traces)
    assert traces


def test_every_file_for_compose_is_mounted_or_makes_one_that_is() -> None:
    mounted = [source for each in services().values() for source in binds(each).values()]
    files = [path for path in DEPLOY.rglob("*") if path.is_file() and path.name != "render.sh"]

    assert [] == [path for path in files if not any(path.is_relative_to(source) for source in mounted)]
    assert "sentinel" == config()["name"]
