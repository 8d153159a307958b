"""Addresses a server listens on: `host:port`, `[v6]:port` or `unix:///path`. Pure."""

from __future__ import annotations

import ipaddress

import msgspec

# RFC 1035 §3.1 leaves 253 characters for a name as it is written.
MAX_HOST_CHARACTERS = 253
# sockaddr_un.sun_path holds 108 bytes with the closing NUL (Linux unix(7)).
MAX_SOCKET_PATH_BYTES = 107


class Address(msgspec.Struct, frozen=True):
    """Where a server listens.

    Attributes:
        host: name or IP address without brackets; "" for a Unix socket.
        port: 1-65535; 0 for a Unix socket.
        path: absolute path of the Unix socket; "" for TCP.
    """

    host: str = ""
    port: int = 0
    path: str = ""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `host:port`, `[v6]:port` or `unix:///path`.

        Raises:
            ValueError: the text is neither; the message says what is allowed.
        """
        if text.startswith("unix:"):
            return cls._parse_unix(text)
        if "://" in text:
            raise ValueError("an address has no scheme such as http://")
        host, colon, port_text = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError("put an IPv6 address in brackets: [::1]:50051")
        if not colon or not host or not port_text.isascii() or not port_text.isdigit():
            raise ValueError("allowed: host:port, [ipv6]:port or unix:///path")
        if not _is_host(host):
            raise ValueError("a host name has labels of 1 to 63 characters with dots between, 253 in all")
        port = int(port_text)
        if not 1 <= port <= 65535:
            raise ValueError(f"port {port_text} is not between 1 and 65535")
        return cls(host=host, port=port)

    @classmethod
    def _parse_unix(cls, text: str) -> Address:
        path = text.removeprefix("unix:")
        path = path.removeprefix("//")
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError("a Unix socket needs an absolute path: unix:///run/sentinel.sock")
        if not path.isprintable():
            raise ValueError("a socket path has no control characters and is UTF-8")
        if len(path.encode()) > MAX_SOCKET_PATH_BYTES:
            raise ValueError(f"the socket path is longer than {MAX_SOCKET_PATH_BYTES} bytes")
        return cls(path=path)

    @property
    def is_unix(self) -> bool:
        """Say whether this is a Unix socket."""
        return bool(self.path)

    @property
    def is_local(self) -> bool:
        """Say whether only this host can reach it: a Unix socket, or loopback by number or its usual name."""
        if self.is_unix or self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def reachable(self) -> Address:
        """Return where a server that listens on every interface is asked from its own machine."""
        loopback = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host)  # noqa: S104  not bound, replaced
        return Address(loopback, self.port) if loopback else self

    def nth(self, index: int) -> Address:
        """Return the address of the worker `index`: `port + index`, or the socket path with `.index`.

        Raises:
            ValueError: there is no such port, or the path gets too long.
        """
        if self.is_unix:
            return self.parse(f"unix://{self.path}.{index}")
        if self.port + index > 65535:
            raise ValueError(f"port {self.port} + {index} is above 65535")
        return Address(self.host, self.port + index)

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _is_host(text: str) -> bool:
    """Say whether a resolver can be asked: what IDNA cannot write is an exception in every library."""
    if len(text) > MAX_HOST_CHARACTERS or not text.isprintable() or " " in text:
        return False
    try:
        text.encode("idna")
    except UnicodeError:
        return False
    return True
