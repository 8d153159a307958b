"""The handlers' side of a connection: how a call is answered, and when its slot is free again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sentinel_ext.wire import messages
from sentinel_ext.wire import status as status_blocks
from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from sentinel_ext.wire.calls import Calls
    from sentinel_ext.wire.control import Control
    from sentinel_ext.wire.limits import ProcessBudget
    from sentinel_ext.wire.sending import Sender
    from sentinel_ext.wire.stream import Stream

Metadata = Sequence[tuple[str, str | bytes]]


class Answering:
    """What handlers may do with a call. Every method is safe on a call that is over: it does nothing.

    Attributes:
        in_flight: calls given to the sink whose handler has not returned, cancelled ones too.
    """

    __slots__ = ("_budget", "_calls", "_control", "_sender", "in_flight")

    def __init__(self, sender: Sender, calls: Calls, control: Control, budget: ProcessBudget) -> None:
        self._sender = sender
        self._calls = calls
        self._control = control
        self._budget = budget
        self.in_flight = 0

    def reply(self, stream: Stream, message: bytes) -> bool:
        """End a call with this message and status OK; its handler has returned.

        Returns:
            False if the call was over already.
        """
        if stream.has_slot:
            stream.has_slot = False
            self.in_flight -= 1
            self._budget.in_flight -= 1
        if stream.is_ended:
            return False
        if stream.buffered:
            self._calls.forget(stream)  # messages of a client stream that nobody took
        if self._sender.reply(stream, message):
            return True
        opening = b"" if stream.has_headers else status_blocks.RESPONSE_HEADERS
        data = messages.frame_message(message, compress=False)
        self._sender.submit(stream, opening, data, status_blocks.TRAILERS_OK)
        self._calls.forget(stream)
        return True

    def fail(
        self,
        stream: Stream,
        status: int,
        text: str,
        trailers: Metadata = (),
        details: bytes = b"",
        *,
        is_running: bool = False,
    ) -> bool:
        """End a call with a status. As Trailers-Only if nothing went out yet.

        Args:
            stream: the call.
            status: gRPC status code.
            text: grpc-message, cut to 1 KiB.
            trailers: further trailing metadata.
            details: grpc-status-details-bin, serialised.
            is_running: its handler has not returned (a deadline passed): keep its slot until `release`.

        Returns:
            False if the call was over already.

        Raises:
            ValueError: the trailers cannot be sent; nothing happened, so call again without them.
        """
        if stream.is_ended:
            if not is_running:
                self.release(stream)
            return False
        block = status_blocks.trailer_block(
            status,
            text,
            trailers,
            details,
            trailers_only=not stream.has_headers,
            max_list=self._control.max_header_list,
        )
        if not is_running:
            self.release(stream)
        stream.has_headers = True
        self._sender.submit(stream, closing=block)
        self._calls.forget(stream)
        return True

    def finish(self, stream: Stream, status: int, text: str, trailers: Metadata = ()) -> bool:
        """End a streaming call with a status, after its messages. OK without any still sends HEADERS."""
        if status == Status.OK and not stream.has_headers and not stream.is_ended:
            self.send_headers(stream, ())
        return self.fail(stream, status, text, trailers)

    def send_headers(self, stream: Stream, metadata: Metadata, *, compress: bool = False) -> bool:
        """Send initial metadata; once, and before the first message.

        Args:
            stream: the call.
            metadata: further headers.
            compress: messages may be compressed; ignored if the client does not accept gzip.

        Returns:
            False if headers were sent already or the call is over.

        Raises:
            ValueError: the metadata cannot be sent.
        """
        if stream.is_ended or stream.has_headers:
            return False
        stream.is_compressed = compress and stream.head.accepts_gzip
        block = status_blocks.header_block(metadata, compressed=stream.is_compressed)
        self._sender.submit(stream, block)
        return True

    def send_message(self, stream: Stream, message: bytes, *, compress: bool = False) -> bool:
        """Send one message of a streaming reply.

        Returns:
            True: there is room for more. False: wait for `on_writable`, or the call is over.
        """
        if stream.is_ended:
            return False
        if not stream.has_headers:
            self.send_headers(stream, (), compress=compress)
        data = messages.frame_message(message, compress=compress and stream.is_compressed)
        self._sender.submit(stream, data=data)
        stream.wants_room = stream.is_queued
        return not stream.is_queued

    def reset(self, stream: Stream, code: int) -> None:
        """End a call by RST_STREAM, without a status. Its slot stays taken until `release`."""
        if stream.is_ended:
            return
        stream.is_cancelled = True
        self._sender.reset(stream.id, code)
        self._calls.forget(stream)

    def consumed(self, stream: Stream, size: int) -> None:
        """A handler took a message of `size` bytes: the client may send as much again."""
        self._calls.taken(stream, size)

    def release(self, stream: Stream) -> None:
        """The handler of a call has returned: free its slot. Does nothing the second time."""
        if stream.has_slot:
            stream.has_slot = False
            self.in_flight -= 1
            self._budget.in_flight -= 1
