"""Addresses are tried before anything starts, and every problem is named."""

from __future__ import annotations

import errno
import socket
from typing import TYPE_CHECKING

import pytest

from sentinel_ext.address import Address
from sentinel_ext.demo import ports
from sentinel_ext.errors import AddressInUseError, StartError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def taken():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Address(host="127.0.0.1", port=server.getsockname()[1])


@pytest.fixture
def free() -> Address:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return Address(host="127.0.0.1", port=server.getsockname()[1])


def claim(setting: str, address: Address) -> ports.Claim:
    return ports.Claim(f"who wants {setting}", setting, address)


def test_free_addresses_pass_and_stay_free(free: Address) -> None:
    ports.check([claim("PORT", free)])
    ports.check([claim("PORT", free)])


def test_every_address_in_use_gets_one_line_that_says_what_to_change(taken: Address) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        second = Address(host="127.0.0.1", port=other.getsockname()[1])
        with pytest.raises(AddressInUseError) as caught:
            ports.check([claim("PORT", taken), claim("GRPC_ADDRESS", second)])

    lines = str(caught.value).splitlines()
    assert len(lines) == 2
    assert f"{taken} (PORT, who wants PORT) is in use" in lines[0]
    assert "set GRPC_ADDRESS to another" in lines[1]


def test_two_claims_of_one_address_are_told_apart_from_a_stranger(free: Address) -> None:
    with pytest.raises(AddressInUseError, match=f"{free} is wanted by PORT and GRPC_ADDRESS: change one"):
        ports.check([claim("PORT", free), claim("GRPC_ADDRESS", free)])


def test_an_address_of_another_machine_is_refused_with_the_systems_reason() -> None:
    stranger = Address(host="192.0.2.1", port=4000)  # RFC 5737: nobody's

    with pytest.raises(StartError, match=r"cannot listen on 192\.0\.2\.1:4000 \(GRPC_ADDRESS") as caught:
        ports.check([claim("GRPC_ADDRESS", stranger)])

    assert not isinstance(caught.value, AddressInUseError)


def test_a_unix_socket_needs_its_folder(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "none" / "s.sock"))

    with pytest.raises(StartError, match=r"s\.sock \(GRPC_ADDRESS, .*\): its folder does not exist; set"):
        ports.check([claim("GRPC_ADDRESS", address)])


def test_a_unix_socket_is_in_use_only_while_somebody_answers(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s.sock"))
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address.path)
        server.listen()
        with pytest.raises(AddressInUseError):
            ports.check([claim("GRPC_ADDRESS", address)])

    ports.check([claim("GRPC_ADDRESS", address)])


def test_localhost_listens_wherever_the_name_leads(free: Address) -> None:
    sockets = ports.listen("localhost", free.port)

    try:
        for one in sockets:
            with socket.create_connection(one.getsockname()[:2], timeout=1):
                pass
        assert sockets
    finally:
        for one in sockets:
            one.close()


def test_listening_fails_as_a_whole(taken: Address) -> None:
    with pytest.raises(OSError, match=r".") as caught:
        ports.listen(taken.host, taken.port)

    assert caught.value.errno == errno.EADDRINUSE
