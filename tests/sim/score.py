"""From a record to figures: goodput, success by tier, fairness, how long until it is well again."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import msgspec
from sim.policy import TIERS
from sim.record import BINS_PER_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sim.record import Record
    from sim.scenario import Goal, Scenario

# A goal is reached when every window of one second that starts within this time holds the target.
HOLD_S = 2.0


class Score(msgspec.Struct, frozen=True, kw_only=True):
    """One run, or the mean over seeds; None where there is nothing to divide by.

    Attributes:
        goodput: answers within the client's timeout per second of the scored span, a share of the capacity.
        vital: requests of the tier that ended well, as a share of the first attempts; so are the next two.
        p99_ms: of the answers in the scored span.
        cv: of the goodput per second.
        shed: attempts that the policy refused, as a share of all attempts.
        settled_s: the time to reach each goal of the scenario; None is never.
    """

    goodput: float
    vital: float | None
    standard: float | None
    economy: float | None
    p99_ms: float | None
    cv: float | None
    shed: float
    settled_s: dict[str, float | None] = {}


class Lines(msgspec.Struct, frozen=True, kw_only=True):
    """Time lines in bins of a second or a quarter of one; None where nothing was offered."""

    step_s: float
    goodput: list[float]
    offered: list[float]
    vital: list[float | None]
    standard: list[float | None]
    economy: list[float | None]


def score(record: Record) -> Score:
    """Judge the scored span of a run."""
    scenario = record.scenario
    start, end = (int(at * BINS_PER_S) for at in scenario.scored)
    good = [sum(record.good[at : at + BINS_PER_S]) for at in range(start, end, BINS_PER_S)]
    mean = statistics.fmean(good)
    tiers = {tier: success(record, tier, scenario.scored) for tier in TIERS}
    return Score(
        goodput=mean / scenario.rate,
        p99_ms=percentile_ms(record.latencies, 0.99),
        cv=statistics.pstdev(good) / mean if mean else None,
        shed=sum(record.sheds[start:end]) / max(1, sum(record.attempts[start:end])),
        settled_s={goal.label: settled(record, goal) for goal in scenario.goals},
        **tiers,
    )


def percentile_ms(latencies: Sequence[float], share: float) -> float | None:
    """Give the nearest rank."""
    if not latencies:
        return None
    return 1e3 * sorted(latencies)[min(len(latencies) - 1, int(share * len(latencies)))]


def success(record: Record, who: str, span: tuple[float, float]) -> float | None:
    """Share of the requests of a tier, a tenant or ("") everybody that ended well, by their first attempt."""
    start, end = (round(at * BINS_PER_S) for at in span)
    return _share(
        sum(sum(line[start:end]) for line in chosen(record, who, record.served)),
        sum(sum(line[start:end]) for line in chosen(record, who, record.offered)),
    )


def chosen(record: Record, who: str, lines: list[list[int]]) -> list[list[int]]:
    """Give the lines of a tier, a tenant or ("") everybody."""
    names = record.scenario.tenant_tiers.items()
    return [line for (name, tier), line in zip(names, lines, strict=True) if who in {"", name, tier}]


def _share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def lines(record: Record, step_s: float = 1.0) -> Lines:
    """Cut the whole run into bins."""
    scenario = record.scenario
    width = int(step_s * BINS_PER_S)
    starts = range(0, int(scenario.duration_s * BINS_PER_S), width)
    capacity = scenario.rate * step_s
    total = [sum(column) for column in zip(*record.offered, strict=True)]
    return Lines(
        step_s=step_s,
        goodput=[sum(record.good[at : at + width]) / capacity for at in starts],
        offered=[sum(total[at : at + width]) / capacity for at in starts],
        **{
            tier: [success(record, tier, (at / BINS_PER_S, (at + width) / BINS_PER_S)) for at in starts]
            for tier in TIERS
        },
    )


def settled(record: Record, goal: Goal) -> float | None:
    """Give the time from `since_s` until every second that starts in the next HOLD_S meets the target."""
    measure = _measure(record, goal)
    last = record.scenario.duration_s - HOLD_S - 1
    at = goal.since_s
    while at <= last:
        misses = [
            window
            for step in range(int(HOLD_S * BINS_PER_S) + 1)
            if measure(window := at + step / BINS_PER_S) < goal.target
        ]
        if not misses:
            return at - goal.since_s
        at = misses[-1] + 1 / BINS_PER_S
    return None


def _measure(record: Record, goal: Goal) -> Callable[[float], float]:
    """Give the mean over the second that starts at a time."""
    if goal.series == "goodput":
        rate = record.scenario.rate

        def goodput(at: float) -> float:
            start = round(at * BINS_PER_S)
            return sum(record.good[start : start + BINS_PER_S]) / rate

        return goodput
    who = "" if goal.series == "success" else goal.series

    def succeeded(at: float) -> float:
        share = success(record, who, (at, at + 1))
        return 1.0 if share is None else share

    return succeeded


def jain(values: Sequence[float]) -> float:
    """Jain's index of fairness: 1 is equal, 1/n is one has all."""
    squares = sum(value * value for value in values)
    return sum(values) ** 2 / (len(values) * squares) if squares else 1.0


def mean(scores: Sequence[Score]) -> Score:
    """Take the mean over seeds; a goal that one seed never reached is never reached."""
    return Score(
        **{name: _mean([getattr(one, name) for one in scores]) for name in Score.__struct_fields__[:-1]},
        settled_s={
            label: _worst_none([one.settled_s[label] for one in scores]) for label in scores[0].settled_s
        },
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _worst_none(values: Sequence[float | None]) -> float | None:
    return None if None in values else _mean(values)


def span_of(scenario: Scenario) -> float:
    """Length of the scored span in seconds."""
    return scenario.scored[1] - scenario.scored[0]
