"""(c) Through a real Envoy: what ext_authz costs a request, and what Sentinel needs beside Envoy."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import msgspec
import yaml

from benchmarks import cpu, processes, sentinel
from benchmarks.load import Plan
from benchmarks.processes import Programs, UnavailableError, find, free_port, http_get
from benchmarks.report import Row, Table, measured, missing, with_values
from benchmarks.suite import Options, interleave, progress
from sentinel_ext.client.load_connection import TENANT

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from benchmarks.load import Result

EXT_AUTHZ = "envoy.filters.http.ext_authz"
OFF = "off"
# As a sidecar has it: lean on a Unix socket, where the others use TCP on loopback.
ON_SOCKET = "lean-unix"
CONNECTIONS, STREAMS = 4, 25
TENANTS = 1000
# Saturated cores are slow; a timeout here would measure failing open.
CHECK_TIMEOUT_MS = "10000"
RENDER_TIMEOUT_S = 60
HEADERS = [
    (":method", "GET"),
    (":path", "/proxy/orders/17?fields=all"),
    (":authority", "shop.example"),
    (":scheme", "http"),
    ("accept", "*/*"),
    ("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"),
    ("x-tenant-id", TENANT),
]


class Gateway(msgspec.Struct, frozen=True):
    """An Envoy that is ready; `sentinel` is absent where ext_authz is off."""

    port: int
    pid: int
    sentinel: sentinel.Running | None


def suite(options: Options) -> Table:
    """Measure Envoy alone, then with each server."""
    gateways: dict[str, Gateway] = {}
    failed: list[Row] = []
    with Programs() as programs:
        upstream = _start_upstream(programs)
        for name in (OFF, *sentinel.SERVERS, ON_SOCKET):
            progress(f"  starting Envoy, ext_authz {name}")
            try:
                gateways[name] = _start(programs, name, upstream)
            except UnavailableError as error:
                progress(f"  {name}: {error}")
                failed.append(missing({"ext_authz": name}, error))
        results = interleave(
            tuple(gateways),
            options.runs,
            lambda name: processes.load(_plan(gateways[name], options), cpu.core(0)),
        )
        rows = [_row(name, gateways[name], results[name]) for name in gateways]
    return Table(
        name="proxy",
        title=f"Envoy, {CONNECTIONS} x {STREAMS} streams of HTTP/2, {TENANTS} tenants, "
        f"medians of {options.runs} runs",
        rows=rows + failed,
        notes=[
            "Envoy (one worker), upstream and Redis on core 1; Sentinel and the load client on core 0",
            "sentinel_us, envoy_us: CPU microseconds of one request; ratio: Sentinel's over Envoy's",
        ],
    )


def _start_upstream(programs: Programs) -> int:
    port = free_port()
    programs.python(
        "benchmarks.servers",
        "upstream",
        f"127.0.0.1:{port}",
        cores=cpu.core(1),
        is_ready=lambda: processes.accepts(port),
    )
    return port


def _start(programs: Programs, name: str, upstream: int) -> Gateway:
    port, admin = free_port(), free_port()
    settings = {"PORT": str(port), "DOWNSTREAM_URL": f"http://127.0.0.1:{upstream}"}
    if name == ON_SOCKET:
        settings["GRPC_ADDRESS"] = f"unix://{programs.folder}/sentinel.sock"
    running = None if name == OFF else sentinel.start(programs, name.removesuffix("-unix"), settings)
    path = programs.folder / f"envoy-{name}.yaml"
    _render(path, admin, running.environment if running is not None else settings)
    if running is None:
        _without_ext_authz(path)
    argv = [
        str(find("envoy")),
        "-c",
        str(path),
        "--use-dynamic-base-id",
        "--concurrency",
        "1",
        "-l",
        "warning",
    ]
    ready = f"http://127.0.0.1:{admin}/ready"
    return Gateway(port, programs.start(argv, cpu.core(1), lambda: http_get(ready) is not None), running)


def _render(path: Path, admin: int, environment: Mapping[str, str]) -> None:
    """Write the configuration that users get from the same command."""
    options = ["--listen-address", "127.0.0.1", "--envoy-admin-address", f"127.0.0.1:{admin}"]
    options += ["--check-timeout-ms", CHECK_TIMEOUT_MS, "--output", str(path)]
    done = subprocess.run(
        [sys.executable, "-m", "sentinel_ext", "envoy-config", *options],
        env=processes.child_environment(environment),
        cwd=path.parent,
        capture_output=True,
        text=True,
        timeout=RENDER_TIMEOUT_S,
        check=False,
    )
    if done.returncode != 0:
        raise UnavailableError(f"envoy-config failed: {processes.last_line(done.stderr)}")


def _without_ext_authz(path: Path) -> None:
    """Take the filter out and leave everything else as it is."""
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    _strip(document)
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


def _strip(node: Any) -> None:  # noqa: ANN401  any node of a YAML document
    if isinstance(node, dict):
        node.pop(EXT_AUTHZ, None)
        for key in [key for key, value in node.items() if key == "typed_per_filter_config" and not value]:
            del node[key]
    elif isinstance(node, list):
        node[:] = [each for each in node if not (isinstance(each, dict) and each.get("name") == EXT_AUTHZ)]
    for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        _strip(child)


def _plan(gateway: Gateway, options: Options) -> Plan:
    watched = {"server": gateway.pid}
    if gateway.sentinel is not None:
        watched |= {"sentinel": gateway.sentinel.pid, "redis": gateway.sentinel.redis_pid}
    return Plan(
        target=f"127.0.0.1:{gateway.port}",
        headers=HEADERS,
        tenants=TENANTS,
        connections=CONNECTIONS,
        streams=STREAMS,
        warm_s=options.warm_s,
        measured_s=options.measured_s,
        watched=watched,
    )


def _row(name: str, gateway: Gateway, results: list[Result] | UnavailableError) -> Row:
    row = measured(results, what={"ext_authz": name})
    if isinstance(results, UnavailableError):
        return row
    answers = max(1, sum(each.answers for each in results))
    used = {who: sum(each.cpu.get(who, 0.0) for each in results) for who in ("server", "sentinel")}
    # Envoy is the process measured here; its name in a result is "server".
    values = {key: row.values[key] for key in ("answers_per_s", "p50_ms", "p99_ms", "client_busy")}
    values |= {"envoy_us": used["server"] * 1e6 / answers}
    if gateway.sentinel is None:
        return Row(what=row.what, values=values, note=row.note)
    values |= {"sentinel_us": used["sentinel"] * 1e6 / answers}
    values |= {"ratio": used["sentinel"] / used["server"] if used["server"] else float("nan")}
    row = Row(what=row.what, values=values, note=row.note)
    return with_values(row, {}, sentinel.remark((), gateway.sentinel.fallbacks()))
