"""A server in a process of its own to attack, a raw client to do it, and a bystander who wants to be served.

As a program, `python attack.py LOOP OPTIONS`, it is the server: it says its port and then, for each line of
its input, how it is.
"""

from __future__ import annotations

import asyncio
import json
import logging
import resource
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from sentinel_ext.wire import frames

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from sentinel_ext.server.calls import Call
    from sentinel_ext.services.registry import OpenStream

SERVICE = "test.Service"
PATIENCE_S = 10.0
PAGE = 32 * 1024  # what the method of that name answers
HELLO = frames.PREFACE + frames.settings([]) + frames.SETTINGS_ACK
# Our first block acknowledges that the server wants no header table (RFC 7541 §4.2).
NO_TABLE = b"\x20"


def literal(name: bytes, value: bytes) -> bytes:
    """A field that touches no table (RFC 7541 §6.2.2)."""
    return b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value


def block(method: str, *extra: tuple[bytes, bytes]) -> bytes:
    """The header block of a request."""
    fields = (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", f"/{SERVICE}/{method}".encode()),
        (b":authority", b"test"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        *extra,
    )
    return b"".join(literal(*field) for field in fields)


def headers(stream_id: int, data: bytes) -> bytes:
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, data)


def message(stream_id: int, data: bytes = b"", *, flag: int = 0, end: bool = True) -> bytes:
    """One DATA frame with one message."""
    return frames.frame(frames.DATA, int(end), stream_id, frames.PREFIX.pack(flag, len(data)) + data)


class Raw:
    """A connection that says what it is told to, over a blocking socket."""

    def __init__(self, port: int, hello: bytes = HELLO, receive_buffer: int = 0) -> None:
        self._sock = socket.socket()
        if receive_buffer:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._sock.settimeout(PATIENCE_S)
        self._sock.connect(("127.0.0.1", port))
        self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = bytearray()
        self._sock.sendall(hello)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sock.close()

    def send(self, data: bytes, timeout_s: float = PATIENCE_S) -> bool:
        """False: the server closed, or does not take more."""
        self._sock.settimeout(timeout_s)
        try:
            self._sock.sendall(data)
        except (TimeoutError, ConnectionError):
            return False
        return True

    def frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """What the server says, as (kind, flags, stream id, payload), until it closes."""
        self._sock.settimeout(PATIENCE_S)
        while True:
            while len(self._rest) >= frames.HEADER_SIZE:
                high, low, kind, flags, stream_id = frames.FRAME.unpack_from(self._rest)
                end = frames.HEADER_SIZE + (high << 8 | low)
                if len(self._rest) < end:
                    break
                payload = bytes(self._rest[frames.HEADER_SIZE : end])
                del self._rest[:end]
                yield kind, flags, stream_id, payload
            try:
                part = self._sock.recv(1 << 18)
            except ConnectionError:
                return
            if not part:
                return
            self._rest += part

    def goaway(self) -> str:
        """The text of the GOAWAY that ends the connection; "" if it was just closed."""
        for kind, _, _, payload in self.frames():
            if kind == frames.GOAWAY:
                return payload[8:].decode()
        return ""

    def answers(self, count: int) -> Counter[bytes]:
        """The trailer blocks of `count` answers."""
        found: Counter[bytes] = Counter()
        for kind, flags, _, payload in self.frames():
            if kind == frames.HEADERS and flags & frames.END_STREAM:
                found[payload] += 1
                if found.total() == count:
                    break
        return found

    def echo(self, stream_id: int) -> None:
        """Make one call and wait for its answer."""
        prefix = NO_TABLE if stream_id == 1 else b""
        assert self.send(headers(stream_id, prefix + _ECHO) + message(stream_id, b"hello"))
        assert self.answers(1), "the bystander's connection was closed"


_ECHO = block("Echo")


class Waits(NamedTuple):
    """How long the bystander waited, in milliseconds."""

    count: int
    median: float
    p99: float
    longest: float

    def __str__(self) -> str:
        return f"{self.count} calls, {self.median:.1f} ms, p99 {self.p99:.1f}, max {self.longest:.1f}"


class Bystander:
    """Another connection, in a thread, that calls all the time."""

    def __init__(self, port: int) -> None:
        self._raw = Raw(port)
        self._raw.echo(1)
        self._seconds: list[float] = []
        self._error: BaseException | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def waits(self) -> Waits:
        """Stop, and tell."""
        self._stop.set()
        self._thread.join()
        self._raw.__exit__(None, None, None)
        if self._error is not None:
            raise self._error
        ms = sorted(seconds * 1000 for seconds in self._seconds)
        return Waits(len(ms), statistics.median(ms), ms[int(len(ms) * 0.99)], ms[-1])

    def _run(self) -> None:
        stream_id = 3
        try:
            while not self._stop.wait(0.002):
                started = time.perf_counter()
                self._raw.echo(stream_id)
                self._seconds.append(time.perf_counter() - started)
                stream_id += 2
        except BaseException as error:  # noqa: BLE001  told in the test's thread
            self._error = error


class Health(NamedTuple):
    """What the server says of itself; `lines` are its log lines by reason."""

    connections: int
    in_flight: int
    most_in_flight: int
    calls: int
    messages: int
    trips: Counter[str]
    lines: Counter[str]


class Report:
    """What an attack did; filled when it is over."""

    def __init__(self) -> None:
        self.waits = Waits(0, 0.0, 0.0, 0.0)
        self.grown = 0.0
        self.trips: Counter[str] = Counter()
        self.lines: Counter[str] = Counter()

    def __str__(self) -> str:
        return f"bystander {self.waits}; peak +{self.grown:.1f} MiB; trips {dict(self.trips)}"


class Target:
    """The server, as a test starts it."""

    def __init__(self, loop: str, max_connections: int = 1024, **limits: int) -> None:
        options = json.dumps({"max_connections": max_connections, "limits": limits})
        self._process = subprocess.Popen(
            [sys.executable, __file__, loop, options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self.port = int(self._line())
        for _ in range(3):  # what the first calls allocate is no growth
            with Raw(self.port) as raw:
                raw.send(b"".join(self._warm(number) for number in range(1, 2001, 2)))
                raw.answers(1000)

    @staticmethod
    def _warm(stream_id: int) -> bytes:
        return headers(stream_id, (NO_TABLE if stream_id == 1 else b"") + _ECHO) + message(stream_id)

    def health(self) -> Health:
        assert self._process.stdin is not None
        self._process.stdin.write(b"?\n")
        told = json.loads(self._line())
        return Health(**told | {"trips": Counter(told["trips"]), "lines": Counter(told["lines"])})

    def until(self, condition: Any) -> Health:
        """Wait for a state of the server."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition(health := self.health()):
            assert time.monotonic() < deadline, health
            time.sleep(0.01)
        return health

    @contextmanager
    def attacked(self) -> Iterator[Report]:
        """Measure what happens to the server and to a bystander meanwhile."""
        report, before, rss = Report(), self.health(), self._memory("VmRSS")
        # Linux: 5 resets the peak (proc(5)).
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")
        bystander = Bystander(self.port)
        try:
            yield report
        finally:
            report.waits = bystander.waits()
        report.grown = self._memory("VmHWM") - rss
        after = self.health()
        report.trips, report.lines = after.trips - before.trips, after.lines - before.lines

    def stop(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE_S)
        self._process.stdout.close()

    def _memory(self, name: str) -> float:
        """MiB."""
        text = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(text.partition(f"{name}:")[2].split()[0]) / 1024

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            part = self._process.stdout.read(65536)
            assert part, "the server ended"
            line += part
        return line.decode()


# The program.


class _Counting(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.lines[str(getattr(record, "reason", record.getMessage()))] += 1


class _Log:
    """Counts messages."""

    def __init__(self, counts: Counter[str], call: OpenStream) -> None:
        self._counts = counts
        self._call = call

    def on_message(self, _message: bytes) -> None:
        self._counts["messages"] += 1

    def on_half_close(self) -> None:
        self._call.finish()

    def on_cancel(self) -> None:
        pass

    def on_writable(self) -> None:
        pass

    def on_drain(self) -> None:
        self._call.finish()


async def _serve(max_connections: int, limits: dict[str, Any]) -> None:
    from support.lean import local  # noqa: PLC0415  the program's own imports: the test needs none of them

    from sentinel_ext.server.calls import PENDING, HotUnary  # noqa: PLC0415
    from sentinel_ext.server.lean import LeanServer  # noqa: PLC0415
    from sentinel_ext.services.registry import HotStream, StreamKind  # noqa: PLC0415
    from sentinel_ext.wire.limits import Limits  # noqa: PLC0415

    counting, counts, held = _Counting(), Counter[str](), list[Any]()
    logging.getLogger("sentinel.wire").addHandler(counting)
    logging.getLogger("sentinel.wire").propagate = False
    most = 0

    def stuck(_data: bytes, call: Call) -> Any:
        """Never notices that nobody waits for it any more."""
        nonlocal most
        held.append(call)
        most = max(most, server.in_flight)
        return PENDING

    address = local()
    server = LeanServer(address, limits=Limits(**limits), max_connections=max_connections)
    server.add(
        (
            HotUnary(SERVICE, "Echo", lambda data, _call: data),
            HotUnary(SERVICE, "Stuck", stuck),
            HotUnary(SERVICE, "Page", lambda _data, _call: bytes(PAGE)),
            HotStream(SERVICE, "Log", StreamKind.CLIENT_STREAM, lambda call: _Log(counts, call)),
        )
    )
    await server.start()
    print(address.port, flush=True)
    ended = asyncio.Event()

    def tell() -> None:
        if not sys.stdin.buffer.raw.read(1024):  # type: ignore[attr-defined]
            ended.set()
            return
        health = Health(
            server.connections,
            server.in_flight,
            most,
            server.calls,
            counts["messages"],
            Counter(server.trips),
            counting.lines,
        )
        print(json.dumps(health._asdict()), flush=True)

    asyncio.get_running_loop().add_reader(0, tell)
    await ended.wait()
    for call in held:
        call.reply(b"")
    await server.stop(0)


def main() -> None:
    sys.path.insert(0, str(Path(__file__).parents[1]))
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192), hard))
    work = _serve(**json.loads(sys.argv[2]))
    if sys.argv[1] == "uvloop":
        import uvloop  # noqa: PLC0415

        uvloop.run(work)
    else:
        asyncio.run(work)


if __name__ == "__main__":
    main()
