"""TLS and mTLS with real certificates and a real client."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest
import trustme
from support.lean import ask, refused, serving, until

from sentinel_ext.errors import StartError
from sentinel_ext.server import tls

if TYPE_CHECKING:
    from pathlib import Path

SPIFFE = "spiffe://mesh.local/ns/shop/sa/envoy"


class Session:
    """What Python's ssl shows of a handshake with an SVID."""

    def getpeercert(self) -> dict[str, Any]:
        return {"subject": (), "subjectAltName": (("URI", SPIFFE), ("DNS", "envoy.local"))}


class Transport(asyncio.BaseTransport):
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("::1", 4711, 0, 0), "ssl_object": Session()}.get(name, default)


def test_a_spiffe_id_is_told_apart_from_other_names() -> None:
    """SPIFFE X.509-SVID: one URI. trustme makes no such certificates, so the session is played."""
    peer = tls.peer_of(Transport())

    assert "ipv6:[::1]:4711" == peer.address
    assert (SPIFFE.encode(),) == peer.properties["peer_spiffe_id"]
    assert (SPIFFE.encode(), b"envoy.local") == peer.identities


class Certificates:
    """An authority, a server's certificate, a client's, as PEM files."""

    def __init__(self, folder: Path) -> None:
        self.authority = trustme.CA()
        server = self.authority.issue_cert("127.0.0.1", "localhost")
        self.client = self.authority.issue_cert("envoy.local", "client.local", common_name="client")
        self.ca_file, self.cert_file, self.key_file = (folder / name for name in ("ca", "cert", "key"))
        self.authority.cert_pem.write_to_path(self.ca_file)
        self.key_file.write_bytes(server.private_key_pem.bytes())
        self.cert_file.write_bytes(b"".join(part.bytes() for part in server.cert_chain_pems))

    def credentials(self, *, client: bool) -> grpc.ChannelCredentials:
        return grpc.ssl_channel_credentials(
            self.authority.cert_pem.bytes(),
            self.client.private_key_pem.bytes() if client else None,
            self.client.cert_chain_pems[0].bytes() if client else None,
        )


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(tmp_path)


async def identify(_request: bytes, context: Any) -> bytes:
    return repr(
        (
            sorted(context.peer_identities() or ()),
            context.peer_identity_key(),
            sorted(context.auth_context()),
        )
    ).encode()


HANDLERS = {"Identify": grpc.unary_unary_rpc_method_handler(identify)}


async def test_tls_carries_calls_and_identifies_nobody(certificates: Certificates) -> None:
    context = tls.server_context(certificates.cert_file, certificates.key_file)
    async with (
        serving(HANDLERS, tls=context) as (_, where),
        grpc.aio.secure_channel(where, certificates.credentials(client=False)) as channel,
    ):
        assert b"([], None, ['transport_security_type'])" == await ask(channel, "Identify")


async def test_mtls_identifies_the_client_by_its_names(certificates: Certificates) -> None:
    context = tls.server_context(certificates.cert_file, certificates.key_file, certificates.ca_file)
    async with (
        serving(HANDLERS, tls=context) as (_, where),
        grpc.aio.secure_channel(where, certificates.credentials(client=True)) as channel,
    ):
        names = [b"client.local", b"envoy.local"]
        properties = [
            "transport_security_type",
            "x509_common_name",
            "x509_subject_alternative_name",
        ]

        assert repr((names, "x509_subject_alternative_name", properties)).encode() == await ask(
            channel, "Identify"
        )


async def test_mtls_turns_away_a_client_without_a_certificate(certificates: Certificates) -> None:
    context = tls.server_context(certificates.cert_file, certificates.key_file, certificates.ca_file)
    async with (
        serving(HANDLERS, tls=context) as (server, where),
        grpc.aio.secure_channel(where, certificates.credentials(client=False)) as channel,
    ):
        assert grpc.StatusCode.UNAVAILABLE is (await refused(ask(channel, "Identify")))[0]
        assert 0 == server.calls


async def test_a_client_that_does_not_agree_on_h2_is_closed(certificates: Certificates) -> None:
    context = tls.server_context(certificates.cert_file, certificates.key_file)
    async with serving(HANDLERS, tls=context) as (server, where):
        host, port = where.split(":")
        client = ssl.create_default_context(cafile=str(certificates.ca_file))
        reader, writer = await asyncio.open_connection(host, int(port), ssl=client)
        with suppress(ConnectionResetError):
            assert b"" == await reader.read()
        writer.close()

        await until(lambda: server.trips["no_h2_in_alpn"] == 1)
        assert 0 == server.connections


async def test_a_drain_ends_tls_connections_too(certificates: Certificates) -> None:
    context = tls.server_context(certificates.cert_file, certificates.key_file)
    async with (
        serving(HANDLERS, tls=context) as (server, where),
        grpc.aio.secure_channel(where, certificates.credentials(client=False)) as channel,
    ):
        await ask(channel, "Identify")
        await server.stop(5)

        assert 0 == server.connections


@pytest.mark.parametrize("broken", ["cert_file", "key_file", "ca_file"])
def test_a_file_that_does_not_fit_is_named(certificates: Certificates, broken: str) -> None:
    path: Path = getattr(certificates, broken)
    path.write_text("nonsense")

    with pytest.raises(StartError, match=str(path)):
        tls.server_context(certificates.cert_file, certificates.key_file, certificates.ca_file)
