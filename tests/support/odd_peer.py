"""A gRPC server that answers every call with the grpc-status it is given, whatever bytes those are."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import hpack
from support.lean_frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    PREFACE,
    SETTINGS,
    frame,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

_SETTINGS, _WINDOW_UPDATE = 4, 8


@contextmanager
def odd_peer(status: bytes, *more: tuple[bytes, bytes]) -> Iterator[str]:
    """Serve; give the address."""
    trailers = hpack.Encoder().encode(
        [(b":status", b"200"), (b"content-type", b"application/grpc"), (b"grpc-status", status), *more]
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener, trailers), daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket, trailers: bytes) -> None:
    with suppress(OSError):
        while True:
            caller, _ = listener.accept()
            threading.Thread(target=_serve, args=(caller, trailers), daemon=True).start()


def _serve(caller: socket.socket, trailers: bytes) -> None:
    with caller, suppress(OSError), caller.makefile("rb") as reader:
        caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        caller.sendall(SETTINGS)
        reader.read(len(PREFACE))
        while head := reader.read(9):
            size = int.from_bytes(head[:3], "big")
            reader.read(size)
            kind, flags, stream_id = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind == _SETTINGS and not flags:
                caller.sendall(frame(_SETTINGS, 1, 0))
            elif kind == DATA:
                # What was taken is given back, or a client with many requests stops.
                caller.sendall(frame(_WINDOW_UPDATE, 0, 0, size.to_bytes(4, "big")))
            if kind in {DATA, HEADERS} and flags & END_STREAM:
                caller.sendall(frame(HEADERS, END_HEADERS | END_STREAM, stream_id, trailers))
