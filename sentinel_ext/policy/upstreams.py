"""Upstreams of the file → the rules that pressure and breaker go by."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sentinel_ext.core.breaker import BreakerOptions
from sentinel_ext.core.identify import DEFAULT_UPSTREAM
from sentinel_ext.core.policy import MAX_FLUSH_MS, UpstreamRules
from sentinel_ext.core.token_bucket import NANO
from sentinel_ext.policy.kinds import OFF, length
from sentinel_ext.policy.schema import BreakerSpec, FailuresSpec, UpstreamSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

    from sentinel_ext.core.policy import UpstreamDefaults
    from sentinel_ext.policy.findings import Findings

MIN_REQUESTS = 20
WINDOW_US = 10_000_000
SUCCESSES = 3


def compile_upstreams(
    specs: Mapping[str, UpstreamSpec | None], defaults: UpstreamDefaults, findings: Findings
) -> tuple[dict[str, UpstreamRules], UpstreamRules]:
    """Return the rules of each upstream by name, "default" aside, and those of "default"."""
    shared = specs.get(DEFAULT_UPSTREAM) or UpstreamSpec()
    default = _Upstream(DEFAULT_UPSTREAM, (shared,), defaults, findings).rules()
    rules = {
        name: _Upstream(name, (spec or UpstreamSpec(), shared), defaults, findings).rules()
        for name, spec in specs.items()
        if name != DEFAULT_UPSTREAM
    }
    return rules, default


class _Upstream:
    """One upstream: its own values before those of "default" before the environment's."""

    def __init__(
        self,
        name: str,
        specs: tuple[UpstreamSpec, ...],
        defaults: UpstreamDefaults,
        findings: Findings,
    ) -> None:
        self._name, self._specs, self._defaults, self._findings = name, specs, defaults, findings
        self._own = specs[0]
        self._timeout_us = int(_given("timeout", *specs) or defaults.timeout_us)
        self._breakers = _mappings(specs)

    def rules(self) -> UpstreamRules:
        """Return the rules; what is wrong with them is in the findings."""
        if "*" in self._name:
            message = 'names of upstreams are no patterns; what holds for others stands under "default"'
            self._findings.doubtful(("upstreams", self._name), message)
        slo_us = int(_given("slo", *self._specs) or self._defaults.slo_us)
        if slo_us >= self._timeout_us and self._sets(self._own, "slo", "timeout"):
            message = f"{length(slo_us)} is not below the timeout of {length(self._timeout_us)}"
            self._findings.doubtful(("upstreams", self._name, "slo"), f"{message}, so all that ends is good")
        capacity = _given("capacity", *self._specs)
        failures = [spec.failures or FailuresSpec() for spec in self._specs]
        breaker = None if self._is_off() else self._breaker()
        return UpstreamRules(
            name=self._name,
            slo_us=slo_us,
            timeout_us=self._timeout_us,
            count_500=bool(_given("count_500", *failures)),
            capacity_per_s=None if capacity is None else capacity / NANO,
            slow_us=_given("slow", *self._breakers) if breaker else None,
            breaker=breaker,
        )

    def _is_off(self) -> bool:
        return next((spec.breaker for spec in self._specs if spec.breaker is not None), None) == OFF

    def _breaker(self) -> BreakerOptions:
        def number(field: str, default: int) -> int:
            value = _given(field, *self._breakers)
            return default if value is None else int(value)

        defaults = self._defaults
        permits = number("half_open_max_requests", defaults.half_open_max)
        successes = number("successes", min(SUCCESSES, permits))
        self._check(permits, successes)
        return BreakerOptions(
            failure_threshold=float(
                _given("failure_threshold", *self._breakers) or defaults.failure_threshold
            ),
            consecutive_failures=number("consecutive_failures", defaults.consecutive_failures),
            min_requests=number("min_requests", MIN_REQUESTS),
            window_ms=number("window", WINDOW_US) // 1000,
            cooldown_ms=number("cooldown", defaults.cooldown_ms * 1000) // 1000,
            half_open_max=permits,
            successes_needed=min(successes, permits),
            probe_ttl_ms=-(-self._timeout_us // 1000) + 2 * MAX_FLUSH_MS,
            slow_rate=_given("slow_rate", *self._breakers),
        )

    def _check(self, permits: int, successes: int) -> None:
        """Find what only values together show. What "default" has wrong is told there, once."""
        path = ("upstreams", self._name, "breaker")
        own = self._own.breaker if isinstance(self._own.breaker, BreakerSpec) else BreakerSpec()
        if successes > permits and self._sets(own, "half_open_max_requests", "successes"):
            message = f"successes ({successes}) must be at most half_open_max_requests ({permits})"
            self._findings.wrong((*path, "successes"), message)
        slow_us, slow_rate = (_given(field, *self._breakers) for field in ("slow", "slow_rate"))
        if self._sets(own, "slow", "slow_rate") and (slow_us is None) != (slow_rate is None):
            given, missing = ("slow", "slow_rate") if slow_rate is None else ("slow_rate", "slow")
            self._findings.wrong((*path, given), f"{given} goes with {missing}, which is missing")
        if slow_us is None or slow_us < self._timeout_us:
            return
        if self._sets(own, "slow") or self._sets(self._own, "timeout"):
            message = f"slow ({length(slow_us)}) must be below the timeout ({length(self._timeout_us)})"
            self._findings.wrong((*path, "slow"), message)

    @staticmethod
    def _sets(spec: BaseModel, *fields: str) -> bool:
        return any(getattr(spec, field) is not None for field in fields)


def _mappings(specs: tuple[UpstreamSpec, ...]) -> tuple[BreakerSpec, ...]:
    """Return what there is about breakers. Behind an `off` there is nothing more to take from."""
    return tuple(spec.breaker for spec in specs if isinstance(spec.breaker, BreakerSpec))


def _given(field: str, *specs: BaseModel) -> Any:  # noqa: ANN401 - the models have checked each field's type
    """Return the first value that is there, or None."""
    return next((value for spec in specs if (value := getattr(spec, field)) is not None), None)
