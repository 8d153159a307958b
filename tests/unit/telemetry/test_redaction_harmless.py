"""Lines that hold no secret are logged as they are, whatever plans, tenants, rules and limits are called."""

from __future__ import annotations

import itertools
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.build import make_check, make_decision, make_tenant
from support.limits import Instance, SharedCounters, entry, limit, rules

from sentinel_ext.core.decision import Reason, ShadowDenial
from sentinel_ext.core.model import FailureMode, Stage
from sentinel_ext.core.ratelimit.rules import Node
from sentinel_ext.telemetry.limits import LimitLog
from sentinel_ext.telemetry.logging import DecisionLog, JsonFormatter
from sentinel_ext.telemetry.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ERRORS = Path(__file__).parent.parent / "policy" / "errors"
# What somebody may call a thing of theirs.
NAMES = ["api_key", "auth-token", "password_reset", "basic", "Digest", "secret-santa", "cookie", "per_ip"]


class Nothing(Redactor):
    """Hides nothing: what a line would be."""

    def line(self, line: Mapping[str, Any]) -> dict[str, Any]:
        return dict(line)


SHOWN, WHOLE = JsonFormatter(), JsonFormatter(None, Nothing())


def problems() -> Iterator[str]:
    """What the loader says of each file; test_loader.py holds it to them."""
    for path in sorted(ERRORS.glob("*.yaml")):
        lines = path.read_text("utf-8").splitlines()
        for line in itertools.takewhile(lambda line: line.startswith("# "), lines):
            yield f"/etc/sentinel/policy.yaml:{line[2:]}"


def test_problems_of_a_policy_survive_alone_and_in_pairs_whatever_the_path_names():
    found = [*problems()]
    assert len(found) > len([*ERRORS.glob("*.yaml")]) / 2
    for (text, other), name in zip(itertools.pairwise(found), itertools.cycle(NAMES), strict=False):
        place, _, said = text.partition(": ")
        named = f"{place}: tenants.{name}: {said}"
        pair = [named, other]
        line = {"message": named, "why": text, "problems": pair, "warnings": pair, "count": 2}

        assert line == Redactor(["x-shop"]).line(line)


@pytest.fixture
def written(caplog):
    caplog.set_level(logging.DEBUG)
    return lambda: [(SHOWN.format(record), WHOLE.format(record)) for record in caplog.records]


def test_decisions_survive(written):
    log = DecisionLog(lambda: 0)
    reasons, stages = itertools.cycle(Reason), itertools.cycle(Stage)
    for name, reason, stage in zip(NAMES * 3, reasons, stages, strict=False):
        check = make_check(make_tenant(name=name), upstream=name, correlation_id=name)
        shadow = (ShadowDenial(stage, reason), ShadowDenial(stage, reason))
        decision = make_decision(
            allowed=reason is Reason.ALLOWED, stage=stage, reason=reason, check=check, shadow=shadow,
            fallback=FailureMode.LOCAL,
        )  # fmt: skip
        log.decided(decision, 1000)

    assert len(NAMES) * 3 == len(written())
    assert all(shown == whole for shown, whole in written())


def test_rate_limit_requests_survive_with_two_rules_and_two_limits(written):
    log = LimitLog(lambda: 0)
    for one, two in itertools.pairwise([*NAMES, NAMES[0]]):
        nodes = (Node(key, limits=(limit(0, name=key),)) for key in (one, two))
        house = Instance(SharedCounters(), rules(*nodes))
        plan = house.plan(entry(one, "x"), entry(two, "y"))
        log.decided(plan, house.run(plan), 1000)

    lines = [json.loads(whole) for _, whole in written()]
    assert [2] * len(NAMES) == [len(line["rules"]) for line in lines]
    assert [2] * len(NAMES) == [len(line["limits"]) for line in lines]
    assert all(shown == whole for shown, whole in written())
