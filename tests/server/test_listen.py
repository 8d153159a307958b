"""Before a server binds: taken, stale, forbidden, or free."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.build import free_tcp_port

from sentinel_ext.address import Address
from sentinel_ext.errors import AddressInUseError, StartError
from sentinel_ext.server import listen

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = "127.0.0.1"


def ensure_free(address: Address) -> None:
    listen.ensure_free(address, "GRPC_ADDRESS")


@contextmanager
def listening(where: tuple[str, int] | str, backlog: int = 8) -> Iterator[socket.socket]:
    family = socket.AF_UNIX if isinstance(where, str) else socket.AF_INET
    with socket.socket(family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        server.bind(where)
        server.listen(backlog)
        yield server


@pytest.fixture
def path(short_folder: Path) -> Path:
    return short_folder / "s.sock"


def unix(path: Path) -> Address:
    return Address(path=str(path))


def make_stale(path: Path) -> None:
    """What a killed process leaves: a socket file that nobody listens on."""
    with listening(str(path)):
        pass
    assert path.exists()


# --- TCP ---


def test_a_free_port_is_free_and_stays_free():
    address = Address(LOOPBACK, free_tcp_port())

    ensure_free(address)
    ensure_free(address)

    with listening((address.host, address.port)):
        pass


def test_a_taken_port_is_named_with_its_setting_and_what_to_do():
    address = Address(LOOPBACK, free_tcp_port())
    with listening((LOOPBACK, address.port)), pytest.raises(AddressInUseError) as caught:
        ensure_free(address)

    assert str(caught.value).startswith(f"GRPC_ADDRESS: cannot listen on {address}: ")
    assert str(caught.value).endswith("stop what listens there or set GRPC_ADDRESS")


def test_a_port_whose_connections_have_just_ended_is_free():
    """TIME_WAIT: a restart must not wait a minute."""
    address = Address(LOOPBACK, free_tcp_port())
    with listening((LOOPBACK, address.port)) as server, socket.socket() as client:
        client.connect((LOOPBACK, address.port))
        server.accept()[0].close()  # the side that closes first keeps the port

    ensure_free(address)


def test_an_address_of_another_machine_is_not_called_in_use():
    with pytest.raises(StartError) as caught:
        ensure_free(Address("192.0.2.1", 50051))  # TEST-NET-1: nobody's

    assert not isinstance(caught.value, AddressInUseError)
    assert str(caught.value).startswith("GRPC_ADDRESS: cannot listen on 192.0.2.1:50051: ")


def test_a_host_that_cannot_be_a_name_is_told_like_any_other_wrong_address():
    with pytest.raises(StartError) as caught:
        ensure_free(Address("a" * 64, 50051))

    assert "GRPC_ADDRESS: cannot listen on" in str(caught.value)


def test_every_address_of_a_name_must_be_free(monkeypatch):
    """`localhost` is 127.0.0.1 and ::1 on most machines; servers bind both."""
    port = free_tcp_port()
    infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port)) for host in (LOOPBACK, "127.0.0.2")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_arguments, **_named: infos)

    ensure_free(Address("both.test", port))
    for host in (LOOPBACK, "127.0.0.2"):
        with listening((host, port)), pytest.raises(AddressInUseError):
            ensure_free(Address("both.test", port))


# --- Unix sockets ---


def test_a_path_that_is_not_there_is_free(path):
    ensure_free(unix(path))

    assert not path.exists()


def test_the_socket_of_a_process_that_is_gone_is_removed(path):
    make_stale(path)

    ensure_free(unix(path))

    assert not path.exists()


def test_a_socket_somebody_listens_on_is_left_to_him(path):
    with listening(str(path)) as server:
        with pytest.raises(AddressInUseError, match=f"GRPC_ADDRESS: cannot listen on unix://{path}: "):
            ensure_free(unix(path))

        with socket.socket(socket.AF_UNIX) as client:
            server.accept()[0].close()  # the look itself
            client.connect(str(path))


@pytest.mark.timeout(3)
def test_a_socket_whose_owner_is_frozen_is_in_use_and_the_start_does_not_hang(path):
    """With its backlog full, a blocking connect waits until somebody accepts: for ever."""
    with listening(str(path), backlog=0), socket.socket(socket.AF_UNIX) as waiting:
        waiting.connect(str(path))
        with pytest.raises(AddressInUseError):
            ensure_free(unix(path))

    assert path.exists()


@pytest.mark.parametrize("make", [lambda path: path.write_text("mine"), lambda path: path.mkdir()])
def test_what_is_no_socket_is_never_removed(path, make):
    make(path)

    with pytest.raises(StartError, match="exists and is not a socket; remove it or choose another path"):
        ensure_free(unix(path))

    assert path.exists()


def test_a_missing_folder_is_named(short_folder):
    with pytest.raises(StartError, match=f"GRPC_ADDRESS: the folder {short_folder}/no does not exist"):
        ensure_free(unix(short_folder / "no" / "s.sock"))


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_socket_is_open_to_owner_and_group_and_nobody_else(path, umask):
    before = os.umask(umask)
    try:
        with listening(str(path)):
            listen.allow_group(unix(path))
            assert 0o660 == stat.S_IMODE(path.stat().st_mode)
    finally:
        os.umask(before)


def test_removing_the_socket_twice_is_fine(path):
    make_stale(path)

    listen.remove_socket(unix(path))
    listen.remove_socket(unix(path))

    assert not path.exists()


def test_a_tcp_address_has_no_file_to_touch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(LOOPBACK).write_text("mine")

    listen.allow_group(Address(LOOPBACK, 1))
    listen.remove_socket(Address(LOOPBACK, 1))

    assert "mine" == Path(LOOPBACK).read_text()
