"""The way to the exporter: bounded, never waited for, and over within a bound."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import pytest

from sentinel_ext.settings_tracing import Target, TracingOptions
from sentinel_ext.telemetry.tracing import pipe as module
from sentinel_ext.telemetry.tracing.pipe import Dropped, SpanPipe

PATIENCE_S = 10.0


class Collector:
    """An exporter: `gate` closed is a collector that hangs."""

    def __init__(self, *, takes: bool = True) -> None:
        self.batches: list[list[str]] = []
        self.takes = takes
        self.gate = threading.Event()
        self.gate.set()
        self.reached = threading.Event()
        self.broken_off = 0
        self.error: Exception | None = None

    def export(self, spans) -> bool:
        self.reached.set()
        assert self.gate.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.batches.append(list(spans))
        return self.takes

    def break_off(self) -> None:
        self.broken_off += 1
        self.takes = False
        self.gate.set()


def piped(collector, *, queue=10, batch=4, delay_ms=5, make=None):
    options = TracingOptions(Target("http", "http://c"), True, 1.0, queue, batch, delay_ms)
    return SpanPipe(options, make or (lambda item: [item]), collector.export, collector.break_off)


async def until(is_true) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.002)


async def test_what_is_put_arrives_in_batches():
    collector = Collector()
    pipe = piped(collector, queue=100)
    for number in range(10):
        pipe.put(str(number), 1)
    pipe.start()
    await until(lambda: pipe.exported == 10)
    await pipe.close()

    assert list("0123456789") == [span for batch in collector.batches for span in batch]
    assert max(map(len, collector.batches)) <= 4
    assert 0 == pipe.waiting == pipe.dropped.total()


async def test_a_full_batch_does_not_wait_for_its_delay():
    collector = Collector()
    pipe = piped(collector, delay_ms=600_000)
    pipe.start()
    for number in range(4):
        pipe.put(str(number), 1)
    await until(lambda: pipe.exported == 4)
    await pipe.close()


async def test_a_collector_that_hangs_fills_the_queue_and_no_more(caplog):
    collector = Collector()
    collector.gate.clear()
    pipe = piped(collector, queue=10, batch=4)
    pipe.start()
    pipe.put("first", 4)
    assert await asyncio.to_thread(collector.reached.wait, PATIENCE_S)
    for number in range(100):
        pipe.put(str(number), 3)

    assert 10 == pipe.waiting
    assert 98 * 3 == pipe.dropped[Dropped.QUEUE_FULL]
    collector.gate.set()
    await pipe.close()
    assert 0 == pipe.waiting


async def test_closing_breaks_off_an_export_that_hangs(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_S", 0.05)
    collector = Collector()
    collector.gate.clear()
    pipe = piped(collector)
    pipe.start()
    pipe.put("a", 1)
    assert await asyncio.to_thread(collector.reached.wait, PATIENCE_S)
    started = time.monotonic()
    await pipe.close()

    assert time.monotonic() - started < PATIENCE_S / 2
    assert 1 == collector.broken_off
    assert 1 == pipe.dropped.total()


async def test_closing_gives_up_on_an_export_that_cannot_be_broken_off(monkeypatch):
    monkeypatch.setattr(module, "FLUSH_S", 0.02)
    monkeypatch.setattr(module, "BREAK_OFF_S", 0.02)
    collector = Collector()
    collector.gate.clear()
    options_pipe = piped(collector)
    options_pipe._break_off = lambda: 1 / 0
    options_pipe.start()
    options_pipe.put("a", 1)
    assert await asyncio.to_thread(collector.reached.wait, PATIENCE_S)
    await options_pipe.close()

    assert 1 == options_pipe.dropped[Dropped.SHUTDOWN]
    options_pipe.put("late", 2)
    assert 3 == options_pipe.dropped[Dropped.SHUTDOWN]
    collector.gate.set()
    await until(lambda: not options_pipe._thread.is_alive())


async def test_what_waits_at_the_end_is_exported():
    collector = Collector()
    pipe = piped(collector, delay_ms=600_000)
    pipe.start()
    pipe.put("last", 1)
    await pipe.close()

    assert [["last"]] == collector.batches
    assert 1 == pipe.exported


@pytest.mark.parametrize("error", [None, ValueError("a bug of the exporter")], ids=["refuses", "raises"])
async def test_failures_are_counted_each_time_and_logged_once(error, caplog):
    collector = Collector(takes=False)
    collector.error = error
    pipe = piped(collector, batch=1)
    pipe.last_error = lambda: "connection refused"
    pipe.start()
    with caplog.at_level(logging.WARNING, "sentinel.tracing"):
        for number in range(5):
            pipe.put(str(number), 1)
            await until(lambda done=number + 1: pipe.failures == done)
    await pipe.close()

    assert 5 == pipe.dropped[Dropped.EXPORT_FAILED] == pipe.failures
    assert 0 == pipe.exported
    (line,) = [record for record in caplog.records if record.message == "spans cannot be exported"]
    assert line.why in {"connection refused", "ValueError: a bug of the exporter"}


async def test_an_item_that_cannot_be_made_into_spans_is_lost_alone(caplog):
    collector = Collector()

    def make(item):
        if item == "bad":
            raise KeyError(item)
        return [item]

    pipe = piped(collector, make=make)
    for item in ("good", "bad", "better"):
        pipe.put(item, 1)
    pipe.start()
    await pipe.close()

    assert [["good", "better"]] == collector.batches
    assert 1 == pipe.dropped[Dropped.FAULT]


async def test_closing_what_never_started_does_nothing():
    await piped(Collector()).close()
