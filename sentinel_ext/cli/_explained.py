"""The answer to Explain, for people: the sentence first, then every stage, then what would be sent."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from sentinel_ext.cli._screen import (
    BAD,
    DOUBTFUL,
    GOOD,
    QUIET,
    Column,
    bar,
    facts,
    milliseconds,
    number,
    pairs_of,
    table,
    text,
)
from sentinel_ext.cli._tables import plan_words

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_VERDICT_COLOURS: Final = {"pass": GOOD, "refuse": BAD}
_MODE_COLOURS: Final = {"shadow": DOUBTFUL, "off": QUIET}


def rendered(answer: dict[str, Any], out: Console) -> list[RenderableType]:
    """Return an ExplainResponse."""
    allowed = answer["allowed"]
    status = f"{answer['http_status']} " if answer["http_status"] else ""
    # Without rules the rate limit service has no answer, and Envoy decides.
    word = "ALLOWED" if allowed else "UNDECIDED" if answer["reason"] == "no_rules" else "REFUSED"
    verdict = Text(f"{word} {status}", f"bold {GOOD if allowed else BAD}")
    reason = text(answer["reason"], "bold")
    parts: list[RenderableType] = [Text.assemble(verdict, reason), text(answer["sentence"])]
    if answer["advice"]:
        parts.append(text(f"Advice: {answer['advice']}", DOUBTFUL))
    if answer["identity"] is not None:
        parts += ["", _identity(answer["identity"])]
    if answer["stages"]:
        parts += ["", _stages(answer["stages"], out)]
    for descriptor in answer["descriptors"]:
        parts += ["", *_descriptor(descriptor, out)]
    parts += _sent(answer)
    parts += ["", text(f"answered by {answer['instance']}; nothing was counted", QUIET)]
    return parts


def _identity(identity: dict[str, Any]) -> RenderableType:
    sources = ", ".join(identity["sources"])
    found = identity["found_in"] or (f"nothing named a tenant; looked at {sources}" if sources else "nowhere")
    known = "" if identity["is_known"] else "; not seen here lately"
    rows: list[tuple[str, RenderableType]] = [
        ("tenant", Text.assemble(text(identity["tenant"], "bold"), text(f"  from {found}{known}"))),
        ("plan", text(plan_words(identity["plan"]))),
        ("because of", text(_because(identity["plan_rule"], identity["plan_why"]))),
        (
            "upstream",
            Text.assemble(text(identity["upstream"], "bold"), text(f"  {identity['upstream_why']}")),
        ),
    ]
    if identity["problem"]:
        rows.insert(1, ("ignored", text(identity["problem"], DOUBTFUL)))
    return facts(rows)


def _because(rule: str, why: str) -> str:
    return why if rule in why else f"{rule}: {why}" if why else rule


def _stages(stages: list[dict[str, Any]], out: Console) -> RenderableType:
    rows: list[list[RenderableType]] = []
    for stage in stages:
        verdict, mode = stage["verdict"], stage["mode"]
        last = " <" if stage["decides"] else ""
        set_by = " (set)" if stage["is_mode_set"] else ""
        share = _share(stage)
        rows.append(
            [
                text(stage["stage"], "bold"),
                text(verdict + last, _VERDICT_COLOURS.get(verdict, QUIET)),
                text(mode + set_by, _MODE_COLOURS.get(mode, "")),
                bar(share, out.encoding) if share is not None else "",
                Text("\n").join([text(stage["text"]), *_numbers(stage)]),
            ]
        )
    columns = [
        Column("stage"),
        Column("verdict"),
        Column("mode"),
        Column("", from_width=80),
        Column("what it sees"),
    ]
    grid = table(columns, rows, out.width)
    for column in grid.columns[:-1]:
        column.no_wrap = out.width >= 60
    return grid


def _share(stage: dict[str, Any]) -> float | None:
    """Return how much of what a stage gives is used up, 0 to 1."""
    if (bucket := stage.get("bucket")) is not None:
        return 1 - bucket["tokens"] / bucket["burst"] if bucket["burst"] else None
    if (window := stage.get("window")) is not None:
        return window["used"] / window["effective_limit"] if window["effective_limit"] else 1.0
    if (pressure := stage.get("pressure")) is not None:
        return float(pressure["score"]) / 100
    return None


def _numbers(stage: dict[str, Any]) -> list[Text]:
    """Return what a stage measured and its text does not say, a line each."""
    lines: list[Text] = []
    window, pressure, breaker = (stage.get(name) for name in ("window", "pressure", "breaker"))
    if window is not None and window["limit"] != window["effective_limit"]:
        lines.append(Text(f"the plan's limit is {window['limit']}, now {window['effective_limit']} hold"))
    if window is not None and window["store_fault"]:
        fault = f"the store did not answer ({window['store_fault']}): {window['fallback']} decides"
        lines.append(text(fault, DOUBTFUL))
    if pressure is not None and (pressure["credit_per_s"] is not None or pressure["score"]):
        lines.append(
            text(
                f"{number(pressure['offered_per_s'])} per second asked for, "
                f"{number(pressure['credit_per_s'], 'all')} may pass, "
                f"{pressure['shed_probability']:.0%} of this tenant's are shed; "
                f"{pairs_of(pressure['signals'])}",
                QUIET,
            )
        )
    if breaker is not None and breaker["state"] not in {"none", "closed"}:
        lines.append(
            Text(
                f"{breaker['ok']} ok, {breaker['failed']} failed, {breaker['slow']} slow, "
                f"{breaker['consecutive_failures']} failures in a row",
                QUIET,
            )
        )
    if stage["retry_ms"]:
        lines.append(Text(f"again in {milliseconds(stage['retry_ms'])}", DOUBTFUL))
    return lines


def _descriptor(descriptor: dict[str, Any], out: Console) -> list[RenderableType]:
    verdict = descriptor["verdict"]
    marks = [name for name in ("shadow", "quota") if descriptor[name]]
    head = Text.assemble(
        text(", ".join(descriptor["entries"]), "bold"),
        "  ",
        text(verdict, _VERDICT_COLOURS.get(verdict, QUIET)),
        f" ({', '.join(marks)})" if marks else "",
    )
    pairs: list[tuple[str, RenderableType]] = []
    if descriptor["rule"] or descriptor["place"]:
        pairs.append(("rule", text("  ".join(filter(None, (descriptor["rule"], descriptor["place"]))))))
    if descriptor["why"]:
        pairs.append(("why", text(descriptor["why"])))
    pairs += [("limit", _limit(limit, out.encoding)) for limit in descriptor["limits"]]
    return [head, facts(pairs, indent=2)]


def _limit(limit: dict[str, Any], encoding: str) -> Text:
    share = limit["used"] / limit["limit"] if limit["limit"] else 1.0
    name = f"{limit['name']}: " if limit["name"] else ""
    per = milliseconds(limit["window_ms"])
    words = f"  {name}{limit['used']} of {limit['limit']} per {per}, {limit['algorithm']}"
    if limit["leased"]:
        words += f", {limit['leased']} leased here"
    if limit["over"] and limit["retry_ms"]:
        words += f"; again in {milliseconds(limit['retry_ms'])}"
    if limit["store_fault"]:
        words += f"; the store did not answer ({limit['store_fault']}): {limit['on_store_failure']}"
    return Text.assemble(bar(share, encoding), text(words))


def _sent(answer: dict[str, Any]) -> list[RenderableType]:
    parts: list[RenderableType] = []
    for title, name in (("client gets", "client_headers"), ("upstream gets", "upstream_headers")):
        headers = answer[name]
        if headers:
            parts += ["", Text(title, "bold")]
            parts.append(facts([(f"  {each['name']}:", text(each["value"])) for each in headers]))
    if answer["body"]:
        parts += ["", Text("body", "bold"), text(f"  {_compact(answer['body'])}")]
    return parts


def _compact(body: str) -> str:
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        return body
