"""REDIS_URL: a URL that may hold a password, checked with redis-py's own parser at start.

No message of this module quotes the URL: a password with an unescaped `#`, `?` or `/` makes a URL that
splits anywhere, and a part of it would then stand in a log.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import SplitResult, parse_qsl, urlsplit

from redis.asyncio import connection as redis_py
from redis.exceptions import RedisError

from sentinel_ext.settings_types import Kind, split_url
from sentinel_ext.wording import did_you_mean, listed, quoted, shown

if TYPE_CHECKING:
    from collections.abc import Iterable

MEMORY = "memory://"
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]{0,19})://")
_SCHEMES = ("redis", "rediss", "unix")
_MANY = ("redis+sentinel", "rediss+sentinel", "redis+cluster", "rediss+cluster")
# Three to five are usual; a cluster tells the rest itself.
MAX_HOSTS = 64
_MASTER = re.compile(r"[A-Za-z0-9._-]{1,128}")
_POOL_OPTIONS = frozenset({"max_connections"})
# Options that choose a server, a login or a timeout. What changes the meaning of replies
# (decode_responses, encoding, parser_class) belongs to the store and not into a URL.
_OPTIONS = _POOL_OPTIONS | {
    "client_name",
    "db",
    "health_check_interval",
    "password",
    "protocol",
    "socket_connect_timeout",
    "socket_timeout",
    "username",
}
_TCP_OPTIONS = frozenset({"socket_keepalive"})
_TLS_OPTIONS = frozenset(
    {
        "ssl_ca_certs",
        "ssl_ca_path",
        "ssl_cert_reqs",
        "ssl_certfile",
        "ssl_check_hostname",
        "ssl_ciphers",
        "ssl_keyfile",
        "ssl_min_version",
        "ssl_password",
    }
)


class SecretUrl:
    """A URL whose password shows only on request.

    Attributes:
        redacted: scheme, host and database; `***` for user name and password. Safe to log.
    """

    __slots__ = ("_url", "redacted")

    def __init__(self, url: str, redacted: str) -> None:
        self._url = url
        self.redacted = redacted

    def reveal(self) -> str:
        """Return the whole URL. For the client library only."""
        return self._url

    def __str__(self) -> str:
        return self.redacted

    def __repr__(self) -> str:
        return f"SecretUrl({self.redacted!r})"

    def __eq__(self, other: object) -> bool:
        return self._url == other._url if isinstance(other, SecretUrl) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._url)


class Targets(NamedTuple):
    """What a URL names, for the store.

    Attributes:
        kind: `single`, `sentinel` or `cluster`.
        urls: of each host, redis:// or rediss:// or unix://.
        master: the name that Sentinel knows it by.
    """

    kind: str
    urls: tuple[str, ...]
    master: str = ""

    @property
    def is_tls(self) -> bool:
        """Whether connections are encrypted."""
        return self.urls[0].lower().startswith("rediss:")


def targets(url: str) -> Targets:
    """Take a URL that RedisUrl has checked apart."""
    scheme, _, rest = url.partition("://")
    base, _, kind = scheme.lower().partition("+")
    if not kind:
        return Targets("single", (url,))
    login, hosts, path, query = _split_many(rest)
    master, _, database = path.partition("/") if kind == "sentinel" else ("", "", "")
    default = ":26379" if kind == "sentinel" else ""
    urls = [
        f"{base}://{login}{host}{'' if _has_port(host) else default}/{database or 0}{query}" for host in hosts
    ]
    return Targets(kind, tuple(urls), master)


def _split_many(rest: str) -> tuple[str, list[str], str, str]:
    """Return the login with its @, hosts, path and query with its ?."""
    before, mark, query = rest.partition("?")
    authority, _, path = before.partition("/")
    login, at, hosts = authority.rpartition("@")
    return login + at, hosts.split(","), path, mark + query


def _has_port(host: str) -> bool:
    return bool(re.search(r":[0-9]+$", host)) and (not host.startswith("[") or "]:" in host)


class RedisUrl(Kind):
    """Where the shared counters are."""

    allowed = (
        "redis://[user:password@]host[:port][/db], rediss:// likewise (TLS), "
        "redis+sentinel://[user:password@]host[:port],host[:port]/master[/db], "
        "redis+cluster://[user:password@]host[:port],host[:port], rediss+…:// likewise, "
        "unix://[user:password@]/path?db=0, or memory:// (one instance, nothing shared)"
    )

    def parse(self, given: object) -> SecretUrl:
        """Return the URL, checked as far as that is possible without connecting."""
        if isinstance(given, SecretUrl):
            return given
        text = str(given)
        if text.lower() == MEMORY:
            return SecretUrl(MEMORY, MEMORY)
        if not text.lower().startswith(tuple(f"{scheme}://" for scheme in (*_SCHEMES, *_MANY))):
            raise ValueError("" if "://" in text else "the scheme is missing")
        if "#" in text or "@" in text.partition("://")[2].partition("@")[2] or _at_sign_is_stray(text):
            raise ValueError("write # / ? @ : in a password as %23 %2F %3F %40 %3A")
        if text.lower().startswith(tuple(f"{scheme}://" for scheme in _MANY)):
            return _many(text)
        url = _split_unix(text) if text.lower().startswith("unix:") else _split_tcp(text)
        options = parse_qsl(url.query, keep_blank_values=True)
        _check_names(url.scheme, [name for name, _ in options])
        return SecretUrl(text, _redacted(url, _database(text)))

    def shown(self, given: object) -> str:
        """Show the scheme alone: what does not parse may have its password anywhere."""
        match = _SCHEME.match(str(given).lower())
        return shown(f"{match[1]}://***" if match else "***")


def _at_sign_is_stray(text: str) -> bool:
    # The @ of a login stands before the first / or ? after the scheme.
    rest = text.partition("://")[2]
    return "@" in rest and "@" not in re.split(r"[/?]", rest, maxsplit=1)[0]


def _many(text: str) -> SecretUrl:
    """Check a URL of several hosts: each on its own as redis-py reads it."""
    scheme, _, rest = text.partition("://")
    scheme = scheme.lower()
    login, hosts, path, _ = _split_many(rest)
    if not 1 <= len(hosts) <= MAX_HOSTS or not all(hosts):
        raise ValueError(f"name 1 to {MAX_HOSTS} hosts, separated by commas")
    master, _, database = path.partition("/")
    if scheme.endswith("+sentinel"):
        if not _MASTER.fullmatch(master):
            raise ValueError(
                "the path is the master's name at the Sentinels, such as /mymaster or /mymaster/0"
            )
        if not re.fullmatch(r"[0-9]{0,9}", database):
            raise ValueError(
                "behind the master's name stands the number of the database, such as /mymaster/0"
            )
    elif path not in {"", "0"}:
        raise ValueError("a cluster has only database 0")
    for url in targets(text).urls:
        parts = _split_tcp(url)
        names = [name for name, _ in parse_qsl(parts.query, keep_blank_values=True)]
        _check_names(parts.scheme, names)
        if "db" in names:
            raise ValueError("the database is part of the path, not an option")
        _database(url)
    has_login = login or re.search(r"[?&](username|password)=", text)
    tail = f"/{master}/{database or 0}" if scheme.endswith("+sentinel") else ""
    return SecretUrl(text, f"{scheme}://{'***@' if has_login else ''}{','.join(hosts)}{tail}")


def _split_tcp(text: str) -> SplitResult:
    url = split_url(text)
    if not re.fullmatch(r"(/[0-9]{0,9})?", url.path):
        raise ValueError("the path is the number of the database, such as /0")
    return url


def _split_unix(text: str) -> SplitResult:
    if not text.isprintable() or " " in text:
        raise ValueError("spaces and control characters have no place in it")
    try:
        url = urlsplit(text)
    except ValueError:
        raise ValueError("what stands before the path is not valid") from None
    if url.netloc and not url.netloc.endswith("@"):
        raise ValueError(
            "the path of the socket must be absolute, with three slashes: unix:///run/redis.sock"
        )
    if not url.path.strip("/"):
        raise ValueError("the path of the socket is missing")
    return url


def _check_names(scheme: str, names: Iterable[str]) -> None:
    allowed = _OPTIONS
    if scheme != "unix":
        allowed |= _TCP_OPTIONS
    if scheme == "rediss":
        allowed |= _TLS_OPTIONS
    for name, count in Counter(names).items():
        if count > 1:
            raise ValueError(f"option {quoted(name)} stands twice")
        if name in _TLS_OPTIONS - allowed:
            raise ValueError(f"option {quoted(name)} needs rediss://")
        if name not in allowed:
            guess = did_you_mean(name, allowed)
            raise ValueError(
                f"unknown option {quoted(name)}, {guess or 'known are ' + listed(sorted(allowed), 'and')}"
            )


def _database(text: str) -> int:
    """Let redis-py read the URL and try each option on a connection object, which opens nothing."""
    try:
        parsed = dict(redis_py.parse_url(text))
    except ValueError as error:
        # Names the option, which has been found among the known ones, and no value.
        raise ValueError(str(error)) from None
    connection_class = parsed.pop("connection_class", redis_py.Connection)
    for name, value in parsed.items():
        try:
            if name not in _POOL_OPTIONS:
                connection_class(**{name: value})  # type: ignore[operator]
        except (RedisError, TypeError, ValueError, AttributeError):
            raise ValueError(f"option {quoted(name)} has a value that redis-py does not take") from None
        if isinstance(value, (int, float)) and value < 0:
            raise ValueError(f"option {quoted(name)} is negative")
    return int(str(parsed.get("db", 0)))


def _redacted(url: SplitResult, database: int) -> str:
    has_login = "@" in url.netloc or re.search(r"(^|&)(username|password)=", url.query)
    place = url.netloc.rpartition("@")[2]
    rest = f"{url.path}?db={database}" if url.scheme == "unix" else f"/{database}"
    return f"{url.scheme}://{'***@' if has_login else ''}{place}{rest}"
