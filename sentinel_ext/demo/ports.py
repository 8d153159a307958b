"""Who listens where: every address the demo needs is tried before anything starts."""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sentinel_ext.errors import AddressInUseError, StartError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sentinel_ext.address import Address

_LOOPBACK = ("127.0.0.1", "::1")
# A family or an address that this machine does not have: ::1 where IPv6 is off.
_NOT_HERE = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}


class Claim(NamedTuple):
    """An address that the demo wants to listen on.

    Attributes:
        what: who will listen there, for a reader: "Envoy's listener".
        setting: where the address comes from, so what to change: "PORT".
    """

    what: str
    setting: str
    address: Address


def check(claims: Iterable[Claim]) -> None:
    """Try every address.

    Raises:
        AddressInUseError: somebody listens on one of them, or two claims name the same; one line for each.
        StartError: an address cannot be used for another reason, and no address is in use.
    """
    in_use: list[str] = []
    unusable: list[str] = []
    taken: dict[tuple[str, int, str], Claim] = {}
    for claim in claims:
        other = _rival(claim, taken)
        if other is not None:
            in_use.append(f"{claim.address} is wanted by {other.setting} and {claim.setting}: change one")
            continue
        try:
            _try(claim.address)
        except OSError as error:
            where = f"{claim.address} ({claim.setting}, {claim.what})"
            remedy = f"set {claim.setting} to another"
            if error.errno == errno.EADDRINUSE:
                in_use.append(f"{where} is in use: stop what listens there, or {remedy}")
            else:
                unusable.append(f"cannot listen on {where}: {error.strerror}; {remedy}")
    if in_use:
        raise AddressInUseError("\n".join(in_use + unusable))
    if unusable:
        raise StartError("\n".join(unusable))


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen on every address that `host` names on this machine.

    Raises:
        OSError: one of them is in use, or none can be used.
    """
    missing = OSError(errno.EADDRNOTAVAIL, "no such address on this machine")
    sockets: list[socket.socket] = []
    with ExitStack() as undo:
        for family, address in _resolve(host, port):
            try:
                sockets.append(undo.enter_context(socket.create_server(address, family=family)))
            except OSError as error:
                if error.errno not in _NOT_HERE:
                    raise
                missing = error
        if not sockets:
            raise missing
        undo.pop_all()
    return sockets


def _rival(claim: Claim, taken: dict[tuple[str, int, str], Claim]) -> Claim | None:
    """Return who claimed one of the addresses before; else note the claim."""
    places = _places(claim.address)
    for place in places:
        if place in taken:
            return taken[place]
    taken.update(dict.fromkeys(places, claim))
    return None


def _try(address: Address) -> None:
    if not address.is_unix:
        for one in listen(address.host, address.port):
            one.close()
        return
    if not Path(address.path).parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "its folder does not exist")
    # A socket file that nobody answers at is left over; the server that wants the path removes it.
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.path)
        except OSError:
            return
    raise OSError(errno.EADDRINUSE, "somebody answers there")


def _places(address: Address) -> list[tuple[str, int, str]]:
    if address.is_unix:
        return [("", 0, address.path)]
    try:
        return [(place[0], place[1], "") for _, place in _resolve(address.host, address.port)]
    except OSError:
        return []  # _try says what is wrong with it


def _resolve(host: str, port: int) -> list[tuple[int, tuple[str, int]]]:
    # Envoy's resolver takes localhost for both loopback addresses (RFC 6761 §6.3), whatever /etc/hosts says.
    hosts = _LOOPBACK if host == "localhost" else (host,)
    return [
        (family, (str(place[0]), int(place[1])))
        for one in hosts
        for family, _, _, _, place in socket.getaddrinfo(
            one, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    ]
