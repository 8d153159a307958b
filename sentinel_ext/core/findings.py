"""What an operator should know first, in plain sentences, the worst first. Pure.

The sentences hold no numbers that move by themselves: a screen reader is told when one comes, and not each
second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec.structs import replace

from sentinel_ext.core.decision import Reason
from sentinel_ext.core.model import Mode, Stage
from sentinel_ext.core.signals import ELEVATED_FROM, HIGH_FROM
from sentinel_ext.core.snapshot import Finding, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sentinel_ext.core.snapshot import Snapshot, StageTraffic
    from sentinel_ext.core.views import BreakerView

# Names in one sentence; more are counted.
MAX_NAMED: Final = 3
# A score from which an upstream is said to be pressed.
PRESSED: Final = ELEVATED_FROM
# A store that is late for fewer of the requests than that is no reason to get up for.
MANY: Final = 0.05
_RANK = {severity: rank for rank, severity in enumerate(Severity)}
_NOTICE, _WARNING, _CRITICAL = Severity.NOTICE, Severity.WARNING, Severity.CRITICAL
# A tenant that used up its quota got what it bought.
_QUOTA = {Reason.LOCAL_RATE_LIMITED.value, Reason.RATE_LIMITED.value}
# A rate below this is shown as 0.
_VISIBLE = 0.05


def judged(snapshot: Snapshot) -> Snapshot:
    """Return the snapshot with its findings."""
    found = [
        *_of_the_process(snapshot),
        *_of_the_store(snapshot),
        *_of_breakers(snapshot.breakers),
        *_of_pressure(snapshot),
        *_of_the_configuration(snapshot),
        *_of_refusals(snapshot),
        *_of_stages(snapshot.traffic.stages),
        *_of_the_log(snapshot),
    ]
    return replace(snapshot, findings=tuple(sorted(found, key=lambda each: -_RANK[each.severity])))


def _named(names: Sequence[str]) -> str:
    """Return "a, b, c and 4 more"."""
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")


def _of_the_process(snapshot: Snapshot) -> Iterator[Finding]:
    if snapshot.is_draining:
        yield Finding(_WARNING, "process", "Draining: this Sentinel is about to stop.")
    elif not snapshot.is_ready:
        yield Finding(_CRITICAL, "process", "Not ready: proxies are told to ask another Sentinel.")
    away = [process.name for process in snapshot.processes if not process.is_ready]
    if away and len(snapshot.processes) > 1:
        yield Finding(_WARNING, "process", f"Not ready: {_named(away)}.")
    if any(process.faults for process in snapshot.processes):
        text = (
            "Internal errors in the last minute: the log has them. Proxies go by FAIL_OPEN for such requests."
        )
        yield Finding(_WARNING, "process", text)


def _of_the_store(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.store.is_up:
        text = "The store does not answer. Each plan goes by its on_store_failure."
        yield Finding(_CRITICAL, "store", text)
        return
    traffic = snapshot.traffic
    if traffic.fallbacks >= _VISIBLE:
        text = "Some requests are decided without the store: it did not answer in time."
        is_much = traffic.fallbacks >= MANY * (traffic.allowed + traffic.refused)
        yield Finding(_WARNING if is_much else _NOTICE, "store", text)
    elif any(rate >= _VISIBLE for rate in snapshot.store.errors.values()):
        yield Finding(_WARNING, "store", f"Calls to the store fail: {_named(sorted(snapshot.store.errors))}.")


def _of_breakers(breakers: Sequence[BreakerView]) -> Iterator[Finding]:
    opened = [each.upstream for each in breakers if each.state == "open"]
    if opened:
        yield Finding(_CRITICAL, "breakers", f"Circuit breaker open, requests are refused: {_named(opened)}.")
    trying = [each.upstream for each in breakers if each.state == "half_open"]
    if trying:
        yield Finding(_WARNING, "breakers", f"Circuit breaker half-open, a few tries pass: {_named(trying)}.")
    forced = [each.upstream for each in breakers if each.forced == "closed"]
    if forced:
        yield Finding(
            _WARNING, "breakers", f"Circuit breaker forced closed by an operator: {_named(forced)}."
        )
    alone = [each.upstream for each in breakers if each.without_store]
    if alone and any(each.without_store and each.state != "closed" for each in breakers):
        text = f"Circuit breaker known to this instance alone, without the store: {_named(alone)}."
        yield Finding(_NOTICE, "breakers", text)


def _of_pressure(snapshot: Snapshot) -> Iterator[Finding]:
    pressure = snapshot.pressure
    pressed = [each.name for each in pressure.upstreams if each.pressure >= PRESSED]
    if pressed:
        # Its own score: the global level may be of this Sentinel, or stand high for a while yet.
        is_bad = any(each.pressure >= HIGH_FROM for each in pressure.upstreams)
        text = f"Upstream pressed, the lower tiers go first: {_named(pressed)}."
        yield Finding(_CRITICAL if is_bad else _WARNING, "pressure", text)
    if pressure.local >= PRESSED:
        names = [name for name, value in pressure.local_signals.items() if value >= PRESSED]
        # Machine signals explain, the event loop's lag proves (core/controller.py).
        is_late = pressure.local_signals.get("loop_lag", 0.0) >= PRESSED
        text = f"Sentinel itself is pressed: {_named(names) or 'several signals'}."
        yield Finding(_WARNING if is_late else _NOTICE, "own", text)
    blind = [each.name for each in pressure.upstreams if each.is_blind]
    if blind:
        text = f"Blind: entries of the access log should come and do not: {_named(blind)}."
        yield Finding(_WARNING, "log", text)


def _of_the_configuration(snapshot: Snapshot) -> Iterator[Finding]:
    if not snapshot.config.ok:
        text = "The configuration files are broken. The last good ones stay in force."
        yield Finding(_WARNING, "config", text)


def _of_refusals(snapshot: Snapshot) -> Iterator[Finding]:
    for stage in snapshot.traffic.stages:
        for reason, rate in stage.reasons.items():
            if rate >= _VISIBLE and reason not in _QUOTA and stage.stage != Stage.BREAKER:
                text = f"Requests are refused that are within their limits: {reason}."
                yield Finding(_WARNING, "traffic", text)
    if any(
        stage.reasons.get(reason, 0.0) >= _VISIBLE for stage in snapshot.traffic.stages for reason in _QUOTA
    ):
        names = [row.name for row in snapshot.tenants if row.refused]
        who = f": {_named(names)}" if names else ""
        yield Finding(_NOTICE, "tenants", f"Tenants over their own limits are refused{who}.")
    if snapshot.traffic.limits.get("over_limit", 0.0) >= _VISIBLE:
        yield Finding(_NOTICE, "traffic", "Rate limit requests are over their limits.")
    if snapshot.traffic.limits.get("error", 0.0) >= _VISIBLE:
        yield Finding(
            _WARNING, "traffic", "Rate limit requests end in errors: Envoy's failure_mode_deny decides."
        )


def _of_stages(stages: Sequence[StageTraffic]) -> Iterator[Finding]:
    for mode, what in ((Mode.SHADOW, "only counts and lets pass"), (Mode.OFF, "is off")):
        names = [stage.stage for stage in stages if stage.mode == mode]
        if names:
            yield Finding(_NOTICE, "traffic", f"A stage {what}: {', '.join(names)}.")
    names = [stage.stage for stage in stages if stage.mode != stage.policy]
    if names:
        text = f"An operator set the mode of a stage, whatever the policy says: {', '.join(names)}."
        yield Finding(_NOTICE, "traffic", text)


def _of_the_log(snapshot: Snapshot) -> Iterator[Finding]:
    log = snapshot.log
    if not log.streams and not log.was_heard:
        text = "No access log is streamed here: nothing is known of upstreams, and nobody is shed for them."
        yield Finding(_NOTICE, "log", text)
    if log.garbled:
        yield Finding(_WARNING, "log", "Access log messages came that could not be read.")
