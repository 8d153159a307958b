"""What a rate limit request costs in process and in Redis: `python -m benchmarks.limits --redis URL`.

No socket to Envoy: bytes of a RateLimitRequest in, bytes of a RateLimitResponse out. CPU time of this
process, the best of several rounds. Redis' own part is what it says of its scripts (INFO commandstats).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from typing import TYPE_CHECKING, Any

import redis
import uvloop
from envoy.service.ratelimit.v3 import rls_pb2
from prometheus_client import CollectorRegistry

from benchmarks.ratelimit import RULES
from sentinel_ext import clock
from sentinel_ext.core.ratelimit.asks import BINDING, COUNT_DENIED, FIXED, GCRA, SLIDING, CounterAsk
from sentinel_ext.core.ratelimit.limiter import Limiter
from sentinel_ext.core.ratelimit.pending import Options
from sentinel_ext.core.ratelimit.planner import Planner
from sentinel_ext.limiting import Limiting
from sentinel_ext.policy.ratelimit import parse_rules
from sentinel_ext.services.ratelimit import RateLimits, parse
from sentinel_ext.services.ratelimit_headers import make_headers
from sentinel_ext.services.ratelimit_response import ResponseEncoder
from sentinel_ext.store.factory import make_limits, make_store
from sentinel_ext.store.limit_batcher import LimitBatcher
from sentinel_ext.telemetry.limits import LimitLog, LimitMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

    from sentinel_ext.core.ratelimit.outcome import Outcome
    from sentinel_ext.core.ratelimit.plan import Plan
    from sentinel_ext.store.limits import LimitStore

ROUNDS = 9
REQUESTS = 4_000
TURN = 40
BATCHES = (1, 10, 100)
CALLS = 300
_HOUR_US = 3_600_000_000


class House:
    """The service around a store."""

    def __init__(self, store: LimitStore, *, leases: bool) -> None:
        """Wire it as the application does."""
        options = Options(leases=leases)
        rules = parse_rules({"rules.yaml": RULES}, merge=False, lenient=False)
        self.planner, self.limiter = Planner(rules, options), Limiter(options)
        self.batcher = LimitBatcher(store, 1.0)
        self.limiting = Limiting(self.planner, self.limiter, self.batcher, clock.monotonic_ns)
        metrics = LimitMetrics(CollectorRegistry(), self.planner.tallies)
        self.limiting.observers = (metrics.decided, LimitLog(clock.monotonic_ns).decided)
        (self.method,) = RateLimits(self.limiting.decide, make_headers("off"), _raise).methods()

    async def whole(self, messages: list[bytes]) -> float:
        """µs of CPU for a request, a TURN of them at a time."""
        done, left = asyncio.Event(), 0

        def reply(_answer: object) -> bool:
            nonlocal left
            left -= 1
            if not left:
                done.set()
            return True

        best = 1e9
        for _ in range(ROUNDS):
            cpu = time.process_time()
            for first in range(0, REQUESTS, TURN):
                left = 1
                done.clear()
                for number in range(first, first + TURN):
                    if not isinstance(self.method.handle(messages[number % len(messages)], reply), bytes):
                        left += 1
                reply(None)
                await done.wait()
            best = min(best, time.process_time() - cpu)
        return best / REQUESTS * 1e6


def _raise(error: Exception) -> None:
    raise error


def messages(key: str, count: int, more: tuple[str, ...] = ()) -> list[bytes]:
    """RateLimitRequests with `count` values of `key`, and a descriptor for each of `more`."""
    made = []
    for number in range(count):
        request = rls_pb2.RateLimitRequest(domain="bench")
        for each, value in ((key, f"t{number:07d}"), *((other, "v") for other in more)):
            request.descriptors.add().entries.add(key=each, value=value)
        made.append(request.SerializeToString())
    return made


async def process(store: LimitStore) -> dict[str, float]:
    """µs of CPU by kind of request."""
    cases = {
        "leased, 1 descriptor": (True, messages("user", 1)),
        "leased, 4 descriptors": (True, messages("user", 1, ("path", "method", "host"))),
        "known to be over": (True, messages("over", 1)),
        "asked, 1 key": (False, messages("user", 1)),
        "asked, 10,000 keys": (False, messages("user", 10_000)),
        "asked, 4 descriptors": (False, messages("user", 1, ("path", "method", "host"))),
    }
    found = {}
    for name, (leases, sent) in cases.items():
        house = House(store, leases=leases)
        await house.batcher.start()
        house.limiting.start()
        found[name] = await house.whole(sent)
        house.limiting.close()
        await house.batcher.close()
    return found


def parts(store: LimitStore) -> dict[str, float]:
    """µs of CPU of single steps."""
    house, (message,) = House(store, leases=True), messages("user", 1)
    plan: Any = house.planner.plan(message, parse(message), 1)
    known = plan.only.known
    known.lease, known.lease_until_ns, known.used = 10**9, 2**62, 10
    outcome: Any = house.limiter.begin(plan, 10)
    return {
        "find a plan by the request's bytes": best_of(lambda: house.planner.plans.get(message)),
        "parse a request": best_of(lambda: parse(message)),
        "match it and make its plan": best_of(_planning(house, message)),
        "spend a leased hit": best_of(_spending(house.limiter, plan)),
        "write the response": best_of(_writing(outcome)),
    }


def _planning(house: House, message: bytes) -> Callable[[], object]:
    query = parse(message)
    return lambda: house.planner.plan(b"", query, 1)


def _spending(limiter: Limiter, plan: Plan) -> Callable[[], object]:
    return lambda: limiter.begin(plan, 10)


def _writing(outcome: Outcome) -> Callable[[], object]:
    encode = ResponseEncoder().encode
    return lambda: encode(outcome, ())


def best_of(step: Callable[[], object]) -> float:
    """µs of CPU for one call."""
    best = 1e9
    for _ in range(ROUNDS):
        cpu = time.process_time()
        for _ in range(REQUESTS):
            step()
        best = min(best, time.process_time() - cpu)
    return best / REQUESTS * 1e6


async def in_redis(store: LimitStore, client: redis.Redis) -> dict[str, dict[str, float]]:
    """µs of Redis' CPU per request, by kind of counter and size of batch."""

    def ask(name: str, kind: int = FIXED) -> CounterAsk:
        flags = BINDING | COUNT_DENIED if kind == FIXED else BINDING
        return CounterAsk(f"bench:{kind}:{name}".encode(), kind, _HOUR_US, 4_000_000_000, 0, 1, flags)

    kinds = {
        "fixed window, one key": lambda _: (ask("0"),),
        "fixed window, as many keys": lambda number: (ask(str(number)),),
        "sliding window, one key": lambda _: (ask("0", SLIDING),),
        "sliding window, as many keys": lambda number: (ask(str(number), SLIDING),),
        "GCRA, one key": lambda _: (ask("0", GCRA),),
        "four counters a request": lambda _: tuple(ask(f"{place}") for place in range(4)),
    }
    found: dict[str, dict[str, float]] = {}
    for name, make in kinds.items():
        for size in BATCHES:
            batch = [make(number) for number in range(size)]
            for _ in range(CALLS // 10):
                await store.decide(batch)
            client.config_resetstat()
            for _ in range(CALLS):
                await store.decide(batch)
            spent = client.info("commandstats")["cmdstat_evalsha"]["usec"]
            found.setdefault(name, {})[str(size)] = spent / CALLS / size
    return found


async def measure(url: str) -> dict[str, Any]:
    """Measure all of it on the Redis at `url`, whose statistics are reset."""
    base = make_store(url, now_us=clock.monotonic_us, jitter=clock.random_unit, changed=lambda *_: None)
    await base.start()
    async with asyncio.timeout(5):
        while not base.is_available():
            await asyncio.sleep(0.01)
    store = make_limits(base, now_us=clock.monotonic_us)
    try:
        with redis.Redis.from_url(url) as client:
            client.flushdb()
            return {
                "us": await process(store),
                "parts_us": parts(store),
                "redis_us": await in_redis(store, client),
            }
    finally:
        await base.close()


def main() -> int:
    """Print the figures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument(
        "--redis", required=True, help="a Redis of its own: it is emptied (unix:///path or redis://)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    arguments = parser.parse_args()
    found = uvloop.run(measure(arguments.redis))
    if arguments.json:
        sys.stdout.write(json.dumps(found) + "\n")
        return 0
    for title, rows in (("a whole request, us of CPU", found["us"]), ("its parts", found["parts_us"])):
        sys.stdout.write(
            f"{title}\n" + "".join(f"  {name:36} {value:6.2f}\n" for name, value in rows.items())
        )
    sys.stdout.write("Redis, us per request in batches of " + ", ".join(map(str, BATCHES)) + "\n")
    for name, sizes in found["redis_us"].items():
        sys.stdout.write(f"  {name:36}" + "".join(f" {value:6.2f}" for value in sizes.values()) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
