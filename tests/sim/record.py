"""What a run leaves behind: counts in bins of a quarter of a second, by tenant, and the latencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.scenario import Scenario

BINS_PER_S = 4


class Record:
    """Counts of one run. A request stands in the bin of its first attempt, unless it says otherwise.

    Attributes:
        offered: first attempts, by tenant and bin.
        served: requests that ended well within the client's timeout, by tenant and bin.
        good: answers by the bin in which they were given.
        attempts: with retries, by their own bin.
        sheds: attempts that were refused by the policy, by their own bin.
        late: answers slower than the SLO, by the bin in which they were given.
        latencies: of the answers in the scored span, in seconds, in no order.
        ends: requests by how they ended for good: "ok", "failed", "shed".
    """

    __slots__ = (
        "_from",
        "_slo",
        "_to",
        "attempts",
        "ends",
        "good",
        "late",
        "latencies",
        "offered",
        "scenario",
        "served",
        "sheds",
    )

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        # Answers after the end of the arrivals need bins too.
        patience = scenario.timeout_s + scenario.backoff_s * 2**scenario.retries
        bins = int((scenario.duration_s + (patience + 1) * (scenario.retries + 1)) * BINS_PER_S) + 1
        tenants = sum(scenario.tenants)
        self.offered = [[0] * bins for _ in range(tenants)]
        self.served = [[0] * bins for _ in range(tenants)]
        self.good = [0] * bins
        self.attempts = [0] * bins
        self.sheds = [0] * bins
        self.late = [0] * bins
        self.latencies: list[float] = []
        self.ends = {"ok": 0, "failed": 0, "shed": 0}
        self._from, self._to = scenario.scored
        self._slo = scenario.slo_s

    def arrived(self, now: float, tenant: int) -> None:
        """Count a first attempt."""
        at = int(now * BINS_PER_S)
        self.offered[tenant][at] += 1
        self.attempts[at] += 1

    def retried(self, now: float) -> None:
        """Count a further attempt."""
        self.attempts[int(now * BINS_PER_S)] += 1

    def shed(self, now: float, final: bool) -> None:
        """Count an attempt that the policy refused; `final` if the client gives up."""
        self.sheds[int(now * BINS_PER_S)] += 1
        if final:
            self.ends["shed"] += 1

    def failed(self, final: bool) -> None:
        """Count an attempt that ended badly."""
        if final:
            self.ends["failed"] += 1

    def ok(self, now: float, done: float, tenant: int, born: float) -> None:
        """Count an answer in time, given at `done` to the attempt of `now`, first asked for at `born`."""
        self.served[tenant][int(born * BINS_PER_S)] += 1
        self.ends["ok"] += 1
        at = int(done * BINS_PER_S)
        self.good[at] += 1
        if done - now > self._slo:
            self.late[at] += 1
        if self._from <= done < self._to:
            self.latencies.append(done - now)
