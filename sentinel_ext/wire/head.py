"""What a request's header fields say about the call, judged once.

`classify` looks at a field alone, so its answer can be kept with the field's bytes; `judge` puts the fields
of a request together. The order of the refusals is grpc's: a malformed message first, then content-type,
method, grpc-timeout and `-bin` values, path, encoding, an expired deadline.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from sentinel_ext.wire import metadata
from sentinel_ext.wire.codes import Status
from sentinel_ext.wire.limits import Limits
from sentinel_ext.wire.methods import Method
from sentinel_ext.wire.status import parse_timeout

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sentinel_ext.wire.methods import MethodTable

# (name, value, size as RFC 9113 §6.5.2 counts it, kind). A plain tuple: one unpack per field and request.
Field = tuple[bytes, bytes, int, int]
OVERHEAD: Final = 32

# Kinds are flags, so that a whole block's are one `|=` per field. 0: metadata that changes no verdict.
PSEUDO: Final = 1
RULED: Final = 2  # takes part in the verdict
TIMEOUT: Final = 4  # takes part too, but differs from call to call with some clients
MALFORMED_FIELD: Final = 8
BAD_BINARY: Final = 16
VOLATILE: Final = 32  # differs from call to call: its block is not worth keeping
SECRET: Final = 64  # must not be kept after the call
BAD_TIMEOUT_FIELD: Final = 128  # found by `judge`, as repeated fields make one value
VERDICT: Final = PSEUDO | RULED | MALFORMED_FIELD | BAD_BINARY
UNKEPT: Final = VOLATILE | SECRET

_VOLATILE_NAMES = frozenset(
    {
        *(b"traceparent", b"tracestate", b"baggage", b"b3", b"grpc-trace-bin", b"sw8", b"uber-trace-id"),
        *(b"x-request-id", b"x-correlation-id", b"x-amzn-trace-id", b"x-cloud-trace-context"),
    }
)
_VOLATILE_PREFIXES = (b"x-b3-", b"x-datadog-", b"x-ot-span-")
_SECRET_NAMES = frozenset({b"authorization", b"proxy-authorization", b"cookie", b"set-cookie"})
_PSEUDO_NAMES = frozenset({b":method", b":scheme", b":path", b":authority"})
_RULED_NAMES = frozenset(
    {b"te", b"content-type", b"content-length", b"host", b"grpc-encoding", b"grpc-accept-encoding"}
)
_FORBIDDEN_IN_VALUE = re.compile(rb"[\x00\r\n]").search  # RFC 9113 §8.2.1
_CONTENT_TYPE = re.compile(rb"application/grpc(?:\+proto)?(?:;.*)?").fullmatch
_ACCEPTS_GZIP = re.compile(rb"(?:^|,)[ \t]*gzip[ \t]*(?:,|$)").search
_LENGTH = re.compile(rb"[0-9]{1,18}").fullmatch


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request is not served, and how the client hears it.

    Attributes:
        http_status: `:status`: 200, 400, 405 or 415; 0 for MALFORMED, which gets no response.
        grpc_status: grpc-status, or None where the client does not speak gRPC.
        message: grpc-message; constant text, never a secret.
        headers: further response fields.
    """

    http_status: int
    grpc_status: int | None
    message: str
    headers: tuple[tuple[bytes, bytes], ...] = ()


def _refuse(http_status: int, status: Status | None, message: str, *headers: tuple[bytes, bytes]) -> Refusal:
    return Refusal(http_status=http_status, grpc_status=status, message=message, headers=headers)


# RST_STREAM PROTOCOL_ERROR instead of a response (RFC 9113 §8.1.1).
MALFORMED: Final = _refuse(0, None, "malformed")
NOT_GRPC: Final = _refuse(415, None, "content-type is not application/grpc")
NOT_POST: Final = _refuse(405, Status.INTERNAL, "method is not POST")
BAD_TIMEOUT: Final = _refuse(400, Status.INTERNAL, "malformed grpc-timeout")
BAD_METADATA: Final = _refuse(400, Status.INTERNAL, "malformed binary metadata")
UNKNOWN_METHOD: Final = _refuse(200, Status.UNIMPLEMENTED, "unknown service or method")
UNKNOWN_ENCODING: Final = _refuse(
    200, Status.UNIMPLEMENTED, "unknown grpc-encoding", (b"grpc-accept-encoding", b"identity,gzip")
)
EXPIRED: Final = _refuse(200, Status.DEADLINE_EXCEEDED, "deadline is over before the call began")
LARGE_METADATA: Final = _refuse(200, Status.RESOURCE_EXHAUSTED, "request metadata is too large")


class Head(msgspec.Struct, frozen=True, eq=False):
    """A request's header block, judged. Calls whose blocks are equal share one, so it holds no call's state.

    Attributes:
        fields: the block's fields, in order; empty if refused.
        method: what is called; None if refused.
        timeout_ns: grpc-timeout, cut to the server's maximum; None if there is none.
        encoding: `gzip`, or empty: how messages with the compressed flag are coded.
        accepts_gzip: the client can read gzip.
        refusal: why the call is not served.
        authority: `:authority`, or `host`.
        path: `:path`, also of a refused request.
        content_length: bytes of DATA promised; -1 if none are.
        size: of the header list, as RFC 9113 §6.5.2 counts it.
        kinds: the flags of all fields.
        is_oversized: beyond the hard limits: the connection has to end.
    """

    fields: tuple[Field, ...] = ()
    method: Method | None = None
    timeout_ns: int | None = None
    encoding: bytes = b""
    accepts_gzip: bool = False
    refusal: Refusal | None = None
    authority: str = ""
    path: bytes = b""
    content_length: int = -1
    size: int = 0
    kinds: int = 0
    is_oversized: bool = False

    @property
    def metadata(self) -> metadata.Metadata:
        """What handlers see of the fields; decoded anew at each access, most calls never ask."""
        return metadata.expose((name, value) for name, value, _, _ in self.fields)


OVERSIZED: Final = Head(refusal=LARGE_METADATA, is_oversized=True)
_MALFORMED_HEAD: Final = Head(refusal=MALFORMED)


def name_kind(name: bytes) -> int:
    """What a name alone says; RFC 9113 §8.2, §8.3."""
    if name in _PSEUDO_NAMES:
        return PSEUDO
    if not metadata.NAME(name) or name in metadata.CONNECTION_NAMES:
        return MALFORMED_FIELD
    if name in _RULED_NAMES:
        return RULED
    if name == b"grpc-timeout":
        return TIMEOUT
    if name in _SECRET_NAMES:
        return SECRET
    return VOLATILE if name in _VOLATILE_NAMES or name.startswith(_VOLATILE_PREFIXES) else 0


def classify(name: bytes, value: bytes, kind: int) -> Field:
    """The field of a name with its `name_kind`. Spaces around the value go; clients send them."""
    size = len(name) + len(value) + OVERHEAD
    value = value.strip(b" \t")
    if _FORBIDDEN_IN_VALUE(value):
        kind |= MALFORMED_FIELD
    elif kind & RULED:
        if (name == b"te" and value != b"trailers") or (name == b"content-length" and not _LENGTH(value)):
            kind |= MALFORMED_FIELD
    elif name.endswith(b"-bin") and metadata.decode_binary(value) is None:
        kind |= BAD_BINARY
    return name, value, size, kind


def admit(fields: Iterable[tuple[bytes, bytes]], methods: MethodTable, limits: Limits | None = None) -> Head:
    """Judge header fields that come from a decoder; `limits` default to those of a trusted peer."""
    classified = [classify(name, value, name_kind(name)) for name, value in fields]
    return judge(classified, methods, limits or Limits.trusted())


def judge(fields: Sequence[Field], methods: MethodTable, limits: Limits) -> Head:
    """The verdict on a request."""
    gathered = _gather(fields)
    if gathered is None:
        return _MALFORMED_HEAD
    seen, kinds, size = gathered
    if size > limits.max_header_list_hard or len(fields) > limits.max_header_fields:
        return OVERSIZED
    path = seen.get(b":path", b"")
    if kinds & MALFORMED_FIELD or not path or b":method" not in seen or b":scheme" not in seen or b"" in seen:
        return _MALFORMED_HEAD
    method = methods.get(path)
    timeout = seen.get(b"grpc-timeout")
    timeout_ns = None if timeout is None else parse_timeout(timeout)
    if timeout is not None and timeout_ns is None:
        kinds |= BAD_TIMEOUT_FIELD
    is_large = size > limits.max_header_list
    refusal = LARGE_METADATA if is_large else _refusal(seen, kinds, method, timeout_ns)
    return Head(
        () if refusal is not None else tuple(fields),
        method if refusal is None else None,
        timeout_ns if timeout_ns is None else min(timeout_ns, limits.max_timeout_ns),
        b"gzip" if seen.get(b"grpc-encoding") == b"gzip" else b"",
        b"grpc-accept-encoding" in seen and _ACCEPTS_GZIP(seen[b"grpc-accept-encoding"]) is not None,
        refusal,
        seen.get(b":authority", seen.get(b"host", b"")).decode("latin-1"),
        path,
        int(seen.get(b"content-length", b"-1")),
        size,
        kinds,
    )


def _gather(fields: Sequence[Field]) -> tuple[dict[bytes, bytes], int, int] | None:
    """The fields that rules ask for, all kinds, the size; None if a pseudo-header field is out of place."""
    seen: dict[bytes, bytes] = {}
    kinds = size = is_regular = 0
    for name, value, cost, kind in fields:
        size += cost
        kinds |= kind
        if kind & PSEUDO:
            if is_regular or name in seen:
                return None
            seen[name] = value
            continue
        is_regular = 1
        if kind & (RULED | TIMEOUT):
            # RFC 9110 §5.3: repeated fields are one list, which then fails where one value is asked for.
            seen[name] = _joined(seen, name, value) if name in seen else value
    return seen, kinds, size


def extend(head: Head, tail: Sequence[Field], limits: Limits) -> Head | None:
    """The verdict on the fields of `head`, which is no refusal, and more behind them, without a second look.

    None if the tail may change the verdict; then `judge` them all.
    """
    kinds = 0
    size = head.size
    for _, _, cost, kind in tail:
        size += cost
        kinds |= kind
    timeout_ns = head.timeout_ns
    if (
        kinds & VERDICT
        or size > limits.max_header_list
        or len(tail) + len(head.fields) > limits.max_header_fields
    ):
        return None
    if kinds & TIMEOUT:
        values = [value for _, value, _, kind in tail if kind & TIMEOUT]
        given_ns = parse_timeout(values[0])
        if timeout_ns is not None or len(values) > 1 or not given_ns:
            return None
        timeout_ns = min(given_ns, limits.max_timeout_ns)
    return Head(
        (*head.fields, *tail),
        head.method,
        timeout_ns,
        head.encoding,
        head.accepts_gzip,
        None,
        head.authority,
        head.path,
        head.content_length,
        size,
        kinds | head.kinds,
    )


def judge_trailers(fields: Sequence[Field], limits: Limits) -> Head:
    """The verdict on a request's trailers: well-formed or not, no more; gRPC clients send none."""
    kinds = size = 0
    for _, _, cost, kind in fields:
        kinds |= kind
        size += cost
    if size > limits.max_header_list_hard or len(fields) > limits.max_header_fields:
        return OVERSIZED
    return _MALFORMED_HEAD if kinds & (PSEUDO | MALFORMED_FIELD) else Head(size=size)


def _joined(seen: dict[bytes, bytes], name: bytes, value: bytes) -> bytes:
    before = seen[name]
    if name == b"content-length" and before == value:
        return value
    if name in {b"content-length", b"host"}:
        seen[b""] = b""  # no field has this name: the message is malformed
    return before + b"," + value


def _refusal(
    seen: dict[bytes, bytes], kinds: int, method: Method | None, timeout_ns: int | None
) -> Refusal | None:
    """The first row that fails, of a message that is well-formed."""
    content_type = seen.get(b"content-type", b"")
    refusal: Refusal | None = None
    if content_type != b"application/grpc" and not _CONTENT_TYPE(content_type):
        refusal = NOT_GRPC
    elif seen[b":method"] != b"POST":
        refusal = NOT_POST
    elif kinds & BAD_TIMEOUT_FIELD:
        refusal = BAD_TIMEOUT
    elif kinds & BAD_BINARY:
        refusal = BAD_METADATA
    elif method is None:
        refusal = UNKNOWN_METHOD
    elif seen.get(b"grpc-encoding", b"identity") not in {b"identity", b"gzip"}:
        refusal = UNKNOWN_ENCODING
    elif timeout_ns == 0:
        refusal = EXPIRED
    return refusal
