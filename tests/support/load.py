"""Open-loop load through Envoys: Poisson arrivals that wait for no answer, and a record of each request."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple, Self

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

# A load that nobody answers must not fill the machine; what found no place is in the record, with status -1.
MAX_OUTSTANDING = 4_000
SKIPPED, BROKEN = -1, 0
CLIENT_TIMEOUT_S = 30.0


class Caller(NamedTuple):
    """A tenant and how often it asks, in requests per second."""

    tenant: str
    tier: str
    rate: float


class Sample(NamedTuple):
    """One request. `sent_s` on the monotonic clock; status 0: no answer at all."""

    caller: Caller
    instance: int
    sent_s: float
    status: int
    reason: str
    retry_after: str
    limit: str
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.status == 200


def mix(rate: float, tenants: int = 2, shares: Sequence[float] = (0.2, 0.3, 0.5)) -> list[Caller]:
    """`rate` over the three tiers by their shares, `tenants` equal ones in each."""
    tiers = ("vital", "standard", "economy")
    return [
        Caller(f"{tier}-{number}", tier, rate * share / tenants)
        for tier, share in zip(tiers, shares, strict=True)
        for number in range(1, tenants + 1)
    ]


class Load:
    """Sends to several Envoys. Use as an async context manager."""

    def __init__(self, ports: Sequence[int], seed: int = 1) -> None:
        self._urls = [f"http://127.0.0.1:{port}/proxy/x" for port in ports]
        self._random = random.Random(seed)
        self._outstanding: set[asyncio.Task[Sample]] = set()
        self.samples: list[Sample] = []  # of all runs, in the order of their answers

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(total=CLIENT_TIMEOUT_S)
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout)
        return self

    async def __aexit__(self, *_error: object) -> None:
        for task in self._outstanding:
            task.cancel()
        await asyncio.gather(*self._outstanding, return_exceptions=True)
        await self._session.close()

    async def run(
        self,
        callers: Sequence[Caller],
        seconds: float,
        instances: Sequence[int] = (),
        until: Callable[[], bool] = lambda: False,
    ) -> list[Sample]:
        """Send for `seconds` or until `until`; return what was sent in that time, once all of it is answered.

        Args:
            instances: which Envoys to send to, evenly; all when empty.
        """
        begun, own = time.monotonic(), set[asyncio.Task[Sample]]()
        rate, weights = sum(caller.rate for caller in callers), [caller.rate for caller in callers]
        due = begun
        while (due := due + self._random.expovariate(rate)) < begun + seconds and not until():
            # Late arrivals are sent at once: the load stays what it should be when the machine is slow.
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            instance = self._random.choice(instances or range(len(self._urls)))
            caller = self._random.choices(callers, weights)[0]
            own.add(task := asyncio.create_task(self._ask(caller, instance)))
            self._outstanding.add(task)
            task.add_done_callback(self._outstanding.discard)
        return sorted(await asyncio.gather(*own), key=lambda sample: sample.sent_s)

    async def _ask(self, caller: Caller, instance: int) -> Sample:
        sent_s = time.monotonic()
        if len(self._outstanding) > MAX_OUTSTANDING:
            return self._kept(caller, instance, sent_s, SKIPPED, {})
        headers = {"x-tenant-id": caller.tenant, "x-sent-s": repr(sent_s)}
        try:
            async with self._session.get(self._urls[instance], headers=headers) as response:
                await response.read()
                return self._kept(caller, instance, sent_s, response.status, dict(response.headers))
        except (aiohttp.ClientError, TimeoutError):
            return self._kept(caller, instance, sent_s, BROKEN, {})

    def _kept(
        self, caller: Caller, instance: int, sent_s: float, status: int, headers: dict[str, str]
    ) -> Sample:
        found = {name.lower(): value for name, value in headers.items()}
        reason, retry = found.get("x-sentinel-reason", ""), found.get("retry-after", "")
        limit = found.get("x-ratelimit-limit", "")
        seconds = time.monotonic() - sent_s
        sample = Sample(caller, instance, sent_s, status, reason, retry, limit, seconds)
        self.samples.append(sample)
        return sample


def success(samples: Iterable[Sample], who: str = "") -> float:
    """Share of the requests of a tier, a tenant or ("") everybody that were answered 200."""
    chosen = [s for s in samples if who in {"", s.caller.tier, s.caller.tenant}]
    return sum(s.is_good for s in chosen) / max(1, len(chosen))


def goodput(samples: Sequence[Sample]) -> float:
    """Good answers per second, over the time in which these requests were sent."""
    if len(samples) < 2:
        return 0.0
    sent = [s.sent_s for s in samples]
    return sum(s.is_good for s in samples) / (max(sent) - min(sent))


def between(samples: Iterable[Sample], from_s: float, to_s: float) -> list[Sample]:
    """Those sent from `from_s` to `to_s` after the first."""
    every = sorted(samples, key=lambda sample: sample.sent_s)
    begun = every[0].sent_s if every else 0.0
    return [s for s in every if from_s <= s.sent_s - begun < to_s]


def p99_ms(samples: Iterable[Sample]) -> float:
    """Of the good answers."""
    seconds = [s.seconds for s in samples if s.is_good]
    return 1000 * statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else 0.0
