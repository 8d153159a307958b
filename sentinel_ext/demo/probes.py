"""Questions to the parts of the demo: are you there, are you ready, which version are you."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

from sentinel_ext.demo.traffic import CORRELATION_HEADER

if TYPE_CHECKING:
    from sentinel_ext.address import Address

# Longer than anything on this machine takes; short enough to ask again.
_TIMEOUT_S = 2.0
_TIMEOUT = aiohttp.ClientTimeout(total=_TIMEOUT_S)
_ANY_HOST = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  compared with, not listened on
UNKNOWN = "unknown"


class UnusableRedisError(Exception):
    """Redis does not do what it should; the text completes "REDIS_URL is ..., but"."""


def reachable(address: Address) -> str:
    """Return `host:port` for a client on this machine, also where a server listens on every interface."""
    host = _ANY_HOST.get(address.host, address.host)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


async def redis_answers(url: str) -> bool:
    """Say whether Redis answers PING."""
    try:
        await redis_version(url)
    except UnusableRedisError:
        return False
    return True


async def redis_version(url: str) -> str:
    """Ask Redis for its version.

    Raises:
        UnusableRedisError: it does not answer, or does not let us in.
    """
    # No retries: the caller asks again, or tells the operator at once. RESP2 and nameless, as the store asks.
    client = Redis.from_url(
        url,
        socket_connect_timeout=_TIMEOUT_S,
        socket_timeout=_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
    )
    try:
        await client.ping()
        info: dict[str, Any] = await client.info("server")
    except NoPermissionError:
        return UNKNOWN  # an ACL user without INFO (or PING) can still be the right one for Sentinel
    except AuthenticationError as error:
        raise UnusableRedisError(f"Redis refuses the user or password ({error})") from error
    except (RedisError, OSError) as error:
        raise UnusableRedisError(f"no Redis answers there ({error})") from error
    finally:
        await client.aclose()
    return str(info.get("redis_version", UNKNOWN))


async def upstream_accepts(url: str) -> bool:
    """Say whether the upstream of `url` accepts a connection."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            _, writer = await asyncio.open_connection(parts.hostname, port)
    except (TimeoutError, OSError):
        return False
    writer.close()
    return True


class Admin:
    """Sentinel's admin pages."""

    def __init__(self, address: Address) -> None:
        """Ask at `address`."""
        self._address = address
        self._url = f"http://{'localhost' if address.is_unix else reachable(address)}/readyz"

    async def is_ready(self) -> bool:
        """Say whether Sentinel serves and has reached its store.

        It is ready without a store as well, as plans say what to do then; the demo wants the counters.
        """
        path = self._address.path
        connector = aiohttp.UnixConnector(path) if path else aiohttp.TCPConnector()
        try:
            async with (
                aiohttp.ClientSession(connector=connector) as session,
                session.get(self._url, timeout=_TIMEOUT) as answer,
            ):
                if answer.status != 200:
                    return False
                state: dict[str, Any] = await answer.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return False
        return bool(state.get("store", {}).get("available", True))


class Envoy:
    """Envoy's admin pages and listener."""

    def __init__(self, session: aiohttp.ClientSession, admin: Address, listener: str) -> None:
        """Ask at `admin`, and send to `listener`."""
        self._session = session
        self._admin = f"http://{reachable(admin)}"
        self._listener = listener

    async def is_ready(self) -> bool:
        """Say whether Envoy has its clusters and listeners."""
        try:
            async with self._session.get(f"{self._admin}/ready", timeout=_TIMEOUT) as answer:
                return answer.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def is_deciding(self) -> bool:
        """Say whether a request through the listener is decided by Sentinel. It belongs to no tenant."""
        try:
            async with self._session.get(self._listener, timeout=_TIMEOUT) as answer:
                return CORRELATION_HEADER in answer.headers
        except (aiohttp.ClientError, TimeoutError):
            return False

    async def version(self) -> str:
        """Return the version number out of `<commit>/<version>/<state>/<build>/<TLS library>`."""
        try:
            async with self._session.get(f"{self._admin}/server_info", timeout=_TIMEOUT) as answer:
                parts = str((await answer.json(content_type=None)).get("version", "")).split("/")
        except (aiohttp.ClientError, TimeoutError, ValueError):
            return UNKNOWN
        return parts[1] if len(parts) > 1 else UNKNOWN
