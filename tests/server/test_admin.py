"""The admin port as Prometheus, an orchestrator and a curious person see it."""

from __future__ import annotations

import socket
import stat
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families
from support.build import free_tcp_port, make_decision

from sentinel_ext.address import Address
from sentinel_ext.errors import AddressInUseError, StartError
from sentinel_ext.server.admin import MAX_BODY_BYTES, AdminServer
from sentinel_ext.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from prometheus_client import CollectorRegistry

PAGES = ("/", "/metrics", "/healthz", "/readyz")
COUNTED = 'sentinel_decisions_total{reason="allowed",stage="window",tier="standard",verdict="allow"} 1.0'


class Instance:
    """What the admin pages ask of the application."""

    def __init__(self) -> None:
        self.ready = True
        self.details: dict[str, Any] = {"draining": False, "store": {"available": True}}
        self.broken = False
        self.metrics = Metrics("1.2.3")
        self.metrics.decided(make_decision(), 1)

    def readiness(self) -> tuple[bool, dict[str, Any]]:
        self._may_fail()
        return self.ready, self.details

    async def collect(self) -> CollectorRegistry:
        self._may_fail()
        return self.metrics.registry

    def drain(self) -> None:
        self.ready, self.details = False, {**self.details, "draining": True}

    def _may_fail(self) -> None:
        if self.broken:
            raise ZeroDivisionError("s3cret")


class Page:
    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self) -> str:
        return self.body.decode()


class Client:
    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def ask(self, path: str, method: str = "GET", **options: Any) -> Page:
        async with self._session.request(method, path, **options) as response:
            return Page(response.status, response.headers, await response.read())

    async def json(self, path: str) -> tuple[int, Any]:
        async with self._session.get(path) as response:
            return response.status, await response.json()


@asynccontextmanager
async def serving(
    instance: Instance, address: Address | socket.socket | None = None
) -> AsyncIterator[Client]:
    where = address or Address("127.0.0.1", free_tcp_port())
    server = AdminServer(where, instance.collect, instance)
    await server.start()
    unix = isinstance(where, Address) and where.is_unix
    base = f"http://{where}" if isinstance(where, Address) else f"http://127.0.0.1:{where.getsockname()[1]}"
    try:
        connector = aiohttp.UnixConnector(where.path) if unix else None
        base = "http://sentinel" if unix else base
        async with aiohttp.ClientSession(base, connector=connector) as session:
            yield Client(session)
    finally:
        await server.stop()


@pytest.fixture
def instance() -> Instance:
    return Instance()


@pytest.fixture
async def client(instance: Instance) -> AsyncIterator[Client]:
    async with serving(instance) as client:
        yield client


# --- What each page says ---


async def test_metrics_are_prometheus_text(client):
    page = await client.ask("/metrics")

    assert (200, "text/plain") == (page.status, page.headers["content-type"].partition(";")[0])
    assert COUNTED in page.text
    assert "sentinel_decisions" in {family.name for family in text_string_to_metric_families(page.text)}


async def test_metrics_are_openmetrics_for_whom_asks_so(client):
    page = await client.ask("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})

    assert page.headers["content-type"].startswith("application/openmetrics-text")
    assert "sentinel_decisions" in {family.name for family in parse_openmetrics(page.text)}


async def test_each_scrape_reads_anew(client, instance):
    await client.ask("/metrics")
    instance.metrics.decided(make_decision(), 1)

    assert COUNTED.replace(" 1.0", " 2.0") in (await client.ask("/metrics")).text


async def test_alive_says_ok(client):
    page = await client.ask("/healthz")

    assert (200, "ok\n") == (page.status, page.text)


async def test_ready_tells_its_details(client):
    assert (
        200,
        {"ready": True, "draining": False, "store": {"available": True}},
    ) == await client.json("/readyz")


async def test_not_ready_is_503_with_the_same_details(client, instance):
    instance.ready = False
    instance.details["store"] = {"available": False}

    assert (
        503,
        {"ready": False, "draining": False, "store": {"available": False}},
    ) == await client.json("/readyz")


async def test_a_draining_instance_is_alive_and_not_ready_and_can_still_be_scraped(client, instance):
    instance.drain()

    status, details = await client.json("/readyz")
    assert (503, True, False) == (status, details["draining"], details["ready"])
    assert [200, 200] == [(await client.ask(path)).status for path in ("/healthz", "/metrics")]


async def test_the_index_names_every_page(client):
    page = await client.ask("/")

    assert 200 == page.status
    assert all(path in page.text for path in PAGES)


# --- What else may be asked ---


@pytest.mark.parametrize("path", PAGES)
async def test_head_says_the_same_without_a_body(client, path):
    page = await client.ask(path, "HEAD")

    assert (200, b"") == (page.status, page.body)
    assert int(page.headers["content-length"]) > 0


async def test_head_of_not_ready_is_503(client, instance):
    instance.drain()

    assert 503 == (await client.ask("/readyz", "HEAD")).status


@pytest.mark.parametrize("path", ["/unknown", "/metrics/", "/metrics/../etc/passwd", "/readyz%00"])
async def test_an_unknown_path_is_404(client, path):
    assert 404 == (await client.ask(path)).status


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_nothing_can_be_changed_here(client, path, method):
    page = await client.ask(path, method, data=b"x" * (MAX_BODY_BYTES + 1))

    assert 405 == page.status
    assert {"GET", "HEAD"} == set(page.headers["allow"].split(","))


@pytest.mark.parametrize("path", ["/metrics", "/readyz"])
async def test_a_fault_of_our_own_is_500_without_its_text_and_the_next_page_is_served(client, instance, path):
    instance.broken = True
    page = await client.ask(path)
    instance.broken = False

    assert 500 == page.status
    assert "s3cret" not in page.text
    assert 200 == (await client.ask(path)).status


# --- Where it listens ---


async def test_a_taken_address_is_named_by_its_setting(instance):
    address = Address("127.0.0.1", free_tcp_port())
    async with serving(instance, address):
        with pytest.raises(AddressInUseError, match=f"ADMIN_ADDRESS: cannot listen on {address}"):
            await AdminServer(address, instance.collect, instance).start()


async def test_a_missing_folder_is_named_by_its_setting(instance, short_folder: Path):
    address = Address(path=f"{short_folder}/no/admin.sock")

    with pytest.raises(StartError, match="ADMIN_ADDRESS: the folder"):
        await AdminServer(address, instance.collect, instance).start()


async def test_after_its_end_the_port_is_free_for_the_next(instance):
    address = Address("127.0.0.1", free_tcp_port())
    for _ in range(2):
        async with serving(instance, address) as client:
            assert 200 == (await client.ask("/healthz")).status


async def test_a_unix_socket_is_for_its_group_and_goes_with_the_server(instance, short_folder: Path):
    path = short_folder / "admin.sock"
    async with serving(instance, Address(path=str(path))) as client:
        assert 200 == (await client.ask("/healthz")).status
        assert 0o660 == stat.S_IMODE(path.stat().st_mode)

    assert not path.exists()


async def test_a_workers_socket_is_served_and_nothing_is_checked_or_removed(instance):
    with socket.create_server(("127.0.0.1", 0)) as listening:
        async with serving(instance, listening) as client:
            assert 200 == (await client.ask("/healthz")).status


async def test_stopping_what_never_started_is_fine(instance):
    await AdminServer(Address("127.0.0.1", free_tcp_port()), instance.collect, instance).stop()
