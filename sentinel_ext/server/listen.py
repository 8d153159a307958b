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
# A family or an address that this machine does not have: ::1 of localhost where IPv6 is off.
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


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
    except UnicodeError as error:
        # What the resolver says to a label of more than 63 characters (RFC 1035 §2.3.4).
        raise StartError(f"{variable}: cannot listen on {address}: not a host name") from error
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
    """Try every address of the name; at least one must be of this machine, and none in use."""
    infos = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    missing: OSError | None = None
    found = 0
    for family, kind, protocol, _, where in infos:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As the servers do: a port in TIME_WAIT is free, one that is listened on is not.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                probe.bind(where)
                probe.listen(1)
                found += 1
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            missing = error
    if not found and missing is not None:
        raise missing


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
        # A frozen owner's backlog may be full: that is an owner, too, and not to be waited for.
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except BlockingIOError:
            raise OSError(errno.EADDRINUSE, "address already in use") from None
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(errno.EADDRINUSE, "address already in use")
