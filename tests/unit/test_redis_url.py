"""REDIS_URL: what is taken, and that its password stays inside."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import ConnectionPool

from sentinel_ext.redis_url import MAX_HOSTS, RedisUrl, SecretUrl, Targets, targets

PASSWORD = "hunter2"


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("memory://", "memory://"),
        ("redis://localhost", "redis://localhost/0"),
        ("redis://localhost:6379", "redis://localhost:6379/0"),
        ("redis://localhost:6379/3", "redis://localhost:6379/3"),
        ("redis://localhost:6379/?db=4", "redis://localhost:6379/4"),
        ("REDIS://localhost", "redis://localhost/0"),
        ("redis://[::1]:6379/1", "redis://[::1]:6379/1"),
        ("redis://redis_main:6379", "redis://redis_main:6379/0"),
        (f"redis://:{PASSWORD}@h:6379/2", "redis://***@h:6379/2"),
        (f"redis://user:{PASSWORD}@h", "redis://***@h/0"),
        (f"redis://{PASSWORD}@h", "redis://***@h/0"),
        (f"redis://h?password={PASSWORD}&username=u", "redis://***@h/0"),
        (
            f"rediss://u:{PASSWORD}%40%23@h:6380?ssl_cert_reqs=none&ssl_ca_certs=/ca.pem",
            "rediss://***@h:6380/0",
        ),
        ("unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        (f"unix://u:{PASSWORD}@/run/redis.sock?db=2", "unix://***@/run/redis.sock?db=2"),
        (
            "redis://h?socket_timeout=1&health_check_interval=5&client_name=x&protocol=3&max_connections=2",
            "redis://h/0",
        ),
        ("redis://h?socket_keepalive=yes&socket_connect_timeout=0.5", "redis://h/0"),
    ],
)
def test_what_redis_py_takes_is_taken(url, redacted):
    secret = RedisUrl().parse(url)

    assert redacted == secret.redacted == str(secret) == f"{secret}"
    assert f"SecretUrl({redacted!r})" == repr(secret)
    assert url == secret.reveal()
    if url != "memory://":
        ConnectionPool.from_url(secret.reveal()).make_connection()


@pytest.mark.parametrize(
    ("url", "redacted", "expected"),
    [
        (
            "redis+sentinel://a:1,b/mymaster/2",
            "redis+sentinel://a:1,b/mymaster/2",
            Targets("sentinel", ("redis://a:1/2", "redis://b:26379/2"), "mymaster"),
        ),
        (
            f"rediss+sentinel://u:{PASSWORD}@[::1],h/m?ssl_cert_reqs=none",
            "rediss+sentinel://***@[::1],h/m/0",
            Targets(
                "sentinel",
                tuple(f"rediss://u:{PASSWORD}@{host}:26379/0?ssl_cert_reqs=none" for host in ("[::1]", "h")),
                "m",
            ),
        ),
        (
            f"redis+cluster://:{PASSWORD}@a:7000,b",
            "redis+cluster://***@a:7000,b",
            Targets("cluster", (f"redis://:{PASSWORD}@a:7000/0", f"redis://:{PASSWORD}@b/0")),
        ),
        ("redis://h/3", "redis://h/3", Targets("single", ("redis://h/3",))),
    ],
)
def test_several_hosts_are_taken_apart(url, redacted, expected):
    secret = RedisUrl().parse(url)

    assert (redacted, expected) == (secret.redacted, targets(secret.reveal()))
    assert url.startswith("rediss") == expected.is_tls


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://h", "the path is the master's name"),
        ("redis+sentinel://h/m/x", "the number of the database"),
        ("redis+sentinel://h,/m", "separated by commas"),
        ("redis+sentinel://h:0/m", "port"),
        ("redis+cluster://h/1", "only database 0"),
        ("redis+cluster://", "separated by commas"),
        ("redis+cluster://" + ",".join(["h"] * (MAX_HOSTS + 1)), f"1 to {MAX_HOSTS} hosts"),
        ("redis+cluster://h?ssl_cert_reqs=none", "needs rediss://"),
        ("redis+cluster://h?db=1", "part of the path"),
        (f"redis+cluster://u:{PASSWORD}/@h", "%2F"),
        ("redis+other://h", "^$"),
    ],
)
def test_several_hosts_that_are_wrong_are_told_without_the_password(url, why):
    with pytest.raises(ValueError, match=why) as caught:
        RedisUrl().parse(url)
    assert PASSWORD not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("localhost:6379", "the scheme is missing"),
        (PASSWORD, "the scheme is missing"),
        ("http://localhost", "^$"),
        ("memory://x", "^$"),
        ("redis://", "host is missing"),
        ("redis:///0", "host is missing"),
        (f"redis://:{PASSWORD}@", "host is missing"),
        (f"redis://:{PASSWORD}", "host or port is not valid"),
        (f"redis://h:{PASSWORD}", "host or port is not valid"),
        ("redis://h:0", "port is not between"),
        ("redis://h:", "port is not between"),
        ("redis://h:65536", "host or port is not valid"),
        ("redis://[::1", "host or port is not valid"),
        ("redis://h/one", "the path is the number of the database"),
        ("redis://h/1/2", "the path is the number of the database"),
        ("redis://h\n", "control characters"),
        ("redis://a b", "spaces"),
        ("redis://h?db=one", "'db'"),
        ("redis://h?db=-1", '"db" is negative'),
        ("redis://h?protocol=9", '"protocol" has a value'),
        ("redis://h?sokcet_timeout=1", 'unknown option "sokcet_timeout", did you mean "socket_timeout"?'),
        ("redis://h?decode_responses=1", 'unknown option "decode_responses"'),
        ("redis://h?db=1&db=2", '"db" stands twice'),
        ("redis://h?ssl_cert_reqs=none", '"ssl_cert_reqs" needs rediss://'),
        ("rediss://h?ssl_cert_reqs=maybe", '"ssl_cert_reqs" has a value'),
        ("unix://run/redis.sock", "three slashes"),
        ("unix:///run/a b", "spaces"),
        ("unix:///", "path of the socket is missing"),
        ("unix://[::/run/redis.sock", "before the path"),
        ("unix:///run/s.sock?socket_keepalive=1", 'unknown option "socket_keepalive"'),
        (f"redis://:{PASSWORD}#x@h", "%23"),
        (f"redis://:12/{PASSWORD}@h", "%23"),
        (f"redis://:12?{PASSWORD}=@h", "%23"),
        (f"redis://h@{PASSWORD}@h", "%23"),
    ],
)
def test_what_is_refused_is_refused_without_quoting_it(url, why):
    with pytest.raises(ValueError, match=why.replace("?", r"\?") if "unknown" in why else why) as caught:
        RedisUrl().parse(url)

    assert PASSWORD not in str(caught.value) + RedisUrl().shown(url)


@given(
    st.text("ab:/?#@[]%.&=0 ", max_size=12),
    st.sampled_from(["redis://:{}@h:6379", "redis://u:{}@h/1", "unix://u:{}@/s"]),
)
def test_no_password_shows_however_badly_it_is_escaped(noise, form):
    url = form.format(f"s3cr3t{noise}s3cr3t")

    try:
        said = repr(RedisUrl().parse(url))
    except ValueError as error:
        said = str(error) + RedisUrl().shown(url)

    assert "s3cr3t" not in said


def test_secrets_compare_by_what_they_hide():
    one, same, other = (RedisUrl().parse(f"redis://:{password}@h") for password in ("a", "a", "b"))

    assert one == same == copy.deepcopy(one)
    assert hash(one) == hash(same)
    assert one != other
    assert one != "redis://:a@h"
    assert isinstance(one, SecretUrl)
