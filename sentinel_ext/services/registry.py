"""What a service offers to whichever server carries it: methods over messages, no socket in sight."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import msgspec


class Cancellable(Protocol):
    """An answer that is still being made; cancel it when the caller is gone."""

    def cancel(self) -> None:
        """Stop; nothing will be replied."""
        ...


class RequestError(Exception):
    """The request's bytes are not the message the method takes; the server answers INTERNAL (13)."""


class Unary(msgspec.Struct, frozen=True):
    """One unary method.

    Attributes:
        service: full name, `envoy.service.auth.v3.Authorization`.
        name: `Check`.
        decode: bytes → message; raises RequestError.
        handle: (message, reply) → the answer's bytes at once, or a Cancellable; then `reply(bytes)` is called
            once later and says whether the answer could still be sent. Never raises.
    """

    service: str
    name: str
    decode: Callable[[bytes], Any]
    handle: Callable[[Any, Callable[[bytes], bool]], bytes | Cancellable]

    @property
    def path(self) -> str:
        """The HTTP/2 `:path`."""
        return f"/{self.service}/{self.name}"
