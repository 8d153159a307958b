"""JSON lines by a thread: whole, bounded, never waited for, and without secrets."""

from __future__ import annotations

import io
import json
import logging
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Never

import pytest
from support.build import HEADER, make_check, make_decision, make_denial
from support.fakes import FakeClock
from support.overload import make_controller

from sentinel_ext.core.breaker import CircuitState, Force, TripReason
from sentinel_ext.core.circuit import Transition
from sentinel_ext.core.decision import Reason, ShadowDenial
from sentinel_ext.core.identify import NameProblem
from sentinel_ext.core.model import FailureMode, Stage
from sentinel_ext.redis_url import SecretUrl
from sentinel_ext.telemetry.logging import DENIALS_PER_S, BreakerLog, DecisionLog, LogWriter, logger

if TYPE_CHECKING:
    from collections.abc import Iterator

LIBRARIES = ("asyncio", "grpc", "aiohttp")
PROBLEM = NameProblem(HEADER, "too_long")
PATIENCE_S = 10.0


@pytest.fixture(autouse=True)
def _root_as_before() -> Iterator[None]:
    """LogWriter owns the root logger while it runs; pytest wants it back."""
    root = logging.getLogger()
    handlers, levels = root.handlers[:], {name: logging.getLogger(name).level for name in LIBRARIES}
    level = root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


class Output:
    """What the writer wrote; every line must be a JSON object."""

    def __init__(self) -> None:
        self.stream = io.StringIO()

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        *ended, rest = self.text.split("\n")  # not splitlines(): it splits at U+2028 too, readers do not
        assert rest == ""
        found = [json.loads(line) for line in ended]
        assert all(isinstance(line, dict) for line in found)
        return found

    @property
    def line(self) -> dict[str, Any]:
        (line,) = self.lines
        return line


@contextmanager
def writing(level: str = "info", worker: int | None = None) -> Iterator[Output]:
    """Run a writer; on leaving, all lines are there."""
    output = Output()
    writer = LogWriter(level, output.stream, worker=worker)
    writer.start()
    try:
        yield output
    finally:
        writer.stop()
    assert 0 == writer.dropped


# --- One object per line ---


def test_a_line_has_time_level_logger_message_and_what_was_added():
    before = datetime.now(UTC)
    with writing() as output:
        logger.warning("store %s", "lost", extra={"why": "timeout", "tries": 3})

    line = output.line
    assert ("warning", "sentinel", "store lost") == (line["level"], line["logger"], line["message"])
    assert ("timeout", 3) == (line["why"], line["tries"])
    assert {"time", "level", "logger", "message", "why", "tries"} == line.keys()
    when = datetime.fromisoformat(line["time"])
    assert abs((when - before).total_seconds()) < PATIENCE_S
    assert when.utcoffset() is not None


@pytest.mark.parametrize(
    "text", ["a\nb", "a\r\nb", "a\u2028b\u0085c", "\x00\x1b[2J", '"}\n{"level":"error"}', "grün"]
)
def test_no_text_can_begin_a_line_of_its_own(text):
    with writing() as output:
        logger.info("said %s", text, extra={"text": text})

    assert 1 == output.text.count("\n")
    assert (f"said {text}", text) == (output.line["message"], output.line["text"])


def fail() -> Never:
    raise ZeroDivisionError("first\nsecond")


def test_an_exception_stays_on_its_line():
    with writing() as output:
        try:
            fail()
        except ZeroDivisionError as error:
            logger.error("internal error", exc_info=error)

    assert 1 == output.text.count("\n")
    assert "Traceback" in output.line["exception"]
    assert "ZeroDivisionError: first\nsecond" in output.line["exception"]


@pytest.mark.parametrize(
    "value",
    [object(), ValueError("x"), {1: 2}, {"a", "b"}, b"\xff", float("nan"), 2**70, "\udcff", {("a",): 1}],
    ids=["object", "exception", "numbers as keys", "set", "bytes", "nan", "large number",
         "file name that is not utf-8", "tuples as keys"],
)  # fmt: skip
def test_a_value_that_json_does_not_know_costs_no_line(value):
    """A line that cannot be written is a line that is missed."""
    with writing() as output:
        logger.info("first", extra={"value": value})
        logger.info("second")

    assert ["first", "second"] == [line["message"] for line in output.lines]
    assert "value" in output.lines[0]


def test_a_line_says_which_worker_wrote_it_where_there_are_several():
    with writing(worker=3) as output:
        logger.info("serving")

    assert 3 == output.line["worker"]


@pytest.mark.parametrize(
    ("level", "written"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_a_level_holds_back_what_is_below_it(level, written):
    with writing(level) as output:
        for each in ("debug", "info", "warning", "error"):
            getattr(logger, each)("x")

    assert written == [line["level"] for line in output.lines]


@pytest.mark.parametrize("name", LIBRARIES)
def test_libraries_do_not_chatter_at_debug_and_are_heard_when_something_is_wrong(name):
    with writing("debug") as output:
        logging.getLogger(f"{name}.inner").debug("chatter")
        logging.getLogger(f"{name}.inner").warning("wrong")

    assert ["wrong"] == [line["message"] for line in output.lines]


def test_after_its_end_the_root_logger_is_free():
    with writing():
        pass

    assert [] == logging.getLogger().handlers


# --- Never waited for ---


class StuckStream(io.StringIO):
    """A pipe whose reader sleeps: a write waits until the test lets it go on."""

    def __init__(self) -> None:
        super().__init__()
        self.entered, self.released = threading.Event(), threading.Event()

    def write(self, text: str) -> int:
        self.entered.set()
        assert self.released.wait(PATIENCE_S)
        return super().write(text)


@pytest.fixture
def stuck() -> Iterator[StuckStream]:
    stream = StuckStream()
    yield stream
    stream.released.set()


def start_stuck(stream: StuckStream, max_lines: int) -> LogWriter:
    """Start a writer that has taken its first line and cannot write it."""
    writer = LogWriter("info", stream, max_lines)
    writer.start()
    logger.info("0")
    assert stream.entered.wait(PATIENCE_S)
    return writer


@pytest.mark.timeout(20)  # a thousand waits, however short, are longer
def test_a_full_queue_drops_and_counts_and_nobody_waits(stuck):
    writer = start_stuck(stuck, 10)

    for number in range(1, 1_011):
        logger.info("%d", number)

    assert 1_000 == writer.dropped
    stuck.released.set()
    while writer._handler.queue.qsize():  # room for what `stop` puts in
        pass
    writer.stop()
    written = [json.loads(line)["message"] for line in stuck.getvalue().splitlines()]
    assert [str(number) for number in range(11)] == written


def test_an_output_that_takes_nothing_is_told_of_once_and_the_lines_are_counted(capsys):
    full = Path("/dev/full").open("w")  # noqa: SIM115  closing it fails, too
    logs = LogWriter("info", full)
    logs.start()
    for _ in range(3):
        logger.info("lost")
    logs.stop()
    with suppress(OSError):
        full.close()

    assert "sentinel-ext: log lines cannot be written: No space left on device\n" == capsys.readouterr().err
    assert 3 == logs.dropped


def test_a_line_that_cannot_be_made_is_counted_and_shows_nothing_of_itself(capsys):
    class Deep:
        def __str__(self) -> str:
            raise RecursionError("hunter2")

    stream = io.StringIO()
    logs = LogWriter("info", stream)
    logs.start()
    logger.warning("bad %d", "redis://u:hunter2@h password=hunter2")
    logger.warning("bad %s", Deep())
    logger.warning("good")
    logs.stop()

    said = "sentinel-ext: a log line of sentinel, level warning, cannot be made: TypeError (told once)\n"
    assert said == capsys.readouterr().err
    assert 2 == logs.dropped
    assert "good" == json.loads(stream.getvalue())["message"]


def test_what_fits_is_not_dropped(stuck):
    writer = start_stuck(stuck, 10)

    for number in range(9):
        logger.info("%d", number)

    assert 0 == writer.dropped
    stuck.released.set()
    writer.stop()
    assert 10 == stuck.getvalue().count("\n")


def test_stopping_with_a_full_queue_writes_what_waits(stuck):
    writer = start_stuck(stuck, 10)
    for number in range(1, 11):
        logger.info("%d", number)
    errors: list[BaseException] = []

    def stop() -> None:
        try:
            writer.stop()
        except BaseException as error:  # noqa: BLE001  told to the test's thread
            errors.append(error)

    stopping = threading.Thread(target=stop)
    stopping.start()
    stopping.join(0.2)  # it waits for the stream, or has failed by now
    stuck.released.set()
    stopping.join(PATIENCE_S)

    if (thread := writer._listener._thread) is not None:  # it must not outlive the test
        writer._handler.queue.put(None)
        thread.join(PATIENCE_S)
    assert [] == errors
    assert [str(number) for number in range(11)] == [
        json.loads(line)["message"] for line in stuck.getvalue().splitlines()
    ]


# --- Secrets ---


def test_a_url_with_a_password_can_be_logged_in_any_way():
    url = SecretUrl("redis://user:s3cret@redis:6379/0", "redis://***@redis:6379/0")
    with writing() as output:
        logger.info("%s %r", url, url, extra={"url": url, "deep": {"urls": [url]}, "all": vars})
        logger.info("internal error", exc_info=ValueError(url))

    assert "redis://***@redis:6379/0" == output.lines[0]["url"]
    assert "s3cret" not in output.text
    assert 2 == len(output.lines)


# --- Decisions ---


def decide(log: DecisionLog, decision, times: int = 1) -> None:
    for _ in range(times):
        log.decided(decision, 123_456)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_a_decision_is_told_with_its_ids_and_its_numbers(clock):
    check = make_check(upstream="orders", correlation_id="mine")
    with writing() as output:
        decide(DecisionLog(clock), make_denial(check=check))

    line = output.line
    del line["time"]
    assert {
        "level": "info",
        "logger": "sentinel.decision",
        "message": "denied",
        "correlation_id": "mine",
        "decision_id": "00000000000000d1",
        "tenant": "acme",
        "tier": "standard",
        "upstream": "orders",
        "stage": "window",
        "reason": "rate_limited",
        "limit": 100,
        "remaining": 0,
        "duration_us": 123,
    } == line


def test_what_is_unusual_is_told_too(clock):
    decision = make_decision(
        check=make_check(problem=PROBLEM),
        shadow=(ShadowDenial(Stage.BUCKET, Reason.LOCAL_RATE_LIMITED),),
        fallback=FailureMode.LOCAL,
    )
    with writing() as output:
        decide(DecisionLog(clock), decision)

    assert ["bucket:local_rate_limited"] == output.line["shadow"]
    assert "local" == output.line["fallback"]
    assert "tenant name in header x-tenant-id is longer than 256 bytes; ignored" == output.line["problem"]


@pytest.mark.parametrize(
    ("level", "messages"),
    [
        ("debug", ["allowed", "denied", "allowed"]),
        ("info", ["denied", "allowed"]),  # the second allowed one had a name that was ignored
        ("warning", []),
        ("error", []),
    ],
)
def test_the_level_says_which_decisions_are_told(clock, level, messages):
    with writing(level) as output:
        log = DecisionLog(clock)
        decide(log, make_decision())
        decide(log, make_denial())
        decide(log, make_decision(check=make_check(problem=PROBLEM)))

    assert messages == [line["message"] for line in output.lines]
    assert {line["level"] for line in output.lines} <= {level}


def test_a_flood_of_refusals_is_cut_and_the_next_line_says_how_many_are_missing(clock):
    with writing() as output:
        log = DecisionLog(clock)
        decide(log, make_denial(), times=DENIALS_PER_S + 1_000)
        clock.advance(s=1)
        decide(log, make_denial(), times=2)

    lines = output.lines
    assert DENIALS_PER_S + 2 == len(lines)
    assert [1_000] == [line["left_out"] for line in lines if "left_out" in line]
    assert 1_000 == lines[DENIALS_PER_S]["left_out"]


def test_over_a_minute_of_refusals_no_more_is_told_than_the_rate(clock):
    with writing() as output:
        log = DecisionLog(clock)
        for _ in range(60 * 100):
            decide(log, make_denial())
            clock.advance(ms=10)

    lines = output.lines
    assert 60 * DENIALS_PER_S <= len(lines) <= 61 * DENIALS_PER_S
    told = len(lines) + sum(line.get("left_out", 0) for line in lines)
    assert 60 * 100 - 100 <= told <= 60 * 100


def test_allowed_requests_do_not_use_up_what_refusals_may_write(clock):
    with writing() as output:
        log = DecisionLog(clock)
        decide(log, make_decision(), times=1_000)
        decide(log, make_denial())

    assert ["denied"] == [line["message"] for line in output.lines]


def test_at_debug_nothing_is_cut(clock):
    with writing("debug") as output:
        decide(DecisionLog(clock), make_denial(), times=DENIALS_PER_S * 3)

    assert DENIALS_PER_S * 3 == len(output.lines)
    assert not any("left_out" in line for line in output.lines)


def test_a_hostile_header_cannot_write_a_line(clock):
    """Ids and names are checked before; the formatter does not rely on it."""
    check = make_check(correlation_id='x"}\n{"level":"error"', upstream="a\r\nb\x1b[31m")
    with writing() as output:
        decide(DecisionLog(clock), make_denial(check=check))

    assert 1 == output.text.count("\n")
    assert 'x"}\n{"level":"error"' == output.line["correlation_id"]


# --- Breakers ---


@pytest.mark.parametrize(
    ("after", "level"),
    [(CircuitState.OPEN, "warning"), (CircuitState.HALF_OPEN, "warning"), (CircuitState.CLOSED, "info")],
)
def test_a_change_of_a_breaker_is_told_with_its_reason(after, level):
    protected = make_controller().upstream("orders")
    with writing() as output:
        BreakerLog().changed(
            protected,
            Transition(CircuitState.CLOSED, after, 8, TripReason.FAILURE_RATE, 1, Force.AUTO, False),
        )

    (line,) = output.lines
    assert (f"breaker {after.value}", level, "sentinel.breaker") == (
        line["message"], line["level"], line["logger"],
    )  # fmt: skip
    assert ("orders", "closed", 8, TripReason.FAILURE_RATE.value, "auto", False) == tuple(
        line[name] for name in ("upstream", "before", "epoch", "reason", "forced", "without_store")
    )


def test_a_change_without_a_reason_made_alone_says_so():
    protected = make_controller().upstream("orders")
    with writing() as output:
        BreakerLog().changed(
            protected,
            Transition(CircuitState.OPEN, CircuitState.CLOSED, 9, None, 0, Force.CLOSED, True),
        )

    (line,) = output.lines
    assert (None, "closed", True) == (line["reason"], line["forced"], line["without_store"])
