"""The lean server with a real Envoy at the other end: restarts, drains, timeouts, logs, sockets, TLS."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import msgspec
import pytest
import trustme
from envoy.service.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from support.als import Logs
from support.envoy import EnvoyProcess, free_port
from support.fleet import Fleet, Sentinel, Upstream
from support.lean import local, serving, until

from sentinel_ext.address import Address
from sentinel_ext.server import tls
from sentinel_ext.server.calls import PENDING, Call, HotUnary
from sentinel_ext.wire.limits import MS, Limits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from pathlib import Path

    from support.redis_server import RedisServer

    from sentinel_ext.server.lean import LeanServer

pytestmark = pytest.mark.e2e

AUTHORIZATION = "envoy.service.auth.v3.Authorization"
DECIDED = "x-decided"
ALLOW = external_auth_pb2.CheckResponse(
    ok_response={"response_headers_to_add": [{"header": {"key": DECIDED, "value": "yes"}}]}
).SerializeToString()


def check(handle: Callable[[bytes, Call], Any]) -> tuple[HotUnary]:
    return (HotUnary(AUTHORIZATION, "Check", handle),)


ALWAYS = check(lambda _request, _call: ALLOW)


class Proxy:
    """Envoy in front of one upstream, asking one server; and a client."""

    def __init__(self, port: int, envoy: EnvoyProcess, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{port}"
        self._envoy = envoy
        self._session = session
        self.seconds: list[float] = []

    async def get(self, path: str = "/x") -> str:
        """The status, and whether the server decided it."""
        started = time.perf_counter()
        async with self._session.get(self._url + path) as response:
            await response.read()
            self.seconds.append(time.perf_counter() - started)
            return f"{response.status}{' decided' if DECIDED in response.headers else ''}"

    async def send(self, count: int, at_once: int = 32) -> Counter[str]:
        numbers, outcomes = iter(range(count)), Counter[str]()

        async def sender() -> None:
            for number in numbers:
                outcomes[await self.get(f"/{number}")] += 1

        await asyncio.gather(*(sender() for _ in range(at_once)))
        return outcomes

    async def stat(self, name: str) -> int:
        """In a thread: the server that Envoy waits for shares this loop."""
        return await asyncio.to_thread(self._envoy.stat, name)


def manager_of(resources: dict[str, Any]) -> dict[str, Any]:
    """The HTTP connection manager of the one listener."""
    (listener,) = resources["listeners"]
    manager: dict[str, Any] = listener["filter_chains"][0]["filters"][0]["typed_config"]
    return manager


@asynccontextmanager
async def proxying(
    folder: Path,
    server: Address,
    change: Callable[[dict[str, Any]], None] = lambda _: None,
    check_timeout_ms: int = 5000,
) -> AsyncIterator[Proxy]:
    """Run Envoy with our own bootstrap; `change` may edit its tree."""
    async with Upstream() as upstream:
        port, admin, path = free_port(), free_port(), folder / "envoy.json"
        environment = {
            "GRPC_ADDRESS": f"unix://{server.path}" if server.is_unix else str(server),
            "PORT": str(port),
            "DOWNSTREAM_URL": f"http://127.0.0.1:{upstream.port}",
            "FAIL_OPEN": "false",
        }
        command = [sys.executable, "-m", "sentinel_ext", "envoy-config", "--format", "json"]
        command += ["--listen-address", "127.0.0.1", "--envoy-admin-address", f"127.0.0.1:{admin}"]
        command += ["--check-timeout-ms", str(check_timeout_ms)]
        tree = json.loads(subprocess.check_output(command, env=environment, cwd=folder))
        # Most of these tests mount no log service, and Envoy would ask for one with every flush.
        manager_of(tree["static_resources"]).pop("access_log")
        change(tree["static_resources"])
        path.write_text(json.dumps(tree))
        envoy = EnvoyProcess(path, admin)
        try:
            await asyncio.to_thread(envoy.start)
            async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
                yield Proxy(port, envoy, session)
        finally:
            envoy.stop()


# A restart of Sentinel under load.


class Pair(Fleet):
    """Two Sentinels behind one Envoy.

    Attributes:
        interval: how often Envoy asks for health; "" leaves it as rendered.
    """

    interval = ""

    async def _start(self) -> None:
        self.ports.append(free_port())
        environment = {
            **self.environment,
            "PORT": str(self.ports[0]),
            "DOWNSTREAM_URL": f"http://127.0.0.1:{self.upstream.port}",
        }
        self.sentinels += [Sentinel(self.folder, environment) for _ in range(2)]
        for sentinel in self.sentinels:
            self.config_arguments += ("--sentinel-address", sentinel.environment["GRPC_ADDRESS"])
            sentinel.start()
        for sentinel in self.sentinels:
            await sentinel.ready()
        self.envoys.append(await asyncio.to_thread(self._envoy, self.sentinels[0], 0))

    def _envoy(self, sentinel: Sentinel, number: int) -> EnvoyProcess:
        envoy = super()._envoy(sentinel, number)
        if self.interval:
            envoy.stop()
            config = self.folder / f"envoy-{number}.yaml"
            text, every = config.read_text(), "interval: 1s\n      unhealthy_threshold"
            assert text.count(every) == 1
            config.write_text(text.replace(every, every.replace("1s", self.interval)))
            envoy.start()
        return envoy

    async def both_healthy(self) -> None:
        async with asyncio.timeout(15):
            while 2 != await asyncio.to_thread(self.envoys[0].stat, "cluster.sentinel.membership_healthy"):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("interval", ["", "0.5s"], ids=["as rendered", "every half second"])
async def test_both_sentinels_restart_under_load_and_no_request_fails_or_goes_undecided(
    short_folder: Path, redis_server: RedisServer, interval: str
) -> None:
    """The rendered interval of one second equals Envoy's default window for merging what health checks say.

    Whether the one that goes is still in that window of the one that came back is then a matter of
    milliseconds; at half a second it always is.
    """
    environment = {
        "REDIS_URL": redis_server.url,
        "STORE_TIMEOUT_MS": "2000",  # what a busy test machine does to Redis is not the subject
        "FAIL_OPEN": "false",
        "BURST_CAPACITY": "1000000",
        "BASE_RATE_LIMIT": "1000000",
    }
    # Nor is what a busy machine does to an event loop, which then sheds to protect itself.
    (short_folder / "policy.yaml").write_text("stages: {pressure: shadow}\n")
    environment["POLICY_FILE"] = str(short_folder / "policy.yaml")
    outcomes: Counter[tuple[int, bool]] = Counter()
    slowest = 0.0
    pair = Pair(short_folder, environment, config_arguments=("--check-timeout-ms", "2000"))
    pair.interval = interval
    async with pair:
        await pair.both_healthy()
        going = True

        async def sender(number: int) -> None:
            nonlocal slowest
            while going:
                reply = await pair.get(headers={"x-tenant-id": f"tenant-{number}"})
                outcomes[reply.status, "x-correlation-id" in reply.headers] += 1
                slowest = max(slowest, reply.seconds)
                await asyncio.sleep(0.02)

        senders = asyncio.gather(*(sender(number) for number in range(8)))
        began = time.monotonic()
        codes = []
        for sentinel in pair.sentinels:  # each as soon as the other is back, as in a rolling update
            codes.append(await asyncio.to_thread(sentinel.stop))
            sentinel.start()
            await sentinel.ready()
            await pair.both_healthy()
        seconds = time.monotonic() - began
        going = False
        await senders

    total = outcomes.total()
    print(f"restart: {total} requests, {total / seconds:.0f}/s for {seconds:.1f} s, slowest {slowest:.3f} s")
    assert [0, 0] == codes
    assert {(200, True): total} == outcomes
    assert total > 50 * seconds


# Connections end, requests do not.


async def test_connections_that_are_replaced_for_their_age_lose_no_request(short_folder: Path) -> None:
    address = local()
    limits = msgspec.structs.replace(Limits.trusted(), max_age_ns=300 * MS)
    async with (
        serving(hot=ALWAYS, address=address, limits=limits) as (server, _),
        proxying(short_folder, address) as proxy,
    ):
        began, outcomes = time.monotonic(), Counter[str]()
        while await proxy.stat("cluster.sentinel.upstream_cx_total") < 6:
            outcomes += await proxy.send(300)
        seconds = time.monotonic() - began
        replaced = await proxy.stat("cluster.sentinel.upstream_cx_total")
        said = await proxy.stat("cluster.sentinel.upstream_cx_close_notify")

        total = outcomes.total()
        print(f"age: {total} requests, {total / seconds:.0f}/s, {replaced} connections, {said} GOAWAY")
        assert {"200 decided": total} == outcomes
        assert said >= 5
        assert 0 == await proxy.stat("cluster.sentinel.upstream_rq_rx_reset")
        assert 0 == await proxy.stat("cluster.sentinel.upstream_cx_destroy_remote_with_active_rq")
        assert {} == server.trips


async def test_thousands_of_timeouts_are_no_attack(short_folder: Path) -> None:
    """A store that stalls makes Envoy reset every call at its timeout: the connection must survive that."""
    address, late = local(), Counter[bool]()
    is_stalled = True
    most = started = 0

    def stall(_request: bytes, call: Call) -> Any:
        nonlocal most, started
        if not is_stalled:
            return ALLOW
        started += 1
        loop.call_later(0.6, lambda: late.update((call.reply(ALLOW),)))
        most = max(most, server.in_flight)
        return PENDING

    loop = asyncio.get_running_loop()
    async with (
        serving(hot=check(stall), address=address) as (server, _),
        # Longer than a busy machine pauses: afterwards every request must be decided within it.
        proxying(short_folder, address, check_timeout_ms=250) as proxy,
    ):
        outcomes = await proxy.send(3000, at_once=200)
        await until(lambda: late.total() == started)
        resets = await proxy.stat("cluster.sentinel.http2.tx_reset")
        refused = await proxy.stat("cluster.sentinel.http2.rx_reset")
        assert 0 == server.in_flight
        is_stalled = False
        after = await proxy.send(200)

        print(f"timeouts: {started} began, {resets} reset by Envoy, {refused} by us, {most} at once")
        assert {"503": 3000} == outcomes
        # What came in one read with its reset never began, and is not late either.
        assert {False: started} == late
        assert min(started, resets) > 1500
        assert 0 == refused
        assert {"200 decided": 200} == after
        assert 1 == await proxy.stat("cluster.sentinel.upstream_cx_total")
        assert 0 == await proxy.stat("cluster.sentinel.upstream_cx_close_notify")
        assert {} == server.trips
        assert 100 < most


# Access logs.


def log_to_sentinel(resources: dict[str, Any]) -> None:
    """Let Envoy stream its access log to the cluster that it asks, too."""
    name = "type.googleapis.com/envoy.extensions.access_loggers.grpc.v3.HttpGrpcAccessLogConfig"
    config = {
        "@type": name,
        "common_config": {
            "log_name": "requests",
            "transport_api_version": "V3",
            "buffer_flush_interval": "0.1s",
            "grpc_service": {"envoy_grpc": {"cluster_name": "sentinel"}},
        },
    }
    manager_of(resources)["access_log"] = [{"name": "envoy.access_loggers.http_grpc", "typed_config": config}]


def is_complete(logs: Logs, first: int, count: int) -> bool:
    """Each request is logged once, or more often never."""
    found = Counter(logs.paths)
    return all(found[f"/log/{number}"] == 1 for number in range(first, first + count))


@pytest.mark.parametrize("form", ["hot", "generated"])
async def test_every_access_log_entry_arrives_and_a_drain_ends_the_stream(
    short_folder: Path, form: str
) -> None:
    address, logs = local(), Logs()
    mount = logs.mount_hot if form == "hot" else logs.mount_generated

    async def ask(first: int, count: int) -> None:
        asked = await asyncio.gather(*(proxy.get(f"/log/{n}") for n in range(first, first + count)))
        assert {"200 decided"} == set(asked)
        await until(lambda: is_complete(logs, first, count))

    async with serving(hot=ALWAYS, mount=mount, address=address) as (server, _):
        async with proxying(short_folder, address, log_to_sentinel) as proxy:
            for round_ in range(5):
                await ask(100 * round_, 100)
            (log,) = logs.streams
            print(f"als {form}: {len(log.sizes)} messages, the first of {log.sizes[0]} bytes")
            assert ("sentinel-envoy", "requests") == (log.node, log.name)
            assert [True] == log.identified[:1]
            assert True not in log.identified[1:]
            assert log.sizes[0] > 3 * 16_384  # so it came in four DATA frames at least
            assert 1 == server.in_flight

            began = time.monotonic()
            await server.stop(4)
            took = time.monotonic() - began
            print(f"als {form}: drained in {took:.2f} s, stream {log.end}")
            assert (took < 1) if form == "hot" else (took < 3)
            assert ("finished" if form == "hot" else "cancelled") == log.end
            assert (0, 0) == (server.connections, server.in_flight)

            async with serving(hot=ALWAYS, mount=mount, address=address):
                async with asyncio.timeout(10):
                    while await proxy.get() != "200 decided":
                        await asyncio.sleep(0.05)
                await ask(1000, 100)
                assert "sentinel-envoy" == logs.streams[-1].node
                assert logs.streams[-1].identified[0]
        await until(lambda: all(log.end for log in logs.streams))


# Sockets.


async def test_a_unix_socket(short_folder: Path) -> None:
    address = Address(path=str(short_folder / "s.sock"))
    async with (
        serving(hot=ALWAYS, address=address) as (server, _),
        proxying(short_folder, address) as proxy,
    ):
        assert {"200 decided": 500} == await proxy.send(500)
        assert 500 <= server.calls
        assert {} == server.trips


class Certificates:
    """A mesh's authority; a server's certificate and a proxy's, as PEM files."""

    def __init__(self, folder: Path) -> None:
        authority = trustme.CA()
        self.ca = folder / "ca.pem"
        authority.cert_pem.write_to_path(self.ca)
        self.server = self._write(folder, "server", authority.issue_cert("sentinel.local"))
        self.proxy = self._write(folder, "proxy", authority.issue_cert("envoy.local"))

    @staticmethod
    def _write(folder: Path, name: str, issued: trustme.LeafCert) -> tuple[Path, Path]:
        certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
        certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(key)
        return certificate, key

    def over_tls(self, *, shown: bool) -> Callable[[dict[str, Any]], None]:
        """Let Envoy reach the server over TLS, and show its own certificate or not."""
        common: dict[str, Any] = {
            "alpn_protocols": ["h2"],
            "validation_context": {
                "trusted_ca": {"filename": str(self.ca)},
                "match_typed_subject_alt_names": [
                    {"san_type": "DNS", "matcher": {"exact": "sentinel.local"}}
                ],
            },
        }
        if shown:
            certificate, key = map(str, self.proxy)
            common["tls_certificates"] = [
                {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
            ]
        config = {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext",
            "sni": "sentinel.local",
            "common_tls_context": common,
        }

        def change(resources: dict[str, Any]) -> None:
            (cluster,) = (found for found in resources["clusters"] if found["name"] == "sentinel")
            cluster["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": config}

        return change


class Witness(external_auth_pb2_grpc.AuthorizationServicer):  # type: ignore[misc]  no types in the wheel
    """Allows, and writes down who asked."""

    def __init__(self) -> None:
        self.seen: set[tuple[bytes, ...]] = set()

    async def Check(self, _request: Any, context: Any) -> Any:  # noqa: N802  generated name
        self.seen.add(tuple(context.peer_identities() or ()))
        return external_auth_pb2.CheckResponse.FromString(ALLOW)


@pytest.mark.parametrize("shown", [True, False], ids=["with a certificate", "without"])
async def test_mtls_lets_in_the_proxy_that_shows_its_certificate(short_folder: Path, shown: bool) -> None:
    certificates, witness, address = Certificates(short_folder), Witness(), local()

    def mount(server: LeanServer) -> None:
        external_auth_pb2_grpc.add_AuthorizationServicer_to_server(witness, server)

    context = tls.server_context(*certificates.server, certificates.ca)
    async with (
        serving(mount=mount, address=address, tls=context) as (server, _),
        proxying(short_folder, address, certificates.over_tls(shown=shown)) as proxy,
    ):
        outcomes: Mapping[str, int] = await proxy.send(200)
        print(f"mtls shown={shown}: {outcomes}, identities {witness.seen}")
        assert {"200 decided" if shown else "503": 200} == outcomes
        assert ({(b"envoy.local",)} if shown else set()) == witness.seen
        assert shown == bool(server.calls)
