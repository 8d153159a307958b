"""Before a server binds: is the address free, is the socket file a leftover?"""

from __future__ import annotations

import errno
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from sentinel_ext.errors import AddressInUseError, StartError

if TYPE_CHECKING:
    from sentinel_ext.address import Address

# The proxy runs as another user of the same group (fsGroup in Kubernetes); nobody else may ask.
SOCKET_MODE = 0o660


def ensure_free(address: Address, variable: str) -> None:
    """Check that `address` can be bound; remove the socket file of a process that is gone.

    Args:
        variable: the setting that holds the address, for the message.

    Raises:
        AddressInUseError: somebody listens there.
        StartError: it cannot be bound for another reason.
    """
    try:
        if address.is_unix:
            _ensure_free_path(Path(address.path), variable)
        else:
            _ensure_free_port(address)
    except OSError as error:
        message = f"{variable}: cannot listen on {address}: {error.strerror or error}"
        if error.errno == errno.EADDRINUSE:
            raise AddressInUseError(f"{message}; stop what listens there or set {variable}") from error
        raise StartError(message) from error


def allow_group(address: Address) -> None:
    """Give the socket file the mode that lets the proxy in and others not."""
    if address.is_unix:
        Path(address.path).chmod(SOCKET_MODE)


def remove_socket(address: Address) -> None:
    """Take the socket file away after the server stopped."""
    if address.is_unix:
        Path(address.path).unlink(missing_ok=True)


def _ensure_free_port(address: Address) -> None:
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, where = infos[0]
    with socket.socket(family, kind, protocol) as probe:
        # As the servers do: a port in TIME_WAIT is free, one that is listened on is not.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(where)
        probe.listen(1)


def _ensure_free_path(path: Path, variable: str) -> None:
    if not path.parent.is_dir():
        raise StartError(
            f"{variable}: the folder {path.parent} does not exist; make it or choose another path"
        )
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise StartError(f"{variable}: {path} exists and is not a socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(errno.EADDRINUSE, "address already in use")
