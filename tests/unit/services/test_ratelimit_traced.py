"""Sampled rate limit requests: each is told of with its own trace, and each ends, however it goes."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from envoy.service.ratelimit.v3 import rls_pb2
from support.limits import SharedCounters, limit, rules

from sentinel_ext.core.ratelimit.limiter import Limiter
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.planner import Planner
from sentinel_ext.core.ratelimit.rules import Node
from sentinel_ext.core.trace import Sampler
from sentinel_ext.limiting import Limiting
from sentinel_ext.services import ratelimit
from sentinel_ext.services.ratelimit_traced import TracedRateLimits, Tracing
from sentinel_ext.telemetry.limits import LimitLog

if TYPE_CHECKING:
    from sentinel_ext.core.trace import Trace
    from sentinel_ext.store.limit_batcher import LimitWaiter

SPAN = "00f067aa0ba902b7"


def fields(number: int, flags: str) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"traceparent", f"00-{number:032x}-{SPAN}-{flags}".encode()),)


def message(value: str = "x", domain: str = "shop") -> bytes:
    request = rls_pb2.RateLimitRequest(domain=domain)
    request.descriptors.add().entries.add(key="path", value=value)
    return request.SerializeToString()


class House:
    """The service around a store that the test answers; it keeps spans, log records and faults."""

    def __init__(self) -> None:
        self.shared, self.waiting = SharedCounters(), []
        self.spans: list[tuple[str, dict[str, Any], str, str]] = []
        self.faults: list[Exception] = []
        self.replies: list[Any] = []
        planner = Planner(rules(Node("path", limits=(limit(1),))), Options(leases=False))
        self.limiting = Limiting(planner, Limiter(Options(leases=False)), self, lambda: 1_000_000_000)
        self.limiting.failed = self.faults.append
        tracing = Tracing(Sampler.of(0), self._hex, lambda: 5, self._ended)
        self.service = TracedRateLimits(self.limiting.decide, lambda _: (), self.faults.append, tracing)
        self.limiting.observers = (LimitLog(lambda: 0).decided, self.service.told)
        self._ids = 0

    def _hex(self, count: int) -> str:
        self._ids += 1
        return f"{self._ids:0{2 * count}x}"

    def submit(self, waiter: LimitWaiter) -> None:
        self.waiting.append(waiter)

    def give_back(self, _back: object) -> None:
        pass

    def _ended(self, trace: Trace, _span: str, attributes: dict[str, Any], denied: str, error: str) -> None:
        self.spans.append((trace.trace_id, attributes, denied, error))

    def ask(self, number: int, flags: str, data: bytes | None = None, reply: Any = None) -> Any:
        reply = reply or (lambda answer: self.replies.append(answer) or True)
        return self.service.traced(data or message(str(number)), reply, fields(number, flags))

    def answer(self, index: int) -> None:
        waiter = self.waiting[index]
        waiter.is_settled = True
        waiter.settle(self.shared.decide(waiter.asks))


@pytest.fixture
def house(caplog) -> House:
    caplog.set_level(logging.DEBUG, "sentinel.ratelimit")
    return House()


def traces(caplog) -> list[str]:
    return [getattr(record, "trace_id", "") for record in caplog.records]


def test_requests_that_wait_together_are_logged_with_their_own_traces(house, caplog):
    for number, flags in ((1, "01"), (2, "00"), (3, "01"), (4, "00")):
        house.ask(number, flags)
    for index in (1, 2, 0, 3):
        house.answer(index)

    assert ["", f"{3:032x}", f"{1:032x}", ""] == traces(caplog)
    assert [f"{3:032x}", f"{1:032x}"] == [trace for trace, *_ in house.spans]
    assert [] == house.faults


def test_a_request_that_comes_while_another_is_answered_leaves_the_log_its_trace(house, caplog):
    """A reply makes room on a connection, and what waited there begins before observers are told."""

    def reply(_answer: object) -> bool:
        house.ask(2, "00")
        house.answer(1)
        return True

    house.ask(1, "01", reply=reply)
    house.answer(0)

    assert ["", f"{1:032x}"] == traces(caplog)


def test_a_request_whose_answer_fails_lends_its_trace_to_nobody(house, caplog):
    def fails(_answer: object) -> bool:
        raise OSError("gone")

    house.ask(1, "01", reply=fails)
    house.ask(2, "00")
    house.answer(0)
    house.answer(1)

    assert [""] == traces(caplog)
    assert house.faults


def test_a_sampled_request_that_is_given_up_ends_as_cancelled_once(house):
    waiting = house.ask(1, "01")
    waiting.cancel()
    waiting.cancel()
    house.waiting[0].settle_late(house.shared.decide(house.waiting[0].asks))

    ((trace, attributes, denied, error),) = house.spans
    assert (f"{1:032x}", "", "the caller gave up") == (trace, denied, error)
    assert {
        "sentinel.domain": "shop",
        "sentinel.descriptors": 1,
        "sentinel.verdict": "cancelled",
    } == attributes
    assert 1 == house.limiting.cancelled


def test_a_request_whose_plan_is_known_says_the_same_when_it_is_given_up(house):
    for number in (1, 2):
        house.ask(number, "01", message("same")).cancel()

    assert house.spans[0][1] == house.spans[1][1]


def test_giving_up_what_was_answered_changes_nothing(house):
    waiting = house.ask(1, "01")
    house.answer(0)
    waiting.cancel()

    assert ["ok"] == [attributes["sentinel.verdict"] for _, attributes, _, _ in house.spans]


def test_a_request_that_cannot_be_decided_ends_with_what_it_asked(house):
    house.ask(1, "01", message(domain=""))

    ((_, attributes, _, error),) = house.spans
    assert {"sentinel.domain": "", "sentinel.descriptors": 1, "sentinel.verdict": "error"} == attributes
    assert error


def test_bytes_that_are_no_request_end_with_what_is_wrong_with_them(house):
    answer = house.ask(1, "01", b"\xff\xff garbage")

    ((_, attributes, denied, error),) = house.spans
    assert ({"sentinel.verdict": "error"}, "", answer.text) == (attributes, denied, error)
    assert [] == house.faults


def test_a_fault_of_ours_ends_the_span_with_an_error_and_shows_none_of_its_words(house, monkeypatch):
    fault = ZeroDivisionError("hunter2")

    def begin(*_arguments: object) -> None:
        raise fault

    monkeypatch.setattr(house.limiting.limiter, "begin", begin)
    answer = house.ask(1, "01")

    ((trace, attributes, _, error),) = house.spans
    assert (f"{1:032x}", "error", "internal") == (trace, attributes["sentinel.verdict"], error)
    assert "shop" == attributes["sentinel.domain"]
    assert [fault] == house.faults
    assert "a fault of Sentinel's own" == answer.text


def test_a_sampled_request_is_parsed_at_most_once(house, monkeypatch):
    parsed, parse = [], ratelimit.parse
    monkeypatch.setattr(ratelimit, "parse", lambda data: parsed.append(data) or parse(data))
    for number in (1, 2):
        house.ask(number, "01", message("same"))
        if house.waiting[number - 1 :]:
            house.answer(number - 1)

    assert ["ok", "over_limit"] == [attributes["sentinel.verdict"] for _, attributes, _, _ in house.spans]
    assert [message("same")] == parsed
