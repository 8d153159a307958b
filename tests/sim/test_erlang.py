"""The simulator against queueing theory, before anything is concluded from it."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace
from sim.engine import simulate
from sim.registry import POLICIES
from sim.scenarios import steady

if TYPE_CHECKING:
    from sim.scenario import Scenario

SEEDS = range(1, 9)
# Two-sided 99.9 % of Student's t with 7 degrees of freedom.
T_7 = 5.408


def erlang_c_mean_s(workers: int, service_s: float, rho: float) -> float:
    """Mean response time of M/M/c."""
    offered = workers * rho
    blocked = 1.0  # Erlang B, by its recursion: the sums of the closed form overflow
    for number in range(1, workers + 1):
        blocked = offered * blocked / (number + offered * blocked)
    waits = blocked / (1 - rho * (1 - blocked))
    return service_s + waits * service_s / (workers * (1 - rho))


def means_s(scenario: Scenario) -> list[float]:
    """Mean response time of each seed, of the scored span."""
    return [statistics.fmean(simulate(scenario, POLICIES["none"], seed).latencies) for seed in SEEDS]


def test_the_formula_gives_the_published_value():
    assert 44.12 == pytest.approx(1000 * erlang_c_mean_s(40, 0.040, 0.9), abs=0.01)


@pytest.mark.parametrize("workers", [40, 8])
def test_mean_response_of_poisson_arrivals_and_exponential_service_is_erlang_c(workers: int):
    # As many requests with few workers as with many.
    end_s = 20 + 1600 / workers
    scenario = replace(steady(0.9), workers=workers, duration_s=end_s, scored=(20, end_s))
    expected = erlang_c_mean_s(workers, scenario.service_s, 0.9)
    means = means_s(scenario)
    error = T_7 * statistics.stdev(means) / math.sqrt(len(means))

    assert expected == pytest.approx(statistics.fmean(means), abs=error)
    assert error < 0.15 * expected, "too few samples to tell anything"


def test_mean_response_of_one_worker_with_constant_service_is_pollaczek_khinchine():
    rho, service_s = 0.7, 0.040
    scenario = replace(
        steady(rho),
        workers=1,
        service_s=service_s,
        distribution="deterministic",
        duration_s=400,
        scored=(20, 400),
    )
    expected = service_s * (1 + rho / (2 * (1 - rho)))
    means = means_s(scenario)
    error = T_7 * statistics.stdev(means) / math.sqrt(len(means))

    assert expected == pytest.approx(statistics.fmean(means), abs=error)
