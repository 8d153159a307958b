"""Properties of a connection: cuts in the byte stream do not matter, no sequence of frames breaks a count."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.wire_peer import BOTH, DOWN, UNARY, UP, Frame, Peer, block, fields, message

from sentinel_ext.wire import frames
from sentinel_ext.wire.codes import ErrorCode, Status
from sentinel_ext.wire.limits import Limits, ProcessBudget

WINDOW = 65_535

# Any chunking.

PATHS = st.sampled_from([UNARY, UP, DOWN, BOTH, "/test.Echo/Nothing"])
BODIES = st.lists(st.binary(max_size=60), min_size=1, max_size=3)


@st.composite
def sessions(draw: st.DrawFn) -> bytes:
    """A client's whole byte stream: calls of all kinds, interleaved with control frames; none is reset.

    A reset is the one thing that may depend on cuts: in the segment of its request, it hides the request.
    """
    data = frames.PREFACE + frames.settings([(frames.INITIAL_WINDOW_SIZE, draw(st.integers(0, 100)))])
    data += frames.SETTINGS_ACK
    for number, path in enumerate(draw(st.lists(PATHS, max_size=6))):
        sid = 2 * number + 1
        head = b"\x20" + block(fields(path))
        cut = draw(st.integers(0, len(head)))
        data += frames.frame(frames.HEADERS, 0, sid, head[:cut])
        data += frames.frame(frames.CONTINUATION, frames.END_HEADERS, sid, head[cut:])
        data += draw(
            st.sampled_from(
                [
                    b"",
                    frames.ping(b"whatever", ack=False),
                    frames.window_update(0, 7),
                    frames.frame(0x77, 0, 0),
                ]
            )
        )
        sent = b"".join(message(part) for part in draw(BODIES))
        cut = draw(st.integers(0, len(sent)))
        data += Peer.data(sid, sent[:cut]) + frames.window_update(sid, draw(st.integers(1, 500)))
        if path != "/test.Echo/Nothing":
            data += Peer.data(sid, sent[cut:], end=True)
    return data


def seen(peer: Peer, answer: list[Frame]) -> tuple[object, object]:
    """What must not depend on cuts: per stream what was heard and answered, and the control frames."""
    heard: dict[int, list[tuple[str, object]]] = {}
    for word, sid, payload in peer.sink.heard:
        heard.setdefault(sid, []).append((word, payload))
    said: dict[object, list[object]] = {}
    for frame in answer:
        if frame.kind == frames.DATA:
            said.setdefault((frame.stream_id, "data"), []).extend(frame.payload)
        elif frame.kind == frames.WINDOW_UPDATE:
            said.setdefault((frame.stream_id, "credit"), []).append(frames.U32.unpack(frame.payload)[0])
        else:
            payload = frame.payload.removeprefix(b"\x20") if frame.kind == frames.HEADERS else frame.payload
            said.setdefault((frame.stream_id, frame.kind), []).append((frame.flags, payload))
    return heard, said


@settings(deadline=None, max_examples=150)
@given(sessions(), st.data())
def test_a_session_cut_anywhere_gives_the_same_events_and_answers(data: bytes, draw: st.DataObject) -> None:
    cuts = sorted(draw.draw(st.sets(st.integers(0, len(data)), max_size=20)))
    whole, pieces = Peer(hello=False), Peer(hello=False)

    expected = whole.take() + whole.send(data)
    answer = pieces.take()
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        answer += pieces.send(data[start:stop])

    assert seen(whole, expected) == seen(pieces, answer)
    assert not whole.connection.is_over


@settings(deadline=None, max_examples=20)
@given(sessions())
def test_a_session_byte_by_byte_gives_the_same_events_and_answers(data: bytes) -> None:
    whole, bytewise = Peer(hello=False), Peer(hello=False)

    expected = whole.take() + whole.send(data)
    answer = bytewise.take()
    for at in range(len(data)):
        answer += bytewise.send(data[at : at + 1])

    assert seen(whole, expected) == seen(bytewise, answer)


# Any sequence of frames, against a model that knows windows and states.


class Client(RuleBasedStateMachine):
    """A lawful client and its handlers do anything in any order; the model counts along."""

    def __init__(self) -> None:
        super().__init__()
        self.budget = ProcessBudget()
        limits = Limits(connection_window=WINDOW, stream_window=WINDOW, max_concurrent_streams=8)
        self.peer = Peer(limits, echo=False, budget=self.budget)
        self.next_id = 1
        self.open: dict[int, str] = {}  # streams neither side has closed, and their path
        self.sending: set[int] = set()  # streams on which the client has not said END_STREAM
        self.running: set[int] = set()  # calls whose handler has not returned
        self.ended: Counter[int] = Counter()
        self.initial = WINDOW
        self.may_get = {0: WINDOW}  # what the server may send, per stream and (0) in all
        self.may_send = {0: WINDOW}  # what the client may send
        self.heard = 0

    # The client.

    def send(self, data: bytes) -> None:
        self.peer.connection.feed(data, self.peer.now_ns)
        self.read()

    def read(self) -> None:
        """Check every frame that the server wrote against the model."""
        for frame in self.peer.take():
            self.check(frame)
        for word, sid, _ in self.peer.sink.heard[self.heard :]:
            if word in {"request", "open"}:
                self.running.add(sid)
        self.heard = len(self.peer.sink.heard)

    def check(self, frame: Frame) -> None:
        sid = frame.stream_id
        if frame.kind == frames.WINDOW_UPDATE:
            if sid == 0 or sid in self.open:
                self.may_send[sid] += frames.U32.unpack(frame.payload)[0]
                assert self.may_send[sid] <= WINDOW, "more credit than was used"
        elif frame.kind in {frames.DATA, frames.HEADERS}:
            assert sid in self.open, "a frame on a stream that is closed"
            if frame.kind == frames.DATA:
                assert frame.payload
                for window in (0, sid):
                    self.may_get[window] -= len(frame.payload)
                    assert self.may_get[window] >= 0, "the server overran a window"
            if frame.flags & frames.END_STREAM:
                self.ended[sid] += 1
                if sid not in self.sending:
                    del self.open[sid]
        elif frame.kind == frames.RST_STREAM:
            if self.ended[sid] == 0:
                self.ended[sid] += 1
            else:
                assert frames.U32.unpack(frame.payload)[0] == ErrorCode.NO_ERROR
            self.sending.discard(sid)
            del self.open[sid]
        else:
            assert frame.kind in {frames.PING, frames.SETTINGS}, "a lawful client was sent away"

    @initialize()
    def greet(self) -> None:
        self.read()

    @rule(path=PATHS, ends=st.booleans())
    def call(self, path: str, *, ends: bool) -> None:
        sid, self.next_id = self.next_id, self.next_id + 2
        self.open[sid] = path
        self.may_get[sid] = self.initial
        self.may_send[sid] = WINDOW
        if not ends:
            self.sending.add(sid)
        self.send(self.peer.headers(sid, path, end=ends))

    @precondition(lambda self: self.sending)
    @rule(data=st.data(), size=st.integers(0, 20_000), junk=st.booleans(), ends=st.booleans())
    def body(self, data: st.DataObject, size: int, *, junk: bool, ends: bool) -> None:
        sid = data.draw(st.sampled_from(sorted(self.sending)))
        payload = (bytes(size) if junk else message(bytes(size)))[:16_384]
        if min(self.may_send[0], self.may_send[sid]) < len(payload):
            return
        self.may_send[0] -= len(payload)
        self.may_send[sid] -= len(payload)
        if ends:
            self.sending.discard(sid)
            if self.ended[sid]:
                self.open.pop(sid, None)
        self.send(self.peer.data(sid, payload, end=ends))

    @precondition(lambda self: self.open)
    @rule(data=st.data(), code=st.sampled_from([2, 8, 77]))
    def reset(self, data: st.DataObject, code: int) -> None:
        sid = data.draw(st.sampled_from(sorted(self.open)))
        self.sending.discard(sid)
        del self.open[sid]
        self.ended[sid] += 1
        self.send(frames.rst_stream(sid, code))

    @rule(data=st.data(), increment=st.integers(1, 30_000))
    def widen(self, data: st.DataObject, increment: int) -> None:
        sid = data.draw(st.sampled_from([0, *sorted(self.open)]))
        self.may_get[sid] += increment
        self.send(frames.window_update(sid, increment))

    @rule(size=st.integers(0, 70_000))
    def initial_window(self, size: int) -> None:
        self.peer.now_ns += 1_000_000_000  # not so many SETTINGS at once that they are a flood
        for sid in self.open:
            self.may_get[sid] += size - self.initial
        self.initial = size
        self.send(frames.settings([(frames.INITIAL_WINDOW_SIZE, size)]))

    @rule()
    def ping(self) -> None:
        self.peer.now_ns += 1_000_000_000
        self.send(frames.ping(b"01234567", ack=False))

    # The handlers.

    @precondition(lambda self: self.running)
    @rule(
        data=st.data(),
        how=st.sampled_from(["reply", "fail", "finish", "reset", "return"]),
        size=st.integers(0, 40_000),
    )
    def answer(self, data: st.DataObject, how: str, size: int) -> None:
        sid = data.draw(st.sampled_from(sorted(self.running)))
        connection, stream = self.peer.connection, self.peer.stream[sid]
        match how:
            case "reply":
                connection.reply(stream, bytes(size))
            case "fail":
                connection.fail(stream, Status.INTERNAL, "why")
            case "finish":
                connection.finish(stream, Status.OK, "")
            case "reset":
                connection.reset(stream, ErrorCode.CANCEL)
                connection.release(stream)
            case _:
                if not stream.is_cancelled:
                    return
                connection.release(stream)
        self.running.discard(sid)
        self.read()

    @precondition(lambda self: self.running)
    @rule(data=st.data(), size=st.integers(0, 40_000))
    def say(self, data: st.DataObject, size: int) -> None:
        sid = data.draw(st.sampled_from(sorted(self.running)))
        self.peer.connection.send_message(self.peer.stream[sid], bytes(size))
        self.read()

    @rule()
    def take_messages(self) -> None:
        taken = [(sid, data) for word, sid, data in self.peer.sink.heard if word == "message"]
        for sid, data in taken:
            assert isinstance(data, bytes)
            self.peer.connection.consumed(self.peer.stream[sid], len(data))
        self.peer.sink.heard = [entry for entry in self.peer.sink.heard if entry[0] != "message"]
        self.heard = len(self.peer.sink.heard)
        self.read()

    @rule()
    def pause(self) -> None:
        self.peer.connection.pause()

    @rule()
    def resume(self) -> None:
        self.peer.connection.resume()
        self.read()

    # What always holds.

    @invariant()
    def counts_agree(self) -> None:
        connection = self.peer.connection
        assert connection.in_flight == self.budget.in_flight == len(self.running)
        assert not connection.is_over
        assert connection.open_streams <= 8

    @invariant()
    def every_stream_ends_at_most_once(self) -> None:
        assert all(count == 1 for sid, count in self.ended.items() if sid not in self.open)

    @invariant()
    def the_connection_window_does_not_leak(self) -> None:
        assert self.may_send[0] > WINDOW // 2 - 1

    @invariant()
    def each_call_is_cancelled_at_most_once(self) -> None:
        cancels = Counter(sid for word, sid, _ in self.peer.sink.heard if word == "cancel")
        assert set(cancels.values()) <= {1}

    def teardown(self) -> None:
        """After the end nothing is held, and each handler that still runs was told."""
        self.peer.connection.lost(self.peer.now_ns)
        assert self.budget.reassembly == 0
        for sid in self.running:
            assert self.peer.stream[sid].is_cancelled
            self.peer.connection.release(self.peer.stream[sid])
        assert self.budget.in_flight == 0


TestClient = Client.TestCase
TestClient.settings = settings(deadline=None, max_examples=60, stateful_step_count=50)
