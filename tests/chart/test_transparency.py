"""What Envoy of mode sidecar lets through to the app: upgrades, HTTP/2 with trailers, long answers."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from support.envoy import EnvoyProcess, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.helm import Helm

pytestmark = pytest.mark.e2e

# Longer than REQUEST_TIMEOUT_MS.
PAUSE_S = 0.6
TIMEOUT_MS = 300
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"


@contextlib.contextmanager
def envoy_before(helm: Helm, folder: Path, app_port: int, **values: Any) -> Iterator[int]:
    """Start the rendered Envoy before an app. There is no Sentinel, so it fails open. Yields its port."""
    port, admin = free_port(), free_port()
    envoy = {"port": port, "adminPort": admin, "listenHost": "127.0.0.1", **values.pop("envoy", {})}
    app = {"example": True, "port": app_port, **values.pop("app", {})}
    rendered = helm.render({"mode": "sidecar", "envoy": envoy, "app": app, **values})
    config = folder / f"{port}.yaml"
    config.write_text(rendered.one("ConfigMap", "-envoy")["data"]["envoy.yaml"])
    process = EnvoyProcess(config, admin)
    try:
        process.start()
        yield port
    finally:
        process.stop()


@pytest.fixture
def upgrading_app() -> Iterator[int]:
    """An app that switches protocols whatever it is asked, and then says everything back."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                talk, _ = listener.accept()
                with talk:
                    head = talk.recv(65536)
                    assert b"GET /socket" in head
                    talk.sendall(SWITCHED)
                    while said := talk.recv(65536):
                        talk.sendall(said)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


def upgraded(port: int, protocol: str) -> tuple[bytes, bytes]:
    """Ask for an upgrade; return the status line and what came back of `hello` after a pause."""
    asked = f"GET /socket HTTP/1.1\r\nhost: shop\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as talk:
        talk.sendall(asked.encode())
        head = b""
        while b"\r\n\r\n" not in head:
            head += talk.recv(65536)
        status = head.partition(b"\r\n")[0]
        if b"101" not in status:
            return status, b""
        time.sleep(PAUSE_S)
        talk.sendall(b"hello")
        return status, talk.recv(65536)


def test_a_websocket_reaches_the_app_and_outlives_the_timeout_of_requests(
    helm: Helm, short_folder: Path, upgrading_app: int
) -> None:
    limited = {"config": {"requestTimeoutMs": TIMEOUT_MS}}
    with envoy_before(helm, short_folder, upgrading_app, **limited) as port:
        assert (b"HTTP/1.1 101 Switching Protocols", b"hello") == upgraded(port, "websocket")
        assert (b"HTTP/1.1 403 Forbidden", b"") == upgraded(port, "other")
        # So the page says: a header with an underscore does not get that far.
        underscored = "websocket\r\nx_tenant_id: acme"
        assert (b"HTTP/1.1 400 Bad Request", b"") == upgraded(port, underscored)
    with envoy_before(helm, short_folder, upgrading_app, envoy={"upgrades": []}) as port:
        assert (b"HTTP/1.1 403 Forbidden", b"") == upgraded(port, "websocket")


class Slow(health.HealthServicer):
    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802  gRPC's name
        time.sleep(PAUSE_S)
        return super().Check(request, context)


def test_a_grpc_app_is_reached_by_h2c_and_a_timeout_of_none_lets_it_take_its_time(
    helm: Helm, short_folder: Path
) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    health_pb2_grpc.add_HealthServicer_to_server(Slow(), server)
    app_port = server.add_insecure_port("127.0.0.1:0")
    server.start()

    def asked(port: int) -> Any:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)

    h2c: dict[str, Any] = {"app": {"protocol": "h2c"}}
    try:
        with envoy_before(helm, short_folder, app_port, **h2c, config={"requestTimeoutMs": 0}) as port:
            assert health_pb2.HealthCheckResponse.SERVING == asked(port).status
        limited = {"requestTimeoutMs": TIMEOUT_MS}
        with (
            envoy_before(helm, short_folder, app_port, **h2c, config=limited) as port,
            pytest.raises(grpc.RpcError, match="timeout"),
        ):
            asked(port)
    finally:
        server.stop(None)


@pytest.mark.parametrize(("protocol", "told"), [("http", "http"), ("h2c", "kubernetes.io/h2c")])
def test_the_service_tells_an_ingress_what_the_app_speaks(helm: Helm, protocol: str, told: str) -> None:
    rendered = helm.render({"mode": "sidecar", "app": {"example": True, "protocol": protocol}})

    (port,) = rendered.one("Service", "rel-sentinel")["spec"]["ports"]
    assert told == port["appProtocol"]


def test_without_a_timeout_sentinel_has_its_own_default(helm: Helm) -> None:
    rendered = helm.render({"mode": "sidecar", "app": {"example": True}, "config": {"requestTimeoutMs": 0}})

    routes = yaml.safe_load(rendered.one("ConfigMap", "-envoy")["data"]["envoy.yaml"])
    assert "'timeout': '0s'" in str(routes["static_resources"]["listeners"])
    assert "REQUEST_TIMEOUT_MS" not in str(rendered.one("Deployment"))
