"""Properties of the simulator itself, whatever the policy."""

from __future__ import annotations

import json
import random
from xml.etree import ElementTree as ET

import pytest
from msgspec.structs import replace
from sim import board
from sim.__main__ import main
from sim.engine import simulate
from sim.policy import TICK_S, TIERS
from sim.registry import POLICIES
from sim.rivals.sidecar import Alone, Counting
from sim.scenario import Change, Scenario
from sim.scenarios import BOARD, SCENARIOS, steady
from sim.score import jain, lines, score, success
from sim.svg import Drawing, Panel, Series, render
from sim.upstream import Upstream
from sim.workload import arrivals, works

RIVALS = [name for name in POLICIES if name != "sentinel"]
SHORT = replace(steady(2.0), load=((0, 0.5), (2, 2.0)), duration_s=6.0, scored=(2.0, 6.0))
STORM = replace(SHORT, retries=2, retry_sheds=True)


class Watching(Counting):
    """Admits by a rule and writes down what it is told."""

    def __init__(self, rule=lambda tier: True) -> None:
        super().__init__()
        self.rule = rule
        self.began: list[float] = []
        self.ended: list[tuple[float, str, float | None, float]] = []
        self.batches: list[float] = []
        self.ticks: list[float] = []
        self.asked = 0

    def admit(self, tenant, tier, now):
        self.asked += 1
        return self.rule(tier)

    def start(self, tenant, tier, now):
        self.began.append(now)
        return now

    def end(self, token, outcome, latency, now):
        self.ended.append((token, outcome, latency, now))

    def batch(self, now):
        self.batches.append(now)

    def tick(self, now):
        self.ticks.append(now)


class Watched(Alone):
    """Writes down the exchanges."""

    def __init__(self, sidecars) -> None:
        super().__init__("watched", sidecars)
        self.exchanges: list[tuple[float, bool]] = []

    def exchange(self, now, reachable):
        self.exchanges.append((now, reachable))


def watch(scenario: Scenario, rule=lambda tier: True):
    """Run and give the record and the policy."""
    made: list[Watched] = []

    def make(world):
        made.append(Watched([Watching(rule) for _ in range(world.instances)]))
        return made[0]

    return simulate(scenario, make, 1), made[0]


def total(lines_of_tenants) -> int:
    return sum(map(sum, lines_of_tenants))


@pytest.mark.parametrize("scenario", [SHORT, STORM], ids=["plain", "retries"])
@pytest.mark.parametrize("policy", RIVALS)
def test_every_request_ends_exactly_once(policy: str, scenario: Scenario):
    record = simulate(scenario, POLICIES[policy], 1)

    assert total(record.offered) == sum(record.ends.values())
    assert record.ends["ok"] == total(record.served) == sum(record.good)


def test_every_admitted_request_has_one_entry_and_it_is_late_by_less_than_a_flush():
    _, policy = watch(replace(SHORT, retries=1))

    for sidecar in policy.sidecars:
        assert sorted(sidecar.began) == sorted(token for token, *_ in sidecar.ended)
        for began, _, latency, now in sidecar.ended:
            assert -1e-9 <= now - (began + latency) <= SHORT.flush_s + 1e-9


def test_entries_arrive_in_batches_whose_phases_differ_between_instances():
    _, policy = watch(SHORT)

    for sidecar in policy.sidecars:
        gaps = [after - before for before, after in zip(sidecar.batches, sidecar.batches[1:], strict=False)]
        assert [SHORT.flush_s] * len(gaps) == pytest.approx(gaps)
        assert {now for *_, now in sidecar.ended} <= set(sidecar.batches)
    assert 4 == len({sidecar.batches[0] for sidecar in policy.sidecars})


def test_ticks_and_exchanges_keep_their_periods():
    _, policy = watch(replace(SHORT, redis_outages=((2, 3),)))
    ticks = policy.sidecars[0].ticks

    assert pytest.approx(TICK_S) == (ticks[-1] - ticks[0]) / (len(ticks) - 1)
    assert [1, 2, 3, 4, 5, 6] == pytest.approx([now for now, _ in policy.exchanges][:6])
    assert [True, False, True, True, True, True] == [reachable for _, reachable in policy.exchanges][:6]


def test_a_timed_out_request_is_reported_failed_after_the_timeout():
    _, policy = watch(replace(SHORT, load=((0, 3.0),)))
    failed = [
        latency for one in policy.sidecars for _, outcome, latency, _ in one.ended if outcome == "failed"
    ]

    assert {SHORT.timeout_s} == set(failed)


def test_the_upstream_goes_on_with_work_nobody_waits_for():
    """A second of four times the capacity leaves a queue of three seconds: those after it fail."""
    scenario = replace(SHORT, load=((0, 0.5), (1, 4.0), (2, 0.5)), duration_s=12.0)
    record, _ = watch(scenario)

    assert 0.0 == success(record, "", (2.0, 4.0))
    assert 1.0 == success(record, "", (10.0, 12.0))


def test_entries_of_an_outage_never_arrive_and_no_batch_does():
    _, policy = watch(replace(SHORT, als_outages=((3, 4),)))
    sidecar = policy.sidecars[0]

    assert not [now for now in sidecar.batches if 3 <= now < 4]
    assert len(sidecar.ended) < len(sidecar.began)
    assert any(now >= 4 for now in sidecar.batches)


def test_equal_seeds_give_equal_runs_and_different_seeds_different_ones():
    for policy in RIVALS:
        first, second, other = (lines(simulate(STORM, POLICIES[policy], seed)) for seed in (1, 1, 2))
        assert first == second
        assert first != other


def test_every_policy_meets_the_same_arrivals():
    watched = [watch(SHORT, rule)[0].offered for rule in (lambda _: True, lambda _: False)]

    assert watched[0] == watched[1]


def test_a_client_retries_after_a_timeout_as_often_as_it_may_and_after_a_shed_only_if_it_does_that():
    calm = replace(SHORT, load=((0, 0.5),), retries=2, capacity=(Change(0, 1e9, 0.0),))
    for scenario, attempts in ((calm, 3), (replace(calm, retries=0), 1)):
        record, policy = watch(scenario)
        assert (
            attempts * total(record.offered)
            == sum(record.attempts)
            == sum(one.asked for one in policy.sidecars)
        )
    for again, attempts in ((False, 1), (True, 3)):
        record, _ = watch(replace(calm, capacity=(), retry_sheds=again), lambda _: False)
        assert attempts * total(record.offered) == sum(record.attempts) == sum(record.sheds)


def test_offered_load_and_shares_are_what_the_scenario_says():
    scenario = replace(SHORT, demand=(("standard-1", 10.0),), surges=(Change(4, 6, 2.0, "economy"),))
    record, _ = watch(scenario, lambda _: False)
    by_name = dict(zip(scenario.tenant_tiers, record.offered, strict=True))
    standard = {name: sum(line) for name, line in by_name.items() if name.startswith("standard")}

    def rate(tier: str, start: int, end: int) -> float:
        chosen = [line for name, line in by_name.items() if name.startswith(tier)]
        return sum(sum(line[start * 4 : end * 4]) for line in chosen) / (end - start) / scenario.rate

    assert [0.4, 0.6, 1.0] == pytest.approx([rate(tier, 2, 4) for tier in TIERS], abs=0.06)
    assert 2.0 == pytest.approx(rate("economy", 4, 6), abs=0.1)
    assert 10 / 15 == pytest.approx(standard["standard-1"] / sum(standard.values()), abs=0.02)


def test_split_sends_the_requests_where_it_says():
    _, policy = watch(replace(SHORT, split=(5, 1, 1, 1)), lambda _: False)
    asked = [one.asked for one in policy.sidecars]

    assert [5 / 8, 1 / 8, 1 / 8, 1 / 8] == pytest.approx([count / sum(asked) for count in asked], abs=0.02)


@pytest.mark.parametrize("distribution", ["exponential", "deterministic", "bimodal", "lognormal"])
def test_every_distribution_of_service_has_mean_one(distribution):
    work = works(distribution, random.Random(1))

    assert 1.0 == pytest.approx(sum(work() for _ in range(100_000)) / 100_000, abs=0.05)


def test_workers_that_are_away_start_nothing_and_come_back():
    upstream = Upstream(replace(SHORT, workers=2, capacity=(Change(1, 3, 0.5),)))

    assert [1.04, 1.08, 1.12] == pytest.approx([upstream.serve(1.0, 1.0, 0) for _ in range(3)])
    assert [3.04, 3.04] == pytest.approx([upstream.serve(3.0, 1.0, 0) for _ in range(2)])


def test_a_slowdown_meets_what_starts_in_it_and_whom_it_names():
    upstream = Upstream(replace(SHORT, slowdown=(Change(1, 2, 4.0, "economy"),)))
    vital, economy = 0, 14

    assert [0.54, 1.04, 1.16, 2.04] == pytest.approx(
        [
            upstream.serve(now, 1.0, who)
            for now, who in ((0.5, economy), (1, vital), (1, economy), (2, economy))
        ]
    )


def test_an_upstream_with_a_bounded_queue_refuses_what_does_not_fit():
    upstream = Upstream(replace(SHORT, workers=1, queue=2))

    assert [0.04, 0.08, pytest.approx(0.12), None] == [upstream.serve(0.0, 1.0, 0) for _ in range(4)]
    assert upstream.serve(0.05, 1.0, 0) is not None


def test_a_refusing_upstream_ends_requests_at_once_without_a_latency():
    _, policy = watch(replace(SHORT, refuses=((0, 10),)))

    assert {("failed", None)} == {end[1:3] for one in policy.sidecars for end in one.ended}


def test_no_control_collapses_in_overload_and_is_perfect_below():
    assert 0.02 > score(simulate(steady(1.2), POLICIES["none"], 1)).goodput
    calm = score(simulate(steady(0.9), POLICIES["none"], 1))
    assert (1.0, 1.0, 1.0, 0.0) == (calm.vital, calm.standard, calm.economy, calm.shed)


def test_scenarios_are_named_as_they_are_listed_and_the_board_is_among_them():
    assert all(name == scenario.name for name, scenario in SCENARIOS.items())
    assert set(BOARD) <= set(SCENARIOS)
    assert all(arrivals(SCENARIOS[name], 1) for name in BOARD)


def test_two_processes_find_what_one_finds():
    work = board.jobs(["none", "aimd"], [SHORT, replace(SHORT, name="other")], 2)

    assert board.run(work, 1, lambda _: None) == board.run(work, 2, lambda _: None)


def test_jain_of_equals_is_one_and_of_one_among_n_is_its_share():
    assert (1.0, 0.25) == (jain([3, 3, 3]), jain([1, 0, 0, 0]))


def test_json_is_one_object_of_policy_scenario_and_figures(capfd):
    assert 0 == main(["--json", "--policy", "none", "--policy", "aimd", "--scenario", "x0.5", "--seeds", "1"])
    found = json.loads(capfd.readouterr().out)

    assert ["none", "aimd"] == list(found)
    assert ["x0.5"] == list(found["aimd"])
    assert ["goodput", "vital", "standard", "economy", "p99_ms", "cv", "shed"] == list(found["aimd"]["x0.5"])


def test_drawings_are_well_formed_titled_and_the_same_every_time():
    drawn = [Series(name="a < b", colour="#000000", points=[(0, 0.5), (1, None), (2, 3.0), (3, 0.1)])]
    panel = Panel(label="share & more", series=drawn, top=1.0)
    drawing = Drawing(title="t <1>", x_label="s", left=0, right=3, x_ticks=[0, 3], panels=[panel, panel])
    text = render(drawing)
    root = ET.fromstring(text)
    (lines_drawn, *_) = [path.get("d") for path in root.iter() if path.get("stroke-linejoin")]

    assert text == render(drawing)
    assert "t <1>" == root.findtext("{http://www.w3.org/2000/svg}title")
    assert 3 == lines_drawn.count("M") + lines_drawn.count("L"), "a gap interrupts the line"
    assert 2 == lines_drawn.count("M")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--policy", "amid"], "did you mean aimd?"),
        (["--scenario", "x7"], "there is: x0.5"),
        (["--seeds", "0"], "1 to 100"),
    ],
)
def test_a_wrong_name_or_number_is_refused_with_what_there_is(arguments, said, capsys):
    with pytest.raises(SystemExit) as refused:
        main(arguments)

    assert 2 == refused.value.code
    assert said in capsys.readouterr().err
