"""`sentinel-ext envoy-config`, its examples, and the routes it makes, in a real Envoy 1.40."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from support.envoy import validate
from support.fleet import Fleet

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "envoy").glob("*.yaml"))


def envoy_config(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sentinel_ext", "envoy-config", *arguments],
        env={"PATH": os.environ["PATH"], **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_examples_are_current(tmp_path: Path) -> None:
    command = Path(sys.executable).parent / "sentinel-ext"
    environment = {**os.environ, "SENTINEL_EXT": str(command)}
    subprocess.run([ROOT / "envoy" / "render.sh", tmp_path], env=environment, check=True, cwd=tmp_path)

    assert {p.name: p.read_text() for p in EXAMPLES} == {
        p.name: p.read_text() for p in tmp_path.glob("*.yaml")
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=[path.name for path in EXAMPLES])
def test_envoy_accepts_the_example(path: Path) -> None:
    done = validate(path)

    assert 0 == done.returncode, done.stderr
    assert "deprecated" not in done.stderr.lower()


@pytest.mark.parametrize(
    "environment",
    [
        {"GRPC_ADDRESS": "[::1]:50051", "DOWNSTREAM_URL": "http://[::1]:8080"},
        {"DOWNSTREAM_URL": "https://10.0.0.1:8443/base/", "FAIL_OPEN": "false"},
        {
            "DOWNSTREAM_URL": "http://backend.internal",
            "REQUEST_TIMEOUT_MS": "1",
            "TENANT_HEADER": "x-api-key",
        },
    ],
    ids=["ipv6", "https by address", "names"],
)
def test_envoy_accepts_other_settings(tmp_path: Path, environment: dict[str, str]) -> None:
    path = tmp_path / "envoy.yaml"
    assert 0 == envoy_config(tmp_path, "-o", str(path), **environment).returncode

    done = validate(path)

    assert 0 == done.returncode, done.stderr


def test_json_and_yaml_say_the_same_and_stdout_is_the_default(tmp_path: Path) -> None:
    as_json = json.loads(envoy_config(tmp_path, "--format", "json").stdout)
    as_yaml = yaml.safe_load(envoy_config(tmp_path).stdout)

    assert as_json == as_yaml


def test_what_the_settings_say_arrives(tmp_path: Path) -> None:
    (tmp_path / "policy.yaml").write_text("identify: [{header: x-api-key}, {jwt_claim: tenant}]\n")
    settings = {
        "PORT": "3131",
        "FAIL_OPEN": "false",
        "REQUEST_TIMEOUT_MS": "1500",
        "POLICY_FILE": "policy.yaml",
    }
    made = yaml.safe_load(envoy_config(tmp_path, "--check-timeout-ms", "75", **settings).stdout)

    (listener,) = made["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    authz = manager["http_filters"][0]["typed_config"]
    routes = manager["route_config"]["virtual_hosts"][0]["routes"]
    assert 3131 == listener["address"]["socket_address"]["port_value"]
    assert not authz.get("failure_mode_allow", False)
    assert "0.075s" == authz["grpc_service"]["timeout"]
    assert "ServiceUnavailable" == authz["status_on_error"]["code"]
    sent = {pattern["exact"] for pattern in authz["allowed_headers"]["patterns"]}
    assert {"x-api-key", "x-correlation-id", "traceparent", "x-request-id", "content-type"} == sent
    assert {"1.500s"} == {route["route"]["timeout"] for route in routes}


@pytest.mark.parametrize("option", ["--sentinel-address", "--envoy-admin-address", "--metrics-address"])
def test_a_wrong_address_is_told_with_its_option(tmp_path: Path, option: str) -> None:
    done = envoy_config(tmp_path, option, "nowhere")

    assert 2 == done.returncode
    assert option in done.stderr
    assert "host:port" in done.stderr


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    done = envoy_config(tmp_path, "--output", str(tmp_path / "no" / "envoy.yaml"))

    assert 1 == done.returncode
    assert "--output: cannot write" in done.stderr


@pytest.fixture(scope="module", params=["", "/base"], ids=["no base", "base path"])
async def fleet(request: pytest.FixtureRequest, module_folder: Path) -> AsyncIterator[Fleet]:
    environment = {"REDIS_URL": "memory://", "BURST_CAPACITY": "1000", "FAIL_OPEN": "false"}
    fleet = Fleet(module_folder, environment, config_arguments=("--check-timeout-ms", "5000"))
    fleet.base = request.param
    async with fleet:
        yield fleet


@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ("/proxy", "/"),
        ("/proxy/", "/"),
        ("/proxy/a/b?x=1&y=%2F", "/a/b?x=1&y=%2F"),
        ("/proxy?x=1", "/?x=1"),
        ("/proxy/proxy/x", "/proxy/x"),
        ("/proxyfoo", "/proxyfoo"),
        ("/", "/"),
        ("/a/b?x=1", "/a/b?x=1"),
        ("/a//b", "/a//b"),
    ],
)
async def test_paths_are_forwarded(fleet: Fleet, sent: str, arrives: str) -> None:
    reply = await fleet.get(sent)

    assert 200 == reply.status
    assert fleet.base + arrives == json.loads(reply.body)["path"]


async def test_secrets_of_the_caller_do_not_reach_sentinel(fleet: Fleet) -> None:
    """Envoy shows Sentinel only what it needs; the upstream still gets everything."""
    reply = await fleet.get(headers={"authorization": "Bearer t0ken", "cookie": "a=b"})

    assert "Bearer t0ken" == json.loads(reply.body)["headers"]["authorization"]
    config = (fleet.folder / "envoy-0.yaml").read_text()
    assert "authorization" not in config
    assert "cookie" not in config


async def test_header_names_with_underscores_are_refused(fleet: Fleet) -> None:
    """Many upstreams read x_sentinel_tier as x-sentinel-tier."""
    assert 400 == (await fleet.get(headers={"x_sentinel_tier": "vital"})).status
