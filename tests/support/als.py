"""Access log services of a test's own: what an Envoy streams, as a hot stream and as a generated servicer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from envoy.service.accesslog.v3 import als_pb2, als_pb2_grpc

from sentinel_ext.services.registry import HotStream, OpenStream, StreamKind

if TYPE_CHECKING:
    from sentinel_ext.server.lean import LeanServer

SERVICE = "envoy.service.accesslog.v3.AccessLogService"


class Log:
    """One stream as it was heard.

    Attributes:
        sizes: bytes of each message.
        identified: which messages had an identifier.
        paths: of each entry, in order.
        end: "finished" by us, "cancelled" by the client; "" while it is open.
    """

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.identified: list[bool] = []
        self.node = ""
        self.name = ""
        self.paths: list[str] = []
        self.end = ""

    def take(self, message: Any) -> None:
        self.sizes.append(message.ByteSize())
        self.identified.append(message.HasField("identifier"))
        if self.identified[-1]:
            self.node, self.name = message.identifier.node.id, message.identifier.log_name
        self.paths += [entry.request.path for entry in message.http_logs.log_entry]


class Logs:
    """Every stream that came; mount it with `mount_hot` or `mount_generated`."""

    def __init__(self) -> None:
        self.streams: list[Log] = []

    @property
    def paths(self) -> list[str]:
        return [path for log in self.streams for path in log.paths]

    def new(self) -> Log:
        self.streams.append(Log())
        return self.streams[-1]

    def mount_hot(self, server: LeanServer) -> None:
        """As bytes, message by message."""
        server.add((HotStream(SERVICE, "StreamAccessLogs", StreamKind.CLIENT_STREAM, self._open),))

    def mount_generated(self, server: LeanServer) -> None:
        """As users of grpcio write it."""
        als_pb2_grpc.add_AccessLogServiceServicer_to_server(_Servicer(self), server)

    def _open(self, call: OpenStream) -> _HotLog:
        return _HotLog(call, self.new())


class _HotLog:
    def __init__(self, call: OpenStream, log: Log) -> None:
        self._call = call
        self._log = log

    def on_message(self, message: bytes) -> None:
        self._log.take(als_pb2.StreamAccessLogsMessage.FromString(message))

    def on_half_close(self) -> None:
        self._finish()

    def on_cancel(self) -> None:
        self._log.end = "cancelled"

    def on_writable(self) -> None:
        pass

    def on_drain(self) -> None:
        self._finish()

    def _finish(self) -> None:
        self._log.end = "finished"
        self._call.send(als_pb2.StreamAccessLogsResponse().SerializeToString())
        self._call.finish()


class _Servicer(als_pb2_grpc.AccessLogServiceServicer):  # type: ignore[misc]  no types in the wheel
    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    async def StreamAccessLogs(self, request_iterator: Any, context: Any) -> Any:  # noqa: N802  generated name
        log = self._logs.new()
        context.add_done_callback(lambda _context: setattr(log, "end", log.end or "cancelled"))
        async for message in request_iterator:
            log.take(message)
        log.end = "finished"
        return als_pb2.StreamAccessLogsResponse()
