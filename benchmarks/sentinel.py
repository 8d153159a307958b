"""Sentinel itself with a real redis-server, as users run it, for the suites that measure whole decisions."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import msgspec
from envoy.service.auth.v3 import external_auth_pb2

from benchmarks import cpu
from benchmarks.load import Plan
from benchmarks.processes import Programs, UnavailableError, find, free_port, http_get
from benchmarks.suite import Options, grpc_request
from sentinel_ext.client.load_connection import TENANT
from sentinel_ext.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CHECK = "/envoy.service.auth.v3.Authorization/Check"
SERVERS = ("grpcio", "lean")
FALLBACKS = "sentinel_store_fallbacks_total"
# Every stage runs and none refuses: a denial is a cheaper answer.
POLICY = "plans: {big: {limit: 1000000000, burst: 1000000, refill: 1000000/s}}\ndefault_plan: big\n"
# What Envoy 1.40 forwards of a browser's request.
HEADERS = {
    ":authority": "shop.example",
    ":method": "GET",
    ":path": "/orders/17?fields=all",
    ":scheme": "http",
    "accept": "*/*",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "x-forwarded-proto": "https",
    "x-request-id": "7f2a8f0e-57a6-4d1a-9a39-0c6ad5a3f2f1",
    "x-tenant-id": TENANT,
}
_FILLER_BYTES = 100


class Running(msgspec.Struct, frozen=True):
    """A Sentinel that is ready. Process ids of itself and its Redis."""

    port: int
    admin_port: int
    pid: int
    redis_pid: int
    redis_socket: str
    environment: dict[str, str]

    def fallbacks(self) -> float:
        """Return how many decisions did without the store so far."""
        text = (http_get(f"http://127.0.0.1:{self.admin_port}/metrics") or b"").decode()
        lines = (line for line in text.splitlines() if line.startswith(FALLBACKS))
        return sum(float(line.rpartition(" ")[2]) for line in lines)


def start(
    programs: Programs, server: str, extra: Mapping[str, str] | None = None, *, name: str = ""
) -> Running:
    """Start a Redis on core 1 and Sentinel on core 0.

    Args:
        server: which server carries gRPC, the setting GRPC_SERVER.
        extra: more settings.
        name: of its Redis, where one scope has several.

    Raises:
        UnavailableError: this Sentinel has no such setting, or does not start.
    """
    if "grpc_server" in Settings.model_fields:
        choice = {"GRPC_SERVER": server}
    elif server == "grpcio":
        choice = {}
    else:
        # Sentinel would take the unknown name for a misspelt one, warn, and serve on grpcio.
        raise UnavailableError(f"this Sentinel has no setting GRPC_SERVER, so not {server} either")
    socket, redis_pid = start_redis(programs, name or server)
    policy = programs.folder / "policy.yaml"
    policy.write_text(POLICY, encoding="utf-8")
    port, admin_port = free_port(), free_port()
    environment = {
        **choice,
        "GRPC_ADDRESS": f"127.0.0.1:{port}",
        "ADMIN_ADDRESS": f"127.0.0.1:{admin_port}",
        "DEBUG_GRPC_ADDRESS": "off",
        "REDIS_URL": f"unix://{socket}",
        "POLICY_FILE": str(policy),
        # A saturated core answers late; the store's path is what is measured, not what happens without it.
        "STORE_TIMEOUT_MS": "2000",
        "FAIL_OPEN": "false",
        **(extra or {}),
    }
    ready = f"http://127.0.0.1:{admin_port}/readyz"
    pid = programs.python(
        "sentinel_ext", "serve", cores=cpu.core(0), is_ready=lambda: _is_ready(ready), **environment
    )
    return Running(port, admin_port, pid, redis_pid, socket, environment)


def start_redis(programs: Programs, name: str) -> tuple[str, int]:
    """Start a redis-server that keeps nothing; return its socket and process id."""
    socket = programs.folder / f"redis-{name}.sock"
    argv = [str(find("redis-server")), "--port", "0", "--unixsocket", str(socket)]
    argv += ["--save", "", "--appendonly", "no"]
    return str(socket), programs.start(argv, cpu.core(1), socket.exists)


def check_request(header_bytes: int = 0) -> bytes:
    """Return a CheckRequest of TENANT, with `header_bytes` more of headers than a browser sends."""
    request = external_auth_pb2.CheckRequest()
    attributes = request.attributes
    attributes.source.address.socket_address.address = "192.0.2.17"
    attributes.source.address.socket_address.port_value = 51_234
    attributes.destination.address.socket_address.address = "192.0.2.1"
    attributes.destination.address.socket_address.port_value = 443
    attributes.context_extensions["upstream"] = "default"
    http = attributes.request.http
    http.id, http.method, http.path, http.protocol = "7310917", "GET", HEADERS[":path"], "HTTP/1.1"
    http.host, http.scheme = HEADERS[":authority"], HEADERS[":scheme"]
    http.headers.update(HEADERS)
    for number in range(-(-header_bytes // _FILLER_BYTES)):
        name = f"x-filler-{number:03d}"
        size = min(_FILLER_BYTES, header_bytes - number * _FILLER_BYTES)
        http.headers[name] = "v" * max(1, size - len(name))
    return bytes(request.SerializeToString(deterministic=True))


def check_plan(running: Running, options: Options, *, tenants: int = 1, header_bytes: int = 0) -> Plan:
    """Return the plan of one run of Checks, 4 connections with 25 streams each."""
    return Plan(
        target=f"127.0.0.1:{running.port}",
        headers=grpc_request(CHECK),
        message=check_request(header_bytes),
        tenants=tenants,
        warm_s=options.warm_s,
        measured_s=options.measured_s,
        watched={"server": running.pid, "redis": running.redis_pid},
    )


def decided(samples: Iterable[bytes]) -> Counter[str]:
    """Return what was decided in these answers, each a CheckResponse with its 5 bytes of prefix."""
    names = Counter[str]()
    for sample in samples:
        kind = external_auth_pb2.CheckResponse.FromString(sample[5:]).WhichOneof("http_response")
        names[kind or "empty"] += 1
    return names


def remark(samples: Iterable[bytes], fallbacks: float) -> str:
    """Return what a reader must know: answers other than allow, decisions without the store."""
    others = {name: count for name, count in decided(samples).items() if name != "ok_response"}
    words = [f"{name} x {count} of the samples" for name, count in others.items()]
    if fallbacks:
        words.append(f"{fallbacks:g} decisions without the store")
    return ", ".join(words)


def _is_ready(url: str) -> bool:
    body = http_get(url)
    return body is not None and bool(msgspec.json.decode(body)["store"]["available"])
