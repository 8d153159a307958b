"""Hot calls: plain functions over bytes that answer now or later. No coroutine, task, timer or context.

One `Call` object per request is all it costs; a request that is answered at once leaves no trace of it.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Final, Literal, Protocol

import msgspec

from sentinel_ext.services.registry import Refusal, RequestError, Unary
from sentinel_ext.wire.codes import Status
from sentinel_ext.wire.head import VOLATILE
from sentinel_ext.wire.stream import Stream

if TYPE_CHECKING:
    from sentinel_ext.server.protocol import H2Protocol  # noqa: TC004  nobody reads a Call's annotations

    # Begins a call; what Method.handler holds. `message` is b"" where the client streams. Never raises.
    Start = Callable[[H2Protocol, Stream, bytes], None]


class _Pending(Enum):
    PENDING = "pending"


PENDING: Final = _Pending.PENDING


class RpcError(Exception):
    """Ends the call with a status; `text` reaches the client."""

    def __init__(self, status: Status, text: str = "") -> None:
        super().__init__(f"{status.name}: {text}")
        self.status = status
        self.text = text


class HotUnary(msgspec.Struct, frozen=True):
    """One unary method over bytes.

    Attributes:
        service: full name, `envoy.service.ratelimit.v3.RateLimitService`.
        name: `ShouldRateLimit`.
        handle: (request, call) → the answer at once, or PENDING; then `call.reply` or `call.fail` ends it.
            May raise RpcError. A pending call whose client is gone must still be ended by one of the two
            (they say False), unless it registered `on_cancel`: until then it counts as in flight.
    """

    service: str
    name: str
    handle: Callable[[bytes, Call], bytes | Literal[_Pending.PENDING]]

    @property
    def path(self) -> str:
        """The HTTP/2 `:path`."""
        return f"/{self.service}/{self.name}"


class Live(Protocol):
    """A call as the connection's owner drives it: what `Stream.call` holds while it runs. Never raises."""

    def received(self, message: bytes) -> None:
        """Take the next request message."""

    def half_closed(self) -> None:
        """No request message follows."""

    def gone(self) -> None:
        """The client is gone, or the stream was reset: nothing can be sent any more."""

    def writable(self) -> None:
        """There is room again for what is sent."""

    def draining(self) -> None:
        """The server is about to stop; a stream without an end should find one."""

    def end(self, status: Status, text: str) -> None:
        """End it now with this status, whatever its handler does."""


class Call(msgspec.Struct, eq=False):
    """One hot unary call. First completion wins; `reply` and `fail` say whether it was theirs.

    Attributes:
        cancelled: the client is gone or the deadline passed; work on it is in vain.
    """

    _protocol: H2Protocol
    _stream: Stream
    cancelled: bool = False
    _is_done: bool = False
    _is_held: bool = False
    _slot: int = 0
    _callbacks: tuple[Callable[[], object], ...] = ()

    @property
    def deadline_ns(self) -> int:
        """Monotonic nanoseconds at which the call must be over; 0 is never."""
        return self._stream.deadline_ns

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the client sent, `-bin` values decoded; parsed when asked for."""
        return self._stream.head.metadata

    def reply(self, message: bytes) -> bool:
        """Answer with OK. False: too late, nothing is sent."""
        if self._is_done:
            self._release()
            return False
        self._is_done = True
        sent = self._protocol.connection.reply(self._stream, message)
        self._settle()
        return sent

    def answer(self, answer: bytes | Refusal) -> bool:
        """Answer with a message or a refusal. False: too late, nothing is sent."""
        if isinstance(answer, bytes):
            return self.reply(answer)
        return self.fail(Status(answer.code), answer.text)

    def fail(self, status: Status, text: str = "") -> bool:
        """Answer with a status. False: too late, nothing is sent."""
        if self._is_done:
            self._release()
            return False
        self._is_done = True
        sent = self._protocol.connection.fail(self._stream, status, text)
        self._settle()
        return sent

    def on_cancel(self, callback: Callable[[], object]) -> None:
        """Call `callback` once if the client goes away or the deadline passes before the answer.

        Whoever registers one promises to stop then: the call no longer counts as in flight.
        """
        if self.cancelled:
            self._protocol.guarded(callback)
        elif not self._is_done:
            self._callbacks += (callback,)

    # For the server.

    def wait(self) -> None:
        """The handler answers later."""
        if not self._is_done:
            self._stream.call = self
            if self._stream.deadline_ns:
                self._slot = self._protocol.hub.deadlines.add(self)

    def received(self, message: bytes) -> None:
        """A unary call gets its message at birth."""

    def half_closed(self) -> None:
        """Likewise."""

    def writable(self) -> None:
        """A reply waits in the connection, not here."""

    def draining(self) -> None:
        """A unary call ends by itself."""

    def gone(self) -> None:
        """Tell whoever works on it."""
        self._is_done = True
        self._cancel()
        if self._is_held:
            return
        self._protocol.connection.release(self._stream)

    def expire(self) -> None:
        """The deadline passed."""
        self.end(Status.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def end(self, status: Status, text: str) -> None:
        """Answer in the handler's place."""
        if not self._is_done:
            self._is_done = True
            # Without a callback whoever works on it knows nothing yet: the call stays in flight.
            self._protocol.connection.fail(self._stream, status, text, is_running=not self._callbacks)
            self._cancel()

    def _cancel(self) -> None:
        self.cancelled = True
        callbacks = self._callbacks
        self._is_held = not callbacks
        self._settle()
        for callback in callbacks:
            self._protocol.guarded(callback)

    def _settle(self) -> None:
        """Undo `wait`, and the cycles that it made."""
        if self._stream.call is None:
            return
        self._stream.call = None
        self._callbacks = ()
        if self._slot:
            self._protocol.hub.deadlines.discard(self, self._slot)
        self._protocol.touch()

    def _release(self) -> None:
        if self._is_held:
            self._is_held = False
            self._protocol.connection.release(self._stream)


def hot(method: HotUnary) -> Start:
    """Begin calls of a HotUnary."""
    handle = method.handle

    def start(protocol: H2Protocol, stream: Stream, message: bytes) -> None:
        call = Call(protocol, stream)
        try:
            answer = handle(message, call)
        except Exception as error:  # noqa: BLE001  the handler's bug ends its call alone
            protocol.raised(stream, error)
            return
        if answer is PENDING:
            call.wait()
        else:
            protocol.connection.reply(stream, answer)

    return start


def unary(method: Unary) -> Start:
    """Begin calls of a service's Unary; one with a `handle_carried` is told in which trace its caller is."""
    decode, handle, handle_carried = method.decode, method.handle, method.handle_carried

    def start(protocol: H2Protocol, stream: Stream, message: bytes) -> None:
        try:
            request = decode(message)
        except RequestError as error:
            protocol.connection.fail(stream, Status.INTERNAL, str(error))
            return
        call = Call(protocol, stream)
        try:
            if handle_carried is None:
                answer = handle(request, call.answer)
            else:
                # Ids are among the volatile fields; without a proxy that traces there is none.
                head = stream.head
                carried = head.fields if head.kinds & VOLATILE else ()
                answer = handle_carried(request, call.answer, carried)
        except Exception as error:  # noqa: BLE001  as above
            protocol.raised(stream, error)
            return
        if isinstance(answer, bytes):
            protocol.connection.reply(stream, answer)
        elif isinstance(answer, Refusal):
            protocol.connection.fail(stream, Status(answer.code), answer.text)
        else:
            call.on_cancel(answer.cancel)
            call.wait()

    return start
