"""JSON logs, one object per line, written by a thread: logging never makes the event loop wait."""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import sys
from datetime import UTC, datetime
from logging.handlers import QueueHandler, QueueListener
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from sentinel_ext.core.breaker import CircuitState
from sentinel_ext.core.token_bucket import NANO, TokenBucket
from sentinel_ext.telemetry.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sentinel_ext.core.circuit import Transition
    from sentinel_ext.core.controller import Protected
    from sentinel_ext.core.decision import Decision

# Lines waiting for the writer; beyond it they are dropped and counted. A line is about 400 bytes: 4 MB.
MAX_QUEUED_LINES = 10_000
STOP_S = 2.0
# Refusals logged per second at level info; the next line says how many were left out.
DENIALS_PER_S = 20

logger = logging.getLogger("sentinel")

_PLAIN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """A record as one JSON object: time, level, logger, message, then what `extra` holds."""

    def __init__(self, worker: int | None = None, redactor: Redactor | None = None) -> None:
        """Say on each line which worker wrote it, if there are several."""
        super().__init__()
        self._redacted = (redactor or Redactor()).line
        self._worker = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._worker,
        }
        line.update((key, value) for key, value in vars(record).items() if key not in _PLAIN)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        line = self._redacted(line)
        try:
            return msgspec.json.encode(line, enc_hook=str).decode()
        except (TypeError, ValueError, OverflowError):
            # A lone surrogate, a key that is no text: the line matters more than its types.
            return json.dumps({str(key): str(value) for key, value in line.items()})


class _DroppingHandler(QueueHandler):
    """Puts records into a bounded queue and counts those that find it full."""

    dropped = 0

    def enqueue(self, record: logging.LogRecord) -> None:
        """Never waits."""
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            self.dropped += 1

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        """Leave the record as it is: it is formatted in the writer's thread of this process."""
        return record


class _Output(logging.StreamHandler[TextIO]):
    """Writes lines; where they cannot be written, they are counted, and standard error hears of it once."""

    lost = 0

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._told: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line; logging lets a RecursionError pass, which would end the writer's thread."""
        try:
            super().emit(record)
        except RecursionError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """Tell of a full disk, a pipe that nobody reads or a line that cannot be made, each in one line.

        A traceback would show the record's arguments, and an error's own words may, too.
        """
        error = sys.exc_info()[1]
        self.lost += 1
        kind = type(error).__name__
        if isinstance(error, OSError):
            told, text = "OSError", f"log lines cannot be written: {error.strerror or kind}"
        else:
            where = f"{record.name}, level {record.levelname.lower()}"
            told, text = "", f"a log line of {where}, cannot be made: {kind} (told once)"
        if told not in self._told and sys.stderr is not None:
            self._told.add(told)
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.write(f"sentinel-ext: {text}\n")


class _Listener(QueueListener):
    """The writer's thread. Ending it waits, but not for ever: stdout may be a pipe that nobody reads."""

    def __init__(self, lines: queue.Queue[logging.LogRecord | None], output: logging.Handler) -> None:
        super().__init__(lines, output)
        self._lines = lines

    def enqueue_sentinel(self) -> None:
        """Put the end behind all lines; a full queue gets time to move."""
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=STOP_S)

    def stop(self) -> None:
        """Let it write what waits, for STOP_S at most; as a daemon it does not keep the process."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self.enqueue_sentinel()
            thread.join(STOP_S)


class LogWriter:
    """Owns the root logger's output while the service runs."""

    def __init__(
        self,
        level: str,
        stream: TextIO,
        max_lines: int = MAX_QUEUED_LINES,
        worker: int | None = None,
        redact: Sequence[str] = (),
    ) -> None:
        """Route all loggers through the writer's thread.

        Args:
            level: debug, info, warning or error.
            redact: names whose values never show (telemetry/redaction.py).
        """
        self._output = output = _Output(stream)
        output.setFormatter(JsonFormatter(worker, Redactor(redact)))
        lines: queue.Queue[logging.LogRecord | None] = queue.Queue(max_lines)
        self._handler = _DroppingHandler(lines)
        self._listener = _Listener(lines, output)
        root = logging.getLogger()
        root.handlers[:] = [self._handler]
        root.setLevel(level.upper())
        # Libraries' own chatter at debug would drown the decisions.
        for name in ("asyncio", "grpc", "aiohttp", "watchfiles"):
            logging.getLogger(name).setLevel(max(logging.WARNING, root.level))

    @property
    def dropped(self) -> int:
        """Lines lost because the writer could not keep up, or because nothing takes them."""
        return self._handler.dropped + self._output.lost

    def start(self) -> None:
        """Start the writer's thread."""
        self._listener.start()

    def stop(self) -> None:
        """Write what waits, then end the thread."""
        self._listener.stop()
        logging.getLogger().removeHandler(self._handler)


class Share:
    """Takes a part of what comes, evenly: every tenth for 0.1."""

    __slots__ = ("_due", "_ratio")

    def __init__(self, ratio: float) -> None:
        """Take `ratio`, 0 to 1."""
        self._ratio, self._due = ratio, 0.0

    def takes_next(self) -> bool:
        """Say whether the next one is taken."""
        due = self._due + self._ratio
        self._due = due - 1 if due >= 1 else due
        return due >= 1


class DecisionLog:
    """Logs decisions: all at debug; at info refusals, at most DENIALS_PER_S of them per second."""

    def __init__(self, now_ns: Callable[[], int]) -> None:
        """Log to `sentinel.decision`."""
        self._logger = logging.getLogger("sentinel.decision")
        self._all = self._logger.isEnabledFor(logging.DEBUG)
        self._some = self._logger.isEnabledFor(logging.INFO)
        self._now_ns = now_ns
        self._bucket = TokenBucket(DENIALS_PER_S, DENIALS_PER_S * NANO, now_ns())
        self._left_out = 0

    def decided(self, decision: Decision, elapsed_ns: int) -> None:
        """Log one decision, or count it as left out."""
        if self._all:
            self._write(logging.DEBUG, decision, elapsed_ns)
        elif self._some and not (decision.allowed and decision.check.problem is None):
            if self._bucket.try_acquire(1, self._now_ns()):
                self._write(logging.INFO, decision, elapsed_ns)
            else:
                self._left_out += 1

    def _write(self, level: int, decision: Decision, elapsed_ns: int) -> None:
        check = decision.check
        fields: dict[str, Any] = {
            "correlation_id": check.correlation_id,
            "decision_id": check.decision_id,
            "tenant": check.tenant.name,
            "tier": check.tenant.plan.tier.value,
            "upstream": check.upstream,
            "stage": decision.stage.value,
            "reason": decision.reason.value,
            "limit": decision.limit,
            "remaining": decision.remaining,
            "duration_us": elapsed_ns // 1000,
        }
        if check.trace is not None:
            fields["trace_id"], fields["span_id"] = check.trace.trace_id, check.decision_id
        if decision.shadow:
            fields["shadow"] = [f"{denial.stage.value}:{denial.reason.value}" for denial in decision.shadow]
        if decision.fallback is not None:
            fields["fallback"] = decision.fallback.value
        if check.problem is not None:
            fields["problem"] = str(check.problem)
        if self._left_out:
            fields["left_out"], self._left_out = self._left_out, 0
        self._logger.log(level, "allowed" if decision.allowed else "denied", extra=fields)


class AllowedLog(DecisionLog):
    """Logs a part of the allowed decisions at info; of those that DecisionLog logs it says nothing."""

    def __init__(self, now_ns: Callable[[], int], ratio: float) -> None:
        """Log `ratio` of them."""
        super().__init__(now_ns)
        self._share = Share(ratio)

    def decided(self, decision: Decision, elapsed_ns: int) -> None:
        """Log one decision, or nothing."""
        is_free = self._some and not self._all and decision.allowed and decision.check.problem is None
        if is_free and self._share.takes_next():
            self._write(logging.INFO, decision, elapsed_ns)


def decision_logs(
    now_ns: Callable[[], int], allowed_ratio: float
) -> tuple[Callable[[Decision, int], None], ...]:
    """Return observers of decisions: none for allowed ones where none of them is to be logged."""
    log = DecisionLog(now_ns)
    return (log.decided, AllowedLog(now_ns, allowed_ratio).decided) if allowed_ratio > 0 else (log.decided,)


class BreakerLog:
    """Logs each change of a circuit breaker: rare, and what an operator looks for first."""

    def __init__(self) -> None:
        """Log to `sentinel.breaker`."""
        self._logger = logging.getLogger("sentinel.breaker")

    def changed(self, protected: Protected, transition: Transition) -> None:
        """Log one change."""
        level = logging.INFO if transition.after is CircuitState.CLOSED else logging.WARNING
        self._logger.log(
            level,
            "breaker %s",
            transition.after.value,
            extra={
                "upstream": protected.name,
                "before": transition.before.value,
                "epoch": transition.epoch,
                "reason": None if transition.reason is None else transition.reason.value,
                "forced": transition.forced.value,
                "without_store": transition.is_local,
            },
        )
