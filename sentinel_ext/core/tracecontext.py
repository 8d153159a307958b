"""Trace context of a caller: W3C Trace Context first, B3 in its two forms where that is missing.

Sources: W3C Trace Context §3.2 and §4.3; B3 propagation (openzipkin/b3-propagation), single and multiple
header form.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping

# Header fields of a call as its server read them, in order: name in lower case, value, perhaps more.
Fields: TypeAlias = Sequence[tuple[bytes, bytes, *tuple[int, ...]]]

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
B3: Final = "b3"
B3_TRACE_ID, B3_SPAN_ID = "x-b3-traceid", "x-b3-spanid"
B3_SAMPLED, B3_FLAGS = "x-b3-sampled", "x-b3-flags"
# What a proxy has to show for all of this to work.
HEADERS: Final = (TRACEPARENT, TRACESTATE, B3, B3_TRACE_ID, B3_SPAN_ID, B3_SAMPLED, B3_FLAGS)

# W3C Trace Context §3.2: version 00; an all-zero trace or parent id is invalid.
_TRACEPARENT: Final = r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
VALID_TRACEPARENT: Final = re.compile(_TRACEPARENT).fullmatch
# W3C Trace Context §3.3.1.5: vendors should pass on at least this many characters; more is not recorded.
MAX_STATE_CHARACTERS: Final = 512
# A digit is odd where its lowest bit, "sampled" (W3C Trace Context §3.2.2.5.1), is set.
ODD: Final = frozenset("13579bdf")
_TRACEPARENT_FIELD: Final = TRACEPARENT.encode()
_UNSAMPLED_FIELD: Final = re.compile(_TRACEPARENT.replace("{2}", "[02468ace]").encode()).fullmatch
_FIELDS: Final = frozenset(name.encode() for name in HEADERS)
# Trace Context level 2, §3.2.2.5.2: the trace id is random; passed on as it came.
_RANDOM_BIT: Final = 0x02

_B3_SINGLE = re.compile(
    r"(?P<trace>[0-9a-f]{16}|[0-9a-f]{32})-(?P<span>[0-9a-f]{16})(?:-(?P<flag>[01d])(?:-[0-9a-f]{16})?)?"
).fullmatch
_HEX_IDS = re.compile(r"[0-9a-f]{16}(?:[0-9a-f]{16})?").fullmatch
_ZERO_SPAN, _ZERO_TRACE = "0" * 16, "0" * 32
_WORDS: Final = {"1": True, "d": True, "true": True, "0": False, "false": False}


class Parent(msgspec.Struct, frozen=True, gc=False):
    """What a caller says of the trace that its request belongs to.

    Attributes:
        trace_id: 32 hexadecimal digits; "" when only a sampling state was given.
        span_id: of the caller's span, 16 digits; "" likewise.
        sampled: the caller's own decision; None leaves it to us.
        flags: of the traceparent that goes on, two hexadecimal digits, for a sampled trace.
        state: the caller's tracestate.
    """

    trace_id: str
    span_id: str
    sampled: bool | None
    flags: str = "01"
    state: str = ""


def from_traceparent(given: str, state: str = "") -> Parent:
    """Read a traceparent that VALID_TRACEPARENT accepts."""
    flags = "03" if int(given[53:55], 16) & _RANDOM_BIT else "01"
    if len(state) > MAX_STATE_CHARACTERS:
        state = ""
    return Parent(given[3:35], given[36:52], given[54] in ODD, flags, state)


def unsampled(fields: Fields) -> bytes:
    """Return the traceparent of a call that says that it is not sampled; nothing for every other call.

    Most calls of a proxy that traces are of this kind, so nothing is made for it.
    """
    for field in reversed(fields):  # a proxy adds it behind what is the same in all of its calls
        if field[0] == _TRACEPARENT_FIELD:
            return field[1] if _UNSAMPLED_FIELD(field[1]) else b""
    return b""


def headers_of(fields: Fields) -> dict[str, str]:
    """Return what the fields of a call say of traces."""
    return {field[0].decode(): field[1].decode("latin-1") for field in fields if field[0] in _FIELDS}


def parent_of(headers: Mapping[str, str]) -> Parent | None:
    """Read W3C Trace Context, then B3; None when there is neither, or what there is is broken."""
    given = headers.get(TRACEPARENT, "")
    if given and VALID_TRACEPARENT(given):
        return from_traceparent(given, headers.get(TRACESTATE, ""))
    return from_b3(headers)


def from_b3(headers: Mapping[str, str]) -> Parent | None:
    """Read B3, the single header before the others; None when there is none, or a broken one."""
    single = headers.get(B3, "")
    if single:
        return _single(single.strip().lower())
    trace_id = headers.get(B3_TRACE_ID, "")
    span_id = headers.get(B3_SPAN_ID, "")
    sampled = headers.get(B3_SAMPLED, "")
    flags = headers.get(B3_FLAGS, "")
    if not (trace_id or sampled or flags):
        return None
    decided = True if flags.strip() == "1" else _WORDS.get(sampled.strip().lower())
    return _parent(trace_id.strip().lower(), span_id.strip().lower(), decided)


def _single(text: str) -> Parent | None:
    if text in _WORDS:  # only a decision: B3 without ids
        return Parent("", "", _WORDS[text])
    match = _B3_SINGLE(text)
    return None if match is None else _parent(match["trace"], match["span"], _WORDS.get(match["flag"] or ""))


def _parent(trace_id: str, span_id: str, sampled: bool | None) -> Parent | None:
    if not trace_id:
        return None if sampled is None else Parent("", "", sampled)
    is_valid = _HEX_IDS(trace_id) and len(span_id) == len(_ZERO_SPAN) and _HEX_IDS(span_id)
    whole = trace_id.rjust(32, "0")  # 64-bit ids of older tracers
    if not is_valid or whole == _ZERO_TRACE or span_id == _ZERO_SPAN:
        return None
    return Parent(whole, span_id, sampled)
