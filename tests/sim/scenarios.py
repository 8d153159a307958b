"""The catalogue of scenarios. A variant is `msgspec.structs.replace(SCENARIOS["x3"], ...)`."""

from __future__ import annotations

from typing import Any

from sim.scenario import Change, Goal, Scenario

LOADS = (0.5, 0.9, 1.0, 1.1, 1.2, 1.5, 2.0, 3.0, 5.0)


def steady(x: float, **changes: Any) -> Scenario:
    """Half the capacity for ten seconds, then `x` of it."""
    name = f"x{x:g}" if x >= 2 else f"x{float(x)}"
    plain: dict[str, Any] = {"name": name, "title": f"constant load of {x:g} C"}
    return Scenario(**{**plain, "load": ((0.0, 0.5), (10.0, x)), **changes})


_DYNAMIC = (
    Scenario(
        name="step",
        title="0.7 C, 3 C from 25 s to 40 s, 0.7 C again",
        load=((0, 0.7), (25, 3.0), (40, 0.7)),
        goals=(
            Goal("vital", "vital", 25, 0.95),
            Goal("goodput", "goodput", 25, 0.9),
            Goal("full service", "success", 40, 0.99),
        ),
    ),
    Scenario(
        name="dip",
        title="0.8 C, half of the workers gone from 20 s to 40 s",
        load=((0, 0.5), (10, 0.8)),
        capacity=(Change(20, 40, 0.5),),
        goals=(Goal("vital", "vital", 20, 0.95), Goal("recovery", "success", 40, 0.99)),
    ),
    Scenario(
        name="dip-slow",
        title="0.8 C, service takes twice as long from 20 s to 40 s",
        load=((0, 0.5), (10, 0.8)),
        slowdown=(Change(20, 40, 2.0),),
        goals=(Goal("vital", "vital", 20, 0.95), Goal("recovery", "success", 40, 0.99)),
    ),
    Scenario(
        name="metastable",
        title="0.7 C with two retries, 70 % of the workers gone from 20 s to 30 s",
        load=((0, 0.5), (10, 0.7)),
        capacity=(Change(20, 30, 0.3),),
        retries=2,
        goals=(Goal("recovery", "goodput", 30, 0.9 * 0.7),),
    ),
    Scenario(
        name="metastable-sheds",
        title="0.7 C with two retries, also after a shed, 70 % of the workers gone from 20 s to 30 s",
        load=((0, 0.5), (10, 0.7)),
        capacity=(Change(20, 30, 0.3),),
        retries=2,
        retry_sheds=True,
        goals=(Goal("recovery", "goodput", 30, 0.9 * 0.7),),
    ),
    steady(
        3,
        name="hog",
        title="3 C, one standard tenant asks ten times as much as the others",
        demand=(("standard-1", 10.0),),
    ),
)

_OUTAGES = (
    steady(
        3,
        name="als-outage",
        title="3 C, no access log from 30 s to 40 s",
        als_outages=((30, 40),),
        goals=(Goal("vital", "vital", 40, 0.99),),
    ),
    steady(
        0.6,
        name="als-outage-low",
        title="0.6 C, no access log from 30 s to 40 s",
        als_outages=((30, 40),),
        goals=(Goal("vital", "vital", 40, 0.99),),
    ),
    steady(3, name="redis-outage", title="3 C, no shared store from 30 s to 40 s", redis_outages=((30, 40),)),
    steady(
        3,
        name="redis-outage-skew",
        title="3 C, one instance has 5 of 8 requests, no shared store from 30 s to 40 s",
        split=(5, 1, 1, 1),
        redis_outages=((30, 40),),
    ),
)

_COLD = tuple(
    Scenario(name=f"coldstart{x}", title=f"{x} C from the first second", load=((0, float(x)),))
    for x in (3, 5)
)

_SHAPES = (
    steady(3, name="vital-full", title="3 C, of which vital is 1 C", shares=(1 / 3, 0.25, 1 - 0.25 - 1 / 3)),
    Scenario(
        name="shift",
        title="0.2 C, service takes four times as long from 20 s on, and the workers suffice",
        load=((0, 0.2),),
        slowdown=(Change(20, 1e9, 4.0),),
        goals=(Goal("full service", "success", 20, 0.93),),
    ),
    Scenario(
        name="slow4",
        title="0.8 C, service takes four times as long from 20 s to 40 s",
        load=((0, 0.5), (10, 0.8)),
        slowdown=(Change(20, 40, 4.0),),
        goals=(Goal("recovery", "success", 40, 0.99),),
    ),
    Scenario(
        name="spike",
        title="0.9 C, 1.4 C from 25 s on",
        load=((0, 0.5), (10, 0.9), (25, 1.4)),
        goals=(Goal("vital", "vital", 25, 0.95), Goal("goodput", "goodput", 25, 0.9)),
    ),
    Scenario(
        name="economy-surge",
        title="0.6 C, economy asks twelve times as much from 25 s to 45 s",
        load=((0, 0.6),),
        surges=(Change(25, 45, 12.0, "economy"),),
        goals=(Goal("vital", "vital", 25, 0.95),),
    ),
    steady(3, name="skew", title="3 C, one instance has 5 of 8 requests", split=(5, 1, 1, 1)),
    steady(3, name="n1", title="3 C, one instance", instances=1),
    steady(3, name="n16", title="3 C, 16 instances", instances=16),
    steady(3, name="c8", title="3 C, 8 workers", workers=8),
    steady(
        3, name="bimodal", title="3 C, one service in ten takes 5.5 times the mean", distribution="bimodal"
    ),
    steady(3, name="lognormal", title="3 C, lognormal service with cv 3", distribution="lognormal"),
    steady(3, name="deterministic", title="3 C, every service takes 40 ms", distribution="deterministic"),
    Scenario(
        name="down",
        title="0.7 C, the upstream refuses all from 20 s to 30 s",
        load=((0, 0.5), (10, 0.7)),
        refuses=((20, 30),),
        goals=(Goal("recovery", "success", 30, 0.99),),
    ),
    Scenario(
        name="hang",
        title="0.7 C, no worker starts anything from 20 s to 30 s",
        load=((0, 0.5), (10, 0.7)),
        capacity=(Change(20, 30, 0.0),),
        goals=(Goal("recovery", "success", 30, 0.99),),
    ),
    steady(3, name="bounded", title="3 C, the upstream refuses when 100 wait", queue=100),
    *(
        steady(
            3, name=f"flush{round(1000 * flush)}", title=f"3 C, access log every {flush:g} s", flush_s=flush
        )
        for flush in (0.01, 0.25, 0.5, 1.0)
    ),
)

BOARD = (*(steady(x).name for x in LOADS), "step", "dip", "metastable", "hog", "als-outage", "redis-outage")
"""What `make sim` runs when nothing is asked for by name."""

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario for scenario in (*map(steady, LOADS), *_DYNAMIC, *_OUTAGES, *_COLD, *_SHAPES)
}
