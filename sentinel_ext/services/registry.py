"""What a service offers to whichever server carries it: methods over messages, no socket in sight."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from enum import Enum
from typing import Any, Protocol, TypeAlias

import msgspec

from sentinel_ext.core.tracecontext import Fields


class Cancellable(Protocol):
    """An answer that is still being made; cancel it when the caller is gone."""

    def cancel(self) -> None:
        """Stop; nothing will be replied."""
        ...


class RequestError(Exception):
    """The request's bytes are not the message the method takes; the server answers INTERNAL (13)."""


class BadRequestError(Exception):
    """The message is what the method takes, and says what it must not: INVALID_ARGUMENT, with this text."""


# gRPC status codes that services answer with (grpc/grpc doc/statuscodes.md).
INVALID_ARGUMENT = 3
NOT_FOUND = 5
PERMISSION_DENIED = 7
RESOURCE_EXHAUSTED = 8
INTERNAL = 13
UNAVAILABLE = 14


# Tells who called, in grpc's words, while a unary method of the debug port is handled: for the audit log, so
# nobody else pays for the text.
PEER: ContextVar[Callable[[], str]] = ContextVar("peer", default=str)


class Refusal(msgspec.Struct, frozen=True):
    """A call that ends with a status instead of an answer.

    Attributes:
        code: of gRPC, not OK.
        text: reaches the client.
    """

    code: int
    text: str


# What ends a call.
Answer: TypeAlias = bytes | Refusal
CarriedHandle: TypeAlias = Callable[[Any, Callable[[Answer], bool], Fields], Answer | Cancellable]


class Unary(msgspec.Struct, frozen=True):
    """One unary method.

    Attributes:
        service: full name, `envoy.service.auth.v3.Authorization`.
        name: `Check`.
        decode: bytes → message; raises RequestError.
        handle: (message, reply) → the answer at once, or a Cancellable; then `reply(answer)` is called once
            later and says whether the answer could still be sent. Never raises.
        handle_carried: the same with a third argument, called in its place where it is given: the call's
            header fields if some of them may be of a trace, else nothing.
    """

    service: str
    name: str
    decode: Callable[[bytes], Any]
    handle: Callable[[Any, Callable[[Answer], bool]], Answer | Cancellable]
    handle_carried: CarriedHandle | None = None

    @property
    def path(self) -> str:
        """The HTTP/2 `:path`."""
        return f"/{self.service}/{self.name}"


class StreamKind(Enum):
    """Which sides of a streaming method send many messages; the client always does."""

    CLIENT_STREAM = "client_stream"
    BIDI = "bidi"


class OpenStream(Protocol):
    """One open stream, as its handler sees it."""

    @property
    def peer(self) -> str:
        """Where the client is, in grpc's words."""
        ...

    @property
    def metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        """What the client sent along."""
        ...

    def send(self, message: bytes) -> bool:
        """Send a message. False: hold the next one until `on_writable`, or the stream is over."""
        ...

    def finish(self, status: int = 0, text: str = "") -> bool:
        """End the stream with a gRPC status after what was sent. False: it was over already."""
        ...


class StreamHandler(Protocol):
    """What a service has for each open stream. A method that raises ends the stream."""

    def on_message(self, message: bytes) -> None:
        """Take the next message; it counts as read when this returns."""

    def on_half_close(self) -> None:
        """The client will send nothing more; answer with `finish`, now or later."""

    def on_cancel(self) -> None:
        """The stream is over without `finish`: the client is gone, or the deadline passed."""

    def on_writable(self) -> None:
        """`send` said False, and there is room again."""

    def on_drain(self) -> None:
        """The server is about to stop; `finish` soon, or be ended with UNAVAILABLE."""


class HotStream(msgspec.Struct, frozen=True):
    """One streaming method over bytes: a million messages are a million plain calls.

    Attributes:
        service: full name, `envoy.service.accesslog.v3.AccessLogService`.
        name: `StreamAccessLogs`.
        kind: which sides stream.
        open: makes the handler of a new stream.
    """

    service: str
    name: str
    kind: StreamKind
    open: Callable[[OpenStream], StreamHandler]

    @property
    def path(self) -> str:
        """The HTTP/2 `:path`."""
        return f"/{self.service}/{self.name}"
