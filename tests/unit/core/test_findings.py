"""What an operator is told first."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from support.snapshots import (
    make_breaker,
    make_pressure,
    make_process,
    make_row,
    make_snapshot,
    make_stage,
    make_traffic,
    make_upstream,
)

from sentinel_ext.core.findings import judged
from sentinel_ext.core.snapshot import ConfigState

CALM = make_snapshot()


def told(**fields: Any) -> list[tuple[str, str, str]]:
    findings = judged(make_snapshot(**fields)).findings
    return [(finding.severity.value, finding.topic, finding.text) for finding in findings]


def test_when_all_is_well_nothing_is_told():
    assert [] == told()


@pytest.mark.parametrize(
    ("severity", "topic", "words", "fields"),
    [
        ("critical", "store", "does not answer", {"store": replace(CALM.store, is_up=False)}),
        ("warning", "store", "fail: timeout", {"store": replace(CALM.store, errors={"timeout": 1.0})}),
        ("warning", "store", "without the store", {"traffic": make_traffic(fallbacks=0.5)}),
        ("notice", "store", "without the store", {"traffic": make_traffic(fallbacks=0.4)}),
        ("critical", "breakers", "open, requests", {"breakers": (make_breaker("orders", state="open"),)}),
        ("warning", "breakers", "half-open", {"breakers": (make_breaker(state="half_open"),)}),
        ("warning", "breakers", "forced closed", {"breakers": (make_breaker(forced="closed"),)}),
        ("warning", "pressure", "pressed", {"pressure": make_pressure(make_upstream(pressure=60.0))}),
        (
            "critical",
            "pressure",
            "pressed",
            {"pressure": make_pressure(make_upstream(pressure=90.0))},
        ),
        (
            "warning",
            "pressure",
            "pressed",
            {"pressure": make_pressure(make_upstream(pressure=60.0), level="critical", score=90.0)},
        ),
        (
            "warning",
            "own",
            "itself is pressed: loop_lag",
            {"pressure": make_pressure(local=70.0, local_signals={"loop_lag": 70.0, "cpu": 0.0})},
        ),
        (
            "notice",
            "own",
            "itself is pressed: psi_cpu",
            {"pressure": make_pressure(local=70.0, local_signals={"loop_lag": 0.0, "psi_cpu": 70.0})},
        ),
        ("warning", "log", "Blind", {"pressure": make_pressure(make_upstream(is_blind=True))}),
        ("notice", "log", "No access log", {"log": replace(CALM.log, streams=0, was_heard=False)}),
        ("warning", "log", "could not be read", {"log": replace(CALM.log, garbled=1)}),
        ("warning", "config", "broken", {"config": ConfigState(1, "ab", False, 9.0)}),
        ("warning", "process", "Draining", {"is_draining": True, "is_ready": False}),
        ("critical", "process", "Not ready", {"is_ready": False}),
        (
            "warning",
            "process",
            "Not ready: worker 1",
            {"processes": (make_process(), make_process("worker 1", is_ready=False))},
        ),
        ("warning", "process", "Internal errors", {"processes": (make_process(faults=1),)}),
        ("warning", "traffic", "within their limits: shed", {
            "traffic": make_traffic(make_stage("pressure", shed=1.0))}),
        ("notice", "tenants", "refused: acme.", {
            "traffic": make_traffic(make_stage("window", rate_limited=1.0)),
            "tenants": (make_row(refused=1.0),)}),
        ("notice", "traffic", "over their limits", {"traffic": make_traffic(limits={"over_limit": 1.0})}),
        ("warning", "traffic", "end in errors", {"traffic": make_traffic(limits={"error": 1.0})}),
        ("notice", "traffic", "lets pass: window", {
            "traffic": make_traffic(make_stage("window", mode="shadow"))}),
        (
            "notice",
            "traffic",
            "An operator set the mode of a stage, whatever the policy says: bucket.",
            {"traffic": make_traffic(make_stage("bucket", mode="enforce", policy="off"))},
        ),
        ("notice", "traffic", "is off: bucket", {"traffic": make_traffic(make_stage("bucket", mode="off"))}),
    ],
)  # fmt: skip
def test_each_thing_is_told_once_by_how_much_it_matters(severity, topic, words, fields):
    ((found, where, text),) = told(**fields)

    assert (severity, topic) == (found, where)
    assert words in text


def test_the_worst_comes_first():
    found = told(
        log=replace(CALM.log, streams=0, was_heard=False),
        config=ConfigState(1, "ab", False, 9.0),
        store=replace(CALM.store, is_up=False),
    )

    assert ["critical", "warning", "notice"] == [severity for severity, _, _ in found]


def test_many_names_are_counted():
    opened = tuple(make_breaker(f"u{n}", state="open") for n in range(30))
    ((_, _, text),) = told(breakers=opened)

    assert text.endswith("u0, u1, u2 and 27 more.")


def test_a_breaker_that_refuses_is_told_as_a_breaker_only():
    traffic = make_traffic(make_stage("breaker", circuit_open=9.0))
    found = told(traffic=traffic, breakers=(make_breaker(state="open"),))

    assert ["breakers"] == [topic for _, topic, _ in found]
