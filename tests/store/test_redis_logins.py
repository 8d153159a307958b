"""TLS, ACL users, and passwords in files that are replaced: real servers, real certificates."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING

import pytest
import trustme
from support.fake_redis import FakeRedis, bulks
from support.opened import Opened
from support.readme import redis_rights
from support.redis_fleet import Nodes
from support.stores import until

from sentinel_ext.store.base import Answer, StoreError
from sentinel_ext.store.credentials import MAX_BYTES, PasswordError, PasswordFile
from sentinel_ext.store.factory import LINKS
from sentinel_ext.store.refusals import QUIET_S, Refusals
from sentinel_ext.telemetry.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from support.redis_fleet import Node

ROOT = {"password": "root"}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Node]:
    with Nodes(tmp_path) as nodes:
        node = nodes.add("--requirepass", "root")
        node.wait(lambda client: client.ping(), **ROOT)
        set_user(node, "on", ">first", *redis_rights())
        yield node


def set_user(node: Node, *rules: str) -> None:
    with node.client(**ROOT) as client:
        client.execute_command("ACL", "SETUSER", "limiter", *rules)


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.todo for record in caplog.records if record.name == "sentinel.store"]


# TLS


@contextlib.asynccontextmanager
async def tls_front(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """End TLS in front of Redis, as stunnel does: not every redis-server is built with it."""

    async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65_536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, back), pump(there, writer))

    front = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    async with front:
        yield front.sockets[0].getsockname()[1]


class Certificates:
    """An authority that the server asks clients to be of, with `name` as the server's own name."""

    def __init__(self, folder: Path, name: str = "127.0.0.1") -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "ca.pem")
        authority.issue_cert("sentinel").private_key_and_cert_chain_pem.write_to_path(folder / "me.pem")
        self.server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self.server.verify_mode = ssl.CERT_REQUIRED
        authority.configure_trust(self.server)
        authority.issue_cert(name).configure_cert(self.server)
        self.ca = f"ssl_ca_certs={folder / 'ca.pem'}"
        self.options = f"{self.ca}&ssl_certfile={folder / 'me.pem'}&ssl_keyfile={folder / 'me.pem'}"


async def test_tls_with_a_client_certificate(server: Node, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with tls_front(server.port, certificates.server) as port:
        url = f"rediss://:root@127.0.0.1:{port}/0"
        async with Opened(f"{url}?{certificates.options}") as opened:
            assert isinstance(await opened.count("acme"), Answer)
        await Opened(f"{url}?{certificates.ca}").refused()


async def test_a_server_with_another_name_is_refused_unless_names_are_not_checked(
    server: Node, tmp_path: Path
) -> None:
    certificates = Certificates(tmp_path, "elsewhere.example")
    async with tls_front(server.port, certificates.server) as port:
        url = f"rediss://:root@127.0.0.1:{port}/0?{certificates.options}"
        assert "certificate is not valid for '127.0.0.1'" in await Opened(url).refused()
        async with Opened(f"{url}&ssl_check_hostname=false") as opened:
            assert isinstance(await opened.count("acme"), Answer)


async def test_tls_holds_for_sentinels_and_for_the_master_they_name(server: Node, tmp_path: Path) -> None:
    certificates = Certificates(tmp_path)
    async with (
        tls_front(server.port, certificates.server) as port,
        FakeRedis(lambda _words: bulks("127.0.0.1", str(port)), certificates.server) as sentinel,
    ):
        url = f"rediss+sentinel://:root@{sentinel.address}/counters?{certificates.options}"
        async with Opened(url) as opened:
            assert isinstance(await opened.count("acme"), Answer)


# Passwords in files


class Secret:
    """A Kubernetes Secret's folder: the file is a link into a folder that is replaced in one step."""

    def __init__(self, folder: Path, password: str) -> None:
        self._folder = folder / "secret"
        self._folder.mkdir()
        self.path = self._folder / "password"
        self._number = 0
        self.replace(password)
        self.path.symlink_to("..data/password")

    def replace(self, password: str) -> None:
        self._number += 1
        data = self._folder / f"..{self._number}"
        data.mkdir()
        (data / "password").write_text(f"{password}\n")
        link = self._folder / "..new"
        link.symlink_to(data.name)
        link.replace(self._folder / "..data")


def logins(node: Node) -> int:
    with node.client(**ROOT) as client:
        return client.info("commandstats").get("cmdstat_auth", {"calls": 0})["calls"]


async def test_a_password_that_is_replaced_is_said_by_every_connection_and_no_call_fails(
    server: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = Secret(tmp_path, "first")
    async with Opened(f"redis://{server.address}", username="limiter", password_file=secret.path) as opened:
        await until(lambda: all(link.is_up for link in (*opened.store._links, opened.store._side)))
        with server.client(**ROOT) as client:
            client.config_resetstat()
        set_user(server, ">second", "<first")
        secret.replace("second")

        async with asyncio.timeout(10):
            while logins(server) < LINKS + 1:  # the test's own say HELLO
                assert isinstance(await opened.count("acme"), Answer)
                await asyncio.sleep(0.02)
        # A connection that is new says the new one.
        with server.client(**ROOT) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        await opened.count_when_served("acme")

    assert [] == said(caplog)
    assert "second" not in caplog.text + repr(opened.told)


async def test_a_password_that_redis_hears_of_later_is_said_again_until_it_is_taken(
    server: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = Secret(tmp_path, "first")
    async with Opened(f"redis://{server.address}", username="limiter", password_file=secret.path) as opened:
        login = opened.store._links[0]._login
        secret.replace("second")
        await until(lambda: bool(said(caplog)))
        assert isinstance(await opened.count("acme"), Answer)
        assert login.news() is not None

        set_user(server, ">second")
        await until(lambda: login.news() is None)

        assert isinstance(await opened.count("acme"), Answer)
    assert 1 == len(said(caplog))
    assert "REDIS_PASSWORD_FILE" in said(caplog)[0]
    assert "second" not in caplog.text


async def test_a_login_that_redis_does_not_take_is_said_once_with_what_to_do(
    server: Node, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secret = tmp_path / "password"
    secret.write_text("wr0ng")
    wrong = await Opened(f"redis://{server.address}", password_file=secret).refused()
    missing = await Opened(f"redis://{server.address}").refused()
    secret.unlink()
    unreadable = await Opened(f"redis://{server.address}", password_file=secret).refused()

    assert "invalid username-password pair" in wrong
    assert "Authentication required" in missing
    assert "cannot be read" in unreadable
    assert ["takes neither user nor password", "wants a password"] == [
        next(part for part in ("takes neither user nor password", "wants a password") if part in todo)
        for todo in said(caplog)
    ]
    assert "wr0ng" not in caplog.text + wrong


async def test_a_password_that_the_sentinels_want_is_not_looked_for_where_the_masters_is(
    server: Node, caplog: pytest.LogCaptureFixture
) -> None:
    """What asks for a password in a Sentinel's place is a Redis here: the words are the same."""
    why = await Opened(f"redis+sentinel://:root@{server.address}/counters").refused()

    assert "no Sentinel names the master: Authentication required." == why
    (todo,) = said(caplog)
    assert "REDIS_SENTINEL_PASSWORD_FILE" in todo
    assert "REDIS_URL" not in todo


async def test_a_certificate_that_is_not_there_is_named(tmp_path: Path) -> None:
    gone = tmp_path / "ca.pem"

    why = await Opened(f"rediss://127.0.0.1:1?ssl_ca_certs={gone}").refused()

    assert f"ssl_ca_certs of REDIS_URL: {gone}: cannot be read: No such file or directory" == why


async def test_a_missing_right_is_said_once_and_not_at_every_request(
    server: Node, caplog: pytest.LogCaptureFixture
) -> None:
    set_user(server, "-set")
    async with Opened(f"redis://limiter:first@{server.address}") as opened:
        for _ in range(20):
            with pytest.raises(StoreError):
                await opened.count("acme")

        assert ["the Redis user lacks a right: the README lists those that are needed"] == said(caplog)

        set_user(server, "+set")
        assert isinstance(await opened.count("acme"), Answer)


def test_a_refusal_heard_again_after_a_quiet_while_is_news(caplog: pytest.LogCaptureFixture) -> None:
    refusals = Refusals()
    for now_s in (0.0, QUIET_S, 2 * QUIET_S, 3 * QUIET_S + 1):
        refusals.hear("NOPERM this user has no permissions", now_s)
    refusals.hear("OOM command not allowed", 0.0)

    assert 2 == len(said(caplog))


@pytest.mark.parametrize(
    "words",
    [
        "NOAUTH Authentication required.",
        "WRONGPASS invalid username-password pair or user is disabled.",
        "ERR AUTH <password> called without any password configured for the default user.",
        "NOPERM this user has no permissions to run the 'eval' command",
        "no Sentinel names the master: Authentication required.",
        "no Sentinel names the master: invalid username-password pair or user is disabled.",
        "no Sentinel names the master: AUTH <password> called without any password configured",
        "no Sentinel names the master: this user has no permissions to run the 'sentinel' command",
    ],
)
def test_what_to_do_stands_in_the_log_as_it_is(words: str, caplog: pytest.LogCaptureFixture) -> None:
    """What looks like a password is hidden there: `password: name its file` did."""
    Refusals().hear(words, 0.0)
    (todo,) = said(caplog)

    assert todo == Redactor().text(todo)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "one line"),
        (b"\n", "one line"),
        (b"a\nb\n", "one line"),
        (b"\xff", "UTF-8"),
        (b"x" * (MAX_BYTES + 1), "one line"),
    ],
)
def test_a_file_that_is_no_password_is_refused_without_quoting_it(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    (tmp_path / "p").write_bytes(content)

    with pytest.raises(PasswordError, match=expected) as refused:
        PasswordFile(tmp_path / "p").get_credentials()

    assert len(str(refused.value)) < len(str(tmp_path)) + 60


@pytest.mark.parametrize("content", [b"p w\xc3\xa9", b"p w\xc3\xa9\n", b"p w\xc3\xa9\r\n"])
def test_a_line_end_is_not_part_of_a_password(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "p").write_bytes(content)

    assert ("me", "p wé") == PasswordFile(tmp_path / "p", "me").get_credentials()
    assert ("p wé",) == PasswordFile(tmp_path / "p").get_credentials()


def test_the_longest_password_is_taken(tmp_path: Path) -> None:
    (tmp_path / "p").write_bytes(b"x" * MAX_BYTES)

    assert MAX_BYTES == len(PasswordFile(tmp_path / "p").read())
