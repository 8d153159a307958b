"""One breaker over a fleet, through the real thing: two Sentinels, two Envoys, one Redis, a dying upstream.

The pressure stage is off, so that all that is refused is the breaker's. Run it with -s for the figures of
docs/overload-real.md.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from support.fleet import Fleet, Sentinel
from support.load import Load, between, mix, success
from support.upstream import LimitedUpstream

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from support.load import Sample
    from support.redis_server import RedisServer

pytestmark = pytest.mark.e2e

CLOSED, OPEN, HALF_OPEN = 0.0, 1.0, 2.0
COOLDOWN_S, PROBES = 0.8, 5
# Cooldowns are stretched by up to a tenth; a permit costs a call to Redis, a scrape some milliseconds.
STRETCH, SLACK_S = 1.1, 0.4
DEADLINE_S = 0.05
PERIOD_S = 0.3
CYCLES = 3
FAST_S, PROBE_S, SLOW_S = 0.03, 0.35, 0.8
POLICY = """
plans:
  vital:    {tier: vital,    limit: 100000, window: 10s, burst: unlimited}
  standard: {tier: standard, limit: unlimited, burst: unlimited}
  economy:  {tier: economy,  limit: unlimited, burst: unlimited}
default_plan: economy
tenants: {"vital-*": vital, "standard-*": standard}
upstreams:
  default: {breaker: {slow: 600ms, slow_rate: 0.5}}
stages: {pressure: "off"}
"""
STATE = 'sentinel_circuit_breaker_state{upstream="default"}'


@pytest.fixture(scope="module")
async def fleet(redis: RedisServer, module_folder: Path) -> AsyncIterator[Fleet]:
    (module_folder / "policy.yaml").write_text(POLICY)
    environment = {
        "REDIS_URL": redis.url,
        "POLICY_FILE": str(module_folder / "policy.yaml"),
        "SLO_LATENCY_THRESHOLD": "500",
        "REQUEST_TIMEOUT_MS": "2000",
        "STORE_TIMEOUT_MS": str(round(DEADLINE_S * 1000)),
        "BREAKER_COOLDOWN_MS": str(round(COOLDOWN_S * 1000)),
        "FAIL_OPEN": "false",  # what Envoy lets pass by itself must not look like Sentinel's decision
    }
    fleet = Fleet(
        module_folder,
        environment,
        size=2,
        config_arguments=("--check-timeout-ms", "5000"),
        make_upstream=lambda: LimitedUpstream(1000, FAST_S, "deterministic"),
    )
    async with fleet:
        yield fleet


@pytest.fixture
async def load(fleet: Fleet) -> AsyncIterator[Load]:
    """Begin with breakers that are closed, and that both instances know."""
    async with Load(fleet.ports) as load:
        async with asyncio.timeout(30):
            while success(await load.run(mix(40), 0.5)) < 1 or await states(fleet) != [CLOSED, CLOSED]:
                pass
        yield load


async def states(fleet: Fleet) -> list[float | None]:
    return [await state(sentinel) for sentinel in fleet.sentinels]


async def state(sentinel: Sentinel) -> float | None:
    return (await sentinel.metrics()).get(STATE)


async def until(sentinel: Sentinel, *wanted: float, within_s: float = 15.0) -> float:
    """Wait for a state; return when it was seen."""
    async with asyncio.timeout(within_s):
        while await state(sentinel) not in wanted:
            await asyncio.sleep(0.002)
    return time.monotonic()


@asynccontextmanager
async def traffic(
    load: Load, rate: float, instances: Sequence[int] = (), shares: Sequence[float] = (0.2, 0.3, 0.5)
) -> AsyncIterator[list[Sample]]:
    """Send until the block ends; the list is filled then."""
    is_over = False
    sent: list[Sample] = []
    run = asyncio.create_task(load.run(mix(rate, shares=shares), 60.0, instances, lambda: is_over))
    try:
        yield sent
    finally:
        is_over = True
        sent += await run


def ends(samples: Sequence[Sample]) -> dict[str, int]:
    return dict(Counter(f"{s.status} {s.reason}".strip() for s in samples).most_common())


async def killed(fleet: Fleet, load: Load) -> tuple[float, float]:
    """Kill the upstream while only instance 0 sends to it; return when each instance's breaker was open."""
    async with traffic(load, 100, [0]):
        await asyncio.sleep(0.3)
        await fleet.upstream.die()
        died_s = time.monotonic()
        first, second = await asyncio.gather(*(until(s, OPEN) for s in fleet.sentinels))
    assert first - died_s < 1.5
    return first, second


async def refused(fleet: Fleet, instance: int) -> None:
    """The breaker refuses there: fast, and with a time to come again."""
    reply = await fleet.get(instance=instance, headers={"x-tenant-id": "vital-1"})
    assert (503, "circuit_open") == (reply.status, reply.headers["x-sentinel-reason"])
    assert 1 <= int(reply.headers["retry-after"]) <= 3
    assert reply.seconds < 0.1


async def reopened(fleet: Fleet, load: Load) -> tuple[float, list[str], float]:
    """Revive the upstream and hammer both instances.

    Returns:
        when it was first tried, by which tiers, and how much later the breaker was closed everywhere.
    """
    upstream, seen = fleet.upstream, fleet.upstream.seen
    upstream.service_s = PROBE_S  # so long that no probe ends before all are out
    await upstream.revive()
    async with traffic(load, 200) as sent:
        closed = await asyncio.gather(*(until(s, CLOSED) for s in fleet.sentinels))
    upstream.service_s = FAST_S
    arrived = list(upstream.arrivals)[seen - upstream.seen :]
    first_s = arrived[0].at_s
    probes = [arrival.tier for arrival in arrived if arrival.at_s < first_s + PROBE_S]
    assert {200, 503} == {sample.status for sample in sent}
    assert {"", "circuit_open"} == {sample.reason for sample in sent}
    return first_s, probes, max(closed) - first_s


def spread(seconds: Sequence[float]) -> str:
    return f"{min(seconds):.3f} to {max(seconds):.3f} s"


async def test_the_fleet_refuses_within_a_period_tries_with_five_probes_and_closes(
    fleet: Fleet, load: Load
) -> None:
    heard, waited, took = [], [], []
    for _ in range(CYCLES):
        first, second = await killed(fleet, load)
        heard.append(second - first)
        for instance in range(2):
            await refused(fleet, instance)
        assert [OPEN, OPEN] == await states(fleet)
        tried_s, probes, closed_s = await reopened(fleet, load)
        assert ["vital"] * PROBES == probes
        waited.append(tried_s - first)
        took.append(closed_s)
        await asyncio.sleep(PROBE_S + 0.2)  # what passed as slowly as the probes has ended
    print(
        f"{CYCLES} deaths: the other instance refused {spread(heard)} later, median "
        f"{statistics.median(heard):.3f}; tried after {spread(waited)} (cooldown {COOLDOWN_S} s); closed "
        f"{spread(took)} after the first probe, which took {PROBE_S} s"
    )

    assert statistics.median(heard) <= PERIOD_S
    assert max(heard) <= 2 * PERIOD_S  # a scrape and a busy machine included
    # The scrape that saw it open comes after the trip, so the wait may look shorter.
    assert min(waited) >= COOLDOWN_S - 0.1
    assert max(waited) <= COOLDOWN_S * STRETCH + SLACK_S
    assert max(took) <= PROBE_S + 1.0


async def test_failing_probes_open_it_again_for_twice_as_long(fleet: Fleet, load: Load) -> None:
    upstream = fleet.upstream
    upstream.fail_status = 503
    try:
        async with traffic(load, 150) as sent:
            await until(fleet.sentinels[0], OPEN)
            await asyncio.sleep(0.2)  # what had passed before is there
            opened_s, seen = time.monotonic(), upstream.seen
            await asyncio.sleep((1 + 2 + 0.5) * COOLDOWN_S)
            tried = [a.at_s - opened_s for a in list(upstream.arrivals)[seen - upstream.seen :]]
            assert [OPEN, OPEN] == await states(fleet)
    finally:
        upstream.fail_status = None
    first = [at for at in tried if at < 1.5 * COOLDOWN_S]
    batches = [first, tried[len(first) :]]
    print("probes of a failing upstream, s after it opened:", [[round(at, 2) for at in b] for b in batches])

    assert all(1 <= len(batch) <= PROBES for batch in batches)
    # From the last probe to the next try: twice the cooldown, and what the log and its flush take.
    assert batches[1][0] - batches[0][-1] >= 2 * COOLDOWN_S
    assert batches[1][0] - batches[0][-1] <= 2 * COOLDOWN_S * STRETCH + SLACK_S
    late = between(sent, 1.0, 60.0)
    assert 2 * PROBES >= sum(s.reason != "circuit_open" for s in late)


async def test_others_try_when_no_vital_request_comes(fleet: Fleet, load: Load) -> None:
    await killed(fleet, load)
    await fleet.upstream.revive()
    async with traffic(load, 100, shares=(0.0, 0.4, 0.6)):
        await asyncio.gather(*(until(s, CLOSED) for s in fleet.sentinels))

    assert CLOSED == await state(fleet.sentinels[0])


async def test_slow_answers_open_it_where_that_is_configured(fleet: Fleet, load: Load) -> None:
    fleet.upstream.service_s = SLOW_S
    begun = time.monotonic()
    async with traffic(load, 60) as sent:
        opened = await asyncio.gather(*(until(s, OPEN) for s in fleet.sentinels))
        fleet.upstream.service_s = FAST_S
        await asyncio.gather(*(until(s, CLOSED) for s in fleet.sentinels))
    print(f"slow answers: open after {max(opened) - begun:.2f} s; {ends(sent)}")

    assert {200, 503} == {sample.status for sample in sent}
    assert {"", "circuit_open"} == {sample.reason for sample in sent}


async def test_a_sentinel_started_while_it_is_open_refuses_within_a_period(fleet: Fleet, load: Load) -> None:
    fleet.upstream.fail_status = 502
    second = fleet.sentinels[1]
    try:
        async with traffic(load, 100, [0]):
            await until(fleet.sentinels[0], OPEN)
            await asyncio.to_thread(second.stop)
            second.start()
            await second.ready()
            async with traffic(load, 100, [1]) as sent:
                await asyncio.sleep(2.0)
    finally:
        fleet.upstream.fail_status = None
    # Envoy answers 503 by itself until it has connected again.
    passed = [sample.sent_s for sample in sent if sample.status == 502]
    refused = [sample.sent_s for sample in sent if sample.reason == "circuit_open"]
    decided_s = min(passed + refused)
    known_ms = 1000 * (min(refused) - decided_s)
    print(f"started while open: {ends(sent)}; refused from {known_ms:.0f} ms after its first decision on")

    assert known_ms <= 2000 * PERIOD_S
    late = [at for at in passed if at > decided_s + 2 * PERIOD_S]
    assert len(late) <= PROBES


async def test_instances_without_redis_break_alone_and_agree_when_it_is_back(
    fleet: Fleet, load: Load, redis: RedisServer
) -> None:
    redis.freeze()
    try:
        async with traffic(load, 100) as before:
            await asyncio.sleep(2.0)
        await fleet.upstream.die()
        async with traffic(load, 100):
            await asyncio.gather(*(until(s, OPEN, HALF_OPEN) for s in fleet.sentinels))
        await refused_by_all(fleet)
    finally:
        redis.thaw()
    async with traffic(load, 100):
        await asyncio.sleep(1.0)
        await agreed(fleet)
        await fleet.upstream.revive()
        await asyncio.gather(*(until(s, CLOSED, within_s=25) for s in fleet.sentinels))
    after = await load.run(mix(60), 1.0)
    print(f"Redis frozen: {ends(before)} before the upstream died, {ends(after)} after all of it")

    assert success(before) >= 0.99
    assert max(sample.seconds for sample in before) <= DEADLINE_S + FAST_S + 0.3
    assert success(after) >= 0.99


async def refused_by_all(fleet: Fleet) -> None:
    for instance in range(2):
        replies = [await fleet.get(instance=instance, headers={"x-tenant-id": "economy-1"}) for _ in range(5)]
        assert "circuit_open" in {reply.headers.get("x-sentinel-reason") for reply in replies}


async def agreed(fleet: Fleet) -> None:
    """Both have the same state; a change may be under way when the first is asked."""
    async with asyncio.timeout(10):
        while (found := await states(fleet))[0] != found[1]:
            await asyncio.sleep(0.02)
