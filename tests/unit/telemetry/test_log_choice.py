"""Which decisions are logged, under which trace, and what of them shows."""

from __future__ import annotations

import io
import json
import logging
from contextlib import contextmanager

import msgspec
import pytest
from support.build import make_check, make_decision, make_denial, make_tenant
from support.fakes import FakeClock
from support.limits import Instance, SharedCounters, entry, limit, rules

from sentinel_ext.core.ratelimit.outcome import Cause, Outcome, Status
from sentinel_ext.core.ratelimit.plan import Plan
from sentinel_ext.core.ratelimit.rules import Node
from sentinel_ext.core.trace import Trace
from sentinel_ext.telemetry.limits import LimitLog
from sentinel_ext.telemetry.logging import LogWriter, Share, decision_logs, logger
from sentinel_ext.telemetry.redaction import Redactor

TRACE, SECRET = "4bf92f3577b34da6a3ce929d0e0e4736", "hunter2"
LIBRARIES = ("asyncio", "grpc", "aiohttp")
OVER = Outcome(True, (Status(over=True),), Cause.RATE_LIMITED)
WITHIN = Outcome(False, (Status(),))


@contextmanager
def writing(level="info", redact=()):
    root = logging.getLogger()
    before = root.handlers[:], root.level, {name: logging.getLogger(name).level for name in LIBRARIES}
    stream, lines = io.StringIO(), []
    writer = LogWriter(level, stream, redact=redact)
    writer.start()
    try:
        yield lines
    finally:
        writer.stop()
        root.handlers[:], levels = before[0], before[2]
        root.setLevel(before[1])
        for name, was in levels.items():
            logging.getLogger(name).setLevel(was)
        lines += [json.loads(line) for line in stream.getvalue().splitlines()]


def decide(ratio, decision, times=1, level="info", redact=()):
    with writing(level, redact) as lines:
        for observe in decision_logs(FakeClock(), ratio):
            for _ in range(times):
                observe(decision, 123_456)
    return lines


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (0.1, 100), (0.333, 333), (1.0, 1000)])
def test_a_share_is_taken_evenly(ratio, count):
    share = Share(ratio)

    assert count == pytest.approx(sum(share.takes_next() for _ in range(1000)), abs=1)


@pytest.mark.parametrize(("ratio", "count"), [(0.0, 0), (0.25, 25), (1.0, 100)])
def test_allowed_decisions_are_logged_by_ratio(ratio, count):
    lines = decide(ratio, make_decision(), times=100)

    assert count == len(lines)
    assert {"allowed"} >= {line["message"] for line in lines}


def test_no_ratio_costs_no_observer():
    assert 1 == len(decision_logs(FakeClock(), 0.0))


def test_nothing_is_logged_twice():
    assert 1 == len(decide(1.0, make_decision(), level="debug"))
    assert 1 == len(decide(1.0, make_denial()))
    assert [] == decide(1.0, make_decision(), level="warning")


def test_a_sampled_decision_names_its_trace_and_its_span():
    check = msgspec.structs.replace(make_check(), trace=Trace(TRACE))
    (sampled,) = decide(0, make_denial(check=check))
    (other,) = decide(0, make_denial())

    assert (TRACE, check.decision_id) == (sampled["trace_id"], sampled["span_id"])
    assert not {"trace_id", "span_id"} & other.keys()


def test_what_the_list_names_does_not_show():
    denial = make_denial(check=make_check(make_tenant(name="acme"), correlation_id="c-1"))
    (line,) = decide(0, denial, redact=["tenant", "correlation_id"])

    assert ("***", "***", "default") == (line["tenant"], line["correlation_id"], line["upstream"])


def test_a_secret_in_an_exception_does_not_show():
    with writing() as lines:
        error = OSError(f"cannot reach redis://sentinel:{SECRET}@db:6379")
        logger.error("internal error", exc_info=error)

    assert SECRET not in str(lines)
    assert "redis://***@db:6379" in lines[0]["exception"]


def make_limit_log(ratio=0.0):
    return LimitLog(FakeClock(), ratio)


def plan() -> Plan:
    made = object.__new__(Plan)
    for name, value in (("domain", "edge"), ("lines", ())):
        object.__setattr__(made, name, value)
    return made


def test_rate_limit_requests_within_their_limits_are_logged_by_ratio():
    with writing() as lines:
        log = make_limit_log(0.5)
        for _ in range(10):
            log.decided(plan(), msgspec.structs.replace(WITHIN, statuses=()), 1000)

    assert ["within limits"] * 5 == [line["message"] for line in lines]


def test_a_sampled_rate_limit_request_names_its_trace():
    with writing() as lines:
        log = make_limit_log()
        log.decided(
            plan(), msgspec.structs.replace(OVER, statuses=()), 1000, (Trace(TRACE), "00000000000000aa")
        )

    assert (TRACE, "00000000000000aa") == (lines[0]["trace_id"], lines[0]["span_id"])


def test_a_rule_is_logged_by_its_path_without_values_of_requests_and_of_hidden_keys():
    nodes = (
        Node("api_key", limits=(limit(0),), detailed_metric=True),
        Node("api_key", "sk-test", limits=(limit(0),)),
        Node("shop", "blue", limits=(limit(0),)),
        Node("path", "/api", limits=(limit(0),), value_to_metric=True),
    )
    house = Instance(SharedCounters(), rules(*nodes))
    asked = [("api_key", "sk-live"), ("api_key", "sk-test"), ("shop", "blue"), ("path", "/api")]
    planned = house.plan(*(entry(key, value) for key, value in asked))
    with writing() as lines:
        LimitLog(FakeClock(), redactor=Redactor(["shop"])).decided(planned, house.run(planned), 1000)

    assert ["api_key_sk-live", "api_key_sk-test", "shop_blue", "path_/api"] == [
        line.rule for line in planned.lines
    ]
    assert ["api_key", "api_key_***", "shop_***", "path_/api"] == lines[0]["rules"]
