"""Stage 0: who calls, for which upstream, under which correlation id and trace context."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Protocol

import msgspec

from sentinel_ext.core.policy import Source, SourceKind
from sentinel_ext.core.tenant import Tenant
from sentinel_ext.core.trace import Trace
from sentinel_ext.core.tracecontext import VALID_TRACEPARENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.core.tracecontext import Fields

ANONYMOUS = "anonymous"
DEFAULT_UPSTREAM = "default"
MAX_NAME_BYTES = 256

CORRELATION_HEADER = "x-correlation-id"
TRACEPARENT_HEADER = "traceparent"

_HEADER = SourceKind.HEADER
_ID_BYTES = 8 + 16  # a decision id, and a correlation or trace id
# Letters, digits and the marks that uuids, ULIDs, base64 and W3C ids use: safe in a header, a log and a URL.
_CORRELATION_ID = re.compile(r"[A-Za-z0-9._:/+=@~-]{1,128}")


class Caller(Protocol):
    """What a request shows of its caller. Strings as the proxy sent them: hostile until checked."""

    headers: Mapping[str, str]
    context_extensions: Mapping[str, str]
    # Of the proxy's own call; only who traces looks at it.
    carried: Fields

    @property
    def principal(self) -> str:
        """Identity of a verified client certificate, "" if there is none."""
        ...

    def claim(self, payload: str, name: str) -> str:
        """Return a claim of the verified JWT, "" if there is none."""
        ...


class NameProblem(msgspec.Struct, frozen=True):
    """A tenant name that was there but cannot be used.

    Attributes:
        source: where it stood.
        problem: `too_long` or `not_printable`; a metric label, so a fixed set.
    """

    source: Source
    problem: str

    def __str__(self) -> str:
        what = f"longer than {MAX_NAME_BYTES} bytes" if self.problem == "too_long" else "not printable text"
        return f"tenant name in {self.source.kind} {self.source.name} is {what}; ignored".replace("  ", " ")


class Check(msgspec.Struct, frozen=True, gc=False):
    """One request to decide on.

    Attributes:
        tenant: who calls.
        upstream: what is protected; Envoy's cluster by the route's word.
        correlation_id: the caller's if it was valid, else a new one.
        decision_id: names this decision in logs, metadata and access log.
        traceparent: to send upstream; "" when the caller's own stands.
        hits: cost of the request.
        problem: a tenant name that had to be ignored.
        route: names the route in metrics, where the configuration's `context_extensions` do; else "".
        trace: the record of a sampled decision (core/traced.py); None for all others.
    """

    tenant: Tenant
    upstream: str
    correlation_id: str
    decision_id: str
    traceparent: str
    hits: int = 1
    problem: NameProblem | None = None
    route: str = ""
    trace: Trace | None = None


class Identity(msgspec.Struct, frozen=True):
    """Result of looking through the sources: a name, and the first problem met on the way."""

    name: str
    problem: NameProblem | None = None


class Identifier:
    """Finds the tenant's name and makes the ids. `random_hex(n)` returns n random bytes as hex."""

    __slots__ = ("_random_hex", "_sources")

    def __init__(self, sources: tuple[Source, ...], random_hex: Callable[[int], str]) -> None:
        """Look at `sources` in their order."""
        self._sources = sources
        self._random_hex = random_hex

    def identity(self, caller: Caller) -> Identity:
        """Return the first usable name; `anonymous` if no source has one."""
        problem: NameProblem | None = None
        for source in self._sources:
            if source.kind is _HEADER:  # in place for the usual one, 0.2 µs
                name = caller.headers.get(source.name, "").strip()
            else:
                name = _look(source, caller).strip()
            if not name:
                continue
            wrong = _name_problem(name)
            if wrong is None:
                return Identity(name, problem)
            problem = problem or NameProblem(source, wrong)
        return Identity(ANONYMOUS, problem)

    def find(self, caller: Caller) -> tuple[Identity, Source | None]:
        """Say the same as `identity`, and which source it was; for people who ask."""
        identity = self.identity(caller)
        for source in self._sources:
            if _look(source, caller).strip() == identity.name:
                return identity, source
        return identity, None

    def check(
        self, caller: Caller, tenant: Tenant, problem: NameProblem | None = None, continued: bytes = b""
    ) -> Check:
        """Complete the check: upstream, ids and trace context.

        Args:
            continued: a valid traceparent; where the request has none of its own it is in that one's trace.
        """
        headers = caller.headers
        random = self._random_hex(_ID_BYTES)  # once for all ids of a request: half the cost
        decision_id = random[:16]
        correlation_id = headers.get(CORRELATION_HEADER, "")
        trace_id = random[16:]
        if not correlation_id or not _CORRELATION_ID.fullmatch(correlation_id):
            # One id for both where both are new: a log line leads to its trace.
            correlation_id = trace_id
        traceparent = ""
        given = headers.get(TRACEPARENT_HEADER, "")
        if not given or not VALID_TRACEPARENT(given):
            # A broken one restarts the trace (W3C Trace Context §4.3); core/traced_identify.py samples.
            continues = continued[3:35].decode() if continued else trace_id
            traceparent = f"00-{continues}-{decision_id}-00"
        extensions = caller.context_extensions
        upstream, route = extensions.get("upstream", ""), extensions.get("route", "")
        if not upstream or _name_problem(upstream) is not None:
            upstream = DEFAULT_UPSTREAM
        if route and _name_problem(route) is not None:
            route = ""
        return Check(tenant, upstream, correlation_id, decision_id, traceparent, 1, problem, route)


def _look(source: Source, caller: Caller) -> str:
    kind = source.kind
    if kind is _HEADER:
        return caller.headers.get(source.name, "")
    if kind is SourceKind.CONTEXT_EXTENSION:
        return caller.context_extensions.get(source.name, "")
    if kind is SourceKind.PRINCIPAL:
        return caller.principal
    return caller.claim(source.payload, source.name)


def _name_problem(name: str) -> str | None:
    # Characters first: a megabyte of text is refused without being encoded.
    if len(name) > MAX_NAME_BYTES:
        return "too_long"
    if not name.isascii() and len(name.encode("utf-8", "surrogatepass")) > MAX_NAME_BYTES:
        return "too_long"
    return None if name.isprintable() else "not_printable"
