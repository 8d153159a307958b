"""`rate_limit` → core.ratelimit.rules.Limit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sentinel_ext.core.model import Tier
from sentinel_ext.core.ratelimit.rules import UNIT_SECONDS, US_PER_S, Algorithm, Limit, OnStoreFailure, Unit
from sentinel_ext.policy.kinds import Duration
from sentinel_ext.policy.ratelimit.reading import LIMIT, Fields
from sentinel_ext.wording import did_you_mean, listed, quoted

if TYPE_CHECKING:
    from sentinel_ext.policy.nodes import KeyPath, Node
    from sentinel_ext.policy.ratelimit.reading import Found

_UNITS: Final = tuple(unit.value for unit in UNIT_SECONDS)
_PER: Final = Duration("100ms", "366d", "30s", "5m", "12h")
_FALLBACK_US: Final = US_PER_S
# How long a burst may take to come back, whatever its size: the counter's arithmetic is exact to microseconds
# that far (doubles), and a burst that nobody sees come back is a mistake.
MAX_REFILL_US: Final = 3_660 * 86_400 * US_PER_S


def read_limit(node: Node, path: KeyPath, found: Found) -> Limit | None:
    """Read one limit; what is wrong in it is told, and a stand-in returned: the rest is checked, too."""
    if not isinstance(node.value, dict):
        _no_mapping(node, path, found)
        return None
    fields = Fields(node, path, LIMIT, found)
    name = fields.text("name")
    unlimited = bool(fields.flag("unlimited"))
    requests = fields.number("requests_per_unit")
    unit, window_us = _window(fields, unlimited=unlimited)
    if unlimited:
        if requests is not None:
            fields.doubtful("requests_per_unit", "has no effect beside unlimited: true")
    elif fields.get("requests_per_unit") is None and not fields.has_unknown:
        message = (
            "requests_per_unit is missing, which denies all; write requests_per_unit: 0 if that is meant"
        )
        found.doubtful(node.position, path, message)
    algorithm = Algorithm(fields.word("algorithm", tuple(Algorithm)) or Algorithm.FIXED_WINDOW)
    mode, tier = fields.word("on_store_failure", tuple(OnStoreFailure)), fields.word("tier", tuple(Tier))
    if "upstream" in fields and tier is None:
        fields.wrong("upstream", "only says whose pressure sheds a limit with a tier; give it one")
    return Limit(
        requests=0 if unlimited else requests or 0,
        window_us=window_us,
        unit=unit,
        name=name,
        algorithm=algorithm,
        burst=_burst(fields, algorithm, requests or 0, window_us),
        unlimited=unlimited,
        replaces=_replaces(fields, name),
        count_denied=_count_denied(fields, algorithm),
        on_store_failure=None if mode is None else OnStoreFailure(mode),
        tier=None if tier is None else Tier(tier),
        upstream=fields.text("upstream") or "default",
    )


def _no_mapping(node: Node, path: KeyPath, found: Found) -> None:
    if isinstance(node.value, list):
        message = "config error, yaml file contains list of type other than map: a list"
    else:
        message = f"error loading config file: yaml: must be a mapping, got {quoted(str(node.value))}"
    found.wrong(node.position, path, message)


def _window(fields: Fields, *, unlimited: bool) -> tuple[Unit, int]:
    """Return the unit and the length of the window, microseconds."""
    text = fields.text("unit")
    unit = text.lower() if text.lower() in _UNITS else ""
    if unlimited:
        if unit or "per" in fields:
            fields.wrong("unit" if unit else "per", "should not specify rate limit unit when unlimited")
        elif text:
            fields.doubtful("unit", f"invalid rate limit unit {quoted(text)}, and unlimited has none")
        return Unit.UNKNOWN, _FALLBACK_US
    if fields.get("per") is not None:
        if "unit" in fields:
            fields.wrong(
                "unit", "stands beside per; a limit has one window (rate_limits takes several limits)"
            )
        try:
            return Unit.UNKNOWN, _PER.parse(fields.text("per"))
        except ValueError as error:
            fields.wrong("per", str(error))
            return Unit.UNKNOWN, _FALLBACK_US
    if not unit:
        guess = did_you_mean(text, _UNITS) if text else ""
        hint = guess or f"must be {listed(_UNITS)}, or per: a duration such as 30s"
        fields.wrong("unit", f"invalid rate limit unit {quoted(text)}; {hint}")
        return Unit.UNKNOWN, _FALLBACK_US
    return Unit(unit), UNIT_SECONDS[Unit(unit)] * US_PER_S


def _burst(fields: Fields, algorithm: Algorithm, requests: int, window_us: int) -> int:
    burst = fields.number("burst", least=1)
    if burst is None:
        return 0
    if algorithm is not Algorithm.GCRA:
        fields.wrong("burst", "needs algorithm: gcra; windows have no burst of their own")
    elif requests and burst * window_us > requests * MAX_REFILL_US:
        days = burst * window_us // requests // (86_400 * US_PER_S)
        most = MAX_REFILL_US // (86_400 * US_PER_S)
        fields.wrong("burst", f"takes {days} days to come back at this rate; at most {most} are allowed")
    return burst


def _count_denied(fields: Fields, algorithm: Algorithm) -> bool:
    given = fields.flag("count_denied")
    if algorithm is Algorithm.FIXED_WINDOW:
        return given is not False
    if given:
        fields.wrong(
            "count_denied", f"{algorithm} promises that no more than the limit is counted; leave it out"
        )
    return False


def _replaces(fields: Fields, name: str) -> tuple[str, ...]:
    names = []
    for item, path in fields.mappings("replaces"):
        entry = Fields(item, path, ("name",), fields.found)
        replaced = entry.text("name")
        if not replaced:
            fields.found.wrong(item.position, path, "should not have an empty replaces entry")
        elif replaced == name:
            entry.wrong("name", "replaces should not contain name of same descriptor")
        else:
            names.append(replaced)
    return tuple(names)
