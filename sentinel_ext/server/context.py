"""What a generated servicer's methods are given: grpc's contexts, over a call of ours.

`Context` has the members of grpc.aio.ServicerContext, `BlockingContext` those of grpc.ServicerContext; code
written for grpcio runs unchanged. grpcio is used for its types; its own server is never started.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

import grpc
import grpc.aio

from sentinel_ext.wire.codes import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Mapping

    from sentinel_ext.server.rpc import Metadata, Rpc

T = TypeVar("T")


class AbortError(Exception):
    """Raised by `abort`, so that nothing of the handler runs on. The status is recorded before."""


class Metadatum(NamedTuple):
    """One pair of metadata, as grpcio's servers hand it out."""

    key: str
    value: str | bytes


class CallContext:
    """What both kinds of context share: state that can be set and asked without waiting."""

    __slots__ = ("_rpc",)

    def __init__(self, rpc: Rpc) -> None:
        """Show `rpc`."""
        self._rpc = rpc

    # What came with the call.

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        """Return what the client sent, `-bin` values decoded, without what belongs to gRPC itself."""
        return tuple(Metadatum(*pair) for pair in self._rpc.metadata)

    def peer(self) -> str:
        """Return `ipv4:127.0.0.1:4711`, `ipv6:[::1]:4711` or `unix:`."""
        return self._rpc.protocol.peer.address

    def peer_identities(self) -> Iterable[bytes] | None:
        """Return the names in the client's certificate; None without mTLS."""
        return self._rpc.protocol.peer.identities

    def peer_identity_key(self) -> str | None:
        """Return which property `peer_identities` reads; None without mTLS."""
        return self._rpc.protocol.peer.identity_key or None

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what TLS knows of the peer."""
        return self._rpc.protocol.peer.properties

    def time_remaining(self) -> float | None:
        """Return seconds until the deadline, not below 0; None if the client set none."""
        return self._rpc.seconds_left

    # What goes back.

    def set_trailing_metadata(self, trailing_metadata: Metadata) -> None:
        """Send these with the status."""
        self._rpc.set_trailers(tuple(trailing_metadata))

    def trailing_metadata(self) -> Metadata:
        """Return what was set."""
        return self._rpc.trailers

    def set_code(self, code: grpc.StatusCode) -> None:
        """End with this status; `abort` overrules it."""
        self._rpc.set_error(_status(code), self._rpc.text)

    def code(self) -> grpc.StatusCode:
        """Return what was set, else OK."""
        return _CODES[self._rpc.status]

    def set_details(self, details: str) -> None:
        """Send this text with the status."""
        self._rpc.set_error(self._rpc.status, details)

    def details(self) -> str:
        """Return what was set."""
        return self._rpc.text

    def set_compression(self, compression: grpc.Compression) -> None:
        """Compress all messages, if the client takes gzip. Before the first one."""
        self._rpc.compresses = compression is not grpc.Compression.NoCompression

    def disable_next_message_compression(self) -> None:
        """Send the next message as it is."""
        self._rpc.skips_once = True

    # How it goes.

    def add_callback(self, callback: Callable[[], object]) -> bool:
        """Call `callback()` when the call ends, in the event loop. False: it has ended already."""
        return self._rpc.on_done(callback)

    def is_active(self) -> bool:
        """Say whether something can still be sent."""
        return not self._rpc.is_done

    def cancelled(self) -> bool:
        """Say whether the client is gone or the deadline has passed."""
        return self._rpc.is_cancelled

    def done(self) -> bool:
        """Say whether the call is over."""
        return self._rpc.is_done

    def _abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata) -> NoReturn:
        rpc = self._rpc
        if not rpc.is_aborted:
            if trailing_metadata:
                rpc.set_trailers(tuple(trailing_metadata))
            if code is grpc.StatusCode.OK:
                rpc.set_error(Status.UNKNOWN, "abort needs a status that is not OK")
            else:
                rpc.set_error(_status(code), details)
            # From here on a handler that swallows the exception cannot change it.
            rpc.is_aborted = True
        raise AbortError(details)


class Context(CallContext):
    """For coroutine functions and async generators: grpc.aio.ServicerContext."""

    __slots__ = ()

    async def read(self) -> Any:  # noqa: ANN401  a message of generated code
        """Wait for the next request message; grpc.aio.EOF at the end of the request."""
        message = await self._rpc.next_message()
        return _EOF if message is None else self._rpc.route.read(message)

    async def write(self, message: Any) -> None:  # noqa: ANN401
        """Send a response message and wait until there is room for another."""
        if self._rpc.is_aborted:
            raise AbortError
        await self._rpc.send(self._rpc.route.write(message))

    async def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Send headers before the first message."""
        self._rpc.send_headers(tuple(initial_metadata))

    async def abort(
        self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()
    ) -> NoReturn:
        """End the call with this status, whatever the handler does after it.

        Raises:
            AbortError: always.
        """
        self._abort(code, details, trailing_metadata)

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Likewise, with a status object such as grpc_status.rpc_status makes."""
        self._abort(status.code, status.details, status.trailing_metadata or ())

    def add_done_callback(self, callback: Callable[[Context], object]) -> None:
        """Call `callback(context)` when the call ends; at once if it has."""
        if not self._rpc.on_done(lambda: callback(self)):
            callback(self)

    def __aiter__(self) -> Context:
        """Iterate over the request's messages: a handler's `request_iterator` is the context itself."""
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401
        message = await self._rpc.next_message()
        if message is None:
            raise StopAsyncIteration
        return self._rpc.route.read(message)


class BlockingContext(CallContext):
    """For plain functions in a thread: grpc.ServicerContext. Waits by blocking its thread."""

    __slots__ = ()

    def send_initial_metadata(self, initial_metadata: Metadata) -> None:
        """Send headers before the first message."""
        self._wait(self._send_headers(tuple(initial_metadata)))

    def write(self, message: Any) -> None:  # noqa: ANN401
        """Send a response message and wait until there is room for another."""
        if self._rpc.is_aborted:
            raise AbortError
        self._wait(self._rpc.send(self._rpc.route.write(message)))

    def abort(self, code: grpc.StatusCode, details: str = "", trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with this status, whatever the handler does after it.

        Raises:
            AbortError: always.
        """
        self._abort(code, details, trailing_metadata)

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Likewise, with a status object such as grpc_status.rpc_status makes."""
        self._abort(status.code, status.details, status.trailing_metadata or ())

    def cancel(self) -> bool:
        """End the call with CANCELLED."""
        self._rpc.protocol.hub.loop.call_soon_threadsafe(self._rpc.end, Status.CANCELLED, "")
        return True

    def __iter__(self) -> BlockingContext:
        """Iterate over the request's messages: a handler's `request_iterator` is the context itself."""
        return self

    def __next__(self) -> Any:  # noqa: ANN401
        message = self._wait(self._rpc.next_message())
        if message is None:
            raise StopIteration
        return self._rpc.route.read(message)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._rpc.protocol.hub.loop).result()

    async def _send_headers(self, metadata: Metadata) -> None:
        self._rpc.send_headers(metadata)


# The stubs do not know it.
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
_CODES = {Status(code.value[0]): code for code in grpc.StatusCode}


def _status(code: grpc.StatusCode | int) -> Status:
    """Read a status as handlers give it; grpcio takes plain numbers, too."""
    return Status(code if isinstance(code, int) else code.value[0])
