"""What the chart renders, started: Sentinel with its variables and files, Envoy, the app, the test."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import urllib.request
from typing import TYPE_CHECKING, Any

import pytest
from support.envoy import ENVOY, EnvoyProcess, free_port
from support.fleet import Sentinel
from support.helm import Helm, Rendered, containers, environment

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

POLICY = {
    "plans": {"gold": {"limit": 1000, "burst": 100}},
    "tenants": {"acme": "gold", "banned": {"limit": 0}, "helm-test": "gold"},
    "identify": [{"header": "x-shop"}],
    "stages": {"breaker": False},  # as Helm reads a bare `off`
}
RULE = {"key": "path", "value": "/limited", "rate_limit": {"unit": "day", "requests_per_unit": 1}}
PROBED = "/up?by=kubelet"
LIMITS = {"shop.yaml": {"domain": "chart", "descriptors": [RULE, {**RULE, "value": PROBED}]}}


class Pod:
    """A rendered pod's containers as processes of this machine: paths below a folder, ports as rendered."""

    def __init__(self, rendered: Rendered, folder: Path, redis_url: str) -> None:
        self.rendered, self.folder = rendered, folder
        self.containers = containers(rendered.one("Deployment"))
        self._moved = {
            "/run/sentinel": f"{folder}/run",
            "/etc/sentinel": f"{folder}/etc",
            "redis://redis:6379": redis_url,
        }
        (folder / "run").mkdir()
        for suffix in ("policy", "ratelimit", "envoy"):
            self._mount(suffix)

    def _mount(self, suffix: str) -> None:
        """Lay a ConfigMap down as the kubelet does: files are links through a folder that is swapped."""
        maps = [one for one in self.rendered.objects if one["metadata"]["name"].endswith(f"-{suffix}")]
        target = self.folder / "etc" / suffix
        target.mkdir(parents=True)
        for one in maps:
            (target / "..one").mkdir()
            (target / "..data").symlink_to("..one")
            for name, text in one["data"].items():
                (target / "..one" / name).write_text(self.moved(text))
                (target / name).symlink_to(f"..data/{name}")

    def change(self, suffix: str, **files: str) -> None:
        """Swap a ConfigMap's folder for another one, in one step."""
        target = self.folder / "etc" / suffix
        (target / "..two").mkdir()
        for name, text in files.items():
            (target / "..two" / name.replace("_", ".")).write_text(text)
        (target / "..new").symlink_to("..two")
        (target / "..new").replace(target / "..data")

    def moved(self, text: str) -> str:
        for old, new in self._moved.items():
            text = text.replace(old, new)
        return text

    def variables(self, name: str) -> dict[str, str]:
        given = environment(self.containers[name])
        return {key: self.moved(value) for key, value in given.items()}


def listening(process: subprocess.Popen[bytes], port: int) -> None:
    import socket  # noqa: PLC0415

    deadline = time.monotonic() + 20
    while True:
        assert process.poll() is None
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def run_test_pod(rendered: Rendered, url: str) -> subprocess.CompletedProcess[str]:
    """Run what `helm test` runs, with the Service's address exchanged."""
    (container,) = containers(rendered.one("Pod", "-test")).values()
    script, asked, *rest = container["args"]
    assert url.partition(":")[0] == asked.partition(":")[0]
    command = [sys.executable, *container["command"][1:], script, url, *rest]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def emptied(server: RedisServer) -> None:
    """Another test's counters and breakers are not ours."""
    with server.client() as client:
        client.flushall()


def ports(*names: str) -> dict[str, int]:
    return {name: free_port() for name in names}


@pytest.fixture(scope="module")
async def sidecar(
    helm: Helm, module_folder: Path, shared_redis: RedisServer
) -> AsyncIterator[tuple[Pod, Sentinel, int]]:
    at = ports("http", "envoy_admin", "app", "admin", "envoy_metrics")
    values: dict[str, Any] = {
        "mode": "sidecar",
        "config": {
            "failOpen": False,
            "storeTimeoutMs": 1000,
            "debugAddress": "off",
            "listenHost": "127.0.0.1",
        },
        "ports": {"admin": at["admin"]},
        "envoy": {
            "port": at["http"],
            "adminPort": at["envoy_admin"],
            "checkTimeoutMs": 5000,
            "rateLimitDomain": "chart",
            "unprotectedPaths": ["/up"],
            "trustedHops": 1,
        },
        "metrics": {"envoy": {"port": at["envoy_metrics"]}},
        "app": {"example": True, "port": at["app"]},
        "policy": {"content": POLICY},
        "rateLimit": {"files": LIMITS},
    }
    emptied(shared_redis)
    pod = Pod(helm.render(values), module_folder, shared_redis.url)
    example = pod.containers["app"]
    process = subprocess.Popen(
        [sys.executable, *example["command"][1:], *example["args"]],
        env={"PATH": os.environ["PATH"], **pod.variables("app")},
    )
    sentinel = Sentinel(module_folder, {})
    sentinel.environment = {"PATH": os.environ["PATH"], **pod.variables("sentinel")}
    sentinel.admin_port = at["admin"]
    envoy = EnvoyProcess(module_folder / "etc" / "envoy" / "envoy.yaml", at["envoy_admin"])
    try:
        listening(process, at["app"])
        sentinel.start()
        await sentinel.ready()
        envoy.start()
        yield pod, sentinel, at["http"]
    finally:
        # As native sidecars end: the app, Envoy, Sentinel.
        process.terminate()
        process.wait(10)
        envoy.stop()
        assert 0 == sentinel.stop()


def get(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    asked = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=named, method=method)
    opener = urllib.request.build_opener(Passive)
    with opener.open(asked, timeout=10) as reply:
        return reply.status, {name.lower(): value for name, value in reply.headers.items()}, reply.read()


class Passive(urllib.request.HTTPErrorProcessor):
    """A refusal is an answer."""

    def http_response(self, _request: Any, response: Any) -> Any:
        return response


async def test_a_request_goes_through_envoy_and_sentinel_to_the_app(
    sidecar: tuple[Pod, Sentinel, int],
) -> None:
    _, sentinel, port = sidecar
    status, headers, body = await asyncio.to_thread(get, port, x_shop="acme")

    assert 200 == status
    assert "1000" == headers["x-ratelimit-limit"]
    assert b'"x-sentinel-tier"' in body
    banned, _, _ = await asyncio.to_thread(get, port, x_shop="banned")
    assert 429 == banned
    samples = await sentinel.metrics()
    assert samples["sentinel_store_up"] == 1


async def test_the_rate_limit_files_hold_there_too(sidecar: tuple[Pod, Sentinel, int]) -> None:
    _, _, port = sidecar
    statuses = [(await asyncio.to_thread(get, port, "/limited", x_shop="acme"))[0] for _ in range(2)]

    assert [200, 429] == statuses


async def test_probes_of_an_unprotected_path_pass_when_the_anonymous_tenant_has_used_up_its_limit(
    sidecar: tuple[Pod, Sentinel, int],
) -> None:
    _, sentinel, port = sidecar

    async def statuses(path: str) -> list[int]:
        asked = [asyncio.to_thread(get, port, path) for _ in range(160)]
        return [status for status, _, _ in await asyncio.gather(*asked)]

    assert 429 in await statuses("/other")
    before = await decided(sentinel)
    assert [200] * 160 == await statuses(PROBED)
    assert before == await decided(sentinel)
    # What is not the exact path is decided on.
    await asyncio.to_thread(get, port, "/up/")
    assert before + 1 == await decided(sentinel)


async def decided(sentinel: Sentinel) -> float:
    samples = await sentinel.metrics()
    return sum(value for name, value in samples.items() if name.startswith("sentinel_decisions_total"))


async def test_the_app_sees_its_own_paths_and_what_a_trusted_ingress_says(
    sidecar: tuple[Pod, Sentinel, int],
) -> None:
    _, _, port = sidecar
    told = {"x_shop": "acme", "x_forwarded_proto": "https", "x_forwarded_for": "203.0.113.7"}
    _, _, body = await asyncio.to_thread(lambda: get(port, "/proxy/a?b", **told))

    arrived = json.loads(body)
    assert "/proxy/a?b" == arrived["path"]
    assert "https" == arrived["headers"]["x-forwarded-proto"]
    # Envoy adds the ingress' own address.
    assert arrived["headers"]["x-forwarded-for"].startswith("203.0.113.7,")


async def test_envoys_metrics_are_for_all_and_nothing_else_of_its_admin_interface_is(
    sidecar: tuple[Pod, Sentinel, int],
) -> None:
    pod, _, _ = sidecar
    (port,) = [
        one["containerPort"] for one in pod.containers["envoy"]["ports"] if one["name"] == "envoy-metrics"
    ]
    status, headers, body = await asyncio.to_thread(get, port, "/stats/prometheus")

    assert 200 == status
    assert headers["content-type"].startswith("text/plain")
    assert b'envoy_http_ext_authz_ok{envoy_ext_authz_prefix="sentinel"' in body
    elsewhere = [
        "/", "/quitquitquit", "/config_dump", "/stats", "/stats/", "/stats/prometheus/", "/STATS/PROMETHEUS",
        "/stats/prometheus/../../quitquitquit", "//stats/prometheus",
        "/stats/prometheus%2f..%2f..%2fquitquitquit",
    ]  # fmt: skip
    tried = {path: (await asyncio.to_thread(get, port, path))[0] for path in elsewhere}
    assert dict.fromkeys(elsewhere, 404) == tried
    for path in ("/quitquitquit", "/stats/prometheus"):
        assert 404 == (await asyncio.to_thread(get, port, path, method="POST"))[0]
    assert 200 == (await asyncio.to_thread(get, port, "/stats/prometheus?usedonly"))[0]


async def test_helm_test_asks_through_envoy(sidecar: tuple[Pod, Sentinel, int]) -> None:
    pod, _, port = sidecar
    done = await asyncio.to_thread(run_test_pod, pod.rendered, f"http://127.0.0.1:{port}/")

    assert 0 == done.returncode, done.stderr
    assert "status 200" in done.stdout


async def test_envoy_takes_the_rendered_arguments(
    sidecar: tuple[Pod, Sentinel, int], ci: dict[str, Rendered]
) -> None:
    pod, _, _ = sidecar
    for container in (pod.containers["envoy"], containers(ci["sidecar-full"].one("Deployment"))["envoy"]):
        arguments = [one.replace("/etc/envoy", f"{pod.folder}/etc/envoy") for one in container["args"]]
        command = [ENVOY, *arguments, "--mode", "validate"]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)
        assert 0 == done.returncode, done.stderr


async def test_probes_answer(sidecar: tuple[Pod, Sentinel, int]) -> None:
    """As the kubelet asks: exec and HTTP."""
    pod, _, _ = sidecar
    container = pod.containers["sentinel"]
    for kind in ("livenessProbe", "readinessProbe"):
        asked = container[kind]["httpGet"]
        status, _, _ = await asyncio.to_thread(get, asked["port"], asked["path"])
        assert 200 == status
    name, *arguments = container["startupProbe"]["exec"]["command"]
    assert ("sentinel-ext", "healthcheck") == (name, arguments[0])
    command = [sys.executable, "-m", "sentinel_ext", *map(pod.moved, arguments)]
    done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=30)
    assert 0 == done.returncode, done.stderr


async def test_a_changed_config_map_is_taken_without_a_restart(sidecar: tuple[Pod, Sentinel, int]) -> None:
    pod, _, port = sidecar
    pod.change(
        "policy", policy_yaml="plans: {gold: {limit: 7}}\ndefault_plan: gold\nidentify: [{header: x-shop}]\n"
    )

    async with asyncio.timeout(20):
        while True:
            _, headers, _ = await asyncio.to_thread(get, port, x_shop="acme")
            if headers["x-ratelimit-limit"] == "7":
                return
            await asyncio.sleep(0.1)


async def test_mode_service_serves_what_its_test_asks(
    helm: Helm, short_folder: Path, shared_redis: RedisServer
) -> None:
    at = ports("grpc", "admin")
    rendered = helm.render(
        {
            "config": {"listenHost": "127.0.0.1", "debugAddress": "off"},
            "ports": at,
            "policy": {"content": {"identify": [{"header": "x-shop"}]}},
        }
    )
    emptied(shared_redis)
    pod = Pod(rendered, short_folder, shared_redis.url)
    sentinel = Sentinel(short_folder, {})
    sentinel.environment = {"PATH": os.environ["PATH"], **pod.variables("sentinel")}
    sentinel.admin_port = at["admin"]
    sentinel.start()
    try:
        await sentinel.ready()
        done = await asyncio.to_thread(run_test_pod, rendered, f"grpc://127.0.0.1:{at['grpc']}")
        assert 0 == done.returncode, done.stderr
        assert "allowed" in done.stdout
        assert 1 == await decided(sentinel)
    finally:
        assert 0 == sentinel.stop()
