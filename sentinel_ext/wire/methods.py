"""The methods of a server by their `:path`."""

from __future__ import annotations

from enum import Enum

import msgspec


class Kind(Enum):
    """How many messages flow in each direction."""

    UNARY = "unary"
    CLIENT_STREAM = "client_stream"
    SERVER_STREAM = "server_stream"
    BIDI = "bidi"


class Method(msgspec.Struct, frozen=True, eq=False):
    """One gRPC method.

    Attributes:
        path: `/package.Service/Method`, compared as bytes: case matters, nothing is normalised.
        kind: how many messages flow in each direction.
        handler: whatever the owner hangs here; the wire does not look at it.
    """

    path: bytes
    kind: Kind
    handler: object = None


class MethodTable:
    """Methods by path. It freezes with the first connection: verdicts on header blocks are kept for ever."""

    __slots__ = ("_is_frozen", "_methods")

    def __init__(self) -> None:
        self._methods: dict[bytes, Method] = {}
        self._is_frozen = False

    def add(self, method: Method) -> None:
        """Carry one more method.

        Raises:
            ValueError: the path is not `/service/method`, or taken.
            RuntimeError: the table is frozen.
        """
        if self._is_frozen:
            raise RuntimeError("the method table is frozen, connections use it")
        service, slash, name = method.path[1:].partition(b"/")
        if not (method.path.startswith(b"/") and service and slash and name) or b"/" in name:
            raise ValueError(f"{method.path!r} is not /service/method")
        if method.path in self._methods:
            raise ValueError(f"{method.path!r} is there already")
        self._methods[method.path] = method

    def freeze(self) -> None:
        """Accept no further method."""
        self._is_frozen = True

    def get(self, path: bytes) -> Method | None:
        """The method at this path, or None."""
        return self._methods.get(path)

    def services(self) -> tuple[str, ...]:
        """Full names of the services, sorted, as reflection lists them."""
        return tuple(sorted({path[1:].partition(b"/")[0].decode() for path in self._methods}))
