"""The quick way of `healthcheck`, for the plain command lines that probes have."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

from sentinel_ext.address import Address
from sentinel_ext.cli._durations import duration_s
from sentinel_ext.clock import monotonic_ns

if TYPE_CHECKING:
    from collections.abc import Sequence

AUTHORIZATION: Final = "envoy.service.auth.v3.Authorization"
# The request writes the name's length as one byte; names of services are far shorter.
MAX_SERVICE_BYTES: Final = 127
DEFAULT_TIMEOUT_S: Final = 1.0
_OPTIONS: Final = {
    "--address": "address", "-a": "address", "--service": "service", "-s": "service", "--timeout": "timeout",
}  # fmt: skip


def quickly(arguments: Sequence[str]) -> int | None:
    """Check and print as `healthcheck` does; return its exit code, or None to leave it to the whole program.

    That is asked where an address is missing (it stands in the environment, which only settings read), and
    about anything unusual: help, --json, mistakes.
    """
    given = {}
    words = iter(arguments)
    for word in words:
        name, equals, value = word.partition("=")
        if name not in _OPTIONS or (equals and not name.startswith("--")):
            return None
        given[_OPTIONS[name]] = value if equals else next(words, "")
    service = given.get("service", AUTHORIZATION)
    try:
        address = Address.parse(given["address"])
        timeout_s = duration_s(given["timeout"]) if "timeout" in given else DEFAULT_TIMEOUT_S
    except (KeyError, ValueError):
        return None
    if len(service.encode()) > MAX_SERVICE_BYTES:
        return None
    from sentinel_ext.client import health  # noqa: PLC0415  the whole program reads the words above, without hpack

    try:
        status = health.check(address.reachable, service, timeout_s, monotonic_ns)
    except health.HealthError as error:
        if sys.stderr is not None:
            sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(f"{status}\n")
    return 0 if status == "SERVING" else 1
