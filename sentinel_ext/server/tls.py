"""TLS for HTTP/2: the context a server needs, and who the peer of a connection is."""

from __future__ import annotations

import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from sentinel_ext.errors import StartError

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

ALPN: Final = "h2"
# RFC 9113 §9.2.2 forbids the rest of TLS 1.2; TLS 1.3 brings its own.
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"

COMMON_NAME: Final = "x509_common_name"
SUBJECT_ALTERNATIVE_NAME: Final = "x509_subject_alternative_name"
SPIFFE_ID: Final = "peer_spiffe_id"


class Peer(msgspec.Struct, frozen=True):
    """Who is at the other end, in grpc's words.

    Attributes:
        address: `ipv4:127.0.0.1:4711`, `ipv6:[::1]:4711` or `unix:`.
        properties: what TLS verified: names of the client's certificate; empty without mTLS.
        identity_key: the property that identifies the peer; "" if nothing does.
    """

    address: str
    properties: Mapping[str, Sequence[bytes]] = {}
    identity_key: str = ""

    @property
    def identities(self) -> tuple[bytes, ...] | None:
        """The names of the client's certificate; None if it did not have to show one."""
        return tuple(self.properties[self.identity_key]) if self.identity_key else None


def server_context(certificate: Path, key: Path, client_authority: Path | None = None) -> ssl.SSLContext:
    """Make the context of a server.

    Args:
        certificate: PEM file, the server's own first, then its chain.
        key: PEM file.
        client_authority: PEM file; if given, clients must show a certificate that it signed (mTLS).

    Raises:
        StartError: a file cannot be read or does not fit; the message names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    try:
        context.load_cert_chain(certificate, key)
    except OSError as error:  # an ssl.SSLError is one, too
        raise StartError(f"TLS: cannot use certificate {certificate} with key {key}: {error}") from error
    if client_authority is not None:
        try:
            context.load_verify_locations(client_authority)
        except OSError as error:
            raise StartError(f"TLS: cannot use client authority {client_authority}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    prepare(context)
    return context


def prepare(context: ssl.SSLContext) -> None:
    """Offer HTTP/2 and nothing else, and none of what RFC 9113 §9.2 forbids."""
    context.set_alpn_protocols([ALPN])
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION


def speaks_h2(transport: asyncio.BaseTransport) -> bool:
    """Say whether both sides agreed on HTTP/2. Without TLS there is nothing to agree on."""
    session = transport.get_extra_info("ssl_object")
    return session is None or session.selected_alpn_protocol() == ALPN


def peer_of(transport: asyncio.BaseTransport) -> Peer:
    """Describe who is at the other end of `transport`."""
    address = _address(transport.get_extra_info("peername"))
    session = transport.get_extra_info("ssl_object")
    certificate = None if session is None else session.getpeercert()
    if not certificate:
        secure: dict[str, tuple[bytes, ...]] = {"transport_security_type": (b"ssl",)} if session else {}
        return Peer(address, secure)
    properties: dict[str, tuple[bytes, ...]] = {"transport_security_type": (b"ssl",)}
    names = tuple(value.encode() for _, value in certificate.get("subjectAltName", ()))
    common = tuple(
        value.encode()
        for part in certificate.get("subject", ())
        for key, value in part
        if key == "commonName"
    )
    spiffe = tuple(name for name in names if name.startswith(b"spiffe://"))
    if common:
        properties[COMMON_NAME] = common
    if names:
        properties[SUBJECT_ALTERNATIVE_NAME] = names
    if len(spiffe) == 1:  # SPIFFE X.509-SVID §2: exactly one
        properties[SPIFFE_ID] = spiffe
    return Peer(address, properties, SUBJECT_ALTERNATIVE_NAME if names else COMMON_NAME if common else "")


def _address(name: Any) -> str:  # noqa: ANN401  depends on the socket's family
    if not isinstance(name, tuple):
        return "unix:"
    host, port = name[:2]
    return f"ipv6:[{host}]:{port}" if ":" in host else f"ipv4:{host}:{port}"
