"""What the demo tells a newcomer to type works as it stands."""

from __future__ import annotations

import shlex
from pathlib import Path

from sentinel_ext.address import Address
from sentinel_ext.demo import guide
from sentinel_ext.demo.preflight import DEMO_POLICY, Setup
from sentinel_ext.demo.traffic import Tally
from sentinel_ext.policy.loader import load_policy
from sentinel_ext.settings import Settings

TALLIES = [Tally("it's", "vital"), Tally("trial-7", "economy")]
ADMIN = Address(host="127.0.0.1", port=9901)


def setup_of(settings: Settings, redis_server: Path | None = None) -> Setup:
    policy = load_policy(DEMO_POLICY, settings.plan_defaults, settings.tenant_header)
    return Setup(settings, policy, DEMO_POLICY, "x-tenant-id", ADMIN, Path("envoy"), redis_server, None)


def test_tenants_are_quoted_for_a_shell() -> None:
    rows = dict(guide.things_to_try(setup_of(Settings(port=3001)), TALLIES, None))

    assert shlex.split(rows["one request"]) == [
        "curl", "-i", "-H", "x-tenant-id: it's", "http://127.0.0.1:3001/proxy/hello",
    ]  # fmt: skip
    assert "'x-tenant-id: trial-7'" in rows["meet a limit"]
    assert "'%{http_code} '" in rows["meet a limit"]


def test_redis_cli_is_told_only_for_the_redis_that_was_started(tmp_path: Path) -> None:
    server = tmp_path / "redis-server"
    own = dict(guide.things_to_try(setup_of(Settings(), server), TALLIES, tmp_path / "r.sock"))
    (tmp_path / "redis-cli").touch()
    beside = dict(guide.things_to_try(setup_of(Settings(), server), TALLIES, tmp_path / "r.sock"))
    given = dict(guide.things_to_try(setup_of(Settings()), TALLIES, None))

    assert own["counters"] == f"redis-cli -s {tmp_path}/r.sock monitor"
    assert beside["counters"] == f"{tmp_path}/redis-cli -s {tmp_path}/r.sock monitor"
    assert "counters" not in given


def test_unix_sockets_are_told_as_curl_and_grpcurl_take_them() -> None:
    setup = setup_of(Settings(grpc_address="unix:///run/g.sock", admin_address="unix:///run/a.sock"))

    tries = dict(guide.things_to_try(setup, TALLIES, None))
    looks = dict(guide.places_to_look(setup, Path("/tmp/demo")))

    assert tries["gRPC services"] == "grpcurl -plaintext -unix /run/g.sock list"
    assert "status page" not in looks
    assert looks["metrics"] == "curl -s --unix-socket /run/a.sock http://localhost/metrics"


def test_places_are_urls_a_browser_opens() -> None:
    looks = dict(guide.places_to_look(setup_of(Settings(admin_address="0.0.0.0:9464")), Path("/tmp/demo")))

    assert looks["status page"] == "http://127.0.0.1:9464/"
    assert looks["readiness"] == "http://127.0.0.1:9464/readyz"
    assert looks["Envoy"] == "http://127.0.0.1:9901/"
    assert looks["logs"] == "tail -f /tmp/demo/*.log"
