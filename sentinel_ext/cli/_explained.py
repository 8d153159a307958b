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
    verdict = Text(
        f"ALLOWED {status}" if allowed else f"REFUSED {status}", f"bold {GOOD if allowed else BAD}"
    )
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
    rows = []
    for stage in stages:
        verdict, mode = stage["verdict"], stage["mode"]
        last = " <" if stage["decides"] else ""
        set_by = " (set)" if stage["is_mode_set"] else ""
        said = Text.assemble(text(stage["text"]), *_numbers(stage, out.encoding))
        rows.append(
            [
                text(stage["stage"], "bold"),
                text(verdict + last, _VERDICT_COLOURS.get(verdict, QUIET)),
                text(mode + set_by, _MODE_COLOURS.get(mode, "")),
                said,
            ]
        )
    columns = [Column("stage"), Column("verdict"), Column("mode"), Column("what it sees")]
    grid = table(columns, rows, out.width)
    for at in range(3):
        grid.columns[at].no_wrap = out.width >= 60
    return grid


def _numbers(stage: dict[str, Any], encoding: str) -> list[Text]:
    """Return what a stage measured, after its text."""
    lines: list[Text] = []
    bucket, window, pressure, breaker = (
        stage.get(name) for name in ("bucket", "window", "pressure", "breaker")
    )
    if bucket is not None and bucket["burst"]:
        left = 1 - bucket["tokens"] / bucket["burst"]
        words = (
            f"  {bucket['tokens']} of {bucket['burst']} tokens, {number(bucket['refill_per_s'])} per second"
        )
        lines.append(Text.assemble("\n", bar(left, encoding), words))
    if window is not None:
        limit = window["effective_limit"]
        lower = f" (plan {window['limit']})" if window["limit"] != limit else ""
        used = f"  {window['used']} of {limit}{lower} used in {milliseconds(window['window_ms'])}"
        share = window["used"] / limit if limit else 1.0
        lines.append(Text.assemble("\n", bar(share, encoding), used))
        if window["store_fault"]:
            fault = f"\nthe store did not answer ({window['store_fault']}): {window['fallback']} decides"
            lines.append(text(fault, DOUBTFUL) if not fault.isascii() else Text(_one_line(fault), DOUBTFUL))
    if pressure is not None:
        credit = number(pressure["credit_per_s"], "all")
        words = (
            f"  {number(pressure['score'])} of 100; {number(pressure['offered_per_s'])}/s asked for, "
            f"{credit} may pass; {pressure['tier']}: {pressure['shed_probability']:.0%} shed"
        )
        lines.append(Text.assemble("\n", bar(pressure["score"] / 100, encoding), text(words)))
        if pressure["signals"]:
            lines.append(Text.assemble("\n", text(pairs_of(pressure["signals"]), QUIET)))
    if breaker is not None and breaker["state"] != "none":
        forced = f", forced {breaker['forced']}" if breaker["forced"] not in {"", "auto"} else ""
        words = (
            f"{breaker['state']}{forced}; {breaker['ok']} ok, {breaker['failed']} failed, "
            f"{breaker['slow']} slow, {breaker['consecutive_failures']} failures in a row"
        )
        lines.append(Text.assemble("\n", text(words, QUIET)))
    if stage["retry_ms"]:
        lines.append(Text(f"\nagain in {milliseconds(stage['retry_ms'])}", DOUBTFUL))
    return lines


def _one_line(words: str) -> str:
    return "\n" + text(words.lstrip("\n")).plain


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
            parts.append(facts([(f"  {each['name']}:", text(each["value"])) for each in _harmless(headers)]))
    if answer["body"]:
        parts += ["", Text("body", "bold"), text(f"  {_compact(answer['body'])}")]
    return parts


def _harmless(headers: list[dict[str, str]]) -> list[dict[str, str]]:
    return [{"name": text(each["name"]).plain, "value": each["value"]} for each in headers]


def _compact(body: str) -> str:
    try:
        return json.dumps(json.loads(body), ensure_ascii=False)
    except (ValueError, RecursionError):
        return body
