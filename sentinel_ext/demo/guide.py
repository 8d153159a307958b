"""What to try while the demo is up, and where to look."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from sentinel_ext.demo.probes import reachable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sentinel_ext.address import Address
    from sentinel_ext.demo.preflight import Setup
    from sentinel_ext.demo.traffic import Tally

# /proxy/ is stripped on the way: the upstream sees /hello.
SAMPLE_PATH = "/proxy/hello"

Rows = list[tuple[str, str]]


def things_to_try(setup: Setup, tallies: Sequence[Tally], redis_socket: Path | None) -> Rows:
    """Return (what it shows, command to copy)."""
    url = f"{setup.listener}{SAMPLE_PATH}"
    first, last = (
        shlex.quote(f"{setup.tenant_header}: {tally.tenant}") for tally in (tallies[0], tallies[-1])
    )
    rows = [
        ("one request", f"curl -i -H {first} {url}"),
        (
            "meet a limit",
            f"for i in $(seq 40); do curl -s -o /dev/null -w '%{{http_code}} ' -H {last} {url}; done; echo",
        ),
        ("gRPC services", f"grpcurl -plaintext {_grpcurl_target(setup.settings.grpc_addresses[0])} list"),
    ]
    if redis_socket is not None and setup.redis_server is not None:
        beside = setup.redis_server.with_name("redis-cli")
        cli = shlex.quote(str(beside)) if beside.exists() else "redis-cli"
        rows.append(("counters", f"{cli} -s {shlex.quote(str(redis_socket))} monitor"))
    return rows


def places_to_look(setup: Setup, folder: Path) -> Rows:
    """Return (what it shows, URL or command)."""
    admin = setup.settings.admin_address
    at = (
        f"curl -s --unix-socket {admin.path} http://localhost"
        if admin.is_unix
        else f"http://{reachable(admin)}"
    )
    url = setup.prometheus.url if setup.prometheus is not None else ""
    watched = [("Prometheus", f"{url}/graph"), ("alerts", f"{url}/alerts")] if url else []
    page = [] if admin.is_unix else [("status page", f"{at}/")]
    return [
        *page,
        ("metrics", f"{at}/metrics"),
        ("readiness", f"{at}/readyz"),
        ("Envoy", f"http://{reachable(setup.envoy_admin)}/"),
        *watched,
        ("policy", str(setup.policy_file)),
        ("logs", f"tail -f {shlex.quote(str(folder))}/*.log"),
    ]


def _grpcurl_target(address: Address) -> str:
    return f"-unix {address.path}" if address.is_unix else reachable(address)
