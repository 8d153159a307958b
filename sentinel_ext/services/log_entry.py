"""Access log entries → Ended, RED and SLO observations: the hot half of the access log service.

A request's end is tied to its start by the dynamic metadata that Check sent out and nothing else. Every
string in an entry is hostile: a client chose some of them, and a proxy that is not ours may send all of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, TypeGuard, TypeVar

from google.protobuf import struct_pb2
from google.protobuf.message import DecodeError

from sentinel_ext.core.ended import MAX_TICKET_CHARACTERS, Ended, Outcome, Result, Ticket, parse_ticket
from sentinel_ext.core.model import Tier
from sentinel_ext.core.recent import Recent
from sentinel_ext.services import outcome
from sentinel_ext.services.outcome import Blame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.core.policy import UpstreamRules
    from sentinel_ext.services.outcome import Times

    Get = Callable[[str], bytes | None]

HTTP_NAMESPACE = "envoy.filters.http.ext_authz"
TCP_NAMESPACE = "envoy.filters.network.ext_authz"
# Where Envoy puts the dynamic metadata of a RateLimitResponse: of rate limits that have a tier.
LIMIT_NAMESPACE = "envoy.filters.http.ratelimit"
TCP_LIMIT_NAMESPACE = "envoy.filters.network.ratelimit"
REFUSED_HEADER = "x-sentinel-reason"
GRPC_STATUS_HEADER = "grpc-status"

# As identify bounds a tenant's name; upstreams and routes are names of the configuration.
MAX_NAME_BYTES = 256
# A decision id is 16 hex digits; with its tag and length as a google.protobuf.Value.
MAX_DECISION_ID_BYTES = 66
# Values that repeat are remembered, each kind in a table of this many; a full one is dropped whole.
MAX_REMEMBERED = 4096
MAX_REMEMBERED_BYTES = MAX_NAME_BYTES + 8

Kept = TypeVar("Kept")

_TRUE = b"\x20\x01"  # google.protobuf.Value.bool_value
_TEXT = 0x1A  # tag of google.protobuf.Value.string_value
_FINAL = outcome.FINAL_TYPES
_NS_PER_S = outcome.NS_PER_S
_UPSTREAM_ANSWERED = outcome.UPSTREAM_ANSWERED
_OK = Outcome.OK  # names of this module cost half of an enum's attribute
_COUNTED, _BAD_DURATION = Result.COUNTED, Result.BAD_DURATION
_NO_WORDS: Get = dict[str, bytes]().get


class Observer(Protocol):
    """What requests look like from outside: RED and SLO metrics."""

    def request(self, method: int, route: str, status: int, duration_us: int | None) -> None:
        """A request is over.

        Args:
            method: envoy.config.core.v3.RequestMethod.
            route: as the configuration names it; "" when it does not.
            status: HTTP status; 0 when the client got none.
        """

    def served(self, tier: Tier, outcome: Outcome, latency_us: int | None, slo_us: int) -> None:
        """A request that we admitted is over; a good one takes at most `slo_us`."""

    def refused(self, tier: Tier, reason: str) -> None:
        """A request that we refused is over."""


class Names:
    """Texts and tickets by the bytes that stand for them: nearly all of them were read before."""

    __slots__ = ("_plain", "_texts", "_tickets")

    def __init__(self) -> None:
        """Start with none."""
        self._plain: dict[bytes, str] = {}
        self._texts: dict[bytes, str] = {}
        self._tickets: dict[bytes, Ticket] = {}

    def text(self, value: bytes | None) -> str:
        """Read a google.protobuf.Value; "" for what is no name."""
        if value is None:
            return ""
        found = self._texts.get(value)
        if found is None:
            found = _keep(self._texts, value, _text_of(value, MAX_NAME_BYTES))
        return found

    def plain(self, raw: bytes) -> str:
        """Read a name that stands there as it is; "" for what is none."""
        found = self._plain.get(raw)
        if found is None:
            found = _keep(self._plain, raw, _printable(raw, MAX_NAME_BYTES))
        return found

    def ticket(self, value: bytes | None) -> Ticket | None:
        """Read a ticket; all requests of one tick of an instance share it."""
        if value is None:
            return None
        found = self._tickets.get(value)
        if found is None:
            read = parse_ticket(_text_of(value, MAX_TICKET_CHARACTERS))
            found = None if read is None else _keep(self._tickets, value, read)
        return found


def _keep(table: dict[bytes, Kept], raw: bytes, kept: Kept) -> Kept:
    """Remember what `raw` stands for, if it is short enough to be worth it."""
    if len(raw) <= MAX_REMEMBERED_BYTES:
        if len(table) >= MAX_REMEMBERED:
            table.clear()
        table[raw] = kept
    return kept


class EntryReader:
    """Judges entries, one after the other, and hands on what they say.

    Attributes:
        results: how many entries had which result; all results are there from the start.
    """

    def __init__(
        self,
        ended: Callable[[Ended], Result | None],
        observer: Observer,
        failed: Callable[[Exception], None],
        rules: Callable[[str], UpstreamRules],
    ) -> None:
        """See AccessLogs."""
        self._ended = ended
        self._observer = observer
        self._failed = failed
        self._rules = rules
        self._names = Names()
        self._recent = Recent()
        self._blames: dict[bytes, Blame] = {}
        self.results = dict.fromkeys(Result, 0)

    def read_http(self, entries: Any) -> None:  # noqa: ANN401  a repeated field
        """Take entries of HTTP requests."""
        self._read(entries, self._http)

    def read_tcp(self, entries: Any) -> None:  # noqa: ANN401  as above
        """Take entries of TCP connections."""
        self._read(entries, self._tcp)

    def _read(self, entries: Any, judge: Callable[[Any], Result]) -> None:  # noqa: ANN401  as above
        results = self.results
        for entry in entries:
            try:
                result = judge(entry)
            except Exception as error:  # noqa: BLE001  a bug of ours must not cost the entries behind it
                self._failed(error)
                result = Result.FAULT
            results[result] += 1

    def _http(self, entry: Any) -> Result:  # noqa: ANN401  an HttpEntry
        common = entry.common_properties
        if common.intermediate_log_entry or common.access_log_type not in _FINAL:
            return Result.INTERMEDIATE
        by_filter = common.metadata.filter_metadata
        metadata = by_filter.get(HTTP_NAMESPACE) or by_filter.get(LIMIT_NAMESPACE)
        if metadata is None:
            self._see(entry, common, None, _times(common)[1])
            return Result.NO_METADATA
        get = metadata.fields.get
        decision_id, tier = get("decision_id"), _TIERS.get(get("tier"))
        if tier is None or not _is_id(decision_id):
            # Another service may answer Check in front of our rate limits.
            limits = by_filter.get(LIMIT_NAMESPACE)
            get = _NO_WORDS if limits is None else limits.fields.get
            decision_id, tier = get("decision_id"), _TIERS.get(get("tier"))
            if tier is None or not _is_id(decision_id):
                self._see(entry, common, None, _times(common)[1])
                return Result.FOREIGN_METADATA
        if not self._recent.is_new(decision_id):
            return Result.DUPLICATE
        latency_us, duration_us, is_sane = _times(common)
        status = self._see(entry, common, get("route"), duration_us)
        if get("allowed") != _TRUE:
            self._observer.refused(tier, self._names.text(get("reason")))
            return Result.DENIED
        upstream = self._names.text(get("upstream"))
        rules = self._rules(upstream)
        end = self._outcome(common.response_flags, status, entry.response, rules)
        self._observer.served(tier, end, latency_us, rules.slo_us)
        return self._tell(get, tier, upstream, end, latency_us, is_sane=is_sane)

    def _tcp(self, entry: Any) -> Result:  # noqa: ANN401  a TcpEntry
        common = entry.common_properties
        if common.intermediate_log_entry or common.access_log_type not in _FINAL:
            return Result.INTERMEDIATE
        by_filter = common.metadata.filter_metadata
        metadata = by_filter.get(TCP_NAMESPACE) or by_filter.get(TCP_LIMIT_NAMESPACE)
        if metadata is None:
            return Result.NO_METADATA
        get = metadata.fields.get
        decision_id, tier = get("decision_id"), _TIERS.get(get("tier"))
        if tier is None or not _is_id(decision_id):
            return Result.FOREIGN_METADATA
        if not self._recent.is_new(decision_id):
            return Result.DUPLICATE
        if get("allowed") != _TRUE:
            return Result.DENIED
        # How long a connection is open says nothing about its upstream: no duration stands in for a latency.
        latency_us, _, is_sane = outcome.times(
            _ns(common.time_to_first_upstream_tx_byte), _ns(common.time_to_first_upstream_rx_byte), 0
        )
        end = outcome.classify_connection(self._blame(common.response_flags))
        upstream = self._names.text(get("upstream"))
        return self._tell(get, tier, upstream, end, latency_us, is_sane=is_sane)

    def _see(self, entry: Any, common: Any, route: bytes | None, duration_us: int | None) -> int:  # noqa: ANN401
        """Let the observer see an HTTP request; return its status."""
        status: int = entry.response.response_code.value
        names = self._names
        name = names.text(route) if route is not None else ""
        self._observer.request(
            entry.request.request_method, name or names.plain(common.route_name), status, duration_us
        )
        return status

    def _outcome(self, flags: bytes, status: int, response: Any, rules: UpstreamRules) -> Outcome:  # noqa: ANN401
        headers, trailers = response.response_headers, response.response_trailers
        details = response.response_code_details
        if not (flags or headers or trailers) and 0 < status < 500 and details == _UPSTREAM_ANSWERED:
            return _OK
        return outcome.classify(
            self._blame(flags),
            status,
            details,
            _grpc_status(headers, trailers) if status == 200 else None,
            is_refused_below=REFUSED_HEADER in headers,
            count_500=rules.count_500,
        )

    def _blame(self, flags: bytes) -> Blame:
        if not flags:
            return Blame.NOBODY
        blame = self._blames.get(flags)
        if blame is None:
            blame = _keep(self._blames, flags, outcome.blame_of_flags(flags))
        return blame

    def _tell(
        self, get: Get, tier: Tier, upstream: str, end: Outcome, latency_us: int | None, *, is_sane: bool
    ) -> Result:
        """Hand on the end of a request that we admitted."""
        names = self._names
        tenant, ticket = names.text(get("tenant")), names.ticket(get("ticket"))
        if ticket is None or not tenant or not upstream:
            return Result.BAD_TICKET
        result = self._ended(Ended(tenant, tier, upstream, ticket, end, latency_us))
        if result is not None and result is not _COUNTED:
            return result
        return _COUNTED if is_sane else _BAD_DURATION


def _times(common: Any) -> Times:  # noqa: ANN401  a Common
    sent, received = common.time_to_first_upstream_tx_byte, common.time_to_first_upstream_rx_byte
    whole = common.duration
    sent_ns, received_ns, whole_ns = sent.nanos, received.nanos, whole.nanos
    if (
        0 < sent_ns <= received_ns < _NS_PER_S
        and 0 < whole_ns < _NS_PER_S
        and not (received.seconds or sent.seconds or whole.seconds)
    ):
        # All within a second, as nearly always; outcome.times says the same of it.
        return (received_ns - sent_ns) // 1000, whole_ns // 1000, True
    return outcome.times(_ns(sent), _ns(received), _ns(whole))


def _ns(duration: Any) -> int:  # noqa: ANN401  a Duration
    return outcome.nanoseconds(duration.seconds, duration.nanos)


def _grpc_status(headers: Mapping[str, bytes], trailers: Mapping[str, bytes]) -> int | None:
    """Read the status of a gRPC call: of its trailers, or of a response that is nothing but trailers."""
    text = trailers.get(GRPC_STATUS_HEADER) or headers.get(GRPC_STATUS_HEADER) or b""
    return int(text) if text.isdigit() and len(text) <= 2 else None


def _is_id(value: bytes | None) -> TypeGuard[bytes]:
    """Whether this Value is a text of a plausible length; it is compared, never read."""
    return value is not None and 2 < len(value) <= MAX_DECISION_ID_BYTES and value[0] == _TEXT


def _text_of(value: bytes, most: int) -> str:
    """Read a google.protobuf.Value; "" for what is no printable text of at most `most` bytes."""
    if len(value) > most + 3:  # tag, and a length of two bytes
        return ""
    try:
        text = struct_pb2.Value.FromString(value).string_value
    except DecodeError:
        return ""
    return _printable(text.encode(), most)


def _printable(raw: bytes, most: int) -> str:
    if len(raw) > most:
        return ""
    text = raw.decode("utf-8", "replace")
    return text if text.isprintable() else ""


def _value(text: str) -> bytes:
    value: bytes = struct_pb2.Value(string_value=text).SerializeToString()
    return value


_TIERS: Mapping[bytes | None, Tier] = {_value(tier.value): tier for tier in Tier}
