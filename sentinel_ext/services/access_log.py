"""envoy.service.accesslog.v3.AccessLogService: how each request ended, as Envoy saw it (docs/access-log.md).

Envoy opens a stream for each of its worker threads, names itself in the first message, and sends what it
buffered at every flush. A stream lives as long as its connection; nothing is ever answered but its end.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from sentinel_ext._pb.sentinel.internal import access_log_pb2
from sentinel_ext.core.policy import UpstreamRules
from sentinel_ext.services.log_entry import EntryReader
from sentinel_ext.services.registry import HotStream, StreamKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sentinel_ext.core.ended import Ended, Result
    from sentinel_ext.services.log_entry import Observer
    from sentinel_ext.services.registry import OpenStream

SERVICE = "envoy.service.accesslog.v3.AccessLogService"

_DEFAULT_RULES = UpstreamRules()
_INVALID_ARGUMENT = 3
_EMPTY = b""  # a StreamAccessLogsResponse has no fields

logger = logging.getLogger("sentinel.access_log")

_Message = access_log_pb2.AccessLogMessage


class AccessLogs:
    """The service.

    Attributes:
        streams: open ones.
        messages: received so far, ones that could not be read included.
        garbled: messages that were none; each ended its stream.
        anonymous: streams that did not name their node. Their entries count: it is the ticket that ties them.
    """

    def __init__(
        self,
        ended: Callable[[Ended], Result | None],
        red: Observer,
        failed: Callable[[Exception], None],
        heard: Callable[[str, int], None],
        rules: Callable[[str], UpstreamRules] = lambda _upstream: _DEFAULT_RULES,
    ) -> None:
        """Tell what the logs say.

        Args:
            ended: called once for each request that we admitted and that is over; says what became of it if
                it was not simply counted (UNMATCHED, EXPIRED_PERMIT, DUPLICATE).
            red: sees every request.
            failed: hears of our own faults.
            heard: called for each message with the stream's name and its number of entries.
            rules: of an upstream, by name; asked for each entry, so that a new policy holds at once.
        """
        self._reader = EntryReader(ended, red, failed, rules)
        self._heard = heard
        self._opened = 0
        self.streams = 0
        self.messages = 0
        self.garbled = 0
        self.anonymous = 0

    @property
    def results(self) -> Mapping[Result, int]:
        """How many entries had which result; every result is there, and their sum is all entries."""
        return self._reader.results

    def methods(self) -> tuple[HotStream, ...]:
        """Return what a server mounts."""
        return (HotStream(SERVICE, "StreamAccessLogs", StreamKind.CLIENT_STREAM, self._open),)

    def _open(self, call: OpenStream) -> _LogStream:
        self._opened += 1
        self.streams += 1
        return _LogStream(self, call, f"{call.peer}#{self._opened}")

    def take(self, name: str, message: access_log_pb2.AccessLogMessage) -> None:
        """Read a message's entries."""
        http, tcp = message.http_logs.log_entry, message.tcp_logs.log_entry
        if http:
            self._reader.read_http(http)
        if tcp:
            self._reader.read_tcp(tcp)
        self._heard(name, len(http) + len(tcp))

    def unnamed(self, name: str) -> None:
        """Count a stream without a node; say so once, a broken proxy opens thousands of them."""
        self.anonymous += 1
        if self.anonymous == 1:
            logger.warning("an access log stream does not name its node", extra={"stream": name})


class _LogStream:
    """One open stream (services.registry.StreamHandler)."""

    __slots__ = ("_call", "_is_first", "_is_open", "_logs", "_name")

    def __init__(self, logs: AccessLogs, call: OpenStream, name: str) -> None:
        self._logs = logs
        self._call = call
        self._name = name
        self._is_first = True
        self._is_open = True

    def on_message(self, data: bytes) -> None:
        """Take what Envoy buffered."""
        if not self._is_open:
            return
        logs = self._logs
        logs.messages += 1
        try:
            message = _Message.FromString(data)
        except DecodeError:
            logs.garbled += 1
            self._close()
            self._call.finish(_INVALID_ARGUMENT, "not a StreamAccessLogsMessage")
            return
        if self._is_first:
            self._is_first = False
            if not message.identifier.node.id:
                logs.unnamed(self._name)
        logs.take(self._name, message)

    def on_half_close(self) -> None:
        """Envoy closes the log."""
        self._finish()

    def on_cancel(self) -> None:
        """Envoy, or its connection, is gone."""
        self._close()

    def on_writable(self) -> None:
        """Nothing is written that could wait."""

    def on_drain(self) -> None:
        """Envoy opens the next stream with its next flush, at another instance if there is one."""
        self._finish()

    def _finish(self) -> None:
        if self._is_open:
            self._close()
            self._call.send(_EMPTY)
            self._call.finish()

    def _close(self) -> None:
        if self._is_open:
            self._is_open = False
            self._logs.streams -= 1
