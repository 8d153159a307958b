"""Workers' snapshots as one: counts add up, what is shared is told once, the worst stands for all."""

from __future__ import annotations

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

from sentinel_ext.core.merging import merged
from sentinel_ext.core.snapshot import MAX_TENANTS_SHOWN, BreakerChange, ConfigState, Finding, Severity

OPENED = BreakerChange("orders", 100.0, "closed", "open", "failure_rate", "")
TRIED = BreakerChange("orders", 130.0, "open", "half_open", "", "")


def test_one_alone_stays_as_it_is():
    one = make_snapshot()

    assert one == merged([one])


def test_rates_counts_and_graphs_add_up():
    one = make_snapshot(traffic=make_traffic(make_stage("window", rate_limited=2.0), allowed=10.0))
    other = make_snapshot(
        traffic=make_traffic(
            make_stage("window", rate_limited=1.0, store_unavailable=4.0), allowed=5.0, fallbacks=1.0
        )
    )
    traffic = merged([one, other]).traffic
    window = {stage.stage: stage for stage in traffic.stages}["window"]

    assert (15.0, 7.0, 1.0) == (traffic.allowed, traffic.refused, traffic.fallbacks)
    assert (7.0, {"rate_limited": 3.0, "store_unavailable": 4.0}) == (window.refused, window.reasons)
    assert ("vital", 12, 8, 10, 12) == (
        traffic.tiers[0].tier,
        traffic.tiers[0].allowed,
        traffic.tiers[0].refused,
        traffic.tiers[0].good,
        traffic.tiers[0].events,
    )


def test_graphs_are_added_from_now_backwards():
    """A worker that was restarted has a shorter past."""
    long = make_snapshot(traffic=make_traffic(history={"allow": [1.0, 2.0, 3.0]}))
    short = make_snapshot(traffic=make_traffic(history={"allow": [10.0]}))

    assert {"allow": [1.0, 2.0, 13.0]} == merged([long, short]).traffic.history
    assert {"allow": [1.0, 2.0, 13.0]} == merged([short, long]).traffic.history


def test_a_tenant_of_several_workers_is_one_row():
    one = make_snapshot(tenants=(make_row("acme", rate=2.0, used=7, limit=100), make_row("only", rate=2.5)))
    other = make_snapshot(
        tenants=(make_row("acme", rate=1.0, refused=None, allowed=3, denied=9, used=6, limit=80),)
    )
    rows = merged([one, other]).tenants

    assert ["acme", "only"] == [row.name for row in rows]
    assert (3.0, 0.0, 23, 9, 7, 80) == (
        rows[0].rate,
        rows[0].refused,
        rows[0].allowed,
        rows[0].denied,
        rows[0].used,
        rows[0].limit,
    )


def test_an_unlimited_tenant_and_an_unknown_use_stay_so():
    row = make_row(limit=None, used=None, refused=None)
    (shown,) = merged([make_snapshot(tenants=(row,))] * 2).tenants

    assert (None, None, None) == (shown.limit, shown.used, shown.refused)


def test_tenants_stay_bounded_the_busiest_first():
    snapshots = [
        make_snapshot(tenants=tuple(make_row(f"{w}-{n}", rate=float(n)) for n in range(20))) for w in range(4)
    ]
    rows = merged(snapshots).tenants

    assert MAX_TENANTS_SHOWN == len(rows)
    assert [19.0] * 4 == [row.rate for row in rows[:4]]


def test_what_is_shared_is_told_once_and_the_worst_stands_for_all():
    pressed = make_pressure(
        make_upstream("orders", offered=50.0, is_blind=True), score=80.0, level="high", local=10.0,
        local_signals={"cpu": 10.0},
    )  # fmt: skip
    calm = make_pressure(
        make_upstream("orders", offered=50.0),
        make_upstream("search", pressure=5.0),
        local=30.0,
        local_signals={"cpu": 5.0, "psi_io": 30.0},
    )
    whole = merged([make_snapshot(pressure=calm), make_snapshot(pressure=pressed, upstream_count=2)])

    assert (80.0, "high", 30.0) == (whole.pressure.score, whole.pressure.level, whole.pressure.local)
    assert {"cpu": 10.0, "psi_io": 30.0} == whole.pressure.local_signals
    assert [("search", 10.0, False), ("orders", 50.0, True)] == [
        (each.name, each.offered, each.is_blind) for each in whole.pressure.upstreams
    ]
    assert 2 == whole.upstream_count


def test_a_breaker_is_one_row_and_its_changes_are_told_by_one_worker():
    one = make_snapshot(breakers=(make_breaker("search"),), changes=(TRIED, OPENED))
    other = make_snapshot(
        breakers=(make_breaker("orders", state="open"), make_breaker("search", without_store=True)),
        changes=(replace(TRIED, at_s=130.02),),
    )
    whole = merged([other, one])

    assert [("orders", False), ("search", True)] == [(b.upstream, b.without_store) for b in whole.breakers]
    assert (TRIED, OPENED) == whole.changes


def test_no_order_of_the_workers_hides_an_open_breaker_or_a_pressed_upstream():
    calm = make_snapshot()
    bad = make_snapshot(
        breakers=(make_breaker(state="open", without_store=True),),
        pressure=make_pressure(make_upstream(pressure=90.0, offered=70.0)),
    )

    for order in ([calm, bad], [bad, calm]):
        whole = merged(order)
        assert [("open", True)] == [(each.state, each.without_store) for each in whole.breakers]
        assert [(90.0, 70.0)] == [(each.pressure, each.offered) for each in whole.pressure.upstreams]


def test_of_breakers_that_refuse_alike_what_an_operator_forced_is_told():
    forced = make_snapshot(breakers=(make_breaker(state="open", forced="open", epoch=3),))
    alone = make_snapshot(breakers=(make_breaker(state="open", failed=7, epoch=9, without_store=True),))

    for order in ([forced, alone], [alone, forced]):
        assert [("open", "open", 3)] == [(b.state, b.forced, b.epoch) for b in merged(order).breakers]


def test_a_stage_that_some_worker_does_not_enforce_and_the_highest_level_are_told():
    one = make_snapshot(pressure=make_pressure(score=49.0, level="critical"))
    other = make_snapshot(
        pressure=make_pressure(score=51.0, level="elevated"),
        traffic=make_traffic(make_stage("window", mode="off", policy="shadow")),
    )

    for order in ([one, other], [other, one]):
        whole = merged(order)
        window = {stage.stage: stage for stage in whole.traffic.stages}["window"]
        assert ("off", "shadow") == (window.mode, window.policy)
        assert (51.0, "critical") == (whole.pressure.score, whole.pressure.level)


def test_of_a_shared_breaker_the_latest_epoch_holds():
    old = make_snapshot(breakers=(make_breaker(state="open", epoch=4),))
    new = make_snapshot(breakers=(make_breaker(state="closed", epoch=6),))

    for order in ([old, new], [new, old]):
        assert [("closed", 6)] == [(each.state, each.epoch) for each in merged(order).breakers]


def test_tenants_are_counted_once_where_all_are_listed_and_never_too_high():
    one = make_snapshot(tenants=(make_row("acme"), make_row("globex")), tenant_count=2)
    other = make_snapshot(tenants=(make_row("acme"), make_row("only")), tenant_count=2)
    many = replace(other, tenant_count=900)

    assert (3, 32_768) == (merged([one, other]).tenant_count, merged([one, other]).tenants_max)
    assert 900 == merged([one, many]).tenant_count


def test_store_log_and_configuration_show_the_worker_that_is_worst_off():
    good = make_snapshot()
    bad = make_snapshot(
        store=replace(good.store, is_up=False, p99_ms=9.0, errors={"timeout": 2.0}),
        log=replace(good.log, streams=0, was_heard=False, garbled=1, flush_ms=900.0),
        config=ConfigState(1, "abcd", False, 800.0, problem_count=1, problems=("policy.yaml:1: no",)),
        processes=(make_process("host:2"),),
    )
    whole = merged([good, bad])

    assert (False, 9.0, 20.0, {"timeout": 2.0}) == (
        whole.store.is_up,
        whole.store.p99_ms,
        whole.store.calls,
        whole.store.errors,
    )
    assert (1, True, 1, 900.0) == (
        whole.log.streams,
        whole.log.was_heard,
        whole.log.garbled,
        whole.log.flush_ms,
    )
    assert ("policy.yaml:1: no",) == whole.config.problems
    assert ["host:1", "host:2"] == [process.name for process in whole.processes]


def test_findings_are_made_of_the_whole_and_not_carried_over():
    told = (Finding(Severity.NOTICE, "log", "x"),)

    assert () == merged([make_snapshot(findings=told)] * 2).findings
