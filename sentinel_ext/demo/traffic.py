"""The sample and the trickle: requests through Envoy, and what became of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# Enough to meet the limits of two of the three demo plans, few enough to be over in a second.
SAMPLE_REQUESTS = 60
# Three tenants share one worker thread of Envoy and one Sentinel: more at once only waits, and a wait longer
# than Envoy's ext_authz timeout would be counted as an error.
SAMPLE_CONCURRENCY = 4
TRICKLE_INTERVAL_S = 0.5
# Envoy's own timeout for the demo's upstream is longer; a laptop that just woke up answers late.
_REQUEST_TIMEOUT_S = 10.0
_QUOTE_CHARACTERS = 120

CORRELATION_HEADER = "x-correlation-id"
REASON_HEADER = "x-sentinel-reason"
REMAINING_HEADER = "x-ratelimit-remaining"


class Outcome(StrEnum):
    """What became of a request."""

    ALLOWED = "allowed"
    LIMITED = "limited"
    SHED = "shed"
    ERROR = "error"


def outcome_of(status: int, headers: Mapping[str, str]) -> Outcome:
    """Tell Sentinel's answers from everything else.

    Sentinel puts a correlation id on what it decided, and a reason on what it refused. Without them nobody
    decided: Envoy let the request pass because Sentinel could not be reached, or failed by itself.
    """
    if status == 429:
        return Outcome.LIMITED
    if status == 503 and REASON_HEADER in headers:
        return Outcome.SHED
    if status < 500 and CORRELATION_HEADER in headers:
        return Outcome.ALLOWED
    return Outcome.ERROR


@dataclass(slots=True)
class Tally:
    """One tenant's requests, counted.

    Attributes:
        remaining: what the last answer said is left of the tenant's limit; "" before it said anything.
        first_error: the first answer that was not Sentinel's, in words.
    """

    tenant: str
    tier: str
    sent: int = 0
    allowed: int = 0
    limited: int = 0
    shed: int = 0
    errors: int = 0
    remaining: str = ""
    first_error: str = ""

    def count(self, status: int, headers: Mapping[str, str], body: str = "") -> None:
        """Count an answer."""
        outcome = outcome_of(status, headers)
        if outcome is Outcome.ERROR:
            without = "" if CORRELATION_HEADER in headers else " without a decision of Sentinel"
            self.count_error(f"HTTP {status}{without}: {' '.join(body.split())[:_QUOTE_CHARACTERS]}")
            return
        self.sent += 1
        self.remaining = headers.get(REMAINING_HEADER, self.remaining)
        if outcome is Outcome.ALLOWED:
            self.allowed += 1
        elif outcome is Outcome.LIMITED:
            self.limited += 1
        else:
            self.shed += 1

    def count_error(self, words: str) -> None:
        """Count a request that Sentinel did not decide."""
        self.sent += 1
        self.errors += 1
        self.first_error = self.first_error or words

    def summary(self) -> dict[str, str | int]:
        """Return the numbers as the JSON summary shows them; `errors` only if there are any."""
        summary: dict[str, str | int] = {
            "tier": self.tier,
            "sent": self.sent,
            "allowed": self.allowed,
            "limited": self.limited,
            "shed": self.shed,
        }
        if self.errors:
            summary["errors"] = self.errors
        return summary


class Sender:
    """Sends requests as the tenants, and counts what comes back."""

    def __init__(self, session: aiohttp.ClientSession, url: str, tenant_header: str) -> None:
        """Send to `url`, with the tenant's name in `tenant_header`."""
        self._session = session
        self._url = url
        self._tenant_header = tenant_header

    async def sample(self, tallies: Sequence[Tally], requests: int = SAMPLE_REQUESTS) -> None:
        """Send `requests` as each tenant, all tenants at once, a few requests of each at a time."""
        async with asyncio.TaskGroup() as group:
            for tally in tallies:
                turns = iter(range(requests))
                for _ in range(SAMPLE_CONCURRENCY):
                    group.create_task(self._work_off(tally, turns))

    async def trickle(self, tallies: Sequence[Tally]) -> None:
        """Keep sending as every tenant, slowly, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for tally in tallies:
                group.create_task(self._drip(tally))

    async def send(self, tally: Tally) -> None:
        """Send one request and count its answer."""
        timeout = aiohttp.ClientTimeout(total=_REQUEST_TIMEOUT_S)
        try:
            async with self._session.get(
                self._url, headers={self._tenant_header: tally.tenant}, timeout=timeout, allow_redirects=False
            ) as answer:
                tally.count(answer.status, answer.headers, await answer.text(errors="replace"))
        except (aiohttp.ClientError, TimeoutError) as error:
            tally.count_error(f"no answer from Envoy: {str(error) or type(error).__name__}")

    async def _work_off(self, tally: Tally, turns: Iterator[int]) -> None:
        for _ in turns:
            await self.send(tally)

    async def _drip(self, tally: Tally) -> None:
        while True:
            await self.send(tally)
            await asyncio.sleep(TRICKLE_INTERVAL_S)
