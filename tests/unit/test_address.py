"""Addresses in the forms an operator writes."""

from __future__ import annotations

import pytest

from sentinel_ext.address import MAX_SOCKET_PATH_BYTES, Address


@pytest.mark.parametrize(
    ("text", "address", "written"),
    [
        ("127.0.0.1:50051", Address("127.0.0.1", 50051), "127.0.0.1:50051"),
        ("localhost:1", Address("localhost", 1), "localhost:1"),
        ("0.0.0.0:65535", Address("0.0.0.0", 65535), "0.0.0.0:65535"),
        ("[::1]:80", Address("::1", 80), "[::1]:80"),
        ("[fe80::1%eth0]:80", Address("fe80::1%eth0", 80), "[fe80::1%eth0]:80"),
        ("example.com.:80", Address("example.com.", 80), "example.com.:80"),
        ("b\u00fccher.example:80", Address("b\u00fccher.example", 80), "b\u00fccher.example:80"),
        (f"{'a' * 63}:80", Address("a" * 63, 80), f"{'a' * 63}:80"),
        ("unix:///run/s.sock", Address(path="/run/s.sock"), "unix:///run/s.sock"),
        ("unix:/run/s.sock", Address(path="/run/s.sock"), "unix:///run/s.sock"),
    ],
)
def test_an_address_reads_back_as_it_is_written(text, address, written):
    parsed = Address.parse(text)

    assert address == parsed
    assert written == str(parsed)
    assert Address.parse(str(parsed)) == parsed
    assert text.startswith("unix") == parsed.is_unix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "allowed: host:port"),
        ("50051", "allowed: host:port"),
        (":50051", "allowed: host:port"),
        ("localhost", "allowed: host:port"),
        ("localhost:", "allowed: host:port"),
        ("localhost:http", "allowed: host:port"),
        ("localhost:-1", "allowed: host:port"),
        ("localhost:\u0665", "allowed: host:port"),
        ("localhost:0", "port 0 is not between"),
        ("localhost:65536", "port 65536 is not between"),
        ("::1:50051", "put an IPv6 address in brackets"),
        ("a..b:80", "labels of 1 to 63 characters"),
        ("xn--..:80", "labels of 1 to 63 characters"),
        (f"{'a' * 64}.example:80", "labels of 1 to 63 characters"),
        ("\u00e4" * 60 + ":80", "labels of 1 to 63 characters"),
        (f"{'a.' * 127}:80", "253 in all"),
        ("\udcff:80", "labels of 1 to 63 characters"),
        ("\x1b[2J:80", "labels of 1 to 63 characters"),
        ("\u202ehost:80", "labels of 1 to 63 characters"),
        ("a b:80", "labels of 1 to 63 characters"),
        ("unix:///\udcff", "no control characters"),
        ("unix:///a\x00b", "no control characters"),
        ("unix://run/s.sock", "absolute path"),
        ("http://host:80", "no scheme such as http://"),
        ("http://[::1]:80", "no scheme such as http://"),
        ("unix:run/s.sock", "absolute path"),
        ("unix:///run/", "absolute path"),
        ("unix:", "absolute path"),
    ],
)
def test_anything_else_says_what_is_allowed(text, message):
    with pytest.raises(ValueError, match=message):
        Address.parse(text)


def test_a_socket_path_fits_its_kernel_structure():
    longest = "/" + "s" * (MAX_SOCKET_PATH_BYTES - 1)

    assert longest == Address.parse(f"unix://{longest}").path
    with pytest.raises(ValueError, match="longer than 107 bytes"):
        Address.parse(f"unix://{longest}s")


@pytest.mark.parametrize(
    ("text", "is_local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("unix:///run/s.sock", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("sentinel.internal:1", False),
    ],
)
def test_an_address_that_only_this_host_reaches_is_local(text, is_local):
    assert is_local == Address.parse(text).is_local


def test_the_nth_address_is_the_next_port_or_a_path_with_its_number():
    assert "127.0.0.1:50054" == str(Address.parse("127.0.0.1:50051").nth(3))
    assert "unix:///run/s.sock.0" == str(Address.parse("unix:///run/s.sock").nth(0))
    with pytest.raises(ValueError, match="above 65535"):
        Address("h", 65535).nth(1)
