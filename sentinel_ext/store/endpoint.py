"""Where a connection goes, asked anew for every connection: a fixed server, or whom Redis Sentinel names."""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from redis.asyncio.connection import AbstractConnection, Connection, parse_url
from redis.exceptions import RedisError

from sentinel_ext.store.refusals import NO_SENTINEL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentinel_ext.redis_url import Targets
    from sentinel_ext.store.credentials import PasswordFile

# Connecting includes TLS, AUTH and SELECT; a Redis that needs longer is not one to wait for.
CONNECT_TIMEOUT_S: Final = 1.0
# What one Sentinel gets to answer: several are asked in turn, and one that hangs must not use up the time.
SENTINEL_TIMEOUT_S: Final = 0.3
# Options of TLS that name files.
_FILES: Final = ("ssl_ca_certs", "ssl_certfile", "ssl_keyfile")


class Endpoint(Protocol):
    """Makes connections to one server, or to whoever has its role."""

    async def open(self) -> AbstractConnection:
        """Return a connection that is up and authenticated.

        Raises:
            RedisError, OSError: it could not be made.
        """
        ...


class FixedEndpoint:
    """One server, by its URL."""

    def __init__(self, url: str, credentials: PasswordFile | None = None, **options: Any) -> None:  # noqa: ANN401  redis-py's
        """Connect to `url`, redis://, rediss:// or unix://.

        Args:
            credentials: each connection gets a login of its own from it.
            options: of redis-py's connection, instead of what the URL says.
        """
        self._credentials = credentials
        self._class, found = _connection_options(url)
        self._options = found | options

    async def open(self, **place: Any) -> AbstractConnection:  # noqa: ANN401  redis-py's
        """See Endpoint; `place` is a host and port instead of the URL's."""
        options = self._options | place
        _check_files(options)
        if self._credentials is not None:
            options["credential_provider"] = self._credentials.fresh()
        connection = self._class(**options)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]  # redis-py leaves it untyped
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return connection


class SentinelEndpoint:
    """The server that Redis Sentinel calls the master."""

    def __init__(
        self,
        targets: Targets,
        credentials: PasswordFile | None = None,
        sentinel_credentials: PasswordFile | None = None,
    ) -> None:
        """Ask the Sentinels of `targets` for its master; a login in the URL is the master's."""
        self._master = targets.master
        self._server = FixedEndpoint(targets.urls[0], credentials)
        timeout = {"socket_timeout": SENTINEL_TIMEOUT_S, "socket_connect_timeout": SENTINEL_TIMEOUT_S}
        self._sentinels = deque(
            FixedEndpoint(url, sentinel_credentials, username=None, password=None, db=0, **timeout)
            for url in targets.urls
        )

    async def open(self) -> AbstractConnection:
        """See Endpoint. Whoever does not say of itself that it is the master is left again."""
        host, port = await self._find()
        connection = await self._server.open(host=host, port=port)
        try:
            role = await _ask(connection, "ROLE")
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        if not role or role[0] != b"master":
            await connection.disconnect(nowait=True)
            raise ConnectionError(f"{host}:{port} is not the master that Sentinel took it for")
        return connection

    async def _find(self) -> tuple[str, int]:
        """Ask one Sentinel after the other, first the one that answered last."""
        reasons = []
        for _ in range(len(self._sentinels)):
            sentinel = self._sentinels[0]
            try:
                return await self._ask_sentinel(sentinel)
            except (RedisError, OSError) as error:
                reasons.append(str(error) or "no answer")
                # Several connections ask at once: only the first of them sends it to the end of the queue.
                if self._sentinels[0] is sentinel:
                    self._sentinels.rotate(-1)
        raise ConnectionError(f"{NO_SENTINEL}: " + "; ".join(dict.fromkeys(reasons)))

    async def _ask_sentinel(self, sentinel: FixedEndpoint) -> tuple[str, int]:
        connection = await sentinel.open()
        try:
            place = await _ask(connection, "SENTINEL", "get-master-addr-by-name", self._master)
        finally:
            await connection.disconnect(nowait=True)
        try:
            host, port = place
            return host.decode(), int(port)
        except (TypeError, ValueError, AttributeError):
            raise ConnectionError(f"it knows no master called {self._master}") from None


def _check_files(options: Mapping[str, Any]) -> None:
    """Name a file that cannot be read: of redis-py one hears only that some file is not there.

    Raises:
        ConnectionError: of the first of them.
    """
    for name in _FILES:
        path = options.get(name)
        if path is None:
            continue
        try:
            with Path(path).open("rb"):
                pass
        except OSError as error:
            raise ConnectionError(f"{name} of REDIS_URL: {path}: cannot be read: {error.strerror}") from None


async def _ask(connection: AbstractConnection, *command: str) -> Any:  # noqa: ANN401  as Redis replies
    await connection.send_command(*command)
    return await connection.read_response()


def _connection_options(url: str) -> tuple[type[AbstractConnection], dict[str, Any]]:
    """Return redis-py's class of connection and what it is made with."""
    options: dict[str, Any] = dict(parse_url(url))
    kind: type[AbstractConnection] = options.pop("connection_class", Connection)
    options.pop("max_connections", None)  # of a pool; every Link is one connection
    options.setdefault("socket_timeout", CONNECT_TIMEOUT_S)
    options.setdefault("socket_connect_timeout", CONNECT_TIMEOUT_S)
    # RESP2 needs no HELLO: fewer rights for an ACL user, and every proxy speaks it.
    options.setdefault("protocol", 2)
    return kind, options
