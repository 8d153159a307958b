"""A client that says exactly what it is told, on python-hyper's h2: a second opinion on what comes back."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field

import h2.config
import h2.connection
import h2.events

TIMEOUT_S = 10.0
REQUEST = {
    ":method": "POST",
    ":scheme": "http",
    ":path": "/grpc.testing.TestService/UnaryCall",
    ":authority": "interop",
    "te": "trailers",
    "content-type": "application/grpc",
}


@dataclass
class Answer:
    """What the server sent on the stream. `reset` is the code of RST_STREAM, None without one."""

    headers: dict[str, str] = field(default_factory=dict)
    trailers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None

    @property
    def http_status(self) -> int:
        return int(self.headers[":status"])

    @property
    def grpc_status(self) -> int:
        """From the trailers, or the headers of a response that has nothing else."""
        return int((self.trailers or self.headers)["grpc-status"])

    @property
    def messages(self) -> list[tuple[int, bytes]]:
        """Flag and bytes of each message."""
        found, at = [], 0
        while at < len(self.body):
            flag, size = struct.unpack_from(">BI", self.body, at)
            found.append((flag, self.body[at + 5 : at + 5 + size]))
            at += 5 + size
        return found


def message(data: bytes, flag: int = 0) -> bytes:
    """Return `data` with its prefix."""
    return struct.pack(">BI", flag, len(data)) + data


def connect(address: str) -> socket.socket:
    """Connect to `host:port` or `unix://PATH`."""
    if address.startswith("unix:"):
        connected = socket.socket(socket.AF_UNIX)
        try:
            connected.connect(address.removeprefix("unix://"))
        except OSError:
            connected.close()
            raise
    else:
        host, _, port = address.rpartition(":")
        connected = socket.create_connection((host, int(port)))
    connected.settimeout(TIMEOUT_S)
    return connected


def call(address: str, *body: bytes, end_stream: bool = True, **fields: str | None) -> Answer:
    """Send one request whose DATA frames are `body`; `fields` change REQUEST (_ is -, None takes out)."""
    changes = {name.replace("_", "-"): value for name, value in fields.items()}
    renamed = {":path" if name == "path" else name: value for name, value in changes.items()}
    headers = [(name, value) for name, value in {**REQUEST, **renamed}.items() if value is not None]
    config = h2.config.H2Configuration(
        header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
    )
    client = h2.connection.H2Connection(config)
    with connect(address) as connected:
        client.initiate_connection()
        client.send_headers(1, headers, end_stream=end_stream and not body)
        for number, chunk in enumerate(body, 1):
            client.send_data(1, chunk, end_stream=end_stream and number == len(body))
        connected.sendall(client.data_to_send())
        return _read(connected, client)


def _read(connected: socket.socket, client: h2.connection.H2Connection) -> Answer:
    answer = Answer()
    while True:
        data = connected.recv(65_536)
        assert data, f"the server closed the connection after {answer}"
        for event in client.receive_data(data):
            match event:
                case h2.events.ResponseReceived(headers=headers):
                    answer.headers = dict(headers)
                case h2.events.TrailersReceived(headers=headers):
                    answer.trailers = dict(headers)
                case h2.events.DataReceived(data=part, flow_controlled_length=size):
                    answer.body += part
                    client.acknowledge_received_data(size, 1)
                case h2.events.StreamReset(error_code=code):
                    answer.reset = int(code)
                    return answer
                case h2.events.StreamEnded():
                    return answer
                case h2.events.ConnectionTerminated(error_code=code):
                    raise AssertionError(f"GOAWAY {code}")
        connected.sendall(client.data_to_send())
