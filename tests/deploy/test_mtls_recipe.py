"""docs/install/mtls.md for real: an Envoy before Sentinel's socket, callers with certificates and without."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import trustme
import yaml
from support.envoy import EnvoyProcess, free_port, validate
from support.fleet import Sentinel, Upstream
from support.manifests import RECIPES, documents, patched
from support.mesh import localised, plain

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

NAME = "sentinel.sentinel.svc.cluster.local"
FOLDERS = ("/run/sentinel", "/etc/sentinel-tls", "/etc/envoy-tls", "/etc/sentinel")


def moved(text: str, folder: Path) -> str:
    """Move the folders of a pod below one of ours."""
    for name in FOLDERS:
        text = text.replace(f"{name}/", f"{folder}{name}/").replace(
            f"path: {name}}}", f"path: {folder}{name}}}"
        )
    return text


def issue(ca: trustme.CA, folder: Path, name: str) -> Path:
    """Write what a Secret of cert-manager holds."""
    folder.mkdir(parents=True)
    certificate = ca.issue_cert(name)
    certificate.private_key_pem.write_to_path(folder / "tls.key")
    for i, blob in enumerate(certificate.cert_chain_pems):
        blob.write_to_path(folder / "tls.crt", append=i > 0)
    ca.cert_pem.write_to_path(folder / "ca.crt")
    return folder


class House:
    """Sentinel as the patched Deployment starts it, the front, and who calls."""

    def __init__(self, folder: Path, upstream: Upstream, front_port: int) -> None:
        self.folder, self.upstream, self.front_port = folder, upstream, front_port

    async def asked(self, *, with_certificate: bool) -> tuple[int, dict[str, str]]:
        """Send a request through a caller's Envoy; return status and headers of the answer."""
        port, admin_port = free_port(), free_port()
        config = localised(
            plain(),
            port=port,
            admin_port=admin_port,
            sentinel_port=self.front_port,
            upstream_port=self.upstream.port,
        )
        (addition,) = yaml.safe_load_all(
            moved((RECIPES / "mtls" / "client-cluster.yaml").read_text(), self.folder)
        )
        if not with_certificate:
            del addition["transport_socket"]["typed_config"]["common_tls_context"]["tls_certificates"]
        (sentinel,) = (c for c in config["static_resources"]["clusters"] if c["name"] == "sentinel")
        sentinel |= addition
        path = self.folder / f"caller-{port}.json"
        path.write_text(json.dumps(config))
        envoy = EnvoyProcess(path, admin_port)
        try:
            await asyncio.to_thread(envoy.start)
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{port}/", headers={"x-tenant-id": "acme"}) as response,
            ):
                await response.read()
                return response.status, {name.lower(): value for name, value in response.headers.items()}
        finally:
            envoy.stop()


def deployment() -> dict[str, Any]:
    """Return Sentinel's container and volumes after the patch."""
    (patch,) = documents(RECIPES / "mtls" / "deployment.patch.yaml")
    (base,) = (d for d in documents(RECIPES / "sentinel" / "sentinel.yaml") if d["kind"] == "Deployment")
    spec: dict[str, Any] = patched(base, patch)["spec"]["template"]["spec"]
    return spec


@pytest.fixture(scope="module")
async def house(shared_redis: RedisServer, module_folder: Path) -> AsyncIterator[House]:
    ca = trustme.CA()
    issue(ca, module_folder / "etc/sentinel-tls", NAME)
    issue(ca, module_folder / "etc/envoy-tls", "gateway.shop.svc.cluster.local")
    (module_folder / "run/sentinel").mkdir(parents=True)
    (module_folder / "etc/sentinel").mkdir()
    (config,) = (d for d in documents(RECIPES / "sentinel" / "sentinel.yaml") if d["kind"] == "ConfigMap")
    for name, text in config["data"].items():
        (module_folder / "etc/sentinel" / name).write_text(text)
    (container,) = (c for c in deployment()["containers"] if c["name"] == "sentinel")
    told = {entry["name"]: moved(entry["value"], module_folder) for entry in container["env"]}
    told.pop("ADMIN_ADDRESS")
    sentinel = Sentinel(module_folder, {**told, "REDIS_URL": shared_redis.url})
    front_port, admin_port = free_port(), free_port()
    text = moved((RECIPES / "mtls" / "front.yaml").read_text(), module_folder)
    front = yaml.safe_load(text)
    where = front["static_resources"]["listeners"][0]["address"]["socket_address"]
    where |= {"address": "127.0.0.1", "port_value": front_port}
    front["admin"] = {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin_port}}}
    path = module_folder / "front.json"
    path.write_text(json.dumps(front))
    envoy = EnvoyProcess(path, admin_port)
    sentinel.start()
    try:
        judged = await asyncio.to_thread(validate, path)
        assert 0 == judged.returncode, judged.stderr
        await asyncio.to_thread(envoy.start)
        async with Upstream() as upstream:
            await sentinel.ready()
            yield House(module_folder, upstream, front_port)
    finally:
        envoy.stop()
        sentinel.discard()


async def test_a_caller_with_a_certificate_gets_its_answer(house: House) -> None:
    status, headers = await house.asked(with_certificate=True)

    assert (200, "1000") == (status, headers["x-ratelimit-limit"])
    assert "x-correlation-id" in headers


async def test_a_caller_without_one_gets_no_decision(house: House) -> None:
    status, headers = await house.asked(with_certificate=False)

    assert 200 == status
    assert not {"x-ratelimit-limit", "x-correlation-id"} & headers.keys()


def spoken(house: House, *, ca: trustme.CA | None) -> str:
    """Speak TLS to the front as `openssl s_client` does; return its complaint."""
    context = ssl.create_default_context(cafile=str(house.folder / "etc/sentinel-tls/ca.crt"))
    context.set_alpn_protocols(["h2"])
    if ca is not None:
        ca.issue_cert("somebody").configure_cert(context)
    with (
        socket.create_connection(("127.0.0.1", house.front_port), timeout=5) as raw,
        pytest.raises(ssl.SSLError) as told,
        context.wrap_socket(raw, server_hostname=NAME) as secure,
    ):
        secure.recv(1)
    return str(told.value).lower()


async def test_the_front_says_why_it_refuses(house: House) -> None:
    assert "certificate required" in await asyncio.to_thread(spoken, house, ca=None)
    assert "unknown ca" in await asyncio.to_thread(spoken, house, ca=trustme.CA())


def test_every_file_of_the_front_is_in_a_mounted_folder() -> None:
    spec = deployment()
    (front,) = spec["initContainers"]
    mounted = {mount["mountPath"] for mount in front["volumeMounts"]}
    text = (RECIPES / "mtls" / "front.yaml").read_text()

    assert {"/run/sentinel", "/etc/sentinel-tls"} <= mounted
    assert {name for name in FOLDERS if f"{name}/" in text} <= mounted
    assert mounted - {"/etc/sentinel-front"} == {name for name in FOLDERS if name in text and name in mounted}
    assert {mount["name"] for mount in front["volumeMounts"]} <= {v["name"] for v in spec["volumes"]}


def test_envoy_gateways_pods_hold_the_files_of_a_callers_cluster() -> None:
    """Envoy refuses a cluster, and a listener that needs it, whose certificates are not there."""
    (patch,) = documents(RECIPES / "envoy-gateway" / "tls.patch.yaml")
    deployment_patch = patch["spec"]["provider"]["kubernetes"]["envoyDeployment"]["patch"]["value"]
    pod = deployment_patch["spec"]["template"]["spec"]
    ((mount,), (volume,)) = (pod["containers"][0]["volumeMounts"], pod["volumes"])
    text = (RECIPES / "mtls" / "client-cluster.yaml").read_text()

    assert mount["name"] == volume["name"]
    assert patch["spec"]["backendTLS"]["clientCertificateRef"]["name"] == volume["secret"]["secretName"]
    assert {mount["mountPath"]} == {name for name in FOLDERS if f"{name}/" in text}


def test_the_front_starts_before_sentinel_and_ends_after_it() -> None:
    """As Kubernetes does with native sidecars: the next container waits for the startup probe."""
    spec = deployment()
    (front,) = spec["initContainers"]
    config = yaml.safe_load((RECIPES / "mtls" / "front.yaml").read_text())
    (listener,) = config["static_resources"]["listeners"]
    (port,) = front["ports"]

    assert ["sentinel"] == [container["name"] for container in spec["containers"]]
    assert ("front", "Always") == (front["name"], front["restartPolicy"])
    assert listener["address"]["socket_address"]["port_value"] == port["containerPort"]
    assert port["name"] == front["startupProbe"]["tcpSocket"]["port"]
