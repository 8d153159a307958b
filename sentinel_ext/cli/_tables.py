"""Answers of the DecisionService as tables: for the commands that show them, and `top`, which shows all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from sentinel_ext.cli._screen import (
    BAD,
    DOUBTFUL,
    GOOD,
    MAX_NAME,
    QUIET,
    Column,
    bar,
    colour,
    facts,
    milliseconds,
    number,
    pairs_of,
    table,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, RenderableType
    from rich.table import Table

STATE_COLOURS: Final = {"closed": GOOD, "open": BAD, "half_open": DOUBTFUL}
LEVEL_COLOURS: Final = {"normal": GOOD, "elevated": DOUBTFUL, "high": BAD, "critical": "bold red"}
_TIERS: Final = ("vital", "standard", "economy")

_TENANTS: Final = (
    Column("tenant"),
    Column("tier", from_width=50),
    Column("plan", from_width=90),
    Column("req/s", right=True),
    Column("used", right=True),
    Column("limit", right=True),
    Column("", from_width=70),
    Column("tokens", right=True, from_width=100),
    Column("allowed", right=True, from_width=60),
    Column("denied", right=True),
)
_PRESSURE: Final = (
    Column("upstream"),
    Column("score", right=True),
    Column("", from_width=60),
    Column("offered/s", right=True),
    Column("admitted/s", right=True, from_width=80),
    Column("credit/s", right=True),
    Column("in flight", right=True, from_width=70),
    Column("vital/standard/economy", from_width=100),
    Column("signals", from_width=120),
)
_BREAKERS: Final = (
    Column("upstream"),
    Column("state"),
    Column("why", from_width=60),
    Column("tried in", right=True),
    Column("ok", right=True, from_width=50),
    Column("failed", right=True),
    Column("slow", right=True, from_width=70),
    Column("in a row", right=True, from_width=90),
    Column("tries", right=True, from_width=100),
)


def tenants(shown: Iterable[dict[str, Any]], out: Console) -> Table:
    """Return a table of Tenant messages."""
    return table(_TENANTS, [_tenant_row(each, out.encoding) for each in shown], out.width)


def _tenant_row(tenant: dict[str, Any], encoding: str) -> list[RenderableType]:
    plan = tenant["plan"] or {}
    denied = tenant["denied"]
    return [
        text(tenant["tenant"], "bold", most=MAX_NAME),
        text(plan.get("tier", "")),
        text(plan.get("name", ""), most=MAX_NAME),
        number(tenant["rate_per_s"]),
        number(tenant["used"], "?" if _share(tenant) is not None else "-"),
        number(tenant["effective_limit"], "unlimited"),
        bar(share, encoding) if (share := _share(tenant)) is not None else "",
        number(tenant["tokens"]),
        number(tenant["allowed"]),
        Text(number(denied), BAD if denied else ""),
    ]


def _share(tenant: dict[str, Any]) -> float | None:
    limit, used = tenant["effective_limit"], tenant["used"]
    if limit is None:
        return None
    return 1.0 if limit == 0 else (used or 0) / limit


def tenant(shown: dict[str, Any], instance: str, out: Console) -> RenderableType:
    """Return everything about one tenant."""
    share = _share(shown)
    window: Text = Text("no limit")
    if share is not None:
        used = number(shown["used"], "an unknown number")
        window = Text.assemble(
            f"{used} of {number(shown['effective_limit'])} used  ", bar(share, out.encoding)
        )
    seen = "" if shown["is_known"] else "; this instance has not seen it lately"
    tokens = "no bucket" if shown["tokens"] is None else f"{shown['tokens']} tokens at this instance"
    return facts(
        [
            ("tenant", text(shown["tenant"] + seen, "bold")),
            ("plan", text(plan_words(shown["plan"]))),
            ("because of", text(shown["plan_rule"])),
            ("window", window),
            ("bucket", text(tokens)),
            ("rate", text(f"{number(shown['rate_per_s'])} requests per second at this instance")),
            ("decided here", text(f"{shown['allowed']} allowed, {shown['denied']} denied")),
            ("instance", text(instance)),
        ]
    )


def plan_words(plan: dict[str, Any] | None) -> str:
    """Say a plan in a line."""
    if plan is None:
        return "none"
    limit = plan["limit"]
    words = [
        f"{plan['name']}, tier {plan['tier']}",
        "unlimited" if limit is None else f"{limit} per {milliseconds(plan['window_ms'])}",
        "no bucket"
        if plan["burst"] is None
        else f"bucket of {plan['burst']}, {number(plan['refill_per_s'])} per second",
    ]
    if plan["guaranteed_per_s"]:
        words.append(f"{number(plan['guaranteed_per_s'])} per second guaranteed")
    if plan["on_store_failure"]:
        words.append(f"store away: {plan['on_store_failure']}")
    return "; ".join(words)


def pressure(answer: dict[str, Any], out: Console) -> list[RenderableType]:
    """Return a GetPressureResponse: a line about the instance, and a table of upstreams."""
    level = answer["level"]
    head = Text.assemble(
        f"pressure {number(answer['score'])} of 100, ",
        (level, LEVEL_COLOURS.get(level, "")),
        f"; this instance itself {number(answer['local_score'])} ({pairs_of(answer['local_signals'])})",
    )
    rows = [_pressure_row(each, out.encoding) for each in answer["upstreams"]]
    return [text(head.plain) if not head.plain.isprintable() else head, table(_PRESSURE, rows, out.width)]


def _pressure_row(shown: dict[str, Any], encoding: str) -> list[RenderableType]:
    score = shown["score"]
    shares = shown["tier_share"]
    blind = " (no access log)" if shown["is_blind"] else ""
    return [
        text(shown["upstream"], "bold", most=MAX_NAME),
        Text(number(score), colour(score / 100)),
        bar(score / 100, encoding),
        number(shown["offered_per_s"]),
        number(shown["admitted_per_s"]),
        number(shown["credit_per_s"], "all"),
        number(shown["in_flight"]),
        text("/".join(f"{shares[tier]:.0%}" if tier in shares else "-" for tier in _TIERS)),
        text(pairs_of(shown["signals"]) + blind),
    ]


def breakers(shown: Iterable[dict[str, Any]], out: Console) -> Table:
    """Return a table of Breaker messages."""
    return table(_BREAKERS, [_breaker_row(each) for each in shown], out.width)


def _breaker_row(shown: dict[str, Any]) -> list[RenderableType]:
    numbers = shown["numbers"] or {}
    state, forced = numbers.get("state", "none"), numbers.get("forced", "auto")
    why = f"forced {forced}" if forced not in {"", "auto"} else numbers.get("trip_reason", "")
    if numbers.get("without_store"):
        why = f"{why}, without store".lstrip(", ")
    retry = numbers.get("retry_ms", 0)
    return [
        text(shown["upstream"], "bold", most=MAX_NAME),
        text(state, STATE_COLOURS.get(state, "")),
        text(why if state != "closed" or forced not in {"", "auto"} else "-"),
        milliseconds(retry) if retry else "-",
        number(numbers.get("ok", 0)),
        number(numbers.get("failed", 0)),
        number(numbers.get("slow", 0)),
        number(numbers.get("consecutive_failures", 0)),
        f"{numbers.get('permits', 0)}/{numbers.get('permits_max', 0)}" if state == "half_open" else "-",
    ]


def changes(shown: Iterable[dict[str, Any]]) -> Table:
    """Return the history of breakers, newest first."""
    rows = [
        [
            text((change["time"] or "?").partition(".")[0].replace("T", " ").removesuffix("Z")),
            text(each["upstream"], most=MAX_NAME),
            text(f"{change['before']} > {change['after']}"),
            text(_cause(change), QUIET),
        ]
        for each in shown
        for change in each["history"]
    ]
    return table([Column("when (UTC)"), Column("upstream"), Column("change"), Column("why")], rows, 0)


def _cause(change: dict[str, Any]) -> str:
    forced = change["forced"] not in {"", "auto"}
    words = [f"forced {change['forced']}" if forced else change["reason"]]
    words.append("without store" if change["without_store"] else "")
    return ", ".join(filter(None, words)) or "-"
